//! The planner's entry: statements in, graphs out.

use std::sync::Arc;

use sqlparser::ast;
use thalweg_core::table::{ColumnKind, Delivery, SinkInfo, SinkMode, SourceInfo, TableColumn, TableDef};
use thalweg_core::{Column, Error, Place, Result, SqlType};
use thalweg_graph::ops::SortKey;
use thalweg_graph::ops::sink::COLLECT;
use thalweg_graph::ops::source::OWN;
use thalweg_graph::{Expr, Graph, Literal};

use crate::bind::{Binder, BoundQuery, Clause, ExprBinder, Zone, masked, scope_of_table, store};
use crate::catalog::{Catalog, CatalogColumnKind, Table};
use crate::literal;
use crate::logical::{Op, Rel, nullable, substitute};
use crate::lower::sink::{Target, keep_last};
use crate::lower::{Lowering, prepare};
use crate::names::no_such;
use crate::refuse::{at, place};
use crate::resolve::{Scope, ScopeRelation};
use crate::sql::{CreateView, Delete, Hints, Insert, Name, Query, Update};

/// What the planner asks of the connectors and of Thalweg's own tables. Pure: no I/O.
pub trait Connectors {
    fn source_info(&self, table: &TableDef) -> Result<SourceInfo>;
    /// What several tables of one server share.
    fn source_group(&self, table: &TableDef) -> Result<Option<String>>;
    fn sink_info(&self, table: &TableDef) -> Result<SinkInfo>;
    /// Whether the value of an option must not be shown or stored.
    fn is_secret(&self, table: &TableDef, key: &str) -> bool;
    /// Of a table without a connector.
    fn own_table(&self, name: &str) -> Result<OwnTableInfo>;
}

/// What is known of one of Thalweg's own tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnTableInfo {
    /// Nothing was ever updated or deleted in it.
    pub append_only: bool,
}

/// The session's settings that decide what a query means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanSettings {
    /// `table.local-time-zone`: between points in time and local time. A name that the zone database has.
    pub time_zone: String,
}

impl Default for PlanSettings {
    fn default() -> Self {
        PlanSettings { time_zone: "UTC".to_owned() }
    }
}

/// A SELECT as a graph with one sink of connector `collect`.
#[derive(Debug, Clone)]
pub struct SelectPlan {
    pub graph: Graph,
    /// Of the answer. The collected rows may have more columns behind these, which only `order_by` reads.
    pub columns: Vec<Column>,
    /// In which the answer is printed; ordinals of the collected rows. Empty: in any.
    pub order_by: Vec<SortKey>,
    /// The answer is complete at some time. If not, there is no order, and there are no hidden columns.
    pub bounded: bool,
}

/// An UPDATE of an own table.
#[derive(Debug, Clone)]
pub struct UpdatePlan {
    pub table: Arc<Table>,
    /// (column, its new value), over the columns of `table.to_table_def(None)`; values fit their columns.
    pub assignments: Vec<(usize, Expr)>,
    /// `None`: all rows.
    pub condition: Option<Expr>,
}

/// A DELETE from an own table.
#[derive(Debug, Clone)]
pub struct DeletePlan {
    pub table: Arc<Table>,
    /// Over the columns of `table.to_table_def(None)`; `None`: all rows.
    pub condition: Option<Expr>,
}

pub struct Planner<'a> {
    pub catalog: &'a Catalog,
    pub connectors: &'a dyn Connectors,
    pub settings: &'a PlanSettings,
}

impl<'a> Planner<'a> {
    pub fn new(catalog: &'a Catalog, connectors: &'a dyn Connectors, settings: &'a PlanSettings) -> Self {
        Planner { catalog, connectors, settings }
    }

    fn binder<'b>(&'b self, hints: &'b Hints) -> Binder<'b> {
        Binder::new(self.catalog, self.connectors, self.settings, hints)
    }

    /// One instance that runs all of these: one INSERT, or a statement set. Inserts into one target are inputs of one
    /// sink.
    pub fn plan_inserts(&self, inserts: &[Insert]) -> Result<Graph> {
        self.plan_inserts_with_places(inserts).map(|(graph, _)| graph)
    }

    /// Also says where in the statement each node comes from.
    pub fn plan_inserts_with_places(&self, inserts: &[Insert]) -> Result<(Graph, Vec<Option<Place>>)> {
        let mut targets: Vec<(Target, Vec<Rel>)> = vec![];
        for insert in inserts {
            let (target, rel) = self.bind_insert(insert)?;
            let same = |(t, _): &(Target, Vec<Rel>)| {
                t.connector == target.connector && t.info.identity == target.info.identity
            };
            match targets.iter().position(same) {
                None => targets.push((target, vec![rel])),
                Some(i) if targets[i].0.def == target.def => targets[i].1.push(rel),
                Some(i) => {
                    let message =
                        format!("tables {} and {} are the same target", targets[i].0.def.name, target.def.name);
                    return Err(Error::name(message)
                        .at(insert.target.place)
                        .note("one statement set writes to one target through one table"));
                }
            }
        }
        for (target, rels) in &mut targets {
            let inputs = rels.len();
            for rel in rels {
                let width = rel.columns.len();
                let planned = std::mem::replace(rel, Rel::one_row());
                let planned = keep_last(planned_with_facts(planned)?, target, inputs)?;
                *rel = crate::optimize::finish(planned, width)?;
            }
        }
        let mut lowering = Lowering::new(targets.iter().flat_map(|(_, rels)| rels))?;
        for (target, rels) in &mut targets {
            lowering.sink(target, rels)?;
        }
        Ok((lowering.builder.finish(), lowering.places))
    }

    /// A query whose answer is shown.
    pub fn plan_select(&self, query: &Query) -> Result<SelectPlan> {
        let BoundQuery { rel, visible, order, unlimited_order, places: _ } =
            self.binder(&query.hints).query(&query.ast, &vec![])?;
        let bounded = rel.is_bounded();
        if let (Some(p), false) = (unlimited_order, bounded) {
            return Err(Error::unsupported("ORDER BY of an unbounded query needs LIMIT")
                .at(p)
                .note("its answer is never complete, so it cannot be sorted; with LIMIT it is a Top-N that is kept up to date"));
        }
        let mut rel = without_untyped(rel);
        let mut order_by = order;
        if !bounded {
            // Changes are shown as they come.
            order_by.clear();
            if visible < rel.columns.len() {
                rel = Rel::pick(rel, &(0..visible).collect::<Vec<_>>());
            }
        }
        let columns: Vec<Column> = rel.columns[..visible].to_vec();
        let all = rel.columns.clone();
        let mut rel = prepare(rel, all.len())?;
        for (c, name) in rel.columns.iter_mut().zip(&all) {
            c.name = name.name.clone();
        }
        let mut lowering = Lowering::new([&rel])?;
        let column = |c: &Column| TableColumn { column: c.clone(), kind: ColumnKind::Physical };
        let def = TableDef {
            name: "result".to_owned(),
            columns: all.iter().map(column).collect(),
            primary_key: vec![],
            partitioned_by: vec![],
            options: Default::default(),
        };
        let info = SinkInfo {
            identity: Default::default(),
            accepts: SinkMode::Retract,
            delivery: Delivery::None,
            needs_net: true,
            key: None,
            metadata: vec![],
        };
        let target = Target { connector: COLLECT.to_owned(), def, info, place: None, keeps_key_itself: true };
        lowering.sink(&target, std::slice::from_mut(&mut rel))?;
        Ok(SelectPlan { graph: lowering.builder.finish(), columns, order_by, bounded })
    }

    /// Checks the query of a CREATE VIEW; gives the view's columns.
    pub fn check_create_view(&self, view: &CreateView) -> Result<Vec<Column>> {
        let rel = self.binder(&view.query.hints).query(&view.query.ast, &vec![])?.into_relation()?;
        let mut columns = rel.columns.clone();
        if let Some(names) = &view.columns {
            if names.len() != columns.len() {
                return Err(Error::name(format!(
                    "view {} names {} columns, its query has {}",
                    view.name.value,
                    names.len(),
                    columns.len()
                ))
                .at(view.name.place));
            }
            for (c, n) in columns.iter_mut().zip(names) {
                c.name = n.value.clone();
            }
        }
        // Also what is found only when it is planned.
        prepare(rel, columns.len())?;
        Ok(columns)
    }

    /// The columns of a view or of any query.
    pub fn query_columns(&self, query: &Query) -> Result<Vec<Column>> {
        let bound = self.binder(&query.hints).query(&query.ast, &vec![])?;
        Ok(bound.rel.columns[..bound.visible].to_vec())
    }

    /// Checks the computed columns and the watermark of a table that is about to be created; gives all columns with
    /// their types. Places are those of its CREATE TABLE. The connector's options are checked by `Connectors`.
    pub fn check_table(&self, table: &Table) -> Result<Vec<Column>> {
        let def = table.to_table_def(None);
        let hints = Hints::default();
        let binder = self.binder(&hints);
        let scope = scope_of_table(&def);
        let mut plain = def.columns.iter();
        let mut columns = vec![];
        for c in &table.columns {
            let column = match &c.kind {
                CatalogColumnKind::Computed { expr, .. } => {
                    let bound = ExprBinder::new(&binder, &scope, Clause::Computed).bind(expr)?;
                    if *bound.ty() == SqlType::Interval || *bound.ty() == SqlType::Null {
                        return Err(at(
                            Error::type_(format!("the column \"{}\" cannot be of type {}", c.name, bound.ty())),
                            place(&**expr),
                        ));
                    }
                    let of: Vec<Column> = def.columns.iter().map(|c| c.column.clone()).collect();
                    Column::new(&c.name, bound.ty().clone(), nullable(&bound, &of))
                }
                CatalogColumnKind::Physical { .. } | CatalogColumnKind::Metadata { .. } => plain
                    .next()
                    .ok_or_else(|| Error::internal("a column that is not in the definition"))?
                    .column
                    .clone(),
            };
            columns.push(column);
        }
        if let Some(w) = &table.watermark {
            let of = &columns[w.column];
            let is_time = |t: &SqlType| matches!(t, SqlType::Timestamp(_) | SqlType::TimestampLtz(_));
            if !is_time(&of.ty) {
                return Err(at(
                    Error::type_(format!(
                        "the watermark's column \"{}\" is {}; it must be TIMESTAMP(p) or TIMESTAMP_LTZ(p)",
                        of.name, of.ty
                    )),
                    place(&*w.expr),
                ));
            }
            let relation = ScopeRelation::new(Some(table.name.clone()), format!("table {}", table.name), &columns);
            let scope = Scope::one(relation);
            let bound = ExprBinder::new(&binder, &scope, Clause::Computed).bind(&w.expr)?;
            if std::mem::discriminant(bound.ty()) != std::mem::discriminant(&of.ty) {
                return Err(at(
                    Error::type_(format!(
                        "the watermark of \"{}\" is {}, the column is {}",
                        of.name,
                        bound.ty(),
                        of.ty
                    )),
                    place(&*w.expr),
                ));
            }
        }
        Ok(columns)
    }

    /// An UPDATE of an own table.
    pub fn plan_update(&self, update: &Update) -> Result<UpdatePlan> {
        let table = self.own_table(&update.target, "UPDATE")?;
        let def = table.to_table_def(None);
        let hints = Hints::default();
        let binder = self.binder(&hints);
        let (scope, values) = readable(&binder, &table, &def, update.target.place)?;
        let of: Vec<Column> = def.columns.iter().map(|c| c.column.clone()).collect();
        let mut assignments = vec![];
        for (name, value) in &update.assignments {
            let ordinal = writable(&table, &def, name)?;
            let bound = ExprBinder::new(&binder, &scope, Clause::Update).bind(value)?;
            let bound = substitute(&bound, &values);
            let stored = self.stored(bound, &of, &def.columns[ordinal].column, &def.name, place(value))?;
            if assignments.iter().any(|(o, _)| *o == ordinal) {
                return Err(Error::name(format!("column \"{}\" is set twice", name.value)).at(name.place));
            }
            assignments.push((ordinal, stored));
        }
        let condition = where_of(&binder, &scope, update.condition.as_ref())?.map(|c| substitute(&c, &values));
        Ok(UpdatePlan { table, assignments, condition })
    }

    /// A DELETE from an own table.
    pub fn plan_delete(&self, delete: &Delete) -> Result<DeletePlan> {
        let table = self.own_table(&delete.target, "DELETE")?;
        let hints = Hints::default();
        let binder = self.binder(&hints);
        let (scope, values) = readable(&binder, &table, &table.to_table_def(None), delete.target.place)?;
        let condition = where_of(&binder, &scope, delete.condition.as_ref())?.map(|c| substitute(&c, &values));
        Ok(DeletePlan { table, condition })
    }

    fn own_table(&self, name: &Name, statement: &str) -> Result<Arc<Table>> {
        let table = self.catalog.table(&name.value, name.place)?;
        if !table.is_own() {
            let e = Error::unsupported(format!(
                "{statement} is for Thalweg's own tables, {} belongs to connector '{}'",
                table.name,
                table.connector().unwrap_or_default()
            ));
            return Err(e.at(name.place));
        }
        Ok(table.clone())
    }

    fn bind_insert(&self, insert: &Insert) -> Result<(Target, Rel)> {
        let Insert { target: name, target_hint, columns, query, place: _, text: _ } = insert;
        let table = self.catalog.table(&name.value, name.place)?;
        let def = table.to_table_def(target_hint.as_ref());
        let binder = self.binder(&query.hints);
        let target = if table.is_own() {
            if let Some(h) = target_hint {
                return Err(Error::option(format!(
                    "table {} has no connector: there are no options for it",
                    table.name
                ))
                .at(h.place));
            }
            let info = SinkInfo {
                identity: [("table".to_owned(), table.name.clone())].into(),
                accepts: SinkMode::Retract,
                delivery: Delivery::None,
                needs_net: true,
                key: None,
                metadata: vec![],
            };
            Target {
                connector: OWN.to_owned(),
                def: def.clone(),
                info,
                place: Some(name.place),
                keeps_key_itself: true,
            }
        } else {
            let here = target_hint.as_ref().map_or(name.place, |h| h.place);
            let info = self.connectors.sink_info(&def).map_err(|e| e.at(here))?;
            let connector = def.option("connector").unwrap_or_default().to_owned();
            let def = masked(&def, &binder);
            Target { connector, def, info, place: Some(name.place), keeps_key_itself: false }
        };
        // Which column of the query goes into which of the target.
        let into = self.given_columns(table, &def, name, columns.as_ref())?;
        if let Some(values) = query.values()
            && query.ast.limit_clause.is_none()
            && query.ast.fetch.is_none()
        {
            crate::refuse::query_clauses(&query.ast)?;
            let rel = self.insert_values(&binder, values, &def, &into, name)?;
            return Ok((target, rel));
        }
        let bound = binder.query(&query.ast, &vec![])?;
        let places = bound.places.clone();
        let rel = bound.into_relation()?;
        if into.len() != rel.columns.len() {
            let wants: Vec<String> = into
                .iter()
                .map(|(o, _)| format!("{} {}", def.columns[*o].column.name, def.columns[*o].column.ty))
                .collect();
            let has: Vec<String> = rel.columns.iter().map(|c| format!("{} {}", c.name, c.ty)).collect();
            return Err(Error::type_(format!(
                "table {} takes {} columns here, the query has {}",
                table.name,
                into.len(),
                rel.columns.len()
            ))
            .at(columns.as_ref().and_then(|c| c.first()).map_or(name.place, |n| n.place))
            .note(format!("columns of {}: {}", table.name, wants.join(", ")))
            .note(format!("columns of the query: {}", has.join(", "))));
        }
        let mut exprs = vec![];
        for (o, c) in def.columns.iter().enumerate() {
            let c = &c.column;
            let stored = match into.iter().position(|(to, _)| *to == o) {
                Some(i) => self.stored(rel_value(&rel, i), &rel.columns, c, &def.name, places[i])?,
                None => literal::null(c.ty.clone()),
            };
            exprs.push((stored, c.name.clone()));
        }
        Ok((target, Rel::project(rel, exprs)))
    }

    /// The columns of the target that are given, in the order of the values, and where they are named.
    fn given_columns(
        &self,
        table: &Table,
        def: &TableDef,
        name: &Name,
        columns: Option<&Vec<Name>>,
    ) -> Result<Vec<(usize, Place)>> {
        let into: Vec<(usize, Place)> = match columns {
            Some(names) => names.iter().map(|n| Ok((writable(table, def, n)?, n.place))).collect::<Result<Vec<_>>>()?,
            None => (0..def.columns.len()).filter(|&o| is_writable(def, o)).map(|o| (o, name.place)).collect(),
        };
        for (i, (o, p)) in into.iter().enumerate() {
            if into[..i].iter().any(|(other, _)| other == o) {
                let message = format!("column \"{}\" is listed twice", def.columns[*o].column.name);
                return Err(Error::name(message).at(*p));
            }
        }
        for (o, c) in def.columns.iter().enumerate() {
            if !c.column.nullable && is_writable(def, o) && into.iter().all(|(to, _)| *to != o) {
                let message =
                    format!("column \"{}\" of table {} is NOT NULL, it must be given", c.column.name, def.name);
                return Err(Error::type_(message).at(name.place));
            }
        }
        Ok(into)
    }

    /// `INSERT … VALUES`: every value is stored by itself, so that an error has its place.
    fn insert_values(
        &self,
        binder: &Binder,
        values: &ast::Values,
        def: &TableDef,
        into: &[(usize, Place)],
        name: &Name,
    ) -> Result<Rel> {
        let scope = Scope::default();
        let columns: Vec<Column> = def.columns.iter().map(|c| c.column.clone()).collect();
        let mut rows: Vec<Vec<Expr>> = vec![];
        for row in &values.rows {
            let cells = &row.content;
            if cells.len() != into.len() {
                let wants: Vec<&str> = into.iter().map(|(o, _)| columns[*o].name.as_str()).collect();
                return Err(at(
                    Error::type_(format!(
                        "table {} takes {} values here, the row has {}",
                        def.name,
                        into.len(),
                        cells.len()
                    )),
                    cells.first().and_then(place).or(Some(name.place)),
                )
                .note(format!("columns of {}: {}", def.name, wants.join(", "))));
            }
            let mut stored: Vec<Expr> = columns.iter().map(|c| literal::null(c.ty.clone())).collect();
            for (cell, (o, _)) in cells.iter().zip(into) {
                let bound = ExprBinder::new(binder, &scope, Clause::Values).bind(cell)?;
                let value = self.stored(bound, &[], &columns[*o], &def.name, place(cell))?;
                if let Some(e) = literal::error_of(&value) {
                    let e = e.context(format!("column \"{}\" of table {}", columns[*o].name, def.name));
                    return Err(at(e, place(cell)));
                }
                stored[*o] = value;
            }
            rows.push(stored);
        }
        let literals = |row: &Vec<Expr>| {
            row.iter()
                .map(|e| if let Expr::Literal(l) = e { Some(l.clone()) } else { None })
                .collect::<Option<Vec<_>>>()
        };
        if let Some(rows) = rows.iter().map(literals).collect::<Option<Vec<Vec<Literal>>>>() {
            return Ok(Rel::values(rows, columns));
        }
        let project = |row: Vec<Expr>| {
            let named = row.into_iter().zip(&columns).map(|(e, c)| (e, c.name.clone())).collect();
            Rel::project(Rel::one_row(), named)
        };
        let mut rels: Vec<Rel> = rows.into_iter().map(project).collect();
        Ok(if rels.len() == 1 { rels.remove(0) } else { Rel::union(rels) })
    }

    /// A value as it is stored in a column: cast, checked for length and NULL.
    fn stored(&self, e: Expr, over: &[Column], to: &Column, table: &str, here: Option<Place>) -> Result<Expr> {
        let from = e.ty().clone();
        let Some(e) = store(e, &to.ty, Zone(&self.settings.time_zone)) else {
            return Err(at(
                Error::type_(format!("column \"{}\" of table {table} is {}, the value is {from}", to.name, to.ty))
                    .note(format!("write CAST(… AS {})", to.ty)),
                here,
            ));
        };
        if to.nullable || !nullable(&e, over) {
            return Ok(e);
        }
        if literal::is_null(&e) {
            return Err(at(Error::type_(format!("column \"{}\" of table {table} is NOT NULL", to.name)), here));
        }
        Ok(Expr::call("check_not_null", vec![e, literal::string(&to.name)], to.ty.clone()))
    }
}

/// A literal as it is, so that it is stored without a cast, else the column.
fn rel_value(rel: &Rel, ordinal: usize) -> Expr {
    match &rel.op {
        Op::Project { exprs, .. } if matches!(exprs[ordinal], Expr::Literal(_)) => exprs[ordinal].clone(),
        _ => rel.column(ordinal),
    }
}

/// Columns that are NULL without a type become INT, so that rows of the answer can be told apart.
fn without_untyped(rel: Rel) -> Rel {
    if rel.columns.iter().all(|c| c.ty != SqlType::Null) {
        return rel;
    }
    let typed = |o: usize| {
        let e = if rel.columns[o].ty == SqlType::Null { literal::null(SqlType::Int) } else { rel.column(o) };
        (e, rel.columns[o].name.clone())
    };
    let exprs = (0..rel.columns.len()).map(typed).collect();
    Rel::project(rel, exprs)
}

fn planned_with_facts(rel: Rel) -> Result<Rel> {
    let mut rel = crate::optimize::rewrite(rel)?;
    Lowering::new([&rel])?.lower(&mut rel)?;
    Ok(rel)
}

fn is_writable(def: &TableDef, ordinal: usize) -> bool {
    !matches!(def.columns[ordinal].kind, ColumnKind::Metadata { is_virtual: true, .. })
}

/// The column of a target that a name means, which must be one that is written.
fn writable(table: &Table, def: &TableDef, name: &Name) -> Result<usize> {
    let declared = table.column(&name.value, name.place)?;
    let column = &table.columns[declared];
    let refused = |why: &str| {
        let names =
            def.columns.iter().enumerate().filter(|(o, _)| is_writable(def, *o)).map(|(_, c)| c.column.name.as_str());
        let message = format!("column \"{}\" of table {} is {why}: it cannot be written", column.name, table.name);
        no_such(message, "", name.place, "columns that can", names)
    };
    if matches!(column.kind, CatalogColumnKind::Computed { .. }) {
        return Err(refused("computed"));
    }
    let ordinal = def.columns.iter().position(|c| c.column.name == column.name);
    let ordinal = ordinal.ok_or_else(|| Error::internal("a column that is not in the definition"))?;
    if is_writable(def, ordinal) { Ok(ordinal) } else { Err(refused("virtual")) }
}

/// What UPDATE and DELETE can read of an own table: all its columns, and what each is over those of the definition, in
/// which the computed ones are left out.
fn readable(binder: &Binder, table: &Table, def: &TableDef, here: Place) -> Result<(Scope, Vec<Expr>)> {
    let plain = scope_of_table(def);
    let of: Vec<Column> = def.columns.iter().map(|c| c.column.clone()).collect();
    let mut stored = of.iter().enumerate();
    let mut columns = vec![];
    let mut values = vec![];
    for c in &table.columns {
        let (column, value) = match &c.kind {
            CatalogColumnKind::Computed { expr, .. } => {
                let bound = ExprBinder::new(binder, &plain, Clause::Computed).bind(expr);
                // Its place is one of the CREATE TABLE.
                let value = bound
                    .map_err(|e| e.context(format!("column {} of table {}", c.name, table.name)).map_place(|_| here))?;
                (Column::new(&c.name, value.ty().clone(), nullable(&value, &of)), value)
            }
            CatalogColumnKind::Physical { .. } | CatalogColumnKind::Metadata { .. } => {
                let next = stored.next();
                let (o, column) = next.ok_or_else(|| Error::internal("a column that is not in the definition"))?;
                (column.clone(), Expr::column(o, column.ty.clone()))
            }
        };
        columns.push(column);
        values.push(value);
    }
    let relation = ScopeRelation::new(Some(def.name.clone()), format!("table {}", def.name), &columns);
    Ok((Scope::one(relation), values))
}

fn where_of(binder: &Binder, scope: &Scope, condition: Option<&ast::Expr>) -> Result<Option<Expr>> {
    condition.map(|e| ExprBinder::new(binder, scope, Clause::Where).condition(e, "the condition of WHERE")).transpose()
}
