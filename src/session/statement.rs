//! Execution of statements: one function per kind.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::SchemaRef;
use thalweg_core::table::{ColumnKind, TableDef};
use thalweg_core::{Changes, Column, Error, Place, Result, SqlType};
use thalweg_functions::calendar::Zone;
use thalweg_graph::explain::{ExplainOptions, explain as explain_graph};
use thalweg_graph::{Canonical, Expr, OutColumn, Output};
use thalweg_operators::expr::ExprSet;
use thalweg_plan::catalog::{DESCRIBE_COLUMNS, DescribeRow, describe_table, show_create_table, show_create_view};
use thalweg_plan::sql::{Explain, Insert, Query, Show, like_matches, text_of_type};
use thalweg_plan::{Created, Parsed, Relation, Statement};

use crate::jobs::Job;
use crate::own_table::OwnTable;
use crate::select::Changelog;
use crate::session::Session;

/// What a statement gives.
pub enum Answer {
    /// Nothing to show but a word: `table orders created`.
    Done(String),
    /// Rows of a bounded query, of SHOW and of DESCRIBE.
    Rows(AnswerRows),
    /// An unbounded query: changes as they come.
    Changes(Changelog),
    /// Lines, as of EXPLAIN and SHOW CREATE.
    Text(String),
    /// A job was started and runs on.
    Job(Arc<Job>),
}

/// A finished answer.
pub struct AnswerRows {
    pub columns: Vec<Column>,
    pub batch: RecordBatch,
    /// In which points in time are shown.
    pub time_zone: Zone,
    /// False for SHOW and the like: the number of rows is of no interest.
    pub is_query: bool,
}

impl AnswerRows {
    /// Rows of strings.
    fn of_strings(names: &[&str], rows: Vec<Vec<Option<String>>>) -> Result<Self> {
        let columns: Vec<Column> = names.iter().map(|n| Column::new(*n, SqlType::STRING, true)).collect();
        let schema: SchemaRef = thalweg_core::types::to_schema(&columns);
        let arrays = (0..names.len()).map(|i| {
            let cells: StringArray = rows.iter().map(|r| r[i].as_deref()).collect();
            Arc::new(cells) as ArrayRef
        });
        let batch = RecordBatch::try_new(schema, arrays.collect())?;
        Ok(AnswerRows { columns, batch, time_zone: Zone::UTC, is_query: false })
    }
}

impl Session {
    /// Parses and runs every statement of a text; the first error ends it, with its place in the text.
    ///
    /// # Errors
    /// Of parsing, before anything runs, or of a statement.
    pub async fn execute_script(
        &mut self,
        text: &str,
        each: &mut dyn FnMut(&Parsed, Answer) -> Result<()>,
    ) -> Result<()> {
        for parsed in thalweg_plan::parse_script(text)? {
            let answer = self.execute(&parsed).await?;
            each(&parsed, answer)?;
        }
        Ok(())
    }

    /// Runs one statement; places of errors are those of the script that it stands in.
    ///
    /// # Errors
    /// Everything that can be wrong with it, with place and what to do.
    pub async fn execute(&mut self, parsed: &Parsed) -> Result<Answer> {
        let result = self.run(parsed).await;
        result.map_err(|e| e.map_place(|p| p.offset_by(parsed.line, parsed.column)))
    }

    async fn run(&mut self, parsed: &Parsed) -> Result<Answer> {
        match &parsed.statement {
            Statement::CreateTable(t) => self.create_table(t),
            Statement::CreateView(v) => {
                self.planned(|p| p.check_create_view(v))?;
                let done = match self.catalog.create_view(v)? {
                    Created::Created => format!("view {} created", v.name.value),
                    Created::Existed => format!("view {} is there already", v.name.value),
                };
                Ok(Answer::Done(done))
            }
            Statement::Drop(d) => {
                let dropped = self.catalog.drop_object(d)?;
                let done = match dropped {
                    Some(relation) => {
                        self.own_tables.remove(relation.name());
                        format!("{} dropped", relation.name())
                    }
                    None => format!("{} is not there", d.name.value),
                };
                Ok(Answer::Done(done))
            }
            Statement::Insert(insert) => match self.own_target(insert) {
                Some(name) => self.insert_into_own(insert, &name).await,
                None => self.start_job(std::slice::from_ref(&**insert), parsed).await.map(Answer::Job),
            },
            Statement::StatementSet(set) => {
                if let Some(insert) = set.inserts.iter().find(|i| self.own_target(i).is_some()) {
                    return Err(Error::unsupported("a table of Thalweg's own cannot be a sink of a statement set")
                        .at(insert.target.place)
                        .note("INSERT into it by a statement of its own"));
                }
                self.start_job(&set.inserts, parsed).await.map(Answer::Job)
            }
            Statement::Update(update) => {
                let plan = self.planned(|p| p.plan_update(update))?;
                self.change_own(&plan.table.name, plan.condition.as_ref(), &plan.assignments, "updated")
            }
            Statement::Delete(delete) => {
                let plan = self.planned(|p| p.plan_delete(delete))?;
                self.change_own(&plan.table.name, plan.condition.as_ref(), &[], "deleted")
            }
            Statement::Query(query) => self.query(query).await,
            Statement::Explain(explain) => self.explain(explain).map(Answer::Text),
            Statement::Show(show) => self.show(show),
            Statement::Describe(name) => self.describe(&name.value, name.place),
            Statement::Set { key, value } => {
                // Either the name is wrong or what is given to it.
                let is_known = crate::SETTINGS.iter().any(|s| s.name == key.value);
                let place = if is_known { value.place } else { key.place };
                self.settings.set(&key.value, &value.value).map_err(|e| e.at(place))?;
                Ok(Answer::Done(format!("{} = {}", key.value, value.value)))
            }
            Statement::SetList => {
                let rows = self.settings.list().into_iter().map(|(name, value, text)| {
                    vec![Some(name.to_owned()), (!value.is_empty()).then_some(value), Some(text.to_owned())]
                });
                AnswerRows::of_strings(&["setting", "value", "meaning"], rows.collect()).map(Answer::Rows)
            }
            Statement::Reset(key) => {
                self.settings.reset(&key.value).map_err(|e| e.at(key.place))?;
                Ok(Answer::Done(format!("{} is at its default", key.value)))
            }
            Statement::ResetAll => {
                self.settings.reset_all();
                Ok(Answer::Done("all settings are at their defaults".to_owned()))
            }
            Statement::StopJob(stop) => self.stop_job(stop).await,
        }
    }

    fn create_table(&mut self, t: &thalweg_plan::sql::CreateTable) -> Result<Answer> {
        let table = self.catalog.check_table(t)?;
        if self.catalog.get(&table.name).is_some() && t.if_not_exists {
            return Ok(Answer::Done(format!("table {} is there already", table.name)));
        }
        if let Some(connector) = table.connector() {
            let place = option_place(t, "connector").unwrap_or(t.name.place);
            let connector = self.registry.get(connector).map_err(|e| e.at(place))?.clone();
            let def = table.to_table_def(None);
            // A table that can only be read or only be written is checked as that.
            let as_source = connector.source_options(&def).map(|_| connector.source_info(&def).map(|_| ()));
            let as_sink = connector.sink_options(&def).map(|_| connector.sink_info(&def).map(|_| ()));
            match (as_source, as_sink) {
                (Some(Err(e)), Some(Err(_)) | None) | (None, Some(Err(e))) => {
                    return Err(t.place_option_error(e));
                }
                _ => {}
            }
        } else if self.is_lasting() {
            return Err(Error::unsupported(format!("table {} has no connector, and this directory lasts", table.name))
                .at(t.name.place)
                .note("a table of Thalweg's own is kept in memory and would be lost with this process")
                .note("give it a 'connector', or work without a directory"));
        } else {
            check_own(t, &table.to_table_def(None))?;
        }
        self.planned(|p| p.check_table(&table))?;
        match self.catalog.create_table(t)? {
            Created::Existed => Ok(Answer::Done(format!("table {} is there already", table.name))),
            Created::Created => {
                if table.is_own() {
                    let own = OwnTable::new(table.to_table_def(None))?;
                    self.own_tables.insert(table.name.clone(), own);
                }
                Ok(Answer::Done(format!("table {} created", table.name)))
            }
        }
    }

    /// Whether a statement is done only when its answer is there, or its table changed; an INSERT with a connector starts a
    /// job, which ends by itself.
    pub fn is_waited_for(&self, parsed: &Parsed) -> bool {
        match &parsed.statement {
            Statement::Query(_) | Statement::Update(_) | Statement::Delete(_) => true,
            Statement::Insert(insert) => self.own_target(insert).is_some(),
            _ => false,
        }
    }

    /// The own table that an INSERT goes into.
    fn own_target(&self, insert: &Insert) -> Option<String> {
        let table = self.catalog.table(&insert.target.value, insert.target.place).ok()?;
        table.is_own().then(|| table.name.clone())
    }

    async fn insert_into_own(&mut self, insert: &Insert, name: &str) -> Result<Answer> {
        let graph = self.planned(|p| p.plan_inserts(std::slice::from_ref(insert)))?;
        if !graph.is_bounded() {
            return Err(Error::unsupported(format!("the input of this INSERT never ends, and {name} is in memory"))
                .at(insert.place)
                .note("INSERT into a table with a connector"));
        }
        let net = self.run_to_end(graph).await?.net()?;
        let rows = net.num_rows();
        let table = self.own_tables.get_mut(name).ok_or_else(|| Error::internal("an own table without rows"))?;
        table.apply(net).map_err(|e| e.at(insert.target.place))?;
        Ok(Answer::Done(format!("{rows} {} inserted", if rows == 1 { "row" } else { "rows" })))
    }

    /// UPDATE and DELETE: the rows for which the condition is true go, and come again with the assigned values if there
    /// are any. One statement, one transaction.
    fn change_own(
        &mut self,
        name: &str,
        condition: Option<&Expr>,
        assignments: &[(usize, Expr)],
        done: &str,
    ) -> Result<Answer> {
        // What NOW() is in this statement.
        thalweg_functions::clock::set_wall_clock_us(thalweg_core::clock::now_us());
        let table = self.own_tables.get_mut(name).ok_or_else(|| Error::internal("an own table without rows"))?;
        let mut rows = table.current()?;
        let output = output_of(table.def());
        if let Some(condition) = condition {
            let condition = ExprSet::compile(std::slice::from_ref(condition), &output)?;
            let mask = condition.evaluate_with(&rows.batch, &mut Err)?.columns.remove(0);
            let keep: UInt32Array = mask
                .as_boolean()
                .iter()
                .enumerate()
                .filter(|(_, m)| *m == Some(true))
                .map(|(i, _)| i as u32)
                .collect::<Vec<_>>()
                .into();
            rows = rows.take(&keep)?;
        }
        let changed: i64 = (0..rows.num_rows()).map(|row| rows.weight(row)).sum();
        let away = (0..rows.num_rows()).map(|row| -rows.weight(row)).collect();
        let mut parts = vec![Changes::new(rows.batch.clone(), Some(away))];
        if !assignments.is_empty() {
            let exprs: Vec<Expr> = (0..output.columns.len())
                .map(|o| match assignments.iter().find(|(to, _)| *to == o) {
                    Some((_, value)) => value.clone(),
                    None => Expr::column(o, output.columns[o].column.ty.clone()),
                })
                .collect();
            let columns = ExprSet::compile(&exprs, &output)?.evaluate_with(&rows.batch, &mut Err)?.columns;
            parts.push(rows.with_batch(RecordBatch::try_new(rows.batch.schema(), columns)?));
        }
        table.apply(thalweg_core::consolidate::consolidate(&parts)?)?;
        Ok(Answer::Done(format!("{changed} {} {done}", if changed == 1 { "row" } else { "rows" })))
    }

    async fn query(&mut self, query: &Query) -> Result<Answer> {
        let plan = self.planned(|p| p.plan_select(query))?;
        if !plan.bounded {
            return self.start_query(plan).map(Answer::Changes);
        }
        let order = plan.order_by.clone();
        let columns = plan.columns.clone();
        let batch = self.run_to_end(plan.graph).await?.rows(&order)?;
        // Hidden columns that only the order needed stand last.
        let batch = batch.project(&(0..columns.len()).collect::<Vec<_>>())?;
        Ok(Answer::Rows(AnswerRows { columns, batch, time_zone: self.settings.zone(), is_query: true }))
    }

    fn explain(&self, explain: &Explain) -> Result<String> {
        let graph = match &*explain.statement {
            Statement::Query(q) => self.planned(|p| p.plan_select(q))?.graph,
            Statement::Insert(i) => self.planned(|p| p.plan_inserts(std::slice::from_ref(i)))?,
            Statement::StatementSet(s) => self.planned(|p| p.plan_inserts(&s.inserts))?,
            _ => return Err(Error::internal("EXPLAIN of what has no plan")),
        };
        Ok(explain_graph(&graph, ExplainOptions { verbose: explain.verbose }))
    }

    fn show(&self, show: &Show) -> Result<Answer> {
        let names = |column: &str, names: Vec<String>, like: &Option<String>| {
            let mut names: Vec<String> = names.into_iter().filter(|n| is_like(n, like.as_deref())).collect();
            names.sort();
            let rows = names.into_iter().map(|n| vec![Some(n)]).collect();
            AnswerRows::of_strings(&[column], rows).map(Answer::Rows)
        };
        match show {
            Show::Tables { like } => {
                names("table name", self.catalog.relations().map(|r| r.name().to_owned()).collect(), like)
            }
            Show::Views { like } => names("view name", self.catalog.views().map(|v| v.name.clone()).collect(), like),
            Show::Functions { like } => {
                let registry = thalweg_functions::registry();
                let mut rows: Vec<Vec<Option<String>>> = registry
                    .names()
                    .filter(|name| is_like(name, like.as_deref()))
                    .map(|name| {
                        let (usage, help) = registry.doc(name).unwrap_or_default();
                        vec![Some(name.to_owned()), Some(usage.to_owned()), Some(help.to_owned())]
                    })
                    .collect();
                rows.sort();
                AnswerRows::of_strings(&["function name", "signature", "meaning"], rows).map(Answer::Rows)
            }
            Show::Jobs => self.show_jobs().map(Answer::Rows),
            Show::Columns(name) => self.describe(&name.value, name.place),
            Show::CreateTable(name) => {
                let table = self.catalog.table(&name.value, name.place)?;
                Ok(Answer::Text(show_create_table(table, &|connector, key| self.is_secret(connector, key))))
            }
            Show::CreateView(name) => {
                let view = self.catalog.view(&name.value, name.place)?;
                Ok(Answer::Text(show_create_view(view, &|connector, key| self.is_secret(connector, key))))
            }
        }
    }

    fn describe(&self, name: &str, place: Place) -> Result<Answer> {
        let rows = match self.catalog.relation(name, place)? {
            Relation::Table(table) => {
                let columns = self.planned(|p| p.check_table(table))?;
                describe_table(table, &|i| columns.get(i).map(|c| (c.ty.clone(), c.nullable)))
            }
            Relation::View(view) => {
                let row = |c: Column| DescribeRow {
                    name: c.name,
                    ty: text_of_type(&c.ty),
                    nullable: c.nullable,
                    key: None,
                    extras: None,
                    watermark: None,
                    comment: None,
                };
                self.planned(|p| p.query_columns(&view.query))?.into_iter().map(row).collect()
            }
        };
        let rows = rows
            .into_iter()
            .map(|r| {
                vec![
                    Some(r.name),
                    Some(r.ty),
                    Some(if r.nullable { "TRUE" } else { "FALSE" }.to_owned()),
                    r.key,
                    r.extras,
                    r.watermark,
                    r.comment,
                ]
            })
            .collect();
        AnswerRows::of_strings(&DESCRIBE_COLUMNS, rows).map(Answer::Rows)
    }

    pub(crate) fn rows_of_strings(names: &[&str], rows: Vec<Vec<Option<String>>>) -> Result<AnswerRows> {
        AnswerRows::of_strings(names, rows)
    }
}

/// `LIKE` of SHOW, if it is there.
fn is_like(name: &str, pattern: Option<&str>) -> bool {
    pattern.is_none_or(|p| like_matches(p, name))
}

/// What only a connector gives a meaning to is not for a table without one.
fn check_own(t: &thalweg_plan::sql::CreateTable, def: &TableDef) -> Result<()> {
    let refused = |what: String, place: Place| {
        Err(Error::unsupported(format!("table {} has no connector, and {what}", def.name))
            .at(place)
            .note("leave it out, or give the table a 'connector'"))
    };
    if !def.partitioned_by.is_empty() {
        let place = t.partitioned_by.first().map_or(t.name.place, |c| c.place);
        return refused("PARTITIONED BY is for tables that have one".to_owned(), place);
    }
    match def.columns.iter().find(|c| matches!(c.kind, ColumnKind::Metadata { .. })) {
        None => Ok(()),
        Some(c) => {
            // Taken over by LIKE, it does not stand in this statement.
            let written = t.columns.iter().find(|d| d.name.value == c.column.name);
            let place = written.map_or(t.name.place, |d| d.name.place);
            refused(format!("the METADATA column \"{}\" could only come from one", c.column.name), place)
        }
    }
}

/// A table's columns as an operator's input.
fn output_of(def: &TableDef) -> Output {
    let provenance = Canonical::new("own table").to_provenance();
    let columns =
        def.columns.iter().map(|c| OutColumn { column: c.column.clone(), provenance, stable: true }).collect();
    Output { columns, append_only: false, unique_keys: vec![], bounded: true, order: None }
}

/// Where an option's value stands.
fn option_place(t: &thalweg_plan::sql::CreateTable, key: &str) -> Option<Place> {
    t.options.iter().find(|o| o.key.value.eq_ignore_ascii_case(key)).map(|o| o.value.place)
}
