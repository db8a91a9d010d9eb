//! Every code of every character set is read as the server reads it. With `THALWEG_WRITE_CHARSETS` set the tables of
//! `charset/tables.zst` are written anew from what the server says.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use super::{Session, block_on};
use crate::charset::Charset;

const SINGLE: [&str; 25] = [
    "armscii8", "ascii", "cp1250", "cp1251", "cp1256", "cp1257", "cp850", "cp852", "cp866", "dec8", "geostd8", "greek",
    "hebrew", "hp8", "keybcs2", "koi8r", "koi8u", "latin1", "latin2", "latin5", "latin7", "macce", "macroman", "swe7",
    "tis620",
];
const MULTI: [&str; 9] = ["big5", "cp932", "eucjpms", "euckr", "gb18030", "gb2312", "gbk", "sjis", "ujis"];

/// The characters that the server knows among codes of `bytes` bytes from `first` to `last` of which `condition` holds;
/// its own stand-ins for what is no character are left out.
async fn ask(
    session: &mut Session,
    charset: &str,
    bytes: usize,
    first: u32,
    last: u32,
    condition: &str,
) -> BTreeMap<u32, u32> {
    let digits = 2 * bytes;
    let code = format!("convert(unhex(lpad(hex(i), {digits}, '0')) using {charset})");
    let sql = format!(
        "WITH RECURSIVE n AS (SELECT {first} i UNION ALL SELECT i + 1 FROM n WHERE i < {last}) \
         SELECT i, hex(convert({code} using utf32)) FROM n WHERE char_length({code}) = 1 AND ({condition})"
    );
    let mut known = BTreeMap::new();
    for row in session.texts(&sql).await {
        let (code, character) = (row[0].parse().unwrap(), u32::from_str_radix(&row[1], 16));
        match character {
            Ok(0x3f) if code != 0x3f => {}
            Ok(0xfffd) | Err(_) => {}
            Ok(character) => drop(known.insert(code, character)),
        }
    }
    known
}

fn writes() -> bool {
    std::env::var_os("THALWEG_WRITE_CHARSETS").is_some()
}

/// Code → character, by number of bytes.
async fn codes(session: &mut Session, charset: &str) -> BTreeMap<usize, BTreeMap<u32, u32>> {
    let mut known = BTreeMap::from([(1, ask(session, charset, 1, 0, 0xff, "true").await)]);
    if MULTI.contains(&charset) {
        // Behind a byte that is a character by itself the server takes what is no code for nothing.
        let mut pairs = ask(session, charset, 2, 0x8000, 0xffff, "true").await;
        pairs.retain(|code, _| !known[&1].contains_key(&(code >> 8)));
        known.insert(2, pairs);
    }
    if ["ujis", "eucjpms"].contains(&charset) {
        known.insert(3, ask(session, charset, 3, 0x8f_a1a1, 0x8f_fefe, "true").await);
    }
    if charset == "gb18030" {
        let mut four = BTreeMap::new();
        let condition = "(i & 255) BETWEEN 48 AND 57 AND ((i >> 8) & 255) BETWEEN 129 AND 254";
        // All that stand for the first 65536 characters are asked when the tables are written, else a part of them; of
        // the others, which are computed, the borders.
        let first = if writes() { (0x81_30_u32..=0x84_39).collect() } else { vec![0x81_30, 0x81_36, 0x82_35, 0x84_31] };
        for head in first.into_iter().chain([0x8530, 0x9030, 0xe332, 0xfe39]) {
            if (0x30..=0x39).contains(&(head & 0xff)) {
                let first = head << 16;
                four.extend(ask(session, charset, 4, first | 0x8130, first | 0xfe39, condition).await);
            }
        }
        known.insert(4, four);
    }
    known
}

#[test]
fn every_code_is_the_servers() {
    block_on(async {
        let mut session = Session::open().await;
        session.run("SET SESSION cte_max_recursion_depth = 10000000").await;
        let mut all = BTreeMap::new();
        for charset in SINGLE.iter().chain(&MULTI) {
            all.insert(*charset, codes(&mut session, charset).await);
        }
        if writes() {
            write_tables(&all);
            return;
        }
        for (name, known) in &all {
            let charset = Charset::of_name(name).unwrap();
            for (&bytes, known) in known {
                assert!(!known.is_empty(), "{name}");
                let (first, last) = (known.keys().next().unwrap(), known.keys().last().unwrap());
                // Between those that it knows the server knows no others, but for four bytes, where not all were asked.
                let asked: Vec<u32> = match bytes {
                    4 => known.keys().copied().collect(),
                    _ => (*first..=*last).collect(),
                };
                for code in asked {
                    let mut text = vec![];
                    let ours = charset.decode(&code.to_be_bytes()[4 - bytes..], &mut text);
                    let ours = ours.ok().and_then(|()| String::from_utf8(text).ok());
                    let ours = ours.filter(|t| t.chars().count() == 1).and_then(|t| t.chars().next());
                    assert_eq!(ours, known.get(&code).and_then(|c| char::from_u32(*c)), "{name} {code:x}");
                }
            }
        }
    });
}

/// As `charset/mod.rs` describes it.
fn write_tables(all: &BTreeMap<&str, BTreeMap<usize, BTreeMap<u32, u32>>>) {
    let entry = |charset: &str, bytes: usize, code: u32| -> u16 {
        let character = all[charset].get(&bytes).and_then(|known| known.get(&code));
        character.and_then(|c| u16::try_from(*c).ok()).unwrap_or(0xffff)
    };
    let mut arrays: Vec<Vec<u16>> = vec![];
    for charset in SINGLE.iter().chain(&MULTI) {
        arrays.push((0..256).map(|code| entry(charset, 1, code)).collect());
    }
    for charset in MULTI {
        arrays.push((0x8000..0x1_0000).map(|code| entry(charset, 2, code)).collect());
    }
    for charset in ["ujis", "eucjpms"] {
        let pairs = (0xa1..0xff_u32).flat_map(|a| (0xa1..0xff_u32).map(move |b| 0x8f_0000 | a << 8 | b));
        arrays.push(pairs.map(|code| entry(charset, 3, code)).collect());
    }
    let quads = (0..39_420_u32).map(|i| {
        let [a, b, c, d] = [i / 12_600 + 0x81, i / 1260 % 10 + 0x30, i / 10 % 126 + 0x81, i % 10 + 0x30];
        entry("gb18030", 4, a << 24 | b << 16 | c << 8 | d)
    });
    arrays.push(quads.collect());
    let mut bytes = vec![];
    for array in arrays {
        let mut last = 0_u16;
        for entry in array {
            bytes.extend_from_slice(&entry.wrapping_sub(last).to_le_bytes());
            last = entry;
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("charset/tables.zst");
    let packed = zstd::encode_all(&bytes[..], 22).expect("it is in memory");
    std::fs::File::create(&path).and_then(|mut f| f.write_all(&packed)).expect("the source tree can be written");
    println!("{}: {} bytes", path.display(), packed.len());
}

#[test]
fn collations_have_the_servers_numbers() {
    block_on(async {
        let mut session = Session::open().await;
        let rows = session.texts("SELECT id, character_set_name FROM information_schema.collations").await;
        assert!(rows.len() > 200);
        for row in rows {
            let ours = Charset::of_collation(row[0].parse().unwrap()).map(Charset::name);
            let servers = Some(row[1].as_str()).filter(|name| *name != "binary");
            assert_eq!(ours, servers, "collation {}", row[0]);
        }
    });
}
