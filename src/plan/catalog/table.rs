//! A table of the catalog: a `CREATE TABLE` that has been checked.

use std::collections::BTreeMap;

use sqlparser::ast::{Expr, Visit, Visitor};
use std::ops::ControlFlow;
use thalweg_core::table::{ColumnKind as CoreKind, TableColumn, TableDef};
use thalweg_core::{Column as CoreColumn, Error, Place, Result, SqlType};

use crate::names::{Lookup, ambiguous, look_up, no_such};
use crate::sql::{ColumnDecl, ColumnDeclKind, CreateTable, Name, PrimaryKeyDecl, WatermarkDecl, place_of};

/// A table, with or without a connector. Without one it is Thalweg's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    pub name: String,
    pub temporary: bool,
    /// In the order of declaration, computed ones included.
    pub columns: Vec<Column>,
    pub primary_key: Option<PrimaryKey>,
    pub watermark: Option<Watermark>,
    pub comment: Option<String>,
    /// Ordinals of physical columns.
    pub partitioned_by: Vec<usize>,
    /// `WITH (…)` as written, `connector` included.
    pub options: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: String,
    pub kind: ColumnKind,
    pub comment: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ColumnKind {
    Physical {
        ty: SqlType,
        nullable: bool,
    },
    Metadata {
        ty: SqlType,
        nullable: bool,
        key: String,
        is_virtual: bool,
    },
    /// Over the columns of this table that are not computed. Places in it are those of its `CREATE TABLE`.
    Computed {
        expr: Box<Expr>,
        text: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrimaryKey {
    pub constraint: Option<String>,
    /// Ordinals of physical columns, in the order of the key.
    pub columns: Vec<usize>,
    /// An own table's key is enforced whatever is written.
    pub enforced: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Watermark {
    /// Ordinal of the column.
    pub column: usize,
    pub expr: Box<Expr>,
    pub text: String,
}

impl Table {
    /// The `connector` option; `None` for an own table.
    pub fn connector(&self) -> Option<&str> {
        self.options.iter().find(|(k, _)| k.eq_ignore_ascii_case("connector")).map(|(_, v)| v.as_str())
    }

    pub fn is_own(&self) -> bool {
        self.connector().is_none()
    }

    /// The column that is meant by a name, or an error with proposal and the list of columns.
    pub fn column(&self, name: &str, place: Place) -> Result<usize> {
        column_named(&self.name, &self.columns, name, place)
    }

    /// What connector and format see: the columns that are not computed, and the options with those of a hint over them,
    /// keys in lower case.
    pub fn to_table_def(&self, hint: Option<&crate::sql::TableHint>) -> TableDef {
        let mut ordinals = vec![None; self.columns.len()];
        let mut columns = vec![];
        for (i, c) in self.columns.iter().enumerate() {
            let (ty, nullable, kind) = match &c.kind {
                ColumnKind::Physical { ty, nullable } => (ty, *nullable, CoreKind::Physical),
                ColumnKind::Metadata { ty, nullable, key, is_virtual } => {
                    (ty, *nullable, CoreKind::Metadata { key: key.clone(), is_virtual: *is_virtual })
                }
                ColumnKind::Computed { .. } => continue,
            };
            ordinals[i] = Some(columns.len());
            columns.push(TableColumn { column: CoreColumn::new(&c.name, ty.clone(), nullable), kind });
        }
        let options = hint.map_or_else(|| self.options.clone(), |h| h.over(&self.options));
        let of = |list: &[usize]| list.iter().filter_map(|i| ordinals[*i]).collect();
        TableDef {
            name: self.name.clone(),
            columns,
            primary_key: self.primary_key.as_ref().map_or_else(Vec::new, |k| of(&k.columns)),
            partitioned_by: of(&self.partitioned_by),
            options: options.into_iter().map(|(k, v)| (k.to_lowercase(), v)).collect(),
        }
    }

    /// Checks what is written and makes the table of it. `LIKE` has been applied.
    pub(crate) fn from_statement(t: &CreateTable) -> Result<Table> {
        let mut table = Table {
            name: t.name.value.clone(),
            temporary: t.temporary,
            columns: columns(t)?,
            primary_key: None,
            watermark: None,
            comment: t.comment.clone(),
            partitioned_by: vec![],
            options: options(t)?,
        };
        table.check_computed(t)?;
        if let Some(key) = &t.primary_key {
            table.primary_key = Some(table.checked_key(key)?);
        }
        match t.watermarks.as_slice() {
            [] => {}
            [one] => table.watermark = Some(table.checked_watermark(one)?),
            [_, second, ..] => {
                return Err(Error::name(format!("table {} has two watermarks", table.name)).at(second.place));
            }
        }
        for name in &t.partitioned_by {
            let column = table.column(&name.value, name.place)?;
            if !matches!(table.columns[column].kind, ColumnKind::Physical { .. }) {
                return Err(Error::name(format!("the partition column \"{}\" must be a physical column", name.value))
                    .at(name.place));
            }
            if table.partitioned_by.contains(&column) {
                return Err(
                    Error::name(format!("the partition column \"{}\" is listed twice", name.value)).at(name.place)
                );
            }
            table.partitioned_by.push(column);
        }
        Ok(table)
    }

    /// The key's columns must be there, physical and each once; they become NOT NULL.
    fn checked_key(&mut self, key: &PrimaryKeyDecl) -> Result<PrimaryKey> {
        let mut ordinals = vec![];
        for name in &key.columns {
            let i = self.column(&name.value, name.place)?;
            if ordinals.contains(&i) {
                return Err(Error::name(format!("the key column \"{}\" is listed twice", name.value)).at(name.place));
            }
            let column = &mut self.columns[i];
            match &mut column.kind {
                ColumnKind::Physical { nullable, ty } => {
                    if matches!(ty, SqlType::Array(_) | SqlType::Map(..) | SqlType::Row(_)) {
                        return Err(Error::type_(format!(
                            "the key column \"{}\" has the type {ty}, which cannot be compared",
                            column.name
                        ))
                        .at(name.place));
                    }
                    *nullable = false;
                }
                ColumnKind::Metadata { .. } | ColumnKind::Computed { .. } => {
                    return Err(Error::name(format!("the key column \"{}\" must be a physical column", column.name))
                        .at(name.place));
                }
            }
            ordinals.push(i);
        }
        if key.enforced && !self.is_own() {
            return Err(Error::unsupported(format!(
                "the primary key of table {} cannot be enforced: the data is not Thalweg's own",
                self.name
            ))
            .at(key.place)
            .propose(Some("write PRIMARY KEY (…) NOT ENFORCED"))
            .note("it says that whoever writes the data keeps the key unique"));
        }
        Ok(PrimaryKey {
            constraint: key.constraint.as_ref().map(|c| c.value.clone()),
            columns: ordinals,
            enforced: key.enforced || self.is_own(),
        })
    }

    /// The column must be a point in time with at most nanoseconds; of a computed one the planner sees the type.
    fn checked_watermark(&self, w: &WatermarkDecl) -> Result<Watermark> {
        let column = self.column(&w.column.value, w.column.place)?;
        if let ColumnKind::Physical { ty, .. } | ColumnKind::Metadata { ty, .. } = &self.columns[column].kind
            && !matches!(ty, SqlType::Timestamp(_) | SqlType::TimestampLtz(_))
        {
            return Err(Error::type_(format!(
                "the watermark's column \"{}\" is {ty}; it must be TIMESTAMP(p) or TIMESTAMP_LTZ(p)",
                w.column.value
            ))
            .at(w.column.place)
            .note("a computed column can turn it into one: ts AS TO_TIMESTAMP(…)"));
        }
        self.check_names(&w.expr, &|_| true, "a watermark")?;
        Ok(Watermark { column, expr: w.expr.clone(), text: w.text.clone() })
    }

    fn check_computed(&self, t: &CreateTable) -> Result<()> {
        for declared in &t.columns {
            if let ColumnDeclKind::Computed { expr, .. } = &declared.kind {
                self.check_names(expr, &|c| !matches!(c.kind, ColumnKind::Computed { .. }), "a computed column")?;
            }
        }
        Ok(())
    }

    /// The names in an expression must be columns of this table that pass `may`; there are no queries in it.
    fn check_names(&self, expr: &Expr, may: &dyn Fn(&Column) -> bool, of: &str) -> Result<()> {
        let mut visitor = Names { table: self, may, of };
        match expr.visit(&mut visitor) {
            ControlFlow::Break(e) => Err(e),
            ControlFlow::Continue(()) => Ok(()),
        }
    }
}

struct Names<'a> {
    table: &'a Table,
    may: &'a dyn Fn(&Column) -> bool,
    of: &'a str,
}

impl Visitor for Names<'_> {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
        let name = match expr {
            Expr::Identifier(i) => i,
            // The first part is a column, or the table's own name in front of one.
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [table, column, ..] if table.value == self.table.name => column,
                [first, ..] => first,
                [] => return ControlFlow::Continue(()),
            },
            Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => {
                return ControlFlow::Break(Error::unsupported(format!("{} cannot contain a query", self.of)));
            }
            _ => return ControlFlow::Continue(()),
        };
        let place = place_of(name.span);
        match self.table.column(&name.value, place) {
            Ok(i) if (self.may)(&self.table.columns[i]) => ControlFlow::Continue(()),
            Ok(_) => ControlFlow::Break(
                Error::unsupported(format!("{} cannot be made of another computed column", self.of))
                    .at(place)
                    .note(format!("write the expression of \"{}\" in its place", name.value)),
            ),
            Err(e) => ControlFlow::Break(e),
        }
    }
}

fn column_named(table: &str, columns: &[Column], name: &str, place: Place) -> Result<usize> {
    let names = || columns.iter().map(|c| c.name.as_str());
    match look_up(name, names()) {
        Lookup::Found(i) => Ok(i),
        Lookup::NotFound => {
            let message = format!("table {table} has no column \"{name}\"");
            Err(no_such(message, name, place, &format!("columns of {table}"), names()))
        }
        Lookup::Ambiguous(which) => {
            let of: Vec<&str> = which.iter().map(|i| columns[*i].name.as_str()).collect();
            Err(ambiguous("column", name, place, &of))
        }
    }
}

fn columns(t: &CreateTable) -> Result<Vec<Column>> {
    let mut columns: Vec<Column> = vec![];
    for declared in &t.columns {
        let ColumnDecl { name: Name { value: name, place }, kind, comment } = declared;
        if columns.iter().any(|c| c.name == *name) {
            return Err(Error::name(format!("table {} has two columns \"{name}\"", t.name.value)).at(*place));
        }
        let kind = match kind {
            ColumnDeclKind::Physical { ty, nullable, .. } => {
                ColumnKind::Physical { ty: ty.clone(), nullable: *nullable }
            }
            ColumnDeclKind::Metadata { ty, nullable, key, is_virtual, .. } => ColumnKind::Metadata {
                ty: ty.clone(),
                nullable: *nullable,
                key: key.as_ref().map_or_else(|| name.clone(), |k| k.value.clone()),
                is_virtual: *is_virtual,
            },
            ColumnDeclKind::Computed { expr, text } => ColumnKind::Computed { expr: expr.clone(), text: text.clone() },
        };
        columns.push(Column { name: name.clone(), kind, comment: comment.clone() });
    }
    if columns.iter().all(|c| matches!(c.kind, ColumnKind::Computed { .. })) {
        return Err(Error::syntax(format!("table {} has computed columns only", t.name.value)).at(t.name.place));
    }
    Ok(columns)
}

/// Keys must be different also in lower case, in which connectors read them.
fn options(t: &CreateTable) -> Result<BTreeMap<String, String>> {
    let mut options = BTreeMap::new();
    let mut lower = std::collections::HashSet::new();
    for o in &t.options {
        if !lower.insert(o.key.value.to_lowercase()) {
            return Err(Error::option(format!("the option '{}' is given twice", o.key.value)).at(o.key.place));
        }
        options.insert(o.key.value.clone(), o.value.value.clone());
    }
    Ok(options)
}
