//! GTID sets: which transactions of which servers have been seen.
//!
//! A GTID is `uuid:number`, or `uuid:tag:number` since MySQL 8.3. A set is written as MySQL writes it:
//! `3e11fa47-9b1c-11ef-8a3d-0242ac110002:1-5:7:backup:1-3,…`, UUIDs and tags in order, and read in any order, with any
//! white space. It is kept as sorted intervals per UUID and tag, so every operation is linear in their number.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thalweg_core::{Error, Result};

/// The last number that a GTID can have, plus one: numbers are positive and below 2^63.
pub const GTID_NUMBER_END: u64 = i64::MAX as u64;
/// Characters of a tag at most.
pub const TAG_CHARS_MAX: usize = 32;

/// A server's UUID, as bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

/// Who numbered a transaction: a server, and the tag under which it did (empty: none).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tsid {
    pub uuid: Uuid,
    /// Lower case, at most `TAG_CHARS_MAX` characters of `[a-z0-9_]`, not beginning with a digit.
    pub tag: String,
}

/// One transaction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gtid {
    pub tsid: Tsid,
    /// From 1.
    pub number: u64,
}

/// A set of GTIDs.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct GtidSet {
    /// Disjoint, not adjacent, not empty, ascending intervals `start..end`; no empty lists.
    intervals: BTreeMap<Tsid, Vec<(u64, u64)>>,
}

impl GtidSet {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// How many transactions are in the set.
    pub fn len(&self) -> u64 {
        self.intervals.values().flatten().fold(0, |n, (start, end)| n.saturating_add(end - start))
    }

    /// Who has transactions in the set, with their intervals `start..end`.
    pub fn iter(&self) -> impl Iterator<Item = (&Tsid, &[(u64, u64)])> {
        self.intervals.iter().map(|(tsid, list)| (tsid, list.as_slice()))
    }

    pub fn contains(&self, gtid: &Gtid) -> bool {
        self.intervals.get(&gtid.tsid).is_some_and(|list| {
            let after = list.partition_point(|(start, _)| *start <= gtid.number);
            after > 0 && gtid.number < list[after - 1].1
        })
    }

    /// Adds one transaction; `false` if it was in the set.
    pub fn add(&mut self, gtid: &Gtid) -> bool {
        if self.contains(gtid) {
            return false;
        }
        // Transactions of a server come in rising order but for those that ran beside one another.
        self.add_interval(&gtid.tsid, gtid.number, gtid.number + 1);
        true
    }

    fn add_interval(&mut self, tsid: &Tsid, start: u64, end: u64) {
        debug_assert!(start < end);
        match self.intervals.get_mut(tsid) {
            Some(list) => insert(list, start, end),
            None => {
                self.intervals.insert(tsid.clone(), vec![(start, end)]);
            }
        }
    }

    /// Adds all of `other`.
    pub fn add_all(&mut self, other: &GtidSet) {
        for (tsid, list) in &other.intervals {
            for (start, end) in list {
                self.add_interval(tsid, *start, *end);
            }
        }
    }

    #[must_use]
    pub fn union(&self, other: &GtidSet) -> GtidSet {
        let mut all = self.clone();
        all.add_all(other);
        all
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub fn subtract(&self, other: &GtidSet) -> GtidSet {
        let mut rest = GtidSet::new();
        for (tsid, list) in &self.intervals {
            let kept = match other.intervals.get(tsid) {
                Some(minus) => subtract(list, minus),
                None => list.clone(),
            };
            if !kept.is_empty() {
                rest.intervals.insert(tsid.clone(), kept);
            }
        }
        rest
    }

    /// What is in both sets.
    #[must_use]
    pub fn intersect(&self, other: &GtidSet) -> GtidSet {
        self.subtract(&self.subtract(other))
    }

    pub fn is_subset_of(&self, other: &GtidSet) -> bool {
        self.intervals.iter().all(|(tsid, list)| match other.intervals.get(tsid) {
            None => false,
            Some(outer) => list.iter().all(|(start, end)| {
                let after = outer.partition_point(|(s, _)| s <= start);
                after > 0 && *end <= outer[after - 1].1
            }),
        })
    }

    /// The bytes that `COM_BINLOG_DUMP_GTID` and `PREVIOUS_GTIDS_LOG_EVENT` hold. Sets without tags have the form
    /// that every server reads; sets with tags that of MySQL 8.3.
    pub fn to_bytes(&self) -> Vec<u8> {
        let tagged = self.intervals.keys().any(|t| !t.tag.is_empty());
        let count = self.intervals.len() as u64;
        let mut out = Vec::with_capacity(8 + 40 * self.intervals.len());
        // With tags the format (1) stands in the first and the last byte, the number between.
        let head = if tagged { (1 << 56) | (count << 8) | 1 } else { count };
        out.extend_from_slice(&head.to_le_bytes());
        for (tsid, list) in &self.intervals {
            out.extend_from_slice(&tsid.uuid.0);
            if tagged {
                // A string of the `mysql::serialization` library: its length as a variable-length integer, which for
                // lengths below 128 is one byte, the length shifted by one.
                out.push((tsid.tag.len() as u8) << 1);
                out.extend_from_slice(tsid.tag.as_bytes());
            }
            out.extend_from_slice(&(list.len() as u64).to_le_bytes());
            for (start, end) in list {
                out.extend_from_slice(&start.to_le_bytes());
                out.extend_from_slice(&end.to_le_bytes());
            }
        }
        out
    }

    /// The set that `to_bytes` wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<GtidSet> {
        let mut rest = bytes;
        let set = read_set(&mut rest).filter(|_| rest.is_empty());
        set.ok_or_else(|| {
            Error::row(format!("damaged GTID set of {} bytes at byte {}", bytes.len(), bytes.len() - rest.len()))
        })
    }
}

fn read_set(rest: &mut &[u8]) -> Option<GtidSet> {
    let head = take_u64(rest)?;
    let tagged = head >> 56 == 1;
    let count = if tagged { (head >> 8) & 0xffff_ffff_ffff } else { head };
    let mut set = GtidSet::new();
    for _ in 0..count {
        let uuid = Uuid(take(rest, 16)?.try_into().ok()?);
        let tag = match tagged {
            false => String::new(),
            true => {
                let length = *take(rest, 1)?.first()?;
                if length & 1 != 0 || usize::from(length >> 1) > TAG_CHARS_MAX {
                    return None;
                }
                parse_tag(std::str::from_utf8(take(rest, usize::from(length >> 1))?).ok()?)?
            }
        };
        let tsid = Tsid { uuid, tag };
        for _ in 0..take_u64(rest)? {
            let (start, end) = (take_u64(rest)?, take_u64(rest)?);
            if start == 0 || start >= end || end > GTID_NUMBER_END {
                return None;
            }
            set.add_interval(&tsid, start, end);
        }
    }
    Some(set)
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(n)?;
    *rest = after;
    Some(taken)
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    take(rest, 8)?.try_into().ok().map(u64::from_le_bytes)
}

/// Inserts `start..end` and joins what overlaps or touches.
fn insert(list: &mut Vec<(u64, u64)>, start: u64, end: u64) {
    if let Some(last) = list.last_mut()
        && last.1 == start
    {
        last.1 = end;
        return;
    }
    let first = list.partition_point(|(_, e)| *e < start);
    let after = list.partition_point(|(s, _)| *s <= end);
    if first == after {
        list.insert(first, (start, end));
    } else {
        let joined = (start.min(list[first].0), end.max(list[after - 1].1));
        list.splice(first..after, [joined]);
    }
}

fn subtract(list: &[(u64, u64)], minus: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut kept = vec![];
    let mut next = 0;
    for &(mut start, end) in list {
        while next < minus.len() && minus[next].1 <= start {
            next += 1;
        }
        let mut at = next;
        while at < minus.len() && minus[at].0 < end {
            if start < minus[at].0 {
                kept.push((start, minus[at].0));
            }
            start = start.max(minus[at].1);
            at += 1;
        }
        if start < end {
            kept.push((start, end));
        }
    }
    kept
}

/// A tag in lower case; `None` if it is none.
fn parse_tag(text: &str) -> Option<String> {
    let mut chars = text.chars();
    let word = |c: char| c.is_ascii_alphabetic() || c == '_';
    let valid = text.is_empty()
        || (text.len() <= TAG_CHARS_MAX
            && chars.next().is_some_and(word)
            && chars.all(|c| word(c) || c.is_ascii_digit()));
    valid.then(|| text.to_ascii_lowercase())
}

impl FromStr for GtidSet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |part: &str| {
            Error::option(format!("'{part}' is not part of a GTID set"))
                .note("a GTID set looks like 3e11fa47-9b1c-11ef-8a3d-0242ac110002:1-5:7, several parted by commas")
        };
        let mut set = GtidSet::new();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let mut words = part.split(':').map(str::trim);
            let uuid: Uuid = words.next().unwrap_or_default().parse().map_err(|()| bad(part))?;
            let mut tsid = Tsid { uuid, tag: String::new() };
            let mut intervals = 0;
            for word in words {
                if word.starts_with(|c: char| c.is_ascii_digit()) {
                    let (start, end) = parse_interval(word).ok_or_else(|| bad(part))?;
                    // MySQL reads an interval that ends before it begins as an empty one.
                    if start < end {
                        set.add_interval(&tsid, start, end);
                    }
                    intervals += 1;
                } else {
                    tsid.tag = parse_tag(word).filter(|t| !t.is_empty()).ok_or_else(|| bad(part))?;
                }
            }
            if intervals == 0 {
                return Err(bad(part));
            }
        }
        Ok(set)
    }
}

fn parse_interval(word: &str) -> Option<(u64, u64)> {
    let (first, last) = match word.split_once('-') {
        Some((first, last)) => (first.trim().parse().ok()?, last.trim().parse().ok()?),
        None => {
            let number: u64 = word.parse().ok()?;
            (number, number)
        }
    };
    (first > 0 && first < GTID_NUMBER_END && last < GTID_NUMBER_END).then_some((first, last + 1))
}

impl FromStr for Gtid {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let set: GtidSet = text.parse()?;
        match set.iter().next() {
            Some((tsid, &[(number, end)])) if set.intervals.len() == 1 && end == number + 1 => {
                Ok(Gtid { tsid: tsid.clone(), number })
            }
            _ => Err(Error::option(format!("'{text}' is not one GTID"))),
        }
    }
}

impl FromStr for Uuid {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let bytes = text.as_bytes();
        if bytes.len() != 36 || [8, 13, 18, 23].iter().any(|&i| bytes[i] != b'-') {
            return Err(());
        }
        let mut digits = bytes.iter().filter(|b| **b != b'-').map(|b| char::from(*b).to_digit(16));
        let mut uuid = [0; 16];
        for byte in &mut uuid {
            let (Some(Some(high)), Some(Some(low))) = (digits.next(), digits.next()) else { return Err(()) };
            *byte = (high * 16 + low) as u8;
        }
        if digits.next().is_some() { Err(()) } else { Ok(Uuid(uuid)) }
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let dash = if [4, 6, 8, 10].contains(&i) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tag = &self.tsid.tag;
        let colon = if tag.is_empty() { "" } else { ":" };
        write!(f, "{}{colon}{tag}:{}", self.tsid.uuid, self.number)
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before: Option<Uuid> = None;
        for (tsid, list) in &self.intervals {
            if before != Some(tsid.uuid) {
                write!(f, "{}{}", if before.is_some() { "," } else { "" }, tsid.uuid)?;
                before = Some(tsid.uuid);
            }
            if !tsid.tag.is_empty() {
                write!(f, ":{}", tsid.tag)?;
            }
            for (start, end) in list {
                match end - start {
                    1 => write!(f, ":{start}")?,
                    _ => write!(f, ":{start}-{}", end - 1)?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GtidSet({self})")
    }
}

impl Serialize for GtidSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GtidSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Gtid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Gtid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const A: &str = "3e11fa47-9b1c-11ef-8a3d-0242ac110002";
    const B: &str = "4e11fa47-9b1c-11ef-8a3d-0242ac110002";

    fn set(text: &str) -> GtidSet {
        text.replace('A', A).replace('B', B).parse().unwrap()
    }

    #[test]
    fn text_is_read_in_any_order_and_written_as_mysql_writes_it() {
        for (text, canonical) in [
            ("", ""),
            ("A:1", "A:1"),
            ("A:1-5:7", "A:1-5:7"),
            (" B:3 ,\n A:7:1-5:6 ", "A:1-7,B:3"),
            ("A:5-3:1", "A:1"),
            ("A:1-3:Tag_1:4-5:2:zz:9,A:4", "A:1-4:tag_1:2:4-5:zz:9"),
            ("A:t:1", "A:t:1"),
        ] {
            assert_eq!(set(text).to_string(), canonical.replace('A', A).replace('B', B));
        }
        assert_eq!(A.to_uppercase().parse::<Uuid>().unwrap().to_string(), A);
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for text in ["x", "A", "A:", "A:0", "A:1-", "A:-1", "A:1x", "A:t", "A:1:tä:1", "A1:1", "A:9223372036854775807"]
        {
            let text = text.replace('A', A);
            assert!(text.parse::<GtidSet>().is_err(), "{text}");
        }
        assert!(format!("{A}:{}:1", "t".repeat(33)).parse::<GtidSet>().is_err());
        assert!(format!("{A}:1-2").parse::<Gtid>().is_err());
        assert_eq!(format!("{A}:t:12").parse::<Gtid>().unwrap().to_string(), format!("{A}:t:12"));
    }

    #[test]
    fn algebra_is_that_of_sets() {
        let tsid = |t: usize| Tsid { uuid: A.parse().unwrap(), tag: ["", "t"][t].to_owned() };
        let mut seed = 7_u64;
        let mut next = |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        for _ in 0..500 {
            let (mut sets, mut models) = ([GtidSet::new(), GtidSet::new()], [BTreeSet::new(), BTreeSet::new()]);
            for (set, model) in sets.iter_mut().zip(&mut models) {
                for _ in 0..next(12) {
                    let (t, start, length) = (next(2) as usize, 1 + next(20), 1 + next(5));
                    for number in start..start + length {
                        let added = set.add(&Gtid { tsid: tsid(t), number });
                        assert_eq!(added, model.insert((t, number)));
                    }
                }
                assert_eq!(set.to_string().parse::<GtidSet>().unwrap(), *set);
                assert_eq!(GtidSet::from_bytes(&set.to_bytes()).unwrap(), *set);
                assert_eq!(set.len(), model.len() as u64);
            }
            let [a, b] = &sets;
            let [ma, mb] = &models;
            let numbers = |s: &GtidSet| -> BTreeSet<(usize, u64)> {
                let all = (0..2).flat_map(|t| (1..40).map(move |n| (t, n)));
                all.filter(|(t, n)| s.contains(&Gtid { tsid: tsid(*t), number: *n })).collect()
            };
            assert_eq!(numbers(&a.union(b)), ma | mb);
            assert_eq!(numbers(&a.subtract(b)), ma - mb);
            assert_eq!(numbers(&a.intersect(b)), ma & mb);
            assert_eq!(a.is_subset_of(b), ma.is_subset(mb));
            assert_eq!(a.union(b).subtract(b).union(&a.intersect(b)), *a);
        }
    }

    #[test]
    fn damaged_bytes_are_an_error() {
        let bytes = set("A:1-5:7:t:1,B:3").to_bytes();
        for length in 0..bytes.len() {
            assert!(GtidSet::from_bytes(&bytes[..length]).is_err(), "{length}");
        }
        // A count that no input could hold allocates nothing.
        assert!(GtidSet::from_bytes(&(1_u64 << 55).to_le_bytes()).is_err());
    }
}
