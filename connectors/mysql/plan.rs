//! How row images are read: one step per column of a table map.

use thalweg_core::{Error, Result};

use crate::binlog::bytes::{Bytes, damaged};
use crate::binlog::rows_event::Image;
use crate::binlog::table_map::{MapColumn, column_code as code};
use crate::charset::Charset;
use crate::key::{Key, KeyPart};
use crate::layout::{Meaning, Output, TableLayout};
use crate::rows::raw::{Raw, Read};
use crate::types::MySqlType;

/// How the rows behind a TABLE_MAP event are to be read.
#[derive(Debug)]
pub struct ImagePlan {
    table: String,
    names: Vec<String>,
    pub(crate) bitmap_bytes: usize,
    /// One per column of the table.
    pub(crate) steps: Vec<Step>,
    /// Per key column, its ordinal in the table and its type.
    key: Vec<(usize, MySqlType)>,
}

#[derive(Debug)]
pub(crate) struct Step {
    pub read: Read,
    /// Column of the output and how its values become.
    pub target: Option<(usize, Meaning)>,
    /// Further columns of the output of the same server column.
    pub more: Vec<(usize, Meaning)>,
}

impl ImagePlan {
    pub(crate) fn new(layout: &TableLayout, map: &[MapColumn<'_>]) -> Result<ImagePlan> {
        let columns = layout.columns();
        if columns.len() != map.len() {
            return Err(changed(
                layout,
                format!("it has {} columns in the binlog and {} on the server", map.len(), columns.len()),
            ));
        }
        for (column, found) in columns.iter().zip(map) {
            if let Some(name) = found.name
                && String::from_utf8_lossy(name).to_lowercase() != column.name.to_lowercase()
            {
                let name = String::from_utf8_lossy(name);
                return Err(changed(layout, format!("column \"{}\" is \"{name}\" in the binlog", column.name)));
            }
        }
        let mut steps: Vec<Step> = map
            .iter()
            .map(|found| Ok(Step { read: Read::of_map(found)?, target: None, more: vec![] }))
            .collect::<Result<_>>()?;
        for (place, output) in layout.outputs().iter().enumerate() {
            if let Output::Column { server, meaning } = output {
                let meaning = effective(layout, *server, meaning, &map[*server])?;
                let declared = layout.schema_column(place);
                if !meaning.ty.fits(&declared.ty) {
                    return Err(changed(
                        layout,
                        format!(
                            "column \"{}\" is {} in the binlog, which does not go into {}",
                            declared.name, meaning.ty, declared.ty
                        ),
                    ));
                }
                let step = &mut steps[*server];
                step.read = Read::of_type(&meaning.ty, &map[*server])?;
                match &step.target {
                    None => step.target = Some((place, meaning)),
                    Some(_) => step.more.push((place, meaning)),
                }
            }
        }
        let mut key = vec![];
        for (i, (&ordinal, ty)) in layout.spec().primary_key.iter().zip(layout.key_types()).enumerate() {
            let known = columns[ordinal].collation_id.filter(|_| layout.key()[i].by_server);
            if let (Some(known), Some(found)) = (known, map[ordinal].collation)
                && known != found
            {
                return Err(changed(
                    layout,
                    format!(
                        "key column \"{}\" has collation {} (number {known}), in the binlog it has number {found}",
                        columns[ordinal].name,
                        columns[ordinal].collation.as_deref().unwrap_or_default()
                    ),
                ));
            }
            let ty = effective_type(layout, ordinal, ty, &map[ordinal])?;
            steps[ordinal].read = Read::of_type(&ty, &map[ordinal])?;
            key.push((ordinal, ty));
        }
        let names = columns.iter().map(|c| c.name.clone()).collect();
        let table = layout.name().to_owned();
        Ok(ImagePlan { table, names, bitmap_bytes: map.len().div_ceil(8), steps, key })
    }

    pub fn columns(&self) -> usize {
        self.steps.len()
    }

    pub fn table(&self) -> &str {
        &self.table
    }

    pub(crate) fn column_name(&self, ordinal: usize) -> &str {
        self.names.get(ordinal).map_or("?", String::as_str)
    }

    /// Moves behind an image.
    pub(crate) fn skip_image(&self, rest: &mut Bytes<'_>) -> Result<()> {
        let nulls = rest.take(self.bitmap_bytes)?;
        for (i, step) in self.steps.iter().enumerate() {
            if nulls[i / 8] & 1 << (i % 8) == 0 {
                step.read.skip(rest)?;
            }
        }
        Ok(())
    }

    /// The primary key of the row that an image holds.
    pub fn key(&self, image: &Image<'_>) -> Result<Key> {
        let mut rest = image.bytes;
        let nulls = rest.take(self.bitmap_bytes)?;
        let mut parts: Vec<Option<KeyPart>> = vec![None; self.key.len()];
        // Primary keys are mostly first columns: reading ends with the last of them.
        let last = self.key.iter().map(|(ordinal, _)| *ordinal).max().unwrap_or(0);
        for (i, step) in self.steps.iter().enumerate().take(last + 1) {
            let is_null = nulls[i / 8] & 1 << (i % 8) != 0;
            let place = self.key.iter().position(|(ordinal, _)| *ordinal == i);
            match place {
                Some(_) if is_null => {
                    return Err(damaged(format!("NULL in primary key column \"{}\"", self.column_name(i))));
                }
                Some(place) => parts[place] = Some(part_of(step.read.read(&mut rest)?, &self.key[place].1)?),
                None if is_null => {}
                None => step.read.skip(&mut rest)?,
            }
        }
        parts
            .into_iter()
            .collect::<Option<_>>()
            .map(Key)
            .ok_or_else(|| Error::internal("a key column is not in the row"))
    }
}

/// A value of a primary key column.
pub(crate) fn part_of(raw: Raw<'_>, ty: &MySqlType) -> Result<KeyPart> {
    Ok(match (raw, ty) {
        (Raw::Int(v), _) => KeyPart::Int(v),
        (Raw::Unsigned(v) | Raw::Choice(v), _) => KeyPart::Unsigned(v),
        (Raw::Decimal(v), MySqlType::Decimal { scale, .. }) => {
            KeyPart::Decimal(arrow::datatypes::i256::from_i128(v), *scale)
        }
        (Raw::WideDecimal(v), MySqlType::Decimal { scale, .. }) => KeyPart::Decimal(v, *scale),
        (Raw::Date(y, m, d), _) => KeyPart::Date(y, m, d),
        (Raw::DateTime(t), _) => KeyPart::DateTime(t),
        (Raw::Timestamp { seconds, micros }, _) => KeyPart::DateTime(crate::rows::temporal::utc(seconds, micros)),
        (Raw::Time(v), _) => KeyPart::Time(v),
        (Raw::Bytes(b), MySqlType::Binary(n)) => {
            let mut bytes = b.to_vec();
            bytes.resize(bytes.len().max(*n as usize), 0);
            KeyPart::Binary(bytes)
        }
        (Raw::Bytes(b), MySqlType::VarBinary(_) | MySqlType::Blob) => KeyPart::Binary(b.to_vec()),
        (Raw::Bytes(b), MySqlType::Char(_) | MySqlType::VarChar(_) | MySqlType::Text) => KeyPart::Text(b.to_vec()),
        (_, ty) => return Err(Error::internal(format!("a key column of type {ty}"))),
    })
}

/// What a column means in the rows behind a table map: what the map says counts for the bytes, what the server said for
/// what the map leaves out.
fn effective(layout: &TableLayout, ordinal: usize, known: &Meaning, found: &MapColumn<'_>) -> Result<Meaning> {
    let mut ty = effective_type(layout, ordinal, &known.ty, found)?;
    let mut charset = known.charset;
    if let (Some(collation), Some(known)) = (found.collation, known.charset) {
        let in_binlog = Charset::of_collation(collation);
        if let Some(found) = in_binlog.filter(|c| !c.is(known)).map(Charset::name) {
            let name = &layout.columns()[ordinal].name;
            return Err(changed(
                layout,
                format!("column \"{name}\" is in {} on the server, {found} in the binlog", known.name()),
            ));
        }
        // A collation that is newer than our list: then the server's word stands.
        charset = in_binlog.or(charset);
    }
    // With full metadata the labels come as they were when the rows were written, in the column's character set.
    if let (Some(labels), Some(charset)) = (&found.labels, charset) {
        let mut decoded = vec![];
        for label in labels {
            let mut text = vec![];
            charset
                .decode(label, &mut text)
                .map_err(|e| Error::row(format!("a label of column \"{}\" {e}", layout.columns()[ordinal].name)))?;
            decoded.push(String::from_utf8(text).map_err(|_| damaged("a label is not text"))?);
        }
        match &mut ty {
            MySqlType::Enum(labels) | MySqlType::Set(labels) => *labels = decoded,
            _ => {}
        }
    }
    let labels_in_doubt = found.labels.is_none() && charset.is_some_and(Charset::has_supplementary);
    Ok(Meaning { ty, charset, zone: known.zone, zero_dates: known.zero_dates, labels_in_doubt })
}

fn effective_type(layout: &TableLayout, ordinal: usize, known: &MySqlType, found: &MapColumn<'_>) -> Result<MySqlType> {
    let meta = found.meta;
    let ty = match (found.code, known) {
        (
            code::TINY | code::SHORT | code::INT24 | code::LONG | code::LONGLONG,
            MySqlType::Int { unsigned, width, zerofill, .. },
        ) => {
            let bytes = match found.code {
                code::TINY => 1,
                code::SHORT => 2,
                code::INT24 => 3,
                code::LONG => 4,
                _ => 8,
            };
            let unsigned = found.unsigned.unwrap_or(*unsigned);
            MySqlType::Int { bytes, unsigned, width: *width, zerofill: *zerofill }
        }
        (code::NEWDECIMAL, MySqlType::Decimal { zerofill, .. }) => {
            let (precision, scale) = ((meta >> 8) as u8, meta as u8);
            MySqlType::Decimal { precision, scale, zerofill: *zerofill }
        }
        (code::BIT, MySqlType::Bit(_)) if (1..=64).contains(&meta) => MySqlType::Bit(meta as u8),
        (code::DATETIME2, MySqlType::DateTime(_)) if meta <= 6 => MySqlType::DateTime(meta as u8),
        (code::TIMESTAMP2, MySqlType::Timestamp(_)) if meta <= 6 => MySqlType::Timestamp(meta as u8),
        (code::TIME2, MySqlType::Time(_)) if meta <= 6 => MySqlType::Time(meta as u8),
        (code::FLOAT, MySqlType::Float)
        | (code::DOUBLE, MySqlType::Double)
        | (code::YEAR, MySqlType::Year)
        | (code::DATE | code::NEWDATE, MySqlType::Date)
        | (code::VARCHAR | code::VAR_STRING, MySqlType::VarChar(_) | MySqlType::VarBinary(_))
        | (code::STRING, MySqlType::Char(_))
        | (code::BLOB, MySqlType::Text | MySqlType::Blob)
        | (code::ENUM, MySqlType::Enum(_))
        | (code::SET, MySqlType::Set(_))
        | (code::JSON, MySqlType::Json)
        | (code::GEOMETRY, MySqlType::Geometry)
        | (code::VECTOR, MySqlType::Vector) => known.clone(),
        // Bytes that were cut at the end are filled up to the length that the rows were written with.
        (code::STRING, MySqlType::Binary(_)) => MySqlType::Binary(u32::from(meta)),
        (
            code::TIMESTAMP | code::DATETIME | code::TIME,
            MySqlType::Timestamp(_) | MySqlType::DateTime(_) | MySqlType::Time(_),
        ) => {
            let name = &layout.columns()[ordinal].name;
            return Err(Error::unsupported(format!(
                "table {}: column \"{name}\" is stored in the form of servers before MySQL 5.6",
                layout.name()
            ))
            .note(format!("ALTER TABLE {}.{} FORCE rewrites it", layout.database(), layout.table())));
        }
        _ => {
            let name = &layout.columns()[ordinal].name;
            return Err(changed(
                layout,
                format!(
                    "column \"{name}\" is {known} on the server, in the binlog it is of type {} ({meta})",
                    found.code
                ),
            ));
        }
    };
    if let MySqlType::Decimal { precision, scale, .. } = ty
        && !((1..=65).contains(&precision) && scale <= precision)
    {
        return Err(damaged(format!("a DECIMAL({precision}, {scale})")));
    }
    Ok(ty)
}

fn changed(layout: &TableLayout, what: String) -> Error {
    Error::unsupported(format!("table {} was changed: {what}", layout.name()))
        .note("rows before the change cannot be read by the table as it is now; SET GLOBAL binlog_row_metadata = FULL lets a change be seen")
        .note("start with --fresh, or from a position behind the change")
}
