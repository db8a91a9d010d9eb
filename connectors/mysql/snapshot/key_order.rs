//! Is a key within the finished part of a table, within the chunk that is being read, or beyond?
//!
//! Where the order of keys is that of numbers, times or bytes it is known here. Text orders by its collation, which only
//! the server knows: it is asked, for all keys of a slice at once.

use std::cmp::Ordering;

use thalweg_core::{Error, Result};

use super::chunk::{no_value, value};
use crate::key::{Key, KeyColumn, KeyPart};
use crate::layout::TableLayout;
use crate::server::{Server, text};
use crate::wire::Conn;

/// Where a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Finished,
    /// In the range of the chunk that is being read.
    Chunk,
    /// Not read yet: it will be.
    Beyond,
}

/// What of a table is finished, and what is being read.
#[derive(Debug, Clone, Copy)]
pub struct Bounds<'a> {
    /// The last finished key; `None`: nothing is.
    pub finished: Option<&'a Key>,
    /// The last key of the chunk; `Some(None)`: to the table's end; `None`: no chunk is being read.
    pub chunk: Option<Option<&'a Key>>,
}

impl Bounds<'_> {
    /// `None`: the server has to say.
    pub fn place(&self, key: &Key) -> Option<Place> {
        if let Some(finished) = self.finished
            && key.compare(finished)? != Ordering::Greater
        {
            return Some(Place::Finished);
        }
        Some(match self.chunk {
            None => Place::Beyond,
            Some(None) => Place::Chunk,
            Some(Some(upper)) if key.compare(upper)? == Ordering::Greater => Place::Beyond,
            Some(Some(_)) => Place::Chunk,
        })
    }

    /// Asks the server for each of the keys.
    pub async fn ask(
        &self,
        server: &Server,
        conn: &mut Conn,
        layout: &TableLayout,
        keys: &[Key],
    ) -> Result<Vec<Place>> {
        let against = async |conn: &mut Conn, bound: Option<&Key>, missing: Ordering| match bound {
            Some(bound) => compare(server, conn, layout, keys, bound).await,
            None => Ok(vec![missing; keys.len()]),
        };
        let finished = against(conn, self.finished, Ordering::Greater).await?;
        let chunk = match self.chunk {
            None => vec![Ordering::Greater; keys.len()],
            Some(upper) => against(conn, upper, Ordering::Less).await?,
        };
        let place = |(finished, chunk): (Ordering, Ordering)| match (finished, chunk) {
            (Ordering::Less | Ordering::Equal, _) => Place::Finished,
            (_, Ordering::Greater) => Place::Beyond,
            _ => Place::Chunk,
        };
        Ok(finished.into_iter().zip(chunk).map(place).collect())
    }
}

/// Bytes of a statement that asks for comparisons, about.
const STATEMENT_BYTES_MAX: usize = 1 << 20;
/// Comparisons in one statement.
const COMPARISONS_MAX: usize = 1000;

/// How each key orders against the bound: the first part that differs decides.
async fn compare(
    server: &Server,
    conn: &mut Conn,
    layout: &TableLayout,
    keys: &[Key],
    bound: &Key,
) -> Result<Vec<Ordering>> {
    let mut orders = vec![Ordering::Equal; keys.len()];
    // Keys that are equal to the bound in all parts so far.
    let mut open: Vec<usize> = (0..keys.len()).collect();
    for (i, column) in layout.key().iter().enumerate() {
        let mut to_ask: Vec<usize> = vec![];
        let limit = &bound.0[i];
        for &k in &open {
            match keys[k].0[i].compare(limit) {
                Some(order) => orders[k] = order,
                None => to_ask.push(k),
            }
        }
        let mut rest = to_ask.as_slice();
        while !rest.is_empty() {
            let mut parts: Vec<&KeyPart> = vec![];
            let mut bytes = 0;
            while parts.len() < rest.len().min(COMPARISONS_MAX) && bytes < STATEMENT_BYTES_MAX {
                let part = &keys[rest[parts.len()]].0[i];
                bytes += 2 * part_bytes(part) + 2 * part_bytes(limit) + 100;
                parts.push(part);
            }
            let (now, later) = rest.split_at(parts.len());
            for (&k, order) in now.iter().zip(ask(server, conn, column, &parts, limit).await?) {
                orders[k] = order.ok_or_else(|| no_value(layout, column, &keys[k].0[i]))?;
            }
            rest = later;
        }
        open.retain(|&k| orders[k] == Ordering::Equal);
        if open.is_empty() {
            break;
        }
    }
    Ok(orders)
}

fn part_bytes(part: &KeyPart) -> usize {
    match part {
        KeyPart::Binary(b) | KeyPart::Text(b) => b.len(),
        _ => 32,
    }
}

/// A SELECT of one digit per part: 0 less than the limit, 1 equal, 2 greater; 3 neither, since one of the two is NULL.
pub(crate) fn question(parts: &[String], limit: &str) -> String {
    // It compares as the operators do, and asks once for all of them.
    let digit = |part| format!("COALESCE(STRCMP({part}, {limit}), 2) + 1");
    format!("SELECT CONCAT({})", parts.iter().map(digit).collect::<Vec<_>>().join(","))
}

/// `None`: the server takes the part, or the limit, for NULL.
async fn ask(
    server: &Server,
    conn: &mut Conn,
    column: &KeyColumn,
    parts: &[&KeyPart],
    limit: &KeyPart,
) -> Result<Vec<Option<Ordering>>> {
    let texts: Vec<String> = parts.iter().map(|part| value(column, &part.parameter())).collect();
    let sql = question(&texts, &value(column, &limit.parameter()));
    let rows = server.query(conn, &sql).await?;
    let answer = rows.into_iter().next().and_then(|r| r.into_iter().next().flatten()).map(text).unwrap_or_default();
    let orders: Option<Vec<Option<Ordering>>> = answer
        .chars()
        .map(|c| match c {
            '0' => Some(Some(Ordering::Less)),
            '1' => Some(Some(Ordering::Equal)),
            '2' => Some(Some(Ordering::Greater)),
            '3' => Some(None),
            _ => None,
        })
        .collect();
    orders.filter(|o| o.len() == parts.len()).ok_or_else(|| {
        Error::io(format!("MySQL {} does not say how keys order (column \"{}\")", server.address(), column.name))
            .permanent()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: i64) -> Key {
        Key(vec![KeyPart::Int(n)])
    }

    #[test]
    fn a_key_is_finished_in_the_chunk_or_beyond() {
        let (last, upper) = (key(10), key(20));
        let bounds = Bounds { finished: Some(&last), chunk: Some(Some(&upper)) };
        let places: Vec<_> = [9, 10, 11, 20, 21].map(|n| bounds.place(&key(n)).unwrap()).into();
        assert_eq!(places, [Place::Finished, Place::Finished, Place::Chunk, Place::Chunk, Place::Beyond]);
        let to_the_end = Bounds { finished: Some(&last), chunk: Some(None) };
        assert_eq!(to_the_end.place(&key(i64::MAX)), Some(Place::Chunk));
        let between_chunks = Bounds { finished: Some(&last), chunk: None };
        assert_eq!(between_chunks.place(&key(11)), Some(Place::Beyond));
        let at_the_begin = Bounds { finished: None, chunk: None };
        assert_eq!(at_the_begin.place(&key(i64::MIN)), Some(Place::Beyond));
    }

    #[test]
    fn text_is_for_the_server() {
        let text = |t: &str| Key(vec![KeyPart::Text(t.as_bytes().to_vec())]);
        let last = text("b");
        let bounds = Bounds { finished: Some(&last), chunk: None };
        assert_eq!(bounds.place(&text("b")), Some(Place::Finished));
        assert_eq!(bounds.place(&text("a")), None);
    }
}
