//! SELECT: FROM, WHERE, GROUP BY, HAVING, window functions, QUALIFY, the SELECT list, DISTINCT and ORDER BY.

use sqlparser::ast::{self, SelectItem, SelectItemQualifiedWildcardKind};
use thalweg_core::{Error, Place, Result};
use thalweg_graph::Expr;

use super::expr::{AGGREGATES, BoundSort, WINDOWS};
use super::function::check_order;
use super::query::{BoundQuery, Ctes, keys, order_items, position};
use super::{Binder, Clause, ExprBinder};
use crate::logical::{Call, Rel, conjuncts, nullable};
use crate::optimize::fallible::is_infallible;
use crate::refuse::{at, place, place_of_span, refuse, select_clauses, unsupported};
use crate::resolve::ScopeColumn;

/// One column of the SELECT list.
struct Item {
    expr: Expr,
    name: String,
    place: Option<Place>,
    /// The name was given with AS, or is a column's.
    is_alias: bool,
}

impl Binder<'_> {
    /// A SELECT with the ORDER BY around it, which may read what the SELECT list does not show.
    pub(super) fn select(&self, s: &ast::Select, ctes: &Ctes, order_by: Option<&ast::OrderBy>) -> Result<BoundQuery> {
        select_clauses(s)?;
        let (mut rel, scope) = self.from(&s.from, ctes)?;
        if let Some(e) = &s.selection {
            let bound = ExprBinder::new(self, &scope, Clause::Where).condition(e, "the condition of WHERE")?;
            rel = Rel::filter(rel, conjuncts(bound));
        }
        let mut binder = ExprBinder::new(self, &scope, Clause::Select);
        for ast::NamedWindowDefinition(name, window) in &s.named_window {
            match window {
                ast::NamedWindowExpr::WindowSpec(spec) => binder.named_windows.push((name.clone(), spec.clone())),
                ast::NamedWindowExpr::NamedWindow(_) => {
                    return Err(unsupported("a window that is another one", place_of_span(name.span)));
                }
            }
        }
        let mut items = vec![];
        for item in &s.projection {
            select_item(&mut binder, item, &mut items)?;
        }
        if items.is_empty() {
            let here = place_of_span(s.select_token.0.span);
            return Err(at(Error::syntax("SELECT needs at least one column"), here));
        }

        binder.aliases = items.iter().filter(|i| i.is_alias).map(|i| (i.name.clone(), i.expr.clone())).collect();
        let mut group = self.group_by(&mut binder, s, &items)?;
        binder.clause = Clause::Having;
        let mut having = s.having.as_ref().map(|e| binder.condition(e, "the condition of HAVING")).transpose()?;
        binder.clause = Clause::Qualify;
        let mut qualify = s.qualify.as_ref().map(|e| binder.condition(e, "the condition of QUALIFY")).transpose()?;
        binder.clause = Clause::OrderBy;
        let mut sorts: Vec<BoundSort> = vec![];
        let order_items = order_items(order_by)?;
        for o in order_items.unwrap_or_default() {
            let mut sort = binder.sort(o)?;
            if let Some(i) = position(&o.expr, items.len(), "ORDER BY")? {
                check_order(&items[i].expr, "ORDER BY", place(o))?;
                sort.expr = items[i].expr.clone();
            }
            sorts.push(sort);
        }
        let ExprBinder { aggregates, mut windows, column_places, .. } = binder;

        if !group.is_empty() || !aggregates.is_empty() || having.is_some() {
            let group_exprs: Vec<Expr> = std::mem::take(&mut group);
            let calls = aggregates;
            let mut pre: Vec<(Expr, String)> = vec![];
            let mut ordinal = |e: &Expr, name: String| {
                let of = |(other, _): &(Expr, String)| other == e && !e.is_volatile();
                pre.iter().position(of).unwrap_or_else(|| {
                    pre.push((e.clone(), name));
                    pre.len() - 1
                })
            };
            let keys: Vec<usize> = group_exprs.iter().map(|e| ordinal(e, name_of(e, &rel, &items))).collect();
            let mut bound_calls = vec![];
            for c in &calls {
                let arg = c.arg.as_ref().map(|e| match &c.filter {
                    // FILTER guards: on a row that it leaves out the argument must not fail.
                    Some(filter) if !is_infallible(e) => {
                        let guarded = Expr::Case {
                            operand: None,
                            branches: vec![(filter.clone(), e.clone())],
                            otherwise: None,
                            ty: e.ty().clone(),
                        };
                        ordinal(&guarded, name_of(e, &rel, &[]))
                    }
                    _ => ordinal(e, name_of(e, &rel, &[])),
                });
                let filter = c.filter.as_ref().map(|e| ordinal(e, name_of(e, &rel, &[])));
                let counts = c.function == thalweg_graph::ops::aggregate::AggregateFunction::Count;
                // A group has a row, so that only NULLs and a FILTER leave nothing to add up.
                let has_value = !group_exprs.is_empty()
                    && c.filter.is_none()
                    && c.arg.as_ref().is_some_and(|a| !nullable(a, &rel.columns));
                bound_calls.push(Call {
                    function: c.function,
                    arg,
                    distinct: c.distinct,
                    filter,
                    name: c.name.clone(),
                    ty: c.ty.clone(),
                    nullable: !counts && !has_value,
                });
            }
            if pre.is_empty() {
                // COUNT(*): any column will do, the pruning takes the cheapest.
                pre.extend((0..rel.columns.len()).map(|o| (rel.column(o), rel.columns[o].name.clone())));
            }
            let from = rel.columns.clone();
            let here = place_of_span(s.select_token.0.span);
            let aggregated = Rel::aggregate(Rel::project(rel, pre), keys, bound_calls).written_at(here);
            let over =
                Grouped { group: &group_exprs, from: &from, columns: &aggregated.columns, places: &column_places };
            for i in &mut items {
                i.expr = over.rewrite(&i.expr)?;
            }
            for e in having.iter_mut().chain(&mut qualify).chain(sorts.iter_mut().map(|s| &mut s.expr)) {
                *e = over.rewrite(e)?;
            }
            for w in &mut windows {
                for e in w.partition.iter_mut().chain(w.order.iter_mut().map(|s| &mut s.expr)) {
                    *e = over.rewrite(e)?;
                }
            }
            rel = Rel::filter(aggregated, having.map(conjuncts).unwrap_or_default());
        }

        let mut ranks = vec![];
        for (i, w) in windows.into_iter().enumerate() {
            let named = |e: &Expr, rel: &Rel| (e.clone(), name_of(e, rel, &[]));
            let exprs = w.partition.iter().map(|e| named(e, &rel)).collect();
            let (with_partition, partition) = rel.with_columns(exprs);
            let exprs = w.order.iter().map(|s| named(&s.expr, &with_partition)).collect();
            let (input, order) = with_partition.with_columns(exprs);
            let mut order = keys(&w.order, &order);
            order.retain(|k| !partition.contains(&k.column));
            let is_rank = |item: &&Item| matches!(item.expr, Expr::Column { ordinal, .. } if ordinal == WINDOWS + i);
            let name = items.iter().find(is_rank).map_or("row_number", |item| &item.name).to_owned();
            rel = Rel::row_number(input, dedup(partition), order, name, w.place);
            ranks.push(rel.columns.len() - 1);
        }
        let ranked = |e: &Expr| e.map_columns(&|o| if o >= WINDOWS { ranks[o - WINDOWS] } else { o });
        if let Some(e) = qualify {
            rel = Rel::filter(rel, conjuncts(ranked(&e)));
        }

        let places: Vec<Option<Place>> = items.iter().map(|i| i.place).collect();
        let mut exprs: Vec<(Expr, String)> = items.iter().map(|i| (ranked(&i.expr), i.name.clone())).collect();
        let visible = exprs.len();
        let is_distinct = matches!(s.distinct, Some(ast::Distinct::Distinct));
        if is_distinct {
            exprs = exprs.into_iter().map(|(e, name)| (crate::literal::typed(e), name)).collect();
        }
        let mut ordinals = vec![];
        for (sort, o) in sorts.iter().zip(order_items.unwrap_or_default()) {
            let e = ranked(&sort.expr);
            let found = exprs.iter().position(|(other, _)| *other == e);
            if found.is_none() && is_distinct {
                return Err(at(
                    Error::name("with DISTINCT, ORDER BY can use columns of the SELECT list only"),
                    place(o),
                ));
            }
            ordinals.push(found.unwrap_or_else(|| {
                exprs.push((e, "$order by".to_owned()));
                exprs.len() - 1
            }));
        }
        let order = keys(&sorts, &ordinals);
        let mut rel = Rel::project(rel, exprs);
        if is_distinct {
            for (o, p) in places.iter().enumerate() {
                check_order(&rel.column(o), "DISTINCT", *p)?;
            }
            let here = place_of_span(s.select_token.0.span);
            rel = Rel::aggregate(rel, (0..visible).collect(), vec![]).written_at(here);
        }
        let unlimited_order = order_items.and_then(|items| items.first().and_then(place));
        Ok(BoundQuery { rel, visible, order, unlimited_order, places })
    }

    fn group_by(&self, binder: &mut ExprBinder, s: &ast::Select, items: &[Item]) -> Result<Vec<Expr>> {
        binder.clause = Clause::GroupBy;
        let ast::GroupByExpr::Expressions(exprs, _) = &s.group_by else { return Ok(vec![]) };
        let mut group: Vec<Expr> = vec![];
        for e in exprs {
            let here = place(e);
            let bound = match position(e, items.len(), "GROUP BY")? {
                Some(i) => items[i].expr.clone(),
                None => binder.bind(e)?,
            };
            let is_computed = |o: usize| o >= AGGREGATES;
            if bound.columns().into_iter().any(is_computed) {
                return Err(at(Error::name("GROUP BY cannot use the value of an aggregate or window function"), here));
            }
            check_order(&bound, "GROUP BY", here)?;
            let bound = crate::literal::typed(bound);
            if !group.contains(&bound) {
                group.push(bound);
            }
        }
        Ok(group)
    }
}

fn dedup(mut ordinals: Vec<usize>) -> Vec<usize> {
    let mut seen = vec![];
    ordinals.retain(|o| {
        let new = !seen.contains(o);
        seen.push(*o);
        new
    });
    ordinals
}

/// What a computed column is called before it has a name: a column's own name, an item's alias, else its text.
fn name_of(e: &Expr, rel: &Rel, items: &[Item]) -> String {
    if let Some(item) = items.iter().find(|i| i.expr == *e) {
        return item.name.clone();
    }
    match e {
        Expr::Column { ordinal, .. } if *ordinal < rel.columns.len() => rel.columns[*ordinal].name.clone(),
        e => thalweg_graph::explain::expr_over(e, &rel.columns),
    }
}

fn select_item(binder: &mut ExprBinder, item: &SelectItem, items: &mut Vec<Item>) -> Result<()> {
    let all = |columns: Vec<ScopeColumn>, here: Option<Place>, items: &mut Vec<Item>| {
        items.extend(columns.into_iter().map(|c| Item {
            expr: Expr::column(c.ordinal, c.column.ty),
            name: c.column.name,
            place: here,
            is_alias: false,
        }));
    };
    match item {
        SelectItem::UnnamedExpr(e) => {
            let expr = binder.bind(e)?;
            let (name, is_alias) = match e {
                ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_) | ast::Expr::CompoundFieldAccess { .. } => {
                    (column_name(e, &expr, binder), true)
                }
                other => (other.to_string(), false),
            };
            items.push(Item { expr, name, place: place(e), is_alias });
        }
        SelectItem::ExprWithAlias { expr, alias } => {
            let bound = binder.bind(expr)?;
            items.push(Item { expr: bound, name: alias.value.clone(), place: place(expr), is_alias: true });
        }
        SelectItem::ExprWithAliases { expr, .. } => {
            return Err(unsupported("several names for one value", place(expr)));
        }
        SelectItem::Wildcard(options) => {
            let here = wildcard_options(options)?;
            if binder.scope.relations.is_empty() {
                return Err(at(Error::name("\"*\" needs a FROM"), here));
            }
            let columns = binder.scope.all().cloned().collect();
            all(columns, here, items);
        }
        SelectItem::QualifiedWildcard(kind, options) => {
            let here = wildcard_options(options)?;
            let SelectItemQualifiedWildcardKind::ObjectName(name) = kind else {
                return Err(unsupported("\".*\" behind a value", here));
            };
            let [ast::ObjectNamePart::Identifier(relation)] = name.0.as_slice() else {
                return Err(unsupported(format!("\"{name}.*\""), place(name)));
            };
            let found = binder.scope.relation(relation)?.ok_or_else(|| binder.scope.no_such_relation(relation))?;
            all(found.columns.clone(), place(name), items);
        }
    }
    Ok(())
}

/// The column's name as declared, not as written here.
fn column_name(e: &ast::Expr, bound: &Expr, binder: &ExprBinder) -> String {
    if let Expr::Column { ordinal, .. } = bound
        && let Some(c) = binder.scope.relations.iter().flat_map(|r| &r.columns).find(|c| c.ordinal == *ordinal)
    {
        return c.column.name.clone();
    }
    match e {
        ast::Expr::Identifier(i) => i.value.clone(),
        ast::Expr::CompoundIdentifier(parts) => parts.last().map_or(String::new(), |i| i.value.clone()),
        other => other.to_string(),
    }
}

fn wildcard_options(o: &ast::WildcardAdditionalOptions) -> Result<Option<Place>> {
    let ast::WildcardAdditionalOptions {
        wildcard_token,
        opt_ilike,
        opt_exclude,
        opt_except,
        opt_replace,
        opt_rename,
        opt_alias,
    } = o;
    let here = place_of_span(wildcard_token.0.span);
    refuse(opt_ilike.is_some(), "ILIKE behind \"*\"", here)?;
    refuse(opt_exclude.is_some(), "EXCLUDE behind \"*\"", here)?;
    refuse(opt_except.is_some(), "EXCEPT behind \"*\"", here)?;
    refuse(opt_replace.is_some(), "REPLACE behind \"*\"", here)?;
    refuse(opt_rename.is_some(), "RENAME behind \"*\"", here)?;
    refuse(opt_alias.is_some(), "an alias behind \"*\"", here)?;
    Ok(here)
}

/// Expressions over the FROM clause, rewritten over groups and their calls.
struct Grouped<'a> {
    group: &'a [Expr],
    from: &'a [thalweg_core::Column],
    /// Of the aggregate: the group's, then the calls'.
    columns: &'a [thalweg_core::Column],
    places: &'a [(usize, Place)],
}

impl Grouped<'_> {
    fn rewrite(&self, e: &Expr) -> Result<Expr> {
        if let Some(i) = self.group.iter().position(|g| g == e) {
            return Ok(Expr::column(i, e.ty().clone()));
        }
        let all = |exprs: &[Expr]| exprs.iter().map(|e| self.rewrite(e)).collect::<Result<Vec<_>>>();
        let boxed = |e: &Expr| self.rewrite(e).map(Box::new);
        Ok(match e {
            Expr::Column { ordinal, ty } if *ordinal >= WINDOWS => Expr::column(*ordinal, ty.clone()),
            Expr::Column { ordinal, ty } if *ordinal >= AGGREGATES => {
                Expr::column(self.group.len() + ordinal - AGGREGATES, ty.clone())
            }
            Expr::Column { ordinal, .. } => {
                let here = self.places.iter().find(|(o, _)| o == ordinal).map(|(_, p)| *p);
                let message = format!(
                    "column \"{}\" is neither in GROUP BY nor within an aggregate function",
                    self.from[*ordinal].name
                );
                let note = if self.group.is_empty() {
                    "write it within an aggregate function, or add GROUP BY".to_owned()
                } else {
                    let names: Vec<&str> = self.columns[..self.group.len()].iter().map(|c| c.name.as_str()).collect();
                    format!("GROUP BY has {}", names.join(", "))
                };
                return Err(at(Error::name(message), here).note(note));
            }
            Expr::Literal(_) => e.clone(),
            Expr::Call { function, args, ty } => Expr::call(function.clone(), all(args)?, ty.clone()),
            Expr::Cast { expr, ty, safe } => Expr::Cast { expr: boxed(expr)?, ty: ty.clone(), safe: *safe },
            Expr::Case { operand, branches, otherwise, ty } => Expr::Case {
                operand: operand.as_deref().map(boxed).transpose()?,
                branches: branches
                    .iter()
                    .map(|(w, t)| Ok((self.rewrite(w)?, self.rewrite(t)?)))
                    .collect::<Result<_>>()?,
                otherwise: otherwise.as_deref().map(boxed).transpose()?,
                ty: ty.clone(),
            },
        })
    }
}
