//! What a touched list gives: the difference between what it was and what it is.

use std::cmp::Ordering;

use crate::row_store::PagedBytes;

/// An entry of a list before a tick: row and weight.
pub(super) type OldEntry = (u32, i64);

/// Which part of a list counts: the ranks `from ..= to`; `sign` is what weights are multiplied with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub from: u64,
    pub to: u64,
    pub sign: i64,
}

/// Output rows: number in the store, rank, weight.
#[derive(Default)]
pub(super) struct Pending {
    pub rows: Vec<u32>,
    pub ranks: Vec<i64>,
    pub weights: Vec<i64>,
    pub emitted: usize,
}

impl Pending {
    pub fn push(&mut self, row: u32, rank: i64, weight: i64) {
        self.rows.push(row);
        self.ranks.push(rank);
        self.weights.push(weight);
    }

    pub fn len(&self) -> usize {
        self.rows.len() - self.emitted
    }
}

/// Expands lists to ranks and gives what differs at each rank of the window.
pub(super) fn compare_ranks(
    old: impl Iterator<Item = OldEntry>,
    new: impl Iterator<Item = OldEntry>,
    limits: &Limits,
    out: &mut Pending,
) {
    let Limits { from, to, .. } = *limits;
    let expand = |(row, weight): OldEntry| std::iter::repeat_n(row, weight as usize);
    let skip = usize::try_from(from - 1).unwrap_or(usize::MAX);
    let mut old = old.flat_map(expand).skip(skip);
    let mut new = new.flat_map(expand).skip(skip);
    for rank in from..=to {
        match (old.next(), new.next()) {
            (None, None) => break,
            (Some(a), Some(b)) if a == b => {}
            (a, b) => {
                if let Some(row) = a {
                    out.push(row, rank as i64, -1);
                }
                if let Some(row) = b {
                    out.push(row, rank as i64, 1);
                }
            }
        }
    }
}

/// The part of each entry's weight that lies within the ranks `from ..= to`.
fn window(entries: impl Iterator<Item = OldEntry>, limits: &Limits) -> Vec<OldEntry> {
    let Limits { from, to, .. } = *limits;
    let mut before = 0u64;
    let mut found = vec![];
    for (row, weight) in entries {
        let after = before.saturating_add(weight as u64);
        let within = after.min(to).saturating_sub(before.max(from - 1));
        if within > 0 {
            found.push((row, within as i64));
        }
        before = after;
        if before >= to {
            break;
        }
    }
    found
}

/// Gives what differs between the rows of the window, in any order. In both lists rows are in ascending order of their
/// suffixes, each suffix once.
pub(super) fn compare_rows(
    old: impl Iterator<Item = OldEntry>,
    new: impl Iterator<Item = OldEntry>,
    limits: &Limits,
    suffixes: &PagedBytes,
    out: &mut Pending,
) {
    let (old, new) = (window(old, limits), window(new, limits));
    let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
    let mut push = |row, weight| {
        if weight != 0 {
            out.push(row, 0, limits.sign * weight);
        }
    };
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => break,
            (Some((a, _)), Some((b, _))) if a == b => {
                let ((row, before), (_, after)) = (old.next().expect("peeked"), new.next().expect("peeked"));
                push(row, after - before);
                continue;
            }
            (Some((a, _)), Some((b, _))) => suffixes.get(*a).cmp(suffixes.get(*b)),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
        };
        if order.is_le() {
            let (row, weight) = old.next().expect("peeked");
            push(row, -weight);
        }
        if order.is_ge() {
            let (row, weight) = new.next().expect("peeked");
            push(row, weight);
        }
    }
}
