//! Which columns of a table stand in a message's key, which in its value, and which are given by Kafka.

use thalweg_connector_api::{Decoder, Format, RowEncoder};
use thalweg_core::nearest::did_you_mean;
use thalweg_core::table::{ChangelogMode, ColumnKind, TableColumn, TableDef};
use thalweg_core::types::ElementType;
use thalweg_core::{Column, Error, Result, SqlType};

use crate::options::Flavor;

/// The columns that stand in the key or in the value, as a table of their own for its format.
#[derive(Clone)]
pub struct Part {
    pub format: &'static dyn Format,
    /// Column i of this one is column `ordinals[i]` of the table.
    pub def: TableDef,
    pub ordinals: Vec<usize>,
}

/// How a table's rows become messages.
#[derive(Clone)]
pub struct Layout {
    pub key: Option<Part>,
    pub value: Part,
    /// The key's columns stand in the key alone.
    pub key_apart: bool,
}

/// What can be asked for with `METADATA FROM` when reading, as in Flink.
pub fn readable() -> Vec<Column> {
    vec![
        Column::new("topic", SqlType::STRING, false),
        Column::new("partition", SqlType::Int, false),
        Column::new("headers", headers_type(), false),
        Column::new("leader-epoch", SqlType::Int, true),
        Column::new("offset", SqlType::BigInt, false),
        Column::new("timestamp", SqlType::TimestampLtz(3), false),
        Column::new("timestamp-type", SqlType::STRING, false),
    ]
}

/// What can be written with `METADATA FROM`.
pub fn writable() -> Vec<Column> {
    vec![Column::new("headers", headers_type(), true), Column::new("timestamp", SqlType::TimestampLtz(3), true)]
}

pub fn headers_type() -> SqlType {
    SqlType::Map(Box::new(SqlType::STRING), Box::new(ElementType { ty: SqlType::BYTES, nullable: true }))
}

impl Layout {
    pub fn of(flavor: Flavor, table: &TableDef) -> Result<Self> {
        let of = format!("table {}", table.name);
        check_metadata(table, &of)?;
        let value_format = match (table.option("format"), table.option("value.format")) {
            (Some(_), Some(_)) => {
                return Err(Error::option(format!("{of}: 'format' and 'value.format' are the same; give one of them")));
            }
            (Some(f), None) | (None, Some(f)) => thalweg_formats::format(f)?,
            (None, None) => {
                return Err(Error::option(format!("{of} needs the option 'format'"))
                    .note("how rows stand in the messages' values: json, csv, debezium-json or raw"));
            }
        };
        let physical: Vec<usize> =
            (0..table.columns.len()).filter(|i| table.columns[*i].kind == ColumnKind::Physical).collect();
        let key_fields = match flavor {
            Flavor::Kafka => named(table, &physical, &of)?,
            Flavor::Upsert => {
                if table.primary_key.is_empty() {
                    return Err(Error::option(format!("{of}: connector 'upsert-kafka' needs a primary key"))
                        .note("declare PRIMARY KEY (…) NOT ENFORCED: its columns are the messages' keys"));
                }
                if value_format.changelog() != ChangelogMode::Append {
                    let name = value_format.name();
                    return Err(Error::option(format!(
                        "{of}: format '{name}' has changes of its own, which connector 'upsert-kafka' makes out of keys"
                    ))
                    .note(format!(
                        "use connector 'kafka' with format '{name}', or 'upsert-kafka' with json, csv or raw"
                    )));
                }
                table.primary_key.clone()
            }
        };
        let key_format = match table.option("key.format") {
            Some(name) => Some(thalweg_formats::format(name)?),
            // A primary key is the messages' key, also if nobody says how it is to stand there.
            None if !key_fields.is_empty() && table.option("key.fields").is_none() => {
                Some(thalweg_formats::format(if value_format.name() == "csv" { "csv" } else { "json" })?)
            }
            None => None,
        };
        let prefix = table.option("key.fields-prefix").unwrap_or("");
        let key_apart = table.option("value.fields-include") == Some("EXCEPT_KEY");
        if key_format.is_none() && table.option("key.fields").is_some() {
            return Err(Error::option(format!("{of}: 'key.fields' needs 'key.format'")));
        }
        if !prefix.is_empty() && !key_apart {
            return Err(Error::option(format!(
                "{of}: 'key.fields-prefix' needs 'value.fields-include' = 'EXCEPT_KEY'"
            ))
            .note("else a column would have one name in the key and another in the value"));
        }
        let key = match key_format {
            None => None,
            Some(format) if format.changelog() != ChangelogMode::Append => {
                return Err(Error::option(format!("{of}: 'key.format' = '{}' is not for keys", format.name()))
                    .note("json, csv or raw"));
            }
            Some(_) if key_fields.is_empty() => {
                return Err(Error::option(format!("{of}: 'key.format' needs 'key.fields', or a primary key")));
            }
            Some(format) => {
                for i in &key_fields {
                    let name = &table.columns[*i].column.name;
                    if !name.starts_with(prefix) {
                        return Err(Error::option(format!(
                            "{of}: the key's column {name} does not begin with 'key.fields-prefix' = '{prefix}'"
                        )));
                    }
                }
                Some(Part::of(format, table, key_fields, prefix, "key."))
            }
        };
        let in_value = |i: &usize| !key_apart || key.as_ref().is_none_or(|k| !k.ordinals.contains(i));
        let value: Vec<usize> = physical.into_iter().filter(in_value).collect();
        if value.is_empty() {
            return Err(Error::option(format!("{of}: no column is left for the messages' values"))
                .note("'value.fields-include' = 'ALL' puts the key's columns into the value too"));
        }
        let layout = Layout { key, value: Part::of(value_format, table, value, "", "value."), key_apart };
        layout.check(&of)?;
        Ok(layout)
    }

    /// Wrong options of the formats are found when the statement is planned.
    fn check(&self, of: &str) -> Result<()> {
        for part in self.key.iter().chain([&self.value]) {
            let all: Vec<usize> = (0..part.def.columns.len()).collect();
            if part.format.decoder(&part.def, &all)?.has_header() {
                return Err(Error::option(format!(
                    "{of}: 'csv.header' = 'true' is for files; messages have no header"
                )));
            }
        }
        Ok(())
    }

    /// Ordinals of the key's columns within the table; empty: messages have no keys.
    pub fn key_ordinals(&self) -> &[usize] {
        self.key.as_ref().map_or(&[], |k| &k.ordinals)
    }
}

impl Part {
    fn of(format: &'static dyn Format, table: &TableDef, ordinals: Vec<usize>, prefix: &str, options: &str) -> Self {
        let column = |i: &usize| {
            let TableColumn { column, kind } = &table.columns[*i];
            let name = column.name.strip_prefix(prefix).unwrap_or(&column.name);
            TableColumn { column: Column::new(name, column.ty.clone(), column.nullable), kind: kind.clone() }
        };
        let its_own = format!("{}.", format.name());
        let given = |(name, value): (&String, &String)| {
            let bare = match name.strip_prefix(options) {
                Some(bare) => bare,
                // The key's options are written with their prefix only.
                None if options == "key." => return None,
                None => name,
            };
            bare.starts_with(&its_own).then(|| (bare.to_owned(), value.clone()))
        };
        Part {
            format,
            def: TableDef {
                name: table.name.clone(),
                columns: ordinals.iter().map(column).collect(),
                primary_key: table.primary_key.iter().filter_map(|k| ordinals.iter().position(|o| o == k)).collect(),
                partitioned_by: vec![],
                options: table.options.iter().filter_map(given).collect(),
            },
            ordinals,
        }
    }

    /// Decodes the columns at these ordinals of the whole table, in their order.
    pub fn decoder(&self, wanted: &[usize], upsert: bool) -> Result<Box<dyn Decoder>> {
        let own: Vec<usize> = wanted.iter().filter_map(|w| self.ordinals.iter().position(|o| o == w)).collect();
        if upsert && let Some(decoder) = self.format.upsert_decoder(&self.def, &own)? {
            return Ok(decoder);
        }
        self.format.decoder(&self.def, &own)
    }

    pub fn encoder(&self) -> Result<Box<dyn RowEncoder>> {
        self.format.encoder(&self.def)
    }
}

/// The columns that `key.fields` names, else the primary key's.
fn named(table: &TableDef, physical: &[usize], of: &str) -> Result<Vec<usize>> {
    let Some(fields) = table.option("key.fields") else {
        return Ok(table.primary_key.clone());
    };
    let names = || physical.iter().map(|i| table.columns[*i].column.name.as_str());
    let mut found = vec![];
    for field in fields.split(';').map(str::trim).filter(|f| !f.is_empty()) {
        let Some(i) = physical.iter().find(|i| table.columns[**i].column.name == field) else {
            return Err(Error::option(format!("{of}: 'key.fields' names the column {field}, which is not there"))
                .propose(did_you_mean(field, names()))
                .note(format!("columns: {}", names().collect::<Vec<_>>().join(", "))));
        };
        if found.contains(i) {
            return Err(Error::option(format!("{of}: 'key.fields' names the column {field} twice")));
        }
        found.push(*i);
    }
    if found.is_empty() {
        return Err(Error::option(format!("{of}: 'key.fields' is empty")));
    }
    Ok(found)
}

/// Metadata columns name a known key and have its type.
fn check_metadata(table: &TableDef, of: &str) -> Result<()> {
    for c in &table.columns {
        let ColumnKind::Metadata { key, .. } = &c.kind else { continue };
        let known = readable();
        let Some(found) = known.iter().find(|m| m.name == *key) else {
            let names: Vec<_> = known.iter().map(|m| m.name.as_str()).collect();
            return Err(Error::name(format!("{of}: there is no metadata '{key}'"))
                .propose(did_you_mean(key, names.iter().copied()))
                .note(format!("metadata: {}", names.join(", "))));
        };
        if found.ty.to_arrow() != c.column.ty.to_arrow() {
            return Err(Error::type_(format!(
                "{of}: column {} is {}, but metadata '{key}' is {}",
                c.column.name, c.column.ty, found.ty
            ))
            .note(format!("declare it as {} METADATA FROM '{key}'", found.ty)));
        }
    }
    Ok(())
}

/// Of a table that is written: metadata that Kafka gives itself must be declared so.
pub fn check_written_metadata(table: &TableDef) -> Result<()> {
    for c in &table.columns {
        if let ColumnKind::Metadata { key, is_virtual: false } = &c.kind
            && !writable().iter().any(|m| m.name == *key)
        {
            return Err(Error::unsupported(format!(
                "table {}: column {} cannot be written: metadata '{key}' is given by Kafka",
                table.name, c.column.name
            ))
            .note(format!(
                "declare it as {} METADATA FROM '{key}' VIRTUAL; headers and timestamp can be written",
                c.column.ty
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::table;

    const COLUMNS: &[(&str, SqlType)] = &[("k_id", SqlType::Int), ("k_at", SqlType::Date), ("v", SqlType::STRING)];

    fn layout(flavor: Flavor, key: &[usize], given: &[(&str, &str)]) -> Result<Layout> {
        Layout::of(flavor, &table(COLUMNS, key, given))
    }

    fn refused(flavor: Flavor, key: &[usize], given: &[(&str, &str)]) -> String {
        layout(flavor, key, given).err().unwrap().to_string()
    }

    #[test]
    fn keys_lose_their_prefix_and_stand_in_the_key_alone() {
        let l = layout(
            Flavor::Kafka,
            &[],
            &[
                ("value.format", "json"),
                ("key.format", "csv"),
                ("key.fields", "k_at;k_id"),
                ("key.fields-prefix", "k_"),
                ("value.fields-include", "EXCEPT_KEY"),
                ("key.csv.field-delimiter", "|"),
                ("value.json.ignore-parse-errors", "true"),
            ],
        )
        .unwrap();
        let key = l.key.as_ref().unwrap();
        let names = |p: &Part| p.def.columns.iter().map(|c| c.column.name.clone()).collect::<Vec<_>>();
        assert_eq!((names(key), names(&l.value)), (vec!["at".into(), "id".into()], vec!["v".into()]));
        assert_eq!((key.ordinals.as_slice(), l.value.ordinals.as_slice()), ([1, 0].as_slice(), [2].as_slice()));
        assert_eq!(key.def.option("csv.field-delimiter"), Some("|"));
        assert_eq!(l.value.def.option("json.ignore-parse-errors"), Some("true"));
    }

    #[test]
    fn the_key_of_a_table_with_a_primary_key_is_the_primary_key() {
        let l = layout(Flavor::Kafka, &[0, 1], &[("format", "json"), ("key.format", "json")]).unwrap();
        assert_eq!(l.key_ordinals(), [0, 1]);
        for (value, key) in [("json", "json"), ("debezium-json", "json"), ("csv", "csv")] {
            let l = layout(Flavor::Kafka, &[0], &[("format", value)]).unwrap();
            assert_eq!((l.key_ordinals(), l.key.as_ref().unwrap().format.name()), ([0].as_slice(), key));
        }
        assert!(layout(Flavor::Kafka, &[], &[("format", "json")]).unwrap().key.is_none());
        let l = layout(Flavor::Upsert, &[1], &[("value.format", "json"), ("key.format", "json")]).unwrap();
        assert_eq!(l.key_ordinals(), [1]);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        use Flavor::*;
        let json = ("format", "json");
        for (flavor, key, given, why) in [
            (Kafka, &[][..], &[][..], "needs the option 'format'"),
            (Kafka, &[], &[json, ("value.format", "json")], "give one of them"),
            (Kafka, &[], &[json, ("key.format", "json")], "needs 'key.fields'"),
            (Kafka, &[], &[json, ("key.fields", "v")], "needs 'key.format'"),
            (Kafka, &[], &[json, ("key.format", "json"), ("key.fields", "k_i")], "did you mean \"k_id\""),
            (Kafka, &[], &[json, ("key.format", "json"), ("key.fields", "v;v")], "twice"),
            (Kafka, &[], &[json, ("key.fields-prefix", "k_")], "EXCEPT_KEY"),
            (Kafka, &[], &[json, ("key.format", "debezium-json"), ("key.fields", "v")], "not for keys"),
            (Kafka, &[], &[("format", "csv"), ("csv.header", "true")], "messages have no header"),
            (Kafka, &[], &[("format", "raw")], "for one column"),
            (Upsert, &[], &[("value.format", "json"), ("key.format", "json")], "needs a primary key"),
            (Upsert, &[0], &[("value.format", "debezium-json"), ("key.format", "json")], "connector 'kafka'"),
        ] {
            let e = refused(flavor, key, given);
            assert!(e.contains(why), "{given:?}: {e}");
        }
    }
}
