//! TABLE_MAP events: the columns of a table as the rows behind the event have them.

use thalweg_core::Result;

use super::bytes::{Bytes, damaged};

/// Columns of a table at most (MySQL's limit).
pub const COLUMNS_MAX: usize = 4096;

/// Column types as the binlog numbers them (`enum_field_types`).
pub mod column_code {
    pub const TINY: u8 = 1;
    pub const SHORT: u8 = 2;
    pub const LONG: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const DOUBLE: u8 = 5;
    pub const NULL: u8 = 6;
    pub const TIMESTAMP: u8 = 7;
    pub const LONGLONG: u8 = 8;
    pub const INT24: u8 = 9;
    pub const DATE: u8 = 10;
    pub const TIME: u8 = 11;
    pub const DATETIME: u8 = 12;
    pub const YEAR: u8 = 13;
    pub const NEWDATE: u8 = 14;
    pub const VARCHAR: u8 = 15;
    pub const BIT: u8 = 16;
    pub const TIMESTAMP2: u8 = 17;
    pub const DATETIME2: u8 = 18;
    pub const TIME2: u8 = 19;
    pub const TYPED_ARRAY: u8 = 20;
    pub const VECTOR: u8 = 242;
    pub const JSON: u8 = 245;
    pub const NEWDECIMAL: u8 = 246;
    pub const ENUM: u8 = 247;
    pub const SET: u8 = 248;
    pub const TINY_BLOB: u8 = 249;
    pub const MEDIUM_BLOB: u8 = 250;
    pub const LONG_BLOB: u8 = 251;
    pub const BLOB: u8 = 252;
    pub const VAR_STRING: u8 = 253;
    pub const STRING: u8 = 254;
    pub const GEOMETRY: u8 = 255;
}

/// A TABLE_MAP event, of which only the names are read until its columns are asked for.
#[derive(Debug, Clone, Copy)]
pub struct TableMap<'a> {
    /// What the rows events behind it call the table.
    pub table_id: u64,
    /// As the server has them; not checked to be UTF-8.
    pub database: &'a [u8],
    pub table: &'a [u8],
    body: Bytes<'a>,
}

/// One column of a TABLE_MAP event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapColumn<'a> {
    /// One of `column_code`; ENUM and SET are told from CHAR, and TYPED_ARRAY from what it holds.
    pub code: u8,
    /// What the type says beyond its number: lengths, digits, precision.
    pub meta: u16,
    pub nullable: bool,
    /// Of numeric columns, if the event says it.
    pub unsigned: Option<bool>,
    /// Collation number of columns with characters (63: bytes), if the event says it.
    pub collation: Option<u32>,
    /// With `binlog_row_metadata = FULL`.
    pub name: Option<&'a [u8]>,
    /// Of ENUM and SET, with `binlog_row_metadata = FULL`; in the column's character set.
    pub labels: Option<Vec<&'a [u8]>>,
}

impl<'a> TableMap<'a> {
    pub(super) fn parse(mut body: Bytes<'a>) -> Result<Self> {
        let table_id = body.u48()?;
        body.u16()?;
        let mut name = || {
            let length = body.u8()?;
            let name = body.take(usize::from(length))?;
            match body.u8()? {
                0 => Ok(name),
                _ => Err(damaged(format!("no zero behind a name, at byte {}", body.offset() - 1))),
            }
        };
        let (database, table) = (name()?, name()?);
        Ok(TableMap { table_id, database, table, body })
    }

    /// What describes the columns, as it is: equal bytes are equal columns.
    pub fn columns_bytes(&self) -> &'a [u8] {
        self.body.rest()
    }

    /// The columns, in the order of the rows.
    pub fn columns(&self) -> Result<Vec<MapColumn<'a>>> {
        let mut body = self.body;
        let count = body.packed_length()?;
        if count > COLUMNS_MAX {
            return Err(damaged(format!("a table of {count} columns")));
        }
        let codes = body.take(count)?;
        let offset = body.offset();
        let mut metas = Bytes::new(body.packed_bytes()?, offset);
        let nullable = body.take(count.div_ceil(8))?;
        let mut columns = Vec::with_capacity(count);
        for (i, &code) in codes.iter().enumerate() {
            let (code, meta) = meta_of(code, &mut metas)?;
            let nullable = nullable[i / 8] & 1 << (i % 8) != 0;
            columns.push(MapColumn { code, meta, nullable, unsigned: None, collation: None, name: None, labels: None });
        }
        if !metas.is_empty() {
            return Err(damaged(format!("metadata behind that of the last column, at byte {}", metas.offset())));
        }
        optional_metadata(body, &mut columns)?;
        Ok(columns)
    }
}

/// The type and what follows for it in the metadata.
fn meta_of(code: u8, metas: &mut Bytes<'_>) -> Result<(u8, u16)> {
    use column_code::*;
    let meta = match code {
        FLOAT | DOUBLE | TIMESTAMP2 | DATETIME2 | TIME2 | BLOB | TINY_BLOB | MEDIUM_BLOB | LONG_BLOB | GEOMETRY
        | JSON | VECTOR => u16::from(metas.u8()?),
        VARCHAR | VAR_STRING => metas.u16()?,
        // Two bytes in this order: precision and scale, or the real type and a length.
        NEWDECIMAL | STRING | ENUM | SET => u16::from(metas.u8()?) << 8 | u16::from(metas.u8()?),
        // Bits beyond whole bytes, then whole bytes.
        BIT => {
            let (bits, bytes) = (metas.u8()?, metas.u8()?);
            u16::from(bytes) * 8 + u16::from(bits)
        }
        TINY | SHORT | LONG | NULL | TIMESTAMP | LONGLONG | INT24 | DATE | TIME | DATETIME | YEAR | NEWDATE => 0,
        TYPED_ARRAY => {
            let inner = metas.u8()?;
            // Columns of multi-valued indexes are not replicated; should one be, it is skipped as what it is: JSON.
            match inner {
                VARCHAR => drop(metas.u24()?),
                _ => drop(meta_of(inner, metas)?),
            }
            4
        }
        other => return Err(damaged(format!("a column of type {other}"))),
    };
    if code != STRING {
        return Ok((code, meta));
    }
    // A CHAR's length may need ten bits: the two above its low byte stand, inverted, in the real type.
    let (real, length) = ((meta >> 8) as u8, meta & 0xff);
    Ok(match real {
        ENUM | SET => (real, length),
        _ => (STRING, length | u16::from((real & 0x30) ^ 0x30) << 4),
    })
}

/// Fields as (type, length, value), each for the columns of one kind in order.
fn optional_metadata<'a>(mut body: Bytes<'a>, columns: &mut [MapColumn<'a>]) -> Result<()> {
    while !body.is_empty() {
        let field = body.u8()?;
        let offset = body.offset();
        let mut value = Bytes::new(body.packed_bytes()?, offset);
        match field {
            1 => {
                let bits = value.rest();
                for (i, column) in columns.iter_mut().filter(|c| is_numeric(c.code)).enumerate() {
                    let byte = bits.get(i / 8).ok_or_else(|| damaged("signs of too few columns"))?;
                    column.unsigned = Some(byte & 0x80 >> (i % 8) != 0);
                }
            }
            2 => default_collation(value, columns, |c| is_text(c.code))?,
            3 => each_collation(value, columns, |c| is_text(c.code))?,
            4 => {
                for column in columns.iter_mut() {
                    column.name = Some(value.packed_bytes()?);
                }
            }
            5 | 6 => {
                let code = if field == 5 { column_code::SET } else { column_code::ENUM };
                for column in columns.iter_mut().filter(|c| c.code == code) {
                    let count = value.packed_length()?;
                    column.labels = Some((0..count).map(|_| value.packed_bytes()).collect::<Result<_>>()?);
                }
            }
            10 => default_collation(value, columns, |c| is_choice(c.code))?,
            11 => each_collation(value, columns, |c| is_choice(c.code))?,
            // Kinds of geometry, the primary key, visibility, dimensions of vectors: known from the server.
            _ => {}
        }
    }
    Ok(())
}

fn is_numeric(code: u8) -> bool {
    use column_code::*;
    matches!(code, TINY | SHORT | INT24 | LONG | LONGLONG | NEWDECIMAL | FLOAT | DOUBLE | YEAR)
}

/// The columns that the server counts when it says collations; a VECTOR is one of bytes to it.
fn is_text(code: u8) -> bool {
    use column_code::*;
    matches!(code, STRING | VAR_STRING | VARCHAR | BLOB | TINY_BLOB | MEDIUM_BLOB | LONG_BLOB | VECTOR)
}

fn is_choice(code: u8) -> bool {
    matches!(code, column_code::ENUM | column_code::SET)
}

fn collation(value: &mut Bytes<'_>) -> Result<Option<u32>> {
    value.packed()?.try_into().map(Some).map_err(|_| damaged("a collation's number is too large"))
}

/// One collation for all, then (which of them, collation) for those that have another.
fn default_collation(
    mut value: Bytes<'_>,
    columns: &mut [MapColumn<'_>],
    of: impl Fn(&MapColumn) -> bool,
) -> Result<()> {
    let default = collation(&mut value)?;
    let mut places: Vec<usize> = vec![];
    for (i, column) in columns.iter_mut().enumerate().filter(|(_, c)| of(c)) {
        column.collation = default;
        places.push(i);
    }
    while !value.is_empty() {
        let nth = value.packed()?;
        let collation = collation(&mut value)?;
        let place = usize::try_from(nth).ok().and_then(|n| places.get(n));
        let place = *place.ok_or_else(|| damaged("a collation of a column that is not there"))?;
        columns[place].collation = collation;
    }
    Ok(())
}

fn each_collation(mut value: Bytes<'_>, columns: &mut [MapColumn<'_>], of: impl Fn(&MapColumn) -> bool) -> Result<()> {
    for column in columns.iter_mut().filter(|c| of(c)) {
        column.collation = collation(&mut value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collations_and_signs_are_counted_as_the_server_counts() {
        let mut body = vec![7, 0, 0, 0, 0, 0, 1, 0, 1, b'd', 0, 1, b't', 0];
        let codes =
            [column_code::YEAR, column_code::VECTOR, column_code::LONG, column_code::BLOB, column_code::VARCHAR];
        body.push(codes.len() as u8);
        body.extend_from_slice(&codes);
        // Metadata of VECTOR, BLOB and VARCHAR; which columns may be NULL.
        body.extend_from_slice(&[4, 4, 2, 0x90, 1, 0b11111]);
        // YEAR and LONG are unsigned.
        body.extend_from_slice(&[1, 1, 0b1100_0000]);
        // All columns with characters have collation 63, but for the second (255) and the third (8).
        body.extend_from_slice(&[2, 7, 63, 1, 252, 255, 0, 2, 8]);
        let map = TableMap::parse(Bytes::new(&body, 19)).unwrap();
        let columns = map.columns().unwrap();
        let found: Vec<_> = columns.iter().map(|c| (c.unsigned, c.collation)).collect();
        assert_eq!(
            found,
            [(Some(true), None), (None, Some(63)), (Some(true), None), (None, Some(255)), (None, Some(8))]
        );
        assert_eq!((map.database, map.table, columns[4].meta), (&b"d"[..], &b"t"[..], 400));
    }
}
