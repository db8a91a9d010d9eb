//! Damaged and hostile events: recorded ones (`testdata`), cut, flipped, with lengths made up, their checksums put right
//! or not. Each gives an error or is read; nothing panics, and no more memory is taken than the event's size allows.
//!
//! `THALWEG_FUZZ_ROUNDS` sets how often each event is damaged, `THALWEG_FUZZ_SEED` where to begin.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use thalweg_connector_api::SourceTable;
use thalweg_core::table::{ColumnKind, TableColumn, TableDef};
use thalweg_core::types::Column;
use thalweg_core::{Result, SqlType};
use thalweg_mysql::binlog::event::{Checksums, Event, EventData, HEADER_BYTES, Header, code};
use thalweg_mysql::binlog::payload::PayloadReader;
use thalweg_mysql::binlog::table_map::{MapColumn, TableMap, column_code};
use thalweg_mysql::charset::Charset;
use thalweg_mysql::layout::{ImagePlan, ServerColumn, TableLayout, TableSpec, ValueOptions, ZeroDates};
use thalweg_mysql::rows::{RowMeta, RowsBuilder};
use thalweg_mysql::types::MySqlType;

const ROUNDS: u64 = 40;
/// Memory that reading an event may take whatever its size: buffers of a decompressor above all.
const MEMORY_BASE: usize = 2 << 20;
/// And for each of its bytes: a bit says that a value of 32 bytes is NULL, and vectors double.
const MEMORY_PER_BYTE: usize = 8 * 32 * 3;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Counts what a thread holds.
struct Counting;

fn count(bytes: isize) {
    // At the end of a thread there is nothing to count with.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size as isize - layout.size() as isize);
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// xorshift64*
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n.max(1)
    }
}

/// The events of a recorded log.
fn events(file: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(file);
    let log = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut rest = log.strip_prefix(b"\xfebin").expect("a log begins so");
    let mut events = vec![];
    while !rest.is_empty() {
        let size = Header::parse(rest).unwrap().size as usize;
        events.push(rest[..size].to_vec());
        rest = &rest[size..];
    }
    events
}

/// What a reader of a log knows.
#[derive(Clone, Default)]
struct Reader {
    tables: HashMap<u64, (Arc<TableLayout>, Arc<ImagePlan>)>,
    /// Layouts by table and columns.
    layouts: BTreeMap<(Vec<u8>, Vec<u8>), Arc<TableLayout>>,
    /// Rows read, and bytes that a payload was decompressed to.
    rows: usize,
    decompressed: usize,
}

impl Reader {
    fn read(&mut self, event: &[u8], checksums: Checksums) -> Result<()> {
        match Event::parse(event, checksums)?.data {
            EventData::TableMap(map) => {
                let layout = self.layout(&map)?;
                let plan = layout.image_plan(&map)?;
                self.tables.insert(map.table_id, (layout, plan));
            }
            EventData::Rows(rows) => {
                let Some((layout, plan)) = self.tables.get(&rows.table_id) else { return Ok(()) };
                // Cut image by image, and in one go.
                let mut cursor = rows.images();
                while let Some(image) = cursor.next_image(plan)? {
                    plan.key(&image)?;
                }
                let mut builder = RowsBuilder::new(layout)?;
                builder.push_images(plan, &mut rows.images(), &mut RowMeta::default(), usize::MAX)?;
                self.rows += builder.finish()?.num_rows();
            }
            EventData::TransactionPayload(payload) => {
                let mut events = PayloadReader::new(&payload, bytes::Bytes::copy_from_slice(payload.bytes))?;
                while let Some(event) = events.next_event()? {
                    self.decompressed += event.len();
                    let event = event.to_vec();
                    self.read(&event, Checksums::Off)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A layout made of the table map: each column as its natural type.
    fn layout(&mut self, map: &TableMap<'_>) -> Result<Arc<TableLayout>> {
        let key = (map.table.to_vec(), map.columns_bytes().to_vec());
        if let Some(layout) = self.layouts.get(&key) {
            return Ok(layout.clone());
        }
        let found = map.columns()?;
        let mut columns = vec![];
        for (i, column) in found.iter().enumerate() {
            let name = column.name.map_or(format!("c{i}"), |n| String::from_utf8_lossy(n).into_owned());
            let charset = column.collation.and_then(Charset::of_collation).map(|c| c.name().to_owned());
            columns.push(ServerColumn {
                name,
                column_type: column_type(column),
                collation: charset.as_ref().map(|_| "x".to_owned()),
                collation_id: None,
                charset,
                nullable: true,
                generated: false,
            });
        }
        let mut declared = vec![];
        for column in &columns {
            // A TIME may be beyond a day.
            let ty = match MySqlType::parse(&column.column_type)? {
                MySqlType::Time(_) => SqlType::STRING,
                other => other.natural(),
            };
            let column = Column::new(column.name.clone(), ty, true);
            declared.push(TableColumn { column, kind: ColumnKind::Physical });
        }
        let columns_read = (0..declared.len()).collect();
        let def = TableDef {
            name: String::from_utf8_lossy(map.table).into_owned(),
            columns: declared,
            primary_key: vec![],
            partitioned_by: vec![],
            options: BTreeMap::new(),
        };
        let layout = Arc::new(TableLayout::new(TableSpec {
            source: SourceTable { def, columns: columns_read, with_order: false },
            database: String::from_utf8_lossy(map.database).into_owned(),
            table: String::from_utf8_lossy(map.table).into_owned(),
            columns,
            primary_key: if found.is_empty() { vec![] } else { vec![0] },
            allows_cascades: false,
            options: ValueOptions { zero_dates: ZeroDates::Null, ..ValueOptions::default() },
        })?);
        self.layouts.insert(key, layout.clone());
        Ok(layout)
    }
}

fn column_type(column: &MapColumn<'_>) -> String {
    use column_code::*;
    let meta = column.meta;
    let is_text = column.collation.is_some_and(|c| Charset::of_collation(c).is_some());
    let labels = || match &column.labels {
        Some(labels) => {
            let quote =
                |l: &&[u8]| format!("'{}'", String::from_utf8_lossy(l).replace('\\', "\\\\").replace('\'', "''"));
            labels.iter().map(quote).collect::<Vec<_>>().join(",")
        }
        None => (0..64).map(|i| format!("'l{i}'")).collect::<Vec<_>>().join(","),
    };
    let base = match column.code {
        TINY => "tinyint".to_owned(),
        SHORT => "smallint".to_owned(),
        INT24 => "mediumint".to_owned(),
        LONG => "int".to_owned(),
        LONGLONG => "bigint".to_owned(),
        FLOAT => "float".to_owned(),
        DOUBLE => "double".to_owned(),
        YEAR => "year".to_owned(),
        NEWDECIMAL => format!("decimal({},{})", meta >> 8, meta & 0xff),
        BIT => format!("bit({meta})"),
        DATE | NEWDATE => "date".to_owned(),
        DATETIME2 => format!("datetime({meta})"),
        TIMESTAMP2 => format!("timestamp({meta})"),
        TIME2 => format!("time({meta})"),
        VARCHAR | VAR_STRING if is_text => format!("varchar({meta})"),
        VARCHAR | VAR_STRING => format!("varbinary({meta})"),
        STRING if is_text => format!("char({meta})"),
        STRING => format!("binary({meta})"),
        ENUM => format!("enum({})", labels()),
        SET => format!("set({})", labels()),
        JSON => "json".to_owned(),
        GEOMETRY => "geometry".to_owned(),
        VECTOR => "vector".to_owned(),
        _ if is_text => "text".to_owned(),
        _ => "blob".to_owned(),
    };
    match column.unsigned {
        Some(true) if column.code != YEAR => format!("{base} unsigned"),
        _ => base,
    }
}

/// Makes size and checksum fit again.
fn put_right(event: &mut [u8]) {
    if event.len() < HEADER_BYTES + 4 {
        return;
    }
    let size = event.len() as u32;
    event[9..13].copy_from_slice(&size.to_le_bytes());
    let body = event.len() - 4;
    let checksum = crc32fast::hash(&event[..body]);
    event[body..].copy_from_slice(&checksum.to_le_bytes());
}

/// Damages an event; `true`: size and checksum were put right afterwards.
fn damage(event: &mut Vec<u8>, random: &mut Random) -> bool {
    let length = event.len();
    match random.below(6) {
        0 => event.truncate(random.below(length)),
        1 => {
            for _ in 0..=random.below(4) {
                let at = random.below(length);
                event[at] ^= 1 << random.below(8);
            }
        }
        2 => {
            // Lengths are mostly near the front, and small.
            let at = HEADER_BYTES.min(length - 1) + random.below((length - HEADER_BYTES.min(length - 1)).min(60));
            event[at.min(length - 1)] = [0, 1, 0x7f, 0x80, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff][random.below(10)];
        }
        3 => {
            let at = random.below(length);
            let end = length.min(at + 1 + random.below(8));
            event[at..end].iter_mut().for_each(|b| *b = 0xff);
        }
        4 => {
            let at = random.below(length);
            let extra: Vec<u8> = (0..1 + random.below(20)).map(|_| random.next() as u8).collect();
            event.splice(at..at, extra);
        }
        _ => {
            let (from, to) = (random.below(length), random.below(length));
            let n = random.below(40).min(length - from.max(to));
            event.copy_within(from..from + n, to);
        }
    }
    let right = random.below(8) > 0;
    if right {
        put_right(event);
    }
    right
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn fuzz(file: &str) {
    let (rounds, seed) = (setting("THALWEG_FUZZ_ROUNDS", ROUNDS), setting("THALWEG_FUZZ_SEED", 1));
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    // Tables of character sets are made once.
    let mut warm = vec![];
    Charset::of_name("sjis").unwrap().decode(b"\x93\xfa", &mut warm).unwrap();
    let mut reader = Reader::default();
    let (mut read, mut refused) = (0_u64, 0_u64);
    for (n, original) in events(file).into_iter().enumerate() {
        for round in 0..rounds {
            let mut event = original.clone();
            let right = damage(&mut event, &mut random);
            let mut reader = Reader { rows: 0, decompressed: 0, ..reader.clone() };
            let begin = HELD.get();
            PEAK.set(begin);
            let outcome = catch_unwind(AssertUnwindSafe(|| reader.read(&event, Checksums::Crc32)));
            let taken = (PEAK.get() - begin) as usize;
            let which = || format!("{file}, event {n} (type {}), round {round}, seed {seed}", original[4]);
            let outcome = outcome.unwrap_or_else(|_| panic!("panicked: {}", which()));
            let limit = MEMORY_BASE + MEMORY_PER_BYTE * (event.len() + reader.decompressed);
            assert!(taken <= limit, "{taken} bytes for {} bytes: {}", event.len(), which());
            // A checksum that does not fit is never passed over; that of a FORMAT_DESCRIPTION event says itself if it is.
            if !right && event != original && original[4] != code::FORMAT_DESCRIPTION {
                assert!(outcome.is_err(), "damage was not seen: {}", which());
            }
            match outcome {
                Ok(()) => read += 1,
                Err(e) => {
                    assert!(!e.is_transient(), "{e:?}: {}", which());
                    refused += 1;
                }
            }
        }
        reader.read(&original, Checksums::Crc32).unwrap_or_else(|e| panic!("{file}, event {n}: {e}"));
    }
    assert!(reader.rows > 100, "{} rows", reader.rows);
    // Both happen: damage that is an error, and damage that makes another sound event.
    assert!(refused > rounds && read > rounds, "{read} events read, {refused} refused");
}

#[test]
fn damaged_events_of_plain_transactions() {
    fuzz("plain.binlog");
}

#[test]
fn damaged_events_of_compressed_transactions_with_full_metadata() {
    fuzz("compressed.binlog");
}
