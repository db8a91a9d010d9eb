//! What is known of a captured table: its columns on the server, its columns as declared, and how the one becomes the
//! other. Checked against the server at start, and against every TABLE_MAP event of the binlog.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use thalweg_connector_api::SourceTable;
use thalweg_core::nearest::nearest;
use thalweg_core::table::ColumnKind;
use thalweg_core::types::Column;
use thalweg_core::{Error, Result, SqlType};

use crate::binlog::table_map::TableMap;
use crate::charset::Charset;
use crate::key::{KeyColumn, quote_name};
use crate::rows::binary_row::RowPlan;
use crate::rows::zone::Zone;
use crate::types::MySqlType;

pub use crate::plan::ImagePlan;

/// A column of `information_schema.COLUMNS`, or what a later DDL made of it: also kept in positions, since rows in the
/// binlog have the columns that their table had when they were written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerColumn {
    /// COLUMN_NAME.
    pub name: String,
    /// COLUMN_TYPE: `bigint unsigned`, `enum('a','b')`, `datetime(6)`.
    pub column_type: String,
    /// CHARACTER_SET_NAME; `None`: bytes, or no text at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charset: Option<String>,
    /// COLLATION_NAME.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation: Option<String>,
    /// The number of that collation, by which table maps call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation_id: Option<u32>,
    /// IS_NULLABLE.
    pub nullable: bool,
    /// GENERATION_EXPRESSION is not empty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub generated: bool,
}

/// What becomes of dates that are no day of the calendar: `0000-00-00`, `2024-02-00`, `2023-02-29`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ZeroDates {
    /// The job stops.
    #[default]
    Error,
    Null,
}

/// How values are to be understood.
#[derive(Debug, Clone, Default)]
pub struct ValueOptions {
    /// `server-time-zone`: in which zone a MySQL TIMESTAMP is shown that is declared as TIMESTAMP or text.
    pub zone: Zone,
    pub zero_dates: ZeroDates,
}

/// What a layout is made of.
#[derive(Debug, Clone)]
pub struct TableSpec {
    pub source: SourceTable,
    /// Database and table as the server writes them.
    pub database: String,
    pub table: String,
    /// All columns of the table, in the server's order, invisible and generated ones included.
    pub columns: Vec<ServerColumn>,
    /// Ordinals within `columns` of the primary key, in the key's order.
    pub primary_key: Vec<usize>,
    /// What cascading foreign keys change in the table is in the binlog, or is not wanted.
    pub allows_cascades: bool,
    pub options: ValueOptions,
}

/// How the values of one server column become those of one declared column.
#[derive(Debug, Clone)]
pub struct Meaning {
    pub ty: MySqlType,
    /// Of columns with text (ENUM and SET included).
    pub charset: Option<&'static Charset>,
    pub zone: Zone,
    pub zero_dates: ZeroDates,
    /// A `?` in a label may stand for a character that `information_schema` cannot show.
    pub labels_in_doubt: bool,
}

/// Where a column of the output comes from.
#[derive(Debug, Clone)]
pub enum Output {
    /// An ordinal within the server's columns.
    Column {
        server: usize,
        meaning: Arc<Meaning>,
    },
    DatabaseName,
    TableName,
    OpTs,
    RowKind,
}

/// Metadata columns, as `SourceInfo::metadata` lists them.
pub fn metadata_columns() -> Vec<Column> {
    vec![
        Column::new("database_name", SqlType::STRING, false),
        Column::new("table_name", SqlType::STRING, false),
        Column::new("op_ts", SqlType::TimestampLtz(3), false),
        Column::new("row_kind", SqlType::STRING, false),
    ]
}

/// A captured table.
#[derive(Debug)]
pub struct TableLayout {
    spec: TableSpec,
    /// One per column of `spec.source.columns`.
    outputs: Vec<Output>,
    key: Vec<KeyColumn>,
    /// Per key column its type on the server.
    key_types: Vec<MySqlType>,
    /// Server ordinals of what a snapshot selects behind the key's expressions.
    selected: Vec<usize>,
    append_log: bool,
    /// The last table map that was checked, by the bytes of its columns.
    last: Mutex<Option<(Vec<u8>, Arc<ImagePlan>)>>,
}

impl TableLayout {
    /// Checks every declared column against the server's.
    ///
    /// # Errors
    /// A declared column that the server lacks or that is of another type: names table, column, both types, and what
    /// to declare. A primary key by which no snapshot can be cut.
    pub fn new(spec: TableSpec) -> Result<TableLayout> {
        let def = &spec.source.def;
        let mut outputs = vec![];
        let mut append_log = false;
        for (ordinal, declared) in def.columns.iter().enumerate() {
            let output = match &declared.kind {
                ColumnKind::Physical => physical(&spec, &declared.column)?,
                ColumnKind::Metadata { key, .. } => metadata(&spec, key, &declared.column)?,
            };
            append_log |= matches!(output, Output::RowKind);
            if spec.source.columns.contains(&ordinal) {
                outputs.push(output);
            }
        }
        let (mut key, mut key_types) = (vec![], vec![]);
        for &ordinal in &spec.primary_key {
            let column = &spec.columns[ordinal];
            let ty = MySqlType::parse(&column.column_type)?;
            let text = column.charset.as_deref().zip(column.collation.as_deref());
            key.push(KeyColumn::new(&def.name, &column.name, &ty, text)?);
            key_types.push(ty);
        }
        let mut selected = vec![];
        for output in &outputs {
            if let Output::Column { server, .. } = output {
                selected.push(*server);
            }
        }
        selected.sort_unstable();
        selected.dedup();
        Ok(TableLayout { spec, outputs, key, key_types, selected, append_log, last: Mutex::new(None) })
    }

    /// The same table with other columns on the server: behind a DDL that the declared columns do not feel.
    pub fn with_columns(&self, columns: Vec<ServerColumn>) -> Result<TableLayout> {
        let by_name: HashMap<String, usize> =
            columns.iter().enumerate().map(|(i, c)| (c.name.to_lowercase(), i)).collect();
        let mut primary_key = vec![];
        for &ordinal in &self.spec.primary_key {
            let name = &self.spec.columns[ordinal].name;
            let found = by_name.get(&name.to_lowercase());
            primary_key.push(*found.ok_or_else(|| {
                Error::unsupported(format!("table {} has lost column \"{name}\" of its primary key", self.name()))
            })?);
        }
        TableLayout::new(TableSpec { columns, primary_key, ..self.spec.clone() })
    }

    /// As the user calls it, for messages.
    pub fn name(&self) -> &str {
        &self.spec.source.def.name
    }

    pub fn database(&self) -> &str {
        &self.spec.database
    }

    pub fn table(&self) -> &str {
        &self.spec.table
    }

    pub fn source(&self) -> &SourceTable {
        &self.spec.source
    }

    /// All columns on the server.
    pub fn columns(&self) -> &[ServerColumn] {
        &self.spec.columns
    }

    /// The primary key's columns, in its order.
    pub fn key(&self) -> &[KeyColumn] {
        &self.key
    }

    /// Whether a server column must not change: it is declared or in the primary key.
    pub fn is_needed(&self, name: &str) -> bool {
        let same = |other: &str| other.to_lowercase() == name.to_lowercase();
        let declared = self.spec.source.def.columns.iter();
        declared.filter(|c| c.kind == ColumnKind::Physical).any(|c| same(&c.column.name))
            || self.spec.primary_key.iter().any(|&k| same(&self.spec.columns[k].name))
    }

    /// Whether the table may get a foreign key that changes its rows.
    pub fn allows_cascades(&self) -> bool {
        self.spec.allows_cascades
    }

    pub(crate) fn spec(&self) -> &TableSpec {
        &self.spec
    }

    pub(crate) fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    pub(crate) fn key_types(&self) -> &[MySqlType] {
        &self.key_types
    }

    pub(crate) fn selected(&self) -> &[usize] {
        &self.selected
    }

    /// The table is read as a log: every change is a row of weight 1 that says in `row_kind` what it was.
    pub fn is_append_log(&self) -> bool {
        self.append_log
    }

    /// The declared column behind an output column.
    pub(crate) fn schema_column(&self, place: usize) -> &Column {
        let source = &self.spec.source;
        &source.def.columns[source.columns[place]].column
    }

    /// The schema of the batches that `RowsBuilder` makes.
    pub fn schema(&self) -> SchemaRef {
        let source = &self.spec.source;
        let mut fields: Vec<Field> = source.columns.iter().map(|&i| source.def.columns[i].column.to_field()).collect();
        if source.with_order {
            fields.push(Field::new("$order", DataType::Int64, false));
        }
        Arc::new(Schema::new(fields))
    }

    /// What a snapshot's SELECT lists: the key's expressions in order, then the columns to decode. Rows of such a result
    /// are what `row_plan` is for.
    pub fn select_list(&self) -> Vec<String> {
        let columns = self.selected.iter().map(|&i| quote_name(&self.spec.columns[i].name));
        self.key.iter().map(|k| k.expression.clone()).chain(columns).collect()
    }

    /// How rows of a prepared SELECT of `select_list` are to be read. `codes`: the type of each column of the result, as
    /// the server numbers them (`MYSQL_TYPE_…`).
    ///
    /// # Errors
    /// The result's columns are not those of the layout: the table was changed since.
    pub fn row_plan(&self, codes: &[u8]) -> Result<RowPlan> {
        RowPlan::new(self, codes)
    }

    /// How the rows behind a TABLE_MAP event are to be read.
    ///
    /// # Errors
    /// The table's columns are not those that the layout knows, or not of types that go into the declared ones.
    pub fn image_plan(&self, map: &TableMap<'_>) -> Result<Arc<ImagePlan>> {
        let mut last = self.last.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((bytes, plan)) = &*last
            && bytes == map.columns_bytes()
        {
            return Ok(plan.clone());
        }
        let plan = Arc::new(ImagePlan::new(self, &map.columns()?)?);
        *last = Some((map.columns_bytes().to_vec(), plan.clone()));
        Ok(plan)
    }
}

fn physical(spec: &TableSpec, declared: &Column) -> Result<Output> {
    let def = &spec.source.def;
    let exact = spec.columns.iter().position(|c| c.name == declared.name);
    // Names of columns are without case in MySQL.
    let lower = declared.name.to_lowercase();
    let server = exact.or_else(|| spec.columns.iter().position(|c| c.name.to_lowercase() == lower));
    let Some(server) = server else {
        let names = || spec.columns.iter().map(|c| c.name.as_str());
        return Err(Error::name(format!(
            "table {}: the server's table {}.{} has no column \"{}\"",
            def.name, spec.database, spec.table, declared.name
        ))
        .propose(nearest(&declared.name, names()).map(|n| format!("did you mean \"{n}\"?")))
        .note(format!("columns that the user may read: {}", names().collect::<Vec<_>>().join(", "))));
    };
    let column = &spec.columns[server];
    let context = || format!("table {}, column \"{}\"", def.name, declared.name);
    let ty = MySqlType::parse(&column.column_type).map_err(|e| e.context(context()))?;
    if !ty.fits(&declared.ty) {
        return Err(Error::type_(format!(
            "{}: {} of the server does not go into {}",
            context(),
            column.column_type,
            declared.ty
        ))
        .note(format!("declare it {}", ty.natural())));
    }
    let charset = column.charset.as_deref().map(Charset::of_name).transpose().map_err(|e| e.context(context()))?;
    let (zone, zero_dates) = (spec.options.zone, spec.options.zero_dates);
    Ok(Output::Column { server, meaning: Arc::new(Meaning { ty, charset, zone, zero_dates, labels_in_doubt: false }) })
}

fn metadata(spec: &TableSpec, key: &str, declared: &Column) -> Result<Output> {
    let (output, natural) = match key {
        "database_name" => (Output::DatabaseName, SqlType::STRING),
        "table_name" => (Output::TableName, SqlType::STRING),
        "op_ts" => (Output::OpTs, SqlType::TimestampLtz(3)),
        "row_kind" => (Output::RowKind, SqlType::STRING),
        _ => {
            let known = metadata_columns();
            let names = || known.iter().map(|c| c.name.as_str());
            return Err(Error::name(format!("table {} has no metadata '{key}'", spec.source.def.name))
                .propose(nearest(key, names()).map(|n| format!("did you mean '{n}'?")))
                .note(format!("metadata: {}", names().collect::<Vec<_>>().join(", "))));
        }
    };
    let fits = match (&natural, &declared.ty) {
        (SqlType::TimestampLtz(_), SqlType::TimestampLtz(p)) => *p >= 3,
        (SqlType::VarChar(_), ty) => *ty == SqlType::STRING || matches!(ty, SqlType::VarChar(n) if *n >= 64),
        _ => false,
    };
    if fits {
        return Ok(output);
    }
    Err(Error::type_(format!(
        "table {}, column \"{}\": metadata '{key}' does not go into {}",
        spec.source.def.name, declared.name, declared.ty
    ))
    .note(format!("declare it {natural}")))
}
