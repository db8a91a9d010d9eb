//! Expressions: sqlparser's tree → typed expressions over the columns of a scope.

use sqlparser::ast::{self, AccessExpr, BinaryOperator, Subscript, UnaryOperator, Value};
use thalweg_core::types::ElementType;
use thalweg_core::{Column, Error, Place, Result, SqlType};
use thalweg_functions::types::{Purpose, common_type};
use thalweg_graph::{Expr, Literal, LiteralValue};

use super::coerce::{self, Zone};
use super::{Binder, interval};
use crate::literal;
use crate::refuse::{self, at, place, place_of_span, unsupported};
use crate::resolve::{Scope, field};
use crate::sql::sql_type_of;

/// Expressions within expressions at most.
const NESTING_MAX: usize = 200;

/// Ordinals from here on stand for the aggregate calls of a SELECT while it is bound …
pub(crate) const AGGREGATES: usize = 1 << 40;
/// … and from here on for its window functions.
pub(crate) const WINDOWS: usize = 1 << 41;

/// Which part of a statement an expression stands in: decides which functions may be there, and names it in errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clause {
    Select,
    Where,
    On,
    GroupBy,
    Having,
    Qualify,
    OrderBy,
    Values,
    Computed,
    Update,
    Limit,
}

impl Clause {
    pub fn name(self) -> &'static str {
        match self {
            Clause::Select => "SELECT",
            Clause::Where => "WHERE",
            Clause::On => "ON",
            Clause::GroupBy => "GROUP BY",
            Clause::Having => "HAVING",
            Clause::Qualify => "QUALIFY",
            Clause::OrderBy => "ORDER BY",
            Clause::Values => "VALUES",
            Clause::Computed => "a table's definition",
            Clause::Update => "SET",
            Clause::Limit => "LIMIT",
        }
    }

    pub fn allows_aggregates(self) -> bool {
        matches!(self, Clause::Select | Clause::Having | Clause::Qualify | Clause::OrderBy)
    }

    pub fn allows_windows(self) -> bool {
        matches!(self, Clause::Select | Clause::Qualify | Clause::OrderBy)
    }
}

/// An aggregate call over expressions of the FROM clause.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BoundAggregate {
    pub function: thalweg_graph::ops::aggregate::AggregateFunction,
    pub arg: Option<Expr>,
    pub distinct: bool,
    pub filter: Option<Expr>,
    pub name: String,
    pub ty: SqlType,
}

/// `ROW_NUMBER() OVER (…)`.
#[derive(Debug, Clone)]
pub(crate) struct BoundWindow {
    pub partition: Vec<Expr>,
    pub order: Vec<BoundSort>,
    pub place: Option<Place>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BoundSort {
    pub expr: Expr,
    pub descending: bool,
    pub nulls_first: bool,
}

/// Binds the expressions of one SELECT (or of one clause outside of a SELECT).
pub(crate) struct ExprBinder<'s, 'a> {
    pub binder: &'s Binder<'a>,
    pub scope: &'s Scope,
    pub clause: Clause,
    /// Names that stand for expressions where no column has them: aliases of the SELECT list.
    pub aliases: Vec<(String, Expr)>,
    /// `WINDOW w AS (…)`.
    pub named_windows: Vec<(ast::Ident, ast::WindowSpec)>,
    pub aggregates: Vec<BoundAggregate>,
    pub windows: Vec<BoundWindow>,
    /// Where columns were named, for errors that are found later.
    pub column_places: Vec<(usize, Place)>,
    pub(super) within_aggregate: bool,
    pub(super) within_window: bool,
    depth: usize,
}

impl<'s, 'a> ExprBinder<'s, 'a> {
    pub fn new(binder: &'s Binder<'a>, scope: &'s Scope, clause: Clause) -> Self {
        ExprBinder {
            binder,
            scope,
            clause,
            aliases: vec![],
            named_windows: vec![],
            aggregates: vec![],
            windows: vec![],
            column_places: vec![],
            within_aggregate: false,
            within_window: false,
            depth: 0,
        }
    }

    pub fn zone(&self) -> Zone<'a> {
        Zone(&self.binder.settings.time_zone)
    }

    /// A condition of WHERE, ON, HAVING, FILTER or WHEN.
    pub fn condition(&mut self, e: &ast::Expr, what: &str) -> Result<Expr> {
        let bound = self.bind(e)?;
        coerce::condition(bound, what, self.zone()).map_err(|err| at(err, place(e)))
    }

    /// The typed expression; an error has the place of the smallest part that it is about.
    pub fn bind(&mut self, e: &ast::Expr) -> Result<Expr> {
        self.depth += 1;
        let bound = if self.depth > NESTING_MAX {
            Err(Error::unsupported(format!("the expression is nested more than {NESTING_MAX} deep")))
        } else {
            self.bind_here(e)
        };
        self.depth -= 1;
        bound.map_err(|err| at(err, place(e)))
    }

    fn bind_all(&mut self, exprs: &[ast::Expr]) -> Result<Vec<Expr>> {
        exprs.iter().map(|e| self.bind(e)).collect()
    }

    fn bind_here(&mut self, e: &ast::Expr) -> Result<Expr> {
        let zone = self.zone();
        match e {
            ast::Expr::Nested(inner) => self.bind(inner),
            ast::Expr::Value(v) => value(&v.value),
            ast::Expr::Identifier(i) => self.name(std::slice::from_ref(i)),
            ast::Expr::CompoundIdentifier(parts) => self.name(parts),
            ast::Expr::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain),
            ast::Expr::TypedString(t) => typed_string(t),
            ast::Expr::Interval(i) => interval::bind(i),
            ast::Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, .. } => self.logic(e),
            ast::Expr::BinaryOp { left, op, right } => {
                let (l, r) = (self.bind(left)?, self.bind(right)?);
                self.binary(op, l, r)
            }
            ast::Expr::UnaryOp { op, expr } => self.unary(op, expr),
            ast::Expr::IsNull(x) => self.is("is_null", x),
            ast::Expr::IsNotNull(x) => self.is("is_not_null", x),
            ast::Expr::IsTrue(x) => self.is_truth("is_true", x),
            ast::Expr::IsNotTrue(x) => self.is_truth("is_not_true", x),
            ast::Expr::IsFalse(x) => self.is_truth("is_false", x),
            ast::Expr::IsNotFalse(x) => self.is_truth("is_not_false", x),
            ast::Expr::IsUnknown(x) => self.is_truth("is_unknown", x),
            ast::Expr::IsNotUnknown(x) => self.is_truth("is_not_unknown", x),
            ast::Expr::IsDistinctFrom(l, r) => {
                let (l, r) = (self.bind(l)?, self.bind(r)?);
                coerce::compare("is_distinct_from", l, r, zone)
            }
            ast::Expr::IsNotDistinctFrom(l, r) => {
                let (l, r) = (self.bind(l)?, self.bind(r)?);
                coerce::compare("is_not_distinct_from", l, r, zone)
            }
            ast::Expr::InList { expr, list, negated } => self.in_list(expr, list, *negated),
            ast::Expr::Between { expr, negated, low, high } => self.between(expr, low, high, *negated),
            ast::Expr::Like { negated, any, expr, pattern, escape_char } => {
                refuse::refuse(*any, "LIKE ANY", place(e))?;
                let name = if *negated { "not_like" } else { "like" };
                self.like(name, expr, pattern, escape_char.as_ref().map(|v| &v.value))
            }
            ast::Expr::ILike { negated, any, expr, pattern, escape_char } => {
                refuse::refuse(*any, "ILIKE ANY", place(e))?;
                let name = if *negated { "not_ilike" } else { "ilike" };
                self.like(name, expr, pattern, escape_char.as_ref().map(|v| &v.value))
            }
            ast::Expr::RLike { .. } => Err(unsupported("RLIKE", place(e)).note("REGEXP(value, pattern) does the same")),
            ast::Expr::Cast { kind, expr, data_type, array, format } => {
                refuse::refuse(*array, "CAST … ARRAY", place(e))?;
                refuse::refuse(format.is_some(), "FORMAT in CAST", place(e))?;
                let safe = match kind {
                    ast::CastKind::Cast => false,
                    ast::CastKind::TryCast => true,
                    ast::CastKind::SafeCast => return Err(unsupported("SAFE_CAST", place(e)).note("write TRY_CAST")),
                    ast::CastKind::DoubleColon => {
                        return Err(unsupported("the operator ::", place(e)).note("write CAST(value AS type)"));
                    }
                };
                let ty = sql_type_of(data_type)?;
                let inner = self.bind(expr)?;
                cast(inner, &ty, safe, zone)
            }
            ast::Expr::Case { case_token: _, end_token: _, operand, conditions, else_result } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref())
            }
            ast::Expr::Extract { field, syntax: _, expr } => {
                let x = self.bind(expr)?;
                self.call("extract", vec![literal::string(field.to_string().to_uppercase()), x])
            }
            ast::Expr::Ceil { expr, field } => self.round("ceil", expr, field),
            ast::Expr::Floor { expr, field } => self.round("floor", expr, field),
            ast::Expr::Position { expr, r#in } => {
                let (what, within) = (self.bind(expr)?, self.bind(r#in)?);
                self.call("position", vec![what, within])
            }
            ast::Expr::Substring { expr, substring_from, substring_for, special: _, shorthand: _ } => {
                let mut args = vec![self.bind(expr)?];
                args.push(match substring_from {
                    Some(from) => self.bind(from)?,
                    None => literal::integer(1, SqlType::Int),
                });
                if let Some(length) = substring_for {
                    args.push(self.bind(length)?);
                }
                self.call("substring", args)
            }
            ast::Expr::Trim { trim_where, trim_what, expr, trim_characters } => {
                let name = match trim_where {
                    None | Some(ast::TrimWhereField::Both) => "btrim",
                    Some(ast::TrimWhereField::Leading) => "ltrim",
                    Some(ast::TrimWhereField::Trailing) => "rtrim",
                };
                let mut args = vec![self.bind(expr)?];
                if let Some(what) = trim_what {
                    args.push(self.bind(what)?);
                }
                args.extend(self.bind_all(trim_characters.as_deref().unwrap_or_default())?);
                self.call(name, args)
            }
            ast::Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                let mut args = vec![self.bind(expr)?, self.bind(overlay_what)?, self.bind(overlay_from)?];
                if let Some(length) = overlay_for {
                    args.push(self.bind(length)?);
                }
                self.call("overlay", args)
            }
            ast::Expr::Function(f) => self.function(f),
            ast::Expr::Array(ast::Array { elem, named: _ }) => {
                let elements = self.bind_all(elem)?;
                let (elements, ty) = coerce::unite(elements, "the array", zone)?;
                let ty = SqlType::Array(Box::new(ElementType { ty, nullable: true }));
                Ok(Expr::call("make_array", elements, ty))
            }
            ast::Expr::Map(ast::Map { entries }) => self.map(entries),
            ast::Expr::Tuple(parts) => {
                let parts = self.bind_all(parts)?;
                Ok(row(parts))
            }
            ast::Expr::AtTimeZone { .. }
            | ast::Expr::InSubquery { .. }
            | ast::Expr::InUnnest { .. }
            | ast::Expr::Exists { .. }
            | ast::Expr::Subquery(_)
            | ast::Expr::AnyOp { .. }
            | ast::Expr::AllOp { .. }
            | ast::Expr::JsonAccess { .. }
            | ast::Expr::IsNormalized { .. }
            | ast::Expr::SimilarTo { .. }
            | ast::Expr::Convert { .. }
            | ast::Expr::Collate { .. }
            | ast::Expr::Prefixed { .. }
            | ast::Expr::GroupingSets(_)
            | ast::Expr::Cube(_)
            | ast::Expr::Rollup(_)
            | ast::Expr::Struct { .. }
            | ast::Expr::Named { .. }
            | ast::Expr::Dictionary(_)
            | ast::Expr::MatchAgainst { .. }
            | ast::Expr::Wildcard(_)
            | ast::Expr::QualifiedWildcard(..)
            | ast::Expr::OuterJoin(_)
            | ast::Expr::Prior(_)
            | ast::Expr::Lambda(_)
            | ast::Expr::MemberOf(_) => Err(refuse::expr(e)),
        }
    }

    fn name(&mut self, parts: &[ast::Ident]) -> Result<Expr> {
        // ORDER BY means the SELECT list first.
        if self.clause == Clause::OrderBy
            && !self.within_aggregate
            && !self.within_window
            && let Some(e) = self.alias(parts)
        {
            return Ok(e);
        }
        if let Some(e) = self.scope.column(parts)? {
            let mut root = &e;
            while let Expr::Call { args, .. } = root {
                root = &args[0];
            }
            if let (Expr::Column { ordinal, .. }, Some(p)) = (root, place_of_span(parts[parts.len() - 1].span)) {
                self.column_places.push((*ordinal, p));
            }
            return Ok(e);
        }
        if let Some(e) = self.alias(parts) {
            return Ok(e);
        }
        Err(self.scope.no_such_column(parts))
    }

    fn alias(&self, parts: &[ast::Ident]) -> Option<Expr> {
        use crate::names::{Lookup, look_up};
        let [name] = parts else { return None };
        match look_up(&name.value, self.aliases.iter().map(|(n, _)| n.as_str())) {
            Lookup::Found(i) => Some(self.aliases[i].1.clone()),
            _ => None,
        }
    }

    /// `a AND b AND …`: chains may be long, so they are not descended into one by one.
    fn logic(&mut self, e: &ast::Expr) -> Result<Expr> {
        let ast::Expr::BinaryOp { op, .. } = e else { return Err(Error::internal("no AND or OR")) };
        let mut operands = vec![];
        let mut rest = e;
        while let ast::Expr::BinaryOp { left, op: other, right } = rest
            && other == op
        {
            operands.push(&**right);
            rest = left;
        }
        operands.push(rest);
        let name = if *op == BinaryOperator::And { "and" } else { "or" };
        let upper = name.to_uppercase();
        let mut all = None;
        for operand in operands.into_iter().rev() {
            let bound = self.condition(operand, &format!("an operand of {upper}"))?;
            all = Some(match all {
                None => bound,
                Some(before) => Expr::call(name, vec![before, bound], SqlType::Boolean),
            });
        }
        all.ok_or_else(|| Error::internal("AND without operands"))
    }

    fn binary(&self, op: &BinaryOperator, l: Expr, r: Expr) -> Result<Expr> {
        use BinaryOperator::*;
        let zone = self.zone();
        match op {
            Eq => coerce::compare("=", l, r, zone),
            NotEq => coerce::compare("<>", l, r, zone),
            Lt => coerce::compare("<", l, r, zone),
            LtEq => coerce::compare("<=", l, r, zone),
            Gt => coerce::compare(">", l, r, zone),
            GtEq => coerce::compare(">=", l, r, zone),
            Plus => coerce::arithmetic("+", l, r, zone),
            Minus => coerce::arithmetic("-", l, r, zone),
            Multiply => coerce::arithmetic("*", l, r, zone),
            Divide => coerce::arithmetic("/", l, r, zone),
            Modulo => coerce::arithmetic("%", l, r, zone),
            StringConcat => coerce::concat(l, r, zone),
            other => Err(Error::unsupported(format!("the operator {other} is not supported yet"))),
        }
    }

    fn unary(&mut self, op: &UnaryOperator, e: &ast::Expr) -> Result<Expr> {
        match op {
            UnaryOperator::Minus => {
                // -9223372036854775808 is a BIGINT though 9223372036854775808 is none.
                if let ast::Expr::Value(v) = e
                    && let Value::Number(n, _) = &v.value
                    && let Some(l) = literal::number(&format!("-{n}"))
                {
                    return Ok(Expr::Literal(l));
                }
                let inner = self.bind(e)?;
                coerce::negative(inner)
            }
            UnaryOperator::Plus => {
                let inner = self.bind(e)?;
                if inner.ty().is_numeric() || matches!(inner.ty(), SqlType::Interval | SqlType::Null) {
                    return Ok(inner);
                }
                Err(Error::type_(format!("+ is for numbers, not for {}", inner.ty())))
            }
            UnaryOperator::Not => {
                let inner = self.condition(e, "the operand of NOT")?;
                Ok(Expr::call("not", vec![inner], SqlType::Boolean))
            }
            other => Err(Error::unsupported(format!("the operator {other} is not supported yet"))),
        }
    }

    fn is(&mut self, name: &str, e: &ast::Expr) -> Result<Expr> {
        let inner = self.bind(e)?;
        Ok(Expr::call(name, vec![inner], SqlType::Boolean))
    }

    fn is_truth(&mut self, name: &str, e: &ast::Expr) -> Result<Expr> {
        let inner = self.condition(e, &format!("the operand of {}", name.replace('_', " ").to_uppercase()))?;
        Ok(Expr::call(name, vec![inner], SqlType::Boolean))
    }

    fn in_list(&mut self, e: &ast::Expr, list: &[ast::Expr], negated: bool) -> Result<Expr> {
        let zone = self.zone();
        let mut needle = self.bind(e)?;
        let mut among = vec![];
        for item in list {
            let bound = self.bind(item)?;
            // The needle's type may grow with every item.
            let (n, b) = coerce::comparable(needle, bound, zone).map_err(|err| at(err, place(item)))?;
            needle = n;
            among.push(b);
        }
        let ty = needle.ty().clone();
        let mut args = vec![needle];
        args.extend(among.into_iter().map(|b| coerce::as_comparable(b, &ty, zone)));
        Ok(Expr::call(if negated { "not_in" } else { "in" }, args, SqlType::Boolean))
    }

    fn between(&mut self, e: &ast::Expr, low: &ast::Expr, high: &ast::Expr, negated: bool) -> Result<Expr> {
        let zone = self.zone();
        let (x, low, high) = (self.bind(e)?, self.bind(low)?, self.bind(high)?);
        if x.is_volatile() {
            return Err(unsupported("BETWEEN of a value that changes from call to call", place(e))
                .note("compute the value in a subquery first"));
        }
        let above = coerce::compare(">=", x.clone(), low, zone)?;
        let below = coerce::compare("<=", x, high, zone)?;
        let both = Expr::call("and", vec![above, below], SqlType::Boolean);
        Ok(if negated { Expr::call("not", vec![both], SqlType::Boolean) } else { both })
    }

    fn like(&mut self, name: &str, e: &ast::Expr, pattern: &ast::Expr, escape: Option<&Value>) -> Result<Expr> {
        let mut args = vec![];
        for part in [e, pattern] {
            let bound = self.bind(part)?;
            if !bound.ty().is_string() && *bound.ty() != SqlType::Null {
                return Err(at(Error::type_(format!("LIKE is for strings, not for {}", bound.ty())), place(part)));
            }
            args.push(coerce::cast(bound, &SqlType::STRING, self.zone()));
        }
        match escape {
            None => {}
            Some(Value::SingleQuotedString(c)) if c.chars().count() == 1 => args.push(literal::string(c)),
            Some(other) => return Err(Error::type_(format!("ESCAPE needs one character, not {other}"))),
        }
        Ok(Expr::call(name, args, SqlType::Boolean))
    }

    fn case(
        &mut self,
        operand: Option<&ast::Expr>,
        conditions: &[ast::CaseWhen],
        else_result: Option<&ast::Expr>,
    ) -> Result<Expr> {
        let zone = self.zone();
        let mut operand = operand.map(|o| self.bind(o)).transpose()?;
        let mut whens = vec![];
        let mut results = vec![];
        for ast::CaseWhen { condition, result } in conditions {
            whens.push(match &mut operand {
                None => self.condition(condition, "the condition of WHEN")?,
                Some(o) => {
                    let when = self.bind(condition)?;
                    let (wider, when) =
                        coerce::comparable(o.clone(), when, zone).map_err(|e| at(e, place(condition)))?;
                    *o = wider;
                    when
                }
            });
            results.push(self.bind(result)?);
        }
        if let Some(o) = &operand {
            let ty = o.ty().clone();
            whens = whens.into_iter().map(|w| coerce::as_comparable(w, &ty, zone)).collect();
        }
        let has_else = else_result.is_some();
        if let Some(e) = else_result {
            results.push(self.bind(e)?);
        }
        let (mut results, ty) = coerce::unite(results, "CASE", zone)?;
        let otherwise = if has_else { results.pop().map(Box::new) } else { None };
        let branches = whens.into_iter().zip(results).collect();
        Ok(Expr::Case { operand: operand.map(Box::new), branches, otherwise, ty })
    }

    fn round(&mut self, name: &str, e: &ast::Expr, field: &ast::CeilFloorKind) -> Result<Expr> {
        let mut args = vec![self.bind(e)?];
        match field {
            ast::CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime) => {}
            ast::CeilFloorKind::DateTimeField(unit) => {
                args.push(literal::string(unit.to_string().to_uppercase()));
                return self.call(&format!("{name}_to"), args);
            }
            ast::CeilFloorKind::Scale(scale) => args.push(value(&scale.value)?),
        }
        self.call(name, args)
    }

    fn map(&mut self, entries: &[ast::MapEntry]) -> Result<Expr> {
        let zone = self.zone();
        let (mut keys, mut values) = (vec![], vec![]);
        for ast::MapEntry { key, value } in entries {
            keys.push(self.bind(key)?);
            values.push(self.bind(value)?);
        }
        let (keys, key) = coerce::unite(keys, "the keys of MAP", zone)?;
        let (values, value) = coerce::unite(values, "the values of MAP", zone)?;
        let array = |parts: Vec<Expr>, ty: &SqlType| {
            let ty = SqlType::Array(Box::new(ElementType { ty: ty.clone(), nullable: true }));
            Expr::call("make_array", parts, ty)
        };
        let (keys, values) = (array(keys, &key), array(values, &value));
        let ty = SqlType::Map(Box::new(key), Box::new(ElementType { ty: value, nullable: true }));
        Ok(Expr::call("map", vec![keys, values], ty))
    }

    fn access(&mut self, root: &ast::Expr, chain: &[AccessExpr]) -> Result<Expr> {
        let mut e = self.bind(root)?;
        for part in chain {
            e = match part {
                AccessExpr::Dot(ast::Expr::Identifier(name)) => field(e, name)?,
                AccessExpr::Dot(other) => return Err(unsupported(format!("\".{other}\""), place(other))),
                AccessExpr::Subscript(Subscript::Slice { .. }) => {
                    return Err(unsupported("a slice of an array", place(root)));
                }
                AccessExpr::Subscript(Subscript::Index { index }) => {
                    let key = self.bind(index)?;
                    self.element(e, key).map_err(|err| at(err, place(index)))?
                }
            };
        }
        Ok(e)
    }

    /// `array[i]` (from 1; NULL where there is none), `map[key]`.
    fn element(&self, e: Expr, key: Expr) -> Result<Expr> {
        match e.ty().clone() {
            SqlType::Array(element) => {
                if !key.ty().is_integer() {
                    return Err(Error::type_(format!("an array's index must be a whole number, it is {}", key.ty())));
                }
                let key = coerce::cast(key, &SqlType::BigInt, self.zone());
                Ok(Expr::call("array_element", vec![e, key], element.ty))
            }
            SqlType::Map(of, value) => {
                let key_type = key.ty().clone();
                if common_type(&key_type, &of, Purpose::Compare).as_ref() != Some(&*of) {
                    return Err(Error::type_(format!("the map's keys are {of}, not {key_type}")));
                }
                let key = coerce::cast(key, &of, self.zone());
                let found = SqlType::Array(value.clone());
                let values = Expr::call("map_extract", vec![e, key], found);
                Ok(Expr::call("array_element", vec![values, literal::integer(1, SqlType::BigInt)], value.ty))
            }
            other => Err(Error::type_(format!("[…] is for ARRAY and MAP, not for {other}"))),
        }
    }
}

/// A ROW of values without names: they are called as Flink does.
pub(crate) fn row(parts: Vec<Expr>) -> Expr {
    let mut args = vec![];
    let mut fields = vec![];
    for (i, e) in parts.into_iter().enumerate() {
        let name = format!("EXPR${i}");
        fields.push(Column::new(&name, e.ty().clone(), true));
        args.push(literal::string(name));
        args.push(e);
    }
    Expr::call("named_struct", args, SqlType::Row(fields))
}

/// An explicit CAST.
fn cast(e: Expr, ty: &SqlType, safe: bool, zone: Zone) -> Result<Expr> {
    if !thalweg_functions::cast::is_supported(e.ty(), ty) {
        return Err(Error::type_(format!("there is no CAST from {} to {ty}", e.ty())));
    }
    if e.ty() == ty {
        return Ok(e);
    }
    if literal::is_null(&e) {
        return Ok(literal::null(ty.clone()));
    }
    // What a literal becomes is known, if it becomes anything.
    let folded = coerce::cast(e.clone(), ty, zone);
    Ok(if matches!(folded, Expr::Literal(_)) { folded } else { coerce::to_type(e, ty, safe, zone) })
}

fn value(v: &Value) -> Result<Expr> {
    Ok(match v {
        Value::Number(n, false) => Expr::Literal(literal::number(n).ok_or_else(|| {
            if n.contains(['e', 'E']) {
                return Error::type_(format!("the number {n} is out of range for DOUBLE"))
                    .note("the greatest DOUBLE is about 1.8e308");
            }
            Error::type_(format!("the number {n} has more than 76 digits"))
        })?),
        Value::SingleQuotedString(s) => literal::string(s),
        Value::Boolean(b) => literal::boolean(*b),
        Value::Null => literal::null(SqlType::Null),
        Value::HexStringLiteral(digits) => {
            let bytes = (0..digits.len() / 2).map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16));
            let bytes = bytes.collect::<Result<Vec<u8>, _>>();
            let bytes = bytes.map_err(|_| Error::syntax(format!("X'{digits}' is not in hexadecimal digits")))?;
            Expr::Literal(Literal { ty: SqlType::BYTES, value: LiteralValue::Bytes(bytes) })
        }
        other => return Err(Error::unsupported(format!("the literal {other} is not supported yet"))),
    })
}

/// `DATE '2020-01-01'`, `TIME '…'`, `TIMESTAMP '…'`: as many digits behind the second as are written.
fn typed_string(t: &ast::TypedString) -> Result<Expr> {
    let ast::TypedString { data_type, value, uses_odbc_syntax: _ } = t;
    let Value::SingleQuotedString(text) = &value.value else {
        return Err(Error::syntax(format!("{data_type} needs a string")));
    };
    let digits = text.rsplit_once('.').map_or(0, |(_, fraction)| fraction.len().min(9)) as u8;
    let ty = match sql_type_of(data_type)? {
        SqlType::Time(_) => SqlType::Time(digits),
        SqlType::Timestamp(_) => SqlType::Timestamp(digits),
        other => other,
    };
    let l = Literal { ty: SqlType::STRING, value: LiteralValue::String(text.clone()) };
    literal::cast(&l, &ty).map(Expr::Literal).ok_or_else(|| {
        let name = data_type.to_string();
        at(Error::type_(format!("'{text}' is not a {name}")), place_of_span(value.span))
    })
}
