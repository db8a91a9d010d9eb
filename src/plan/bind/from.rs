//! FROM: tables, views, subqueries and joins → one relation and the scope of its names.

use std::rc::Rc;

use sqlparser::ast::{self, JoinConstraint, JoinOperator, ObjectName, TableFactor};
use thalweg_core::{Error, Place, Result};
use thalweg_graph::Expr;

use super::coerce;
use super::query::{BoundQuery, Ctes};
use super::{Binder, Clause, ExprBinder};
use crate::catalog::Relation;
use crate::logical::{Rel, conjuncts};
use crate::names::{Lookup, look_up};
use crate::refuse::{at, place, refuse, table_factor, unsupported};
use crate::resolve::{Scope, ScopeRelation};
use crate::sql::place_of_ident;

impl Binder<'_> {
    pub(super) fn from(&self, from: &[ast::TableWithJoins], ctes: &Ctes) -> Result<(Rel, Scope)> {
        let mut all: Option<(Rel, Scope)> = None;
        for t in from {
            let right = self.table_with_joins(t, ctes)?;
            all = Some(match all {
                None => right,
                Some((left, scope)) => {
                    let scope = scope.join(right.1, left.columns.len());
                    scope.check_qualifiers(place(&t.relation))?;
                    (Rel::join(left, right.0, vec![]).written_at(place(&t.relation)), scope)
                }
            });
        }
        Ok(all.unwrap_or_else(|| (Rel::one_row(), Scope::default())))
    }

    fn table_with_joins(&self, t: &ast::TableWithJoins, ctes: &Ctes) -> Result<(Rel, Scope)> {
        let ast::TableWithJoins { relation, joins } = t;
        let mut left = self.factor(relation, ctes)?;
        for j in joins {
            let ast::Join { relation, global, join_operator } = j;
            let here = place(relation);
            refuse(*global, "GLOBAL JOIN", here)?;
            let refused = |what: &str| Err(unsupported(what, here).note("joins: INNER JOIN … ON, CROSS JOIN"));
            let constraint = match join_operator {
                JoinOperator::Join(JoinConstraint::None) | JoinOperator::Inner(JoinConstraint::None) => {
                    return Err(at(Error::syntax("JOIN needs ON or USING"), here).note("CROSS JOIN joins all with all"));
                }
                JoinOperator::Join(c) | JoinOperator::Inner(c) => c,
                JoinOperator::CrossJoin(JoinConstraint::None) => &JoinConstraint::None,
                JoinOperator::CrossJoin(_) => return refused("CROSS JOIN with a condition"),
                JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => return refused("LEFT JOIN"),
                JoinOperator::Right(_) | JoinOperator::RightOuter(_) => return refused("RIGHT JOIN"),
                JoinOperator::FullOuter(_) => return refused("FULL JOIN"),
                JoinOperator::Semi(_) | JoinOperator::LeftSemi(_) | JoinOperator::RightSemi(_) => {
                    return refused("SEMI JOIN");
                }
                JoinOperator::Anti(_) | JoinOperator::LeftAnti(_) | JoinOperator::RightAnti(_) => {
                    return refused("ANTI JOIN");
                }
                JoinOperator::CrossApply | JoinOperator::OuterApply => return refused("APPLY"),
                JoinOperator::AsOf { .. } => return refused("ASOF JOIN"),
                JoinOperator::StraightJoin(_) => return refused("STRAIGHT_JOIN"),
                JoinOperator::ArrayJoin | JoinOperator::LeftArrayJoin | JoinOperator::InnerArrayJoin => {
                    return refused("ARRAY JOIN");
                }
            };
            let right = self.factor(relation, ctes)?;
            left = self.join(left, right, constraint, here)?;
        }
        Ok(left)
    }

    fn join(
        &self,
        (left, left_scope): (Rel, Scope),
        (right, right_scope): (Rel, Scope),
        constraint: &JoinConstraint,
        here: Option<Place>,
    ) -> Result<(Rel, Scope)> {
        let using: Vec<ast::Ident> = match constraint {
            JoinConstraint::None | JoinConstraint::On(_) => vec![],
            JoinConstraint::Using(names) => names.iter().map(|n| single(n).cloned()).collect::<Result<_>>()?,
            JoinConstraint::Natural => {
                let names: Vec<&str> = right_scope.all().map(|c| c.column.name.as_str()).collect();
                let shared = left_scope.all().filter(|l| names.contains(&l.column.name.as_str()));
                let shared: Vec<ast::Ident> = shared.map(|c| ast::Ident::new(&c.column.name)).collect();
                if shared.is_empty() {
                    return Err(at(Error::name("NATURAL JOIN of two relations that share no column"), here));
                }
                shared
            }
        };
        let width = left.columns.len();
        let mut condition = vec![];
        let mut merged = vec![];
        for name in &using {
            let column = |s: &Scope| {
                s.column(std::slice::from_ref(name))?.ok_or_else(|| s.no_such_column(std::slice::from_ref(name)))
            };
            let (l, r) = (column(&left_scope)?, column(&right_scope)?);
            let r = r.map_columns(&|o| o + width);
            if let (Expr::Column { ordinal: l, .. }, Expr::Column { ordinal: r, .. }) = (&l, &r) {
                merged.push((*l, *r));
            }
            let e = coerce::compare("=", l, r, coerce::Zone(&self.settings.time_zone));
            condition.push(e.map_err(|e| e.at(place_of_ident(name)))?);
        }
        let mut scope = left_scope.join(right_scope, width);
        scope.check_qualifiers(here)?;
        scope.merge(&merged);
        if let JoinConstraint::On(on) = constraint {
            let e = ExprBinder::new(self, &scope, Clause::On).condition(on, "the condition of ON")?;
            condition.extend(conjuncts(e));
        }
        Ok((Rel::join(left, right, condition).written_at(here), scope))
    }

    fn factor(&self, f: &TableFactor, ctes: &Ctes) -> Result<(Rel, Scope)> {
        let here = place(f);
        match f {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                if args.is_some() {
                    return Err(unsupported(format!("the table function {name}"), here));
                }
                refuse(!with_hints.is_empty(), "WITH behind a table", here)?;
                if let Some(version) = version {
                    let what = match version {
                        ast::TableVersion::ForSystemTimeAsOf(_) => "FOR SYSTEM_TIME AS OF",
                        _ => "a table's version",
                    };
                    return Err(unsupported(what, here));
                }
                refuse(*with_ordinality, "WITH ORDINALITY", here)?;
                refuse(!partitions.is_empty(), "PARTITION behind a table", here)?;
                refuse(json_path.is_some(), "a path behind a table", here)?;
                refuse(sample.is_some(), "TABLESAMPLE", here)?;
                refuse(!index_hints.is_empty(), "an index hint", here)?;
                let (rel, named, what) = self.named(name, ctes)?;
                let own = single(name)?.value.clone();
                aliased(rel, named, alias.as_ref(), Some(own), what)
            }
            TableFactor::Derived { lateral, subquery, alias, sample } => {
                refuse(*lateral, "LATERAL", here)?;
                refuse(sample.is_some(), "TABLESAMPLE", here)?;
                let rel = self.query(subquery, ctes)?.into_relation()?;
                let named = rel.columns.len();
                aliased(rel, named, alias.as_ref(), None, "subquery".to_owned())
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                refuse(alias.is_some(), "an alias of a join in parentheses", here)?;
                self.table_with_joins(table_with_joins, ctes)
            }
            TableFactor::TableFunction { .. }
            | TableFactor::Function { .. }
            | TableFactor::UNNEST { .. }
            | TableFactor::JsonTable { .. }
            | TableFactor::OpenJsonTable { .. }
            | TableFactor::Pivot { .. }
            | TableFactor::Unpivot { .. }
            | TableFactor::MatchRecognize { .. }
            | TableFactor::XmlTable { .. }
            | TableFactor::SemanticView { .. } => Err(table_factor(f)),
        }
    }

    /// What a name in FROM means: a WITH query, a table or a view; how many columns have names; and what it is.
    fn named(&self, name: &ObjectName, ctes: &Ctes) -> Result<(Rel, usize, String)> {
        let ident = single(name)?;
        let here = place_of_ident(ident);
        let hint = self.hints.of(name);
        let no_hint = |what: &str| match hint {
            None => Ok(()),
            Some(h) => {
                Err(Error::option(format!("the hint OPTIONS is for tables, {} is {what}", ident.value)).at(h.place))
            }
        };
        if let Lookup::Found(i) = look_up(&ident.value, ctes.iter().map(|(n, _)| n.as_str())) {
            no_hint("a query of WITH")?;
            let (cte, bound) = &ctes[i];
            let rel = BoundQuery::clone(bound).into_relation()?;
            let named = rel.columns.len();
            return Ok((rel, named, format!("WITH query {cte}")));
        }
        let found = self.catalog.relation(&ident.value, here);
        let found = found.map_err(|e| {
            let near = ctes.iter().map(|(n, _)| n.as_str());
            e.propose(thalweg_core::nearest::did_you_mean(&ident.value, near))
        })?;
        match found {
            Relation::Table(table) => {
                let (rel, named) = self.table(table, hint, here)?;
                Ok((rel, named, format!("table {}", table.name)))
            }
            Relation::View(view) => {
                no_hint("a view")?;
                let rel = self.view(view, here)?;
                let named = rel.columns.len();
                Ok((rel, named, format!("view {}", view.name)))
            }
        }
    }

    /// The relation of a view, its columns under the view's names.
    fn view(&self, view: &crate::catalog::View, here: Place) -> Result<Rel> {
        let within = |e: Error| e.context(format!("view {}", view.name)).map_place(|_| here).at(here);
        let binder = self.for_view(&view.query.hints, &view.name, here)?;
        let bound = binder.query(&view.query.ast, &vec![]).map_err(within)?;
        let mut rel = bound.into_relation().map_err(within)?;
        if let Some(names) = &view.columns {
            if names.len() != rel.columns.len() {
                return Err(Error::name(format!(
                    "view {} names {} columns, its query has {}",
                    view.name,
                    names.len(),
                    rel.columns.len()
                ))
                .at(here));
            }
            rename(&mut rel, names.iter().cloned());
        }
        Ok(rel.moved_to(here))
    }
}

/// The only part of a name: there is one catalog with one database.
fn single(name: &ObjectName) -> Result<&ast::Ident> {
    match name.0.as_slice() {
        [ast::ObjectNamePart::Identifier(i)] => Ok(i),
        _ => Err(unsupported(format!("the name {name}, with a catalog or database in it"), place(name))
            .note("there is one catalog with one database: name tables without them")),
    }
}

fn rename(rel: &mut Rel, names: impl Iterator<Item = String>) {
    for (c, n) in rel.columns.iter_mut().zip(names) {
        c.name = n;
    }
}

/// The relation under its alias, `AS t (a, b)`.
fn aliased(
    mut rel: Rel,
    named: usize,
    alias: Option<&ast::TableAlias>,
    own: Option<String>,
    what: String,
) -> Result<(Rel, Scope)> {
    let mut name = own;
    if let Some(ast::TableAlias { explicit: _, name: alias, columns, at: position }) = alias {
        let here = Some(place_of_ident(alias));
        refuse(position.is_some(), "AT behind an alias", here)?;
        name = Some(alias.value.clone());
        if !columns.is_empty() {
            if let Some(c) = columns.iter().find(|c| c.data_type.is_some()) {
                return Err(unsupported("the type of a column in an alias", Some(place_of_ident(&c.name))));
            }
            if columns.len() != named {
                return Err(at(
                    Error::name(format!(
                        "the alias {} names {} columns, there are {named}",
                        alias.value,
                        columns.len()
                    )),
                    here,
                ));
            }
            rename(&mut rel, columns.iter().map(|c| c.name.value.clone()));
        }
    }
    let relation = ScopeRelation::new(name, what, &rel.columns[..named]);
    Ok((rel, Scope::one(relation)))
}

/// A WITH query by its name, for `Ctes`.
pub(super) fn cte(name: String, bound: BoundQuery) -> (String, Rc<BoundQuery>) {
    (name, Rc::new(bound))
}
