//! Queries: WITH, UNION ALL, VALUES, ORDER BY and LIMIT around SELECT.

use std::rc::Rc;

use sqlparser::ast::{self, LimitClause, OrderByKind, SetExpr, SetOperator, SetQuantifier};
use thalweg_core::{Column, Error, Place, Result, SqlType};
use thalweg_functions::types::{Purpose, common_type};
use thalweg_graph::Expr;
use thalweg_graph::ops::SortKey;

use super::coerce::{self, Zone};
use super::expr::BoundSort;
use super::{Binder, Clause, ExprBinder};
use crate::literal;
use crate::logical::{Rel, TopN, nullable};
use crate::refuse::{at, place, query_clauses, refuse, unsupported};
use crate::resolve::{Scope, ScopeRelation};
use crate::sql::place_of_ident;

/// The WITH queries that can be named, later ones first.
pub(crate) type Ctes = Vec<(String, Rc<BoundQuery>)>;

/// A query as a relation.
#[derive(Debug, Clone)]
pub(crate) struct BoundQuery {
    /// The query's columns, then those that only ORDER BY reads.
    pub rel: Rel,
    pub visible: usize,
    /// In which the answer is printed.
    pub order: Vec<SortKey>,
    /// Of an ORDER BY without LIMIT.
    pub unlimited_order: Option<Place>,
    /// Of the query's columns, where they are written.
    pub places: Vec<Option<Place>>,
}

impl BoundQuery {
    pub fn new(rel: Rel, places: Vec<Option<Place>>) -> Self {
        BoundQuery { visible: rel.columns.len(), rel, order: vec![], unlimited_order: None, places }
    }

    /// The relation of the query within another: it has no order.
    pub fn into_relation(self) -> Result<Rel> {
        if let Some(p) = self.unlimited_order {
            return Err(Error::unsupported("ORDER BY without LIMIT has no meaning here")
                .at(p)
                .note("rows have no order within a query: leave it out, or add LIMIT"));
        }
        if self.visible == self.rel.columns.len() {
            return Ok(self.rel);
        }
        Ok(Rel::pick(self.rel, &(0..self.visible).collect::<Vec<_>>()))
    }
}

impl Binder<'_> {
    pub fn query(&self, q: &ast::Query, outer: &Ctes) -> Result<BoundQuery> {
        query_clauses(q)?;
        let ctes = self.with(q.with.as_ref(), outer)?;
        let mut bound = match &*q.body {
            SetExpr::Select(s) => self.select(s, &ctes, q.order_by.as_ref())?,
            body => {
                let mut bound = self.set_expr(body, &ctes)?;
                self.order_output(&mut bound, q.order_by.as_ref())?;
                bound
            }
        };
        if let Some((from, to)) = self.limit(q)? {
            bound.unlimited_order = None;
            bound.rel = if to == Some(from - 1) {
                Rel::filter(bound.rel, vec![literal::boolean(false)])
            } else {
                let order = bound.order.clone();
                let top = TopN { input: Box::new(bound.rel), partition: vec![], order, from, to, rank: false };
                Rel::top_n(top, "").written_at(place(&*q.body))
            };
        }
        Ok(bound)
    }

    fn with(&self, with: Option<&ast::With>, outer: &Ctes) -> Result<Ctes> {
        let mut ctes = outer.clone();
        let Some(ast::With { with_token: _, recursive, cte_tables }) = with else { return Ok(ctes) };
        let mut own: Vec<&str> = vec![];
        for ast::Cte { alias, query, from, materialized, closing_paren_token: _ } in cte_tables {
            let here = place_of_ident(&alias.name);
            refuse(*recursive, "WITH RECURSIVE", Some(here))?;
            refuse(from.is_some(), "FROM behind a WITH query", Some(here))?;
            refuse(materialized.is_some(), "MATERIALIZED in WITH", Some(here))?;
            refuse(alias.at.is_some(), "AT behind an alias", Some(here))?;
            if own.contains(&alias.name.value.as_str()) {
                return Err(Error::name(format!("WITH has two queries \"{}\"", alias.name.value)).at(here));
            }
            own.push(&alias.name.value);
            let bound = self.query(query, &ctes)?;
            let places = bound.places.clone();
            let mut rel = bound.into_relation()?;
            if !alias.columns.is_empty() {
                if alias.columns.len() != rel.columns.len() {
                    return Err(Error::name(format!(
                        "WITH query {} names {} columns, it has {}",
                        alias.name.value,
                        alias.columns.len(),
                        rel.columns.len()
                    ))
                    .at(here));
                }
                for (c, n) in rel.columns.iter_mut().zip(&alias.columns) {
                    refuse(n.data_type.is_some(), "the type of a column in an alias", Some(place_of_ident(&n.name)))?;
                    c.name = n.name.value.clone();
                }
            }
            // A later one hides an earlier of the same name: it is found first.
            ctes.insert(0, super::from::cte(alias.name.value.clone(), BoundQuery::new(rel, places)));
        }
        Ok(ctes)
    }

    fn set_expr(&self, body: &SetExpr, ctes: &Ctes) -> Result<BoundQuery> {
        match body {
            SetExpr::Select(s) => self.select(s, ctes, None),
            SetExpr::Query(q) => self.query(q, ctes),
            SetExpr::Values(v) => self.values(v),
            SetExpr::SetOperation { .. } => self.union(body, ctes),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                Err(unsupported("a statement that changes data, within a query", place(body)))
            }
            SetExpr::Table(_) => {
                Err(unsupported("TABLE as a query", place(body)).note("write SELECT * FROM the table"))
            }
        }
    }

    fn union(&self, body: &SetExpr, ctes: &Ctes) -> Result<BoundQuery> {
        // A chain of UNION ALL is one union.
        let mut parts = vec![];
        let mut rest = body;
        while let SetExpr::SetOperation { left, op, set_quantifier, right } = rest {
            let here = place(&**right);
            match (op, set_quantifier) {
                (SetOperator::Union, SetQuantifier::All) => {}
                (SetOperator::Union, SetQuantifier::None | SetQuantifier::Distinct) => {
                    return Err(unsupported("UNION without ALL", here)
                        .note("UNION ALL keeps equal rows; SELECT DISTINCT over it removes them"));
                }
                (SetOperator::Union, _) => return Err(unsupported("UNION BY NAME", here)),
                (SetOperator::Intersect, _) => return Err(unsupported("INTERSECT", here)),
                (SetOperator::Except | SetOperator::Minus, _) => return Err(unsupported("EXCEPT", here)),
            }
            parts.push(&**right);
            rest = left;
        }
        parts.push(rest);
        parts.reverse();
        let mut rels: Vec<(Rel, Option<Place>)> = vec![];
        let mut places = vec![];
        for part in parts {
            let bound = self.set_expr(part, ctes)?;
            if places.is_empty() {
                places = bound.places.clone();
            }
            rels.push((bound.into_relation()?, place(part)));
        }
        let width = rels[0].0.columns.len();
        for (r, p) in &rels {
            if r.columns.len() != width {
                return Err(at(
                    Error::type_(format!("the queries of UNION ALL have {width} and {} columns", r.columns.len())),
                    *p,
                ));
            }
        }
        let mut types = vec![];
        for o in 0..width {
            let mut ty = SqlType::Null;
            for (r, p) in &rels {
                let other = &r.columns[o].ty;
                ty = common_type(&ty, other, Purpose::Unite).ok_or_else(|| {
                    at(
                        Error::type_(format!(
                            "column {} of UNION ALL is {ty} in one query and {other} in another",
                            o + 1
                        ))
                        .note("CAST one of them to the type of the other"),
                        *p,
                    )
                })?;
            }
            types.push(ty);
        }
        let zone = Zone(&self.settings.time_zone);
        let rels = rels.into_iter().map(|(r, _)| {
            if r.columns.iter().zip(&types).all(|(c, t)| c.ty == *t) {
                return r;
            }
            let exprs =
                (0..width).map(|o| (coerce::cast(r.column(o), &types[o], zone), r.columns[o].name.clone())).collect();
            Rel::project(r, exprs)
        });
        Ok(BoundQuery::new(Rel::union(rels.collect()), places))
    }

    fn values(&self, v: &ast::Values) -> Result<BoundQuery> {
        let ast::Values { explicit_row: _, value_keyword: _, rows } = v;
        let scope = Scope::default();
        let mut bound: Vec<Vec<Expr>> = vec![];
        let mut places = vec![];
        for row in rows {
            let row = &row.content;
            let mut binder = ExprBinder::new(self, &scope, Clause::Values);
            let cells = row.iter().map(|e| binder.bind(e)).collect::<Result<Vec<_>>>()?;
            if let Some(first) = bound.first()
                && first.len() != cells.len()
            {
                return Err(at(
                    Error::type_(format!("the rows of VALUES have {} and {} values", first.len(), cells.len())),
                    row.first().and_then(place),
                ));
            }
            if bound.is_empty() {
                places = row.iter().map(place).collect();
            }
            bound.push(cells);
        }
        let width = bound.first().map_or(0, Vec::len);
        let zone = Zone(&self.settings.time_zone);
        let mut columns: Vec<Column> = vec![];
        for o in 0..width {
            let cells: Vec<Expr> = bound.iter().map(|r| r[o].clone()).collect();
            let (cells, ty) =
                coerce::unite(cells, &format!("column {} of VALUES", o + 1), zone).map_err(|e| at(e, places[o]))?;
            columns.push(Column::new(format!("EXPR${o}"), ty, cells.iter().any(|c| nullable(c, &[]))));
            for (row, cell) in bound.iter_mut().zip(cells) {
                row[o] = cell;
            }
        }
        let as_literals = |r: &Vec<Expr>| {
            r.iter().map(|e| if let Expr::Literal(l) = e { Some(l.clone()) } else { None }).collect::<Option<Vec<_>>>()
        };
        let rel = match bound.iter().map(as_literals).collect::<Option<Vec<_>>>() {
            Some(rows) => Rel::values(rows, columns),
            None => {
                let rows = bound.into_iter().map(|r| {
                    let named = r.into_iter().zip(&columns).map(|(e, c)| (e, c.name.clone())).collect();
                    Rel::project(Rel::one_row(), named)
                });
                let mut rows: Vec<Rel> = rows.collect();
                if rows.len() == 1 { rows.remove(0) } else { Rel::union(rows) }
            }
        };
        Ok(BoundQuery::new(rel, places))
    }

    /// ORDER BY of what is no SELECT: over its output columns only.
    fn order_output(&self, bound: &mut BoundQuery, order_by: Option<&ast::OrderBy>) -> Result<()> {
        let Some(items) = order_items(order_by)? else { return Ok(()) };
        let scope = Scope::one(ScopeRelation::new(None, "the query".to_owned(), &bound.rel.columns[..bound.visible]));
        let mut binder = ExprBinder::new(self, &scope, Clause::OrderBy);
        let mut sorts = vec![];
        for o in items {
            let mut sort = binder.sort(o)?;
            if let Some(position) = position(&o.expr, bound.visible, "ORDER BY")? {
                sort.expr = bound.rel.column(position);
            }
            sorts.push(sort);
        }
        let exprs = sorts.iter().map(|s| (s.expr.clone(), "$order by".to_owned())).collect();
        let (rel, ordinals) = bound.rel.clone().with_columns(exprs);
        bound.rel = rel;
        bound.order = keys(&sorts, &ordinals);
        bound.unlimited_order = items.first().and_then(place).or(Some(Place::new(1, 1, 1)));
        Ok(())
    }

    /// First and last row that are kept, from 1; `None`: all.
    fn limit(&self, q: &ast::Query) -> Result<Option<(u64, Option<u64>)>> {
        let mut limit = None;
        let mut offset = None;
        match &q.limit_clause {
            None => {}
            Some(LimitClause::LimitOffset { limit: l, offset: o, limit_by }) => {
                refuse(!limit_by.is_empty(), "LIMIT BY", limit_by.first().and_then(place))?;
                limit = l.as_ref().map(|e| self.count(e, "LIMIT")).transpose()?;
                offset = o.as_ref().map(|o| self.count(&o.value, "OFFSET")).transpose()?;
            }
            Some(LimitClause::OffsetCommaLimit { offset: o, limit: l }) => {
                return Err(unsupported("LIMIT with a comma", place(o)).note(format!("write LIMIT {l} OFFSET {o}")));
            }
        }
        if let Some(ast::Fetch { with_ties, percent, quantity }) = &q.fetch {
            let here = quantity.as_ref().and_then(place);
            refuse(*with_ties, "FETCH … WITH TIES", here)?;
            refuse(*percent, "FETCH … PERCENT", here)?;
            if limit.is_some() {
                return Err(at(Error::syntax("a query cannot have both LIMIT and FETCH"), here));
            }
            limit = Some(quantity.as_ref().map_or(Ok(1), |e| self.count(e, "FETCH"))?);
        }
        if limit.is_none() && offset.is_none() {
            return Ok(None);
        }
        let offset = offset.unwrap_or(0);
        Ok(Some((offset + 1, limit.map(|l| offset.saturating_add(l)))))
    }

    /// The whole number of LIMIT, OFFSET or FETCH.
    fn count(&self, e: &ast::Expr, what: &str) -> Result<u64> {
        let scope = Scope::default();
        let bound = ExprBinder::new(self, &scope, Clause::Limit).bind(e)?;
        match literal::integer_value(&bound).map(u64::try_from) {
            Some(Ok(n)) if n < u64::MAX / 2 => Ok(n),
            _ => Err(at(Error::type_(format!("{what} needs a whole number, 0 or more")), place(e))),
        }
    }
}

/// The items of ORDER BY.
pub(super) fn order_items(order_by: Option<&ast::OrderBy>) -> Result<Option<&[ast::OrderByExpr]>> {
    let Some(ast::OrderBy { kind, interpolate }) = order_by else { return Ok(None) };
    refuse(interpolate.is_some(), "INTERPOLATE", None)?;
    match kind {
        OrderByKind::All(_) => Err(unsupported("ORDER BY ALL", None)),
        OrderByKind::Expressions(items) if items.is_empty() => Ok(None),
        OrderByKind::Expressions(items) => Ok(Some(items)),
    }
}

/// `ORDER BY 2` and `GROUP BY 2` mean the second column of the SELECT list: its ordinal.
pub(super) fn position(e: &ast::Expr, columns: usize, clause: &str) -> Result<Option<usize>> {
    let ast::Expr::Value(v) = e else { return Ok(None) };
    let ast::Value::Number(n, _) = &v.value else { return Ok(None) };
    match n.parse::<usize>() {
        Ok(i) if (1..=columns).contains(&i) => Ok(Some(i - 1)),
        _ => Err(at(Error::name(format!("{clause} {n}: there are columns 1 to {columns}")), place(e))),
    }
}

pub(super) fn keys(sorts: &[BoundSort], ordinals: &[usize]) -> Vec<SortKey> {
    let mut keys: Vec<SortKey> = vec![];
    for (s, &column) in sorts.iter().zip(ordinals) {
        // A column that is sorted by already decides nothing any more.
        if !keys.iter().any(|k| k.column == column) {
            keys.push(SortKey { column, descending: s.descending, nulls_first: s.nulls_first });
        }
    }
    keys
}
