//! Text that was damaged is a statement or an error with a place inside the text, never a panic: the suites' statements,
//! cut, mixed and with bytes and words exchanged.

use std::path::Path;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::with_planner;
use crate::sql::{Statement, is_complete, mask_secrets, parse_script};

/// Damaged texts of one run; `THALWEG_FUZZ` sets another number, `THALWEG_SEED` another seed.
const TEXTS: usize = 6_000;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn suites(dir: &Path, out: &mut Vec<String>) {
    let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            suites(&path, out);
        } else if path.extension().is_some_and(|e| e == "slt") {
            // A record: a line that says what is expected, the statement, then `----` and its rows.
            let text = std::fs::read_to_string(&path).unwrap();
            for record in text.split("\n\n") {
                let statement = record.split("\n----").next().unwrap_or_default();
                let lines = statement.lines().filter(|l| !l.starts_with('#'));
                let lines: Vec<&str> =
                    lines.skip_while(|l| !l.starts_with("statement") && !l.starts_with("query")).skip(1).collect();
                if !lines.is_empty() {
                    out.push(lines.join("\n"));
                }
            }
        }
    }
}

/// Words, numbers, strings and signs, with the space between them.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = vec![];
    let kind = |c: char| {
        if c.is_alphanumeric() || c == '_' {
            0
        } else if c.is_whitespace() {
            1
        } else {
            2
        }
    };
    let mut last = 3;
    for c in text.chars() {
        let k = kind(c);
        match words.last_mut() {
            Some(word) if k == last && k < 2 => word.push(c),
            _ => words.push(c.to_string()),
        }
        last = k;
    }
    words
}

fn damaged(all: &[String], random: &mut SmallRng) -> String {
    let mut words = words(all.choose(random).unwrap());
    let other = self::words(all.choose(random).unwrap());
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..words.len());
        match random.random_range(0..8) {
            0 => drop(words.remove(at)),
            1 => words.insert(at, other.choose(random).unwrap().clone()),
            2 => words[at] = other.choose(random).unwrap().clone(),
            3 => words.truncate(at),
            4 => {
                let to = random.random_range(0..words.len());
                words.swap(at, to);
            }
            5 => words.insert(at, "(".repeat(random.random_range(1..200))),
            6 => {
                let odd = [
                    "'",
                    "\"",
                    "`",
                    "/*",
                    "--",
                    "\0",
                    "é",
                    "𝕊",
                    "\u{202e}",
                    "9".repeat(400).as_str(),
                    "1e999",
                    "-",
                    ";",
                ]
                .choose(random)
                .unwrap()
                .to_string();
                words.insert(at, odd);
            }
            _ => {
                let end = random.random_range(0..=other.len());
                words.splice(at.., other[end.min(at)..end].iter().cloned());
            }
        }
        if words.is_empty() {
            return String::new();
        }
    }
    words.concat()
}

#[test]
fn damaged_text_is_a_statement_or_an_error_with_a_place_in_the_text() {
    let seed = setting("THALWEG_SEED", 1);
    println!("seed {seed} (THALWEG_SEED sets it)");
    let mut random = SmallRng::seed_from_u64(seed);
    let mut all = vec![];
    suites(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sql-tests"), &mut all);
    assert!(all.len() > 500, "{} statements", all.len());
    with_planner(|planner| {
        for _ in 0..setting("THALWEG_FUZZ", TEXTS as u64) {
            let text = damaged(&all, &mut random);
            // What is being read if it panics or never ends.
            let guard = Guard(&text);
            is_complete(&text);
            mask_secrets(&text, &|_, key| key == "password");
            match parse_script(&text) {
                Err(e) => {
                    let place = e.place().unwrap_or_else(|| panic!("no place: {e}\n{text}"));
                    assert!(
                        place.line >= 1 && place.line as usize <= text.lines().count().max(1) + 1,
                        "{place:?}\n{text}"
                    );
                }
                Ok(parsed) => {
                    for p in parsed {
                        let _ = match &p.statement {
                            Statement::Query(q) => planner.plan_select(q).map(drop),
                            Statement::Insert(i) => planner.plan_inserts(std::slice::from_ref(i)).map(drop),
                            Statement::CreateView(v) => planner.check_create_view(v).map(drop),
                            _ => Ok(()),
                        };
                    }
                }
            }
            std::mem::forget(guard);
        }
    });
}

/// Says which text was read when a panic passes.
struct Guard<'a>(&'a str);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        eprintln!("the text was:\n{}", self.0);
    }
}
