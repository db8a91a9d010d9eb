//! Tables as relations: what the connector says of them, and their computed columns.

use thalweg_core::table::{ChangelogMode, ColumnKind, TableDef};
use thalweg_core::{Column, Error, Place, Result, SqlType};
use thalweg_graph::Expr;
use thalweg_graph::ops::source::{OWN, SourceTableSpec};

use super::{Binder, Clause, ExprBinder};
use crate::catalog::{CatalogColumnKind, Table};
use crate::logical::{Rel, Scan};
use crate::resolve::{Scope, ScopeRelation};
use crate::sql::TableHint;

/// The definition with its secrets hidden, as it enters the graph.
pub(crate) fn masked(def: &TableDef, binder: &Binder) -> TableDef {
    let mut def = def.clone();
    let secrets: Vec<String> = def.options.keys().filter(|k| binder.connectors.is_secret(&def, k)).cloned().collect();
    for k in secrets {
        def.options.insert(k, "****".to_owned());
    }
    def
}

/// The columns of a table's definition, under the table's name.
pub(crate) fn scope_of_table(def: &TableDef) -> Scope {
    let columns: Vec<Column> = def.columns.iter().map(|c| c.column.clone()).collect();
    Scope::one(ScopeRelation::new(Some(def.name.clone()), format!("table {}", def.name), &columns))
}

impl Binder<'_> {
    /// The relation of a table, and how many of its columns, from the first, have names; the hidden order column may
    /// follow.
    pub fn table(&self, table: &Table, hint: Option<&TableHint>, place: Place) -> Result<(Rel, usize)> {
        let def = table.to_table_def(hint);
        let scan = self.scan(table, def, hint, place)?;
        let has_order = scan.table.with_order;
        let scope = scope_of_table(&scan.table.def);
        let rel = Rel::scan(scan).written_at(Some(place));
        if !table.columns.iter().any(|c| matches!(c.kind, CatalogColumnKind::Computed { .. })) {
            return Ok((rel, table.columns.len()));
        }
        let mut exprs: Vec<(Expr, String)> = vec![];
        let mut plain = 0;
        for c in &table.columns {
            let e = match &c.kind {
                CatalogColumnKind::Computed { expr, .. } => ExprBinder::new(self, &scope, Clause::Computed)
                    .bind(expr)
                    // Its place is one of the CREATE TABLE.
                    .map_err(|e| {
                        e.context(format!("column {} of table {}", c.name, table.name)).map_place(|_| place)
                    })?,
                CatalogColumnKind::Physical { .. } | CatalogColumnKind::Metadata { .. } => {
                    plain += 1;
                    rel.column(plain - 1)
                }
            };
            exprs.push((e, c.name.clone()));
        }
        let named = exprs.len();
        if has_order {
            exprs.push((rel.column(plain), rel.columns[plain].name.clone()));
        }
        Ok((Rel::project(rel, exprs), named))
    }

    fn scan(&self, table: &Table, def: TableDef, hint: Option<&TableHint>, place: Place) -> Result<Scan> {
        let columns = (0..def.columns.len()).collect();
        if table.is_own() {
            if let Some(h) = hint {
                return Err(Error::option(format!(
                    "table {} has no connector: there are no options for it",
                    table.name
                ))
                .at(h.place));
            }
            let info = self.connectors.own_table(&table.name)?;
            let changelog = if info.append_only { ChangelogMode::Append } else { ChangelogMode::Retract };
            let spec = SourceTableSpec {
                identity: [("table".to_owned(), table.name.clone())].into(),
                variant: Default::default(),
                with_order: info.append_only,
                changelog,
                bounded: true,
                unstable_metadata: vec![],
                key_guaranteed: true,
                rows: vec![],
                note: None,
                columns,
                def,
            };
            return Ok(Scan { connector: OWN.to_owned(), group: None, table: spec });
        }
        let placed = |e: Error| e.at(hint.map_or(place, |h| h.place));
        let info = self.connectors.source_info(&def).map_err(placed)?;
        check_metadata(&def, &info.metadata, place)?;
        if info.changelog == ChangelogMode::Upsert && def.primary_key.is_empty() {
            return Err(Error::option(format!("table {} is an upsert stream: it needs a primary key", def.name))
                .at(place)
                .note("declare PRIMARY KEY (…) NOT ENFORCED in its CREATE TABLE"));
        }
        let group = self.connectors.source_group(&def).map_err(placed)?;
        let spec = SourceTableSpec {
            columns,
            with_order: info.changelog == ChangelogMode::Append,
            identity: info.identity,
            variant: info.variant,
            key_guaranteed: info.changelog != ChangelogMode::Append,
            changelog: info.changelog,
            bounded: info.bounded,
            unstable_metadata: info.unstable_metadata,
            rows: vec![],
            note: info.note,
            def: masked(&def, self),
        };
        let connector = def.option("connector").unwrap_or_default().to_owned();
        Ok(Scan { connector, group, table: spec })
    }
}

/// Metadata columns must be ones that the connector has, with its type.
pub(crate) fn check_metadata(def: &TableDef, known: &[Column], place: Place) -> Result<()> {
    for c in &def.columns {
        let ColumnKind::Metadata { key, .. } = &c.kind else { continue };
        let Some(has) = known.iter().find(|k| k.name == *key) else {
            return Err(crate::names::no_such(
                format!("table {} has no metadata '{key}' for the column \"{}\"", def.name, c.column.name),
                key,
                place,
                "metadata of this connector",
                known.iter().map(|k| k.name.as_str()),
            ));
        };
        let same = has.ty.to_arrow() == c.column.ty.to_arrow()
            || (has.ty.is_string() && matches!(c.column.ty, SqlType::VarChar(_)));
        if !same {
            return Err(Error::type_(format!(
                "the metadata '{key}' of table {} is {}, the column \"{}\" is declared as {}",
                def.name, has.ty, c.column.name, c.column.ty
            ))
            .at(place)
            .note("declare it with the metadata's type; a computed column can CAST it"));
        }
    }
    Ok(())
}
