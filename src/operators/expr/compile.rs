//! Graph expression → physical expression. Every node gives the Arrow type of its SQL type; where operands differ they
//! are cast to what both fit.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, IntervalMonthDayNanoArray, ListArray,
    MapArray, PrimitiveArray, StringArray, StructArray, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::concat;
use arrow::datatypes::*;
use datafusion_common::ScalarValue;
use datafusion_expr::Operator;
use datafusion_expr::type_coercion::functions::fields_with_udf;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{
    BinaryExpr, CaseExpr, Column, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NegativeExpr, NotExpr, in_list,
};
use thalweg_core::{Error, Result, SqlType};
use thalweg_functions::cast::is_supported;
use thalweg_functions::function::to_error;
use thalweg_functions::registry::registry;
use thalweg_functions::types::{Purpose, common_type};
use thalweg_graph::{Expr, Literal as GraphLiteral, LiteralValue};

use super::arithmetic::Op;
use super::compare::{self, Comparison};
use super::native::{CallFields, Kind, Native, rewrite_pattern};

type Node = Arc<dyn PhysicalExpr>;

/// Compiles over the columns of one input.
pub struct Compiler {
    schema: Schema,
}

/// A compiled expression with its SQL type.
struct Typed {
    node: Node,
    ty: SqlType,
}

impl Compiler {
    pub fn new(input: &[SqlType]) -> Self {
        let fields = input.iter().enumerate().map(|(i, ty)| Field::new(format!("c{i}"), ty.to_arrow(), true));
        Compiler { schema: Schema::new(fields.collect::<Vec<_>>()) }
    }

    /// # Errors
    /// An unknown function, arguments that it does not take, a cast that there is not, an ordinal that the input
    /// does not have.
    pub fn compile(&self, expr: &Expr) -> Result<Node> {
        Ok(self.typed(expr)?.node)
    }

    fn typed(&self, expr: &Expr) -> Result<Typed> {
        Ok(Typed { node: self.node(expr)?, ty: expr.ty().clone() })
    }

    fn node(&self, expr: &Expr) -> Result<Node> {
        match expr {
            Expr::Column { ordinal, ty } => {
                let field = self
                    .schema
                    .fields()
                    .get(*ordinal)
                    .ok_or_else(|| Error::internal(format!("no column {ordinal} in the input")))?;
                let column: Node = Arc::new(Column::new(field.name(), *ordinal));
                self.layout(column, field.data_type(), &ty.to_arrow())
            }
            Expr::Literal(l) => Ok(literal(l)?),
            Expr::Cast { expr, ty, safe } => {
                let of = self.typed(expr)?;
                if !is_supported(&of.ty, ty) {
                    return Err(Error::type_(format!("there is no CAST from {} to {ty}", of.ty)));
                }
                Ok(native(Kind::Cast { from: of.ty, to: ty.clone(), safe: *safe }, vec![of.node], ty.to_arrow()))
            }
            Expr::Case { operand, branches, otherwise, ty } => {
                self.case(operand.as_deref(), branches, otherwise.as_deref(), ty)
            }
            Expr::Call { function, args, ty } => self.call(function, args, ty),
        }
    }

    fn case(
        &self,
        operand: Option<&Expr>,
        branches: &[(Expr, Expr)],
        otherwise: Option<&Expr>,
        ty: &SqlType,
    ) -> Result<Node> {
        let operand = operand.map(|o| self.typed(o)).transpose()?;
        let whens = branches.iter().map(|(w, _)| self.typed(w)).collect::<Result<Vec<_>>>()?;
        let (operand, whens) = match operand {
            None => (None, whens.into_iter().map(|w| self.cast(w, &SqlType::Boolean)).collect::<Result<Vec<_>>>()?),
            Some(o) => {
                let mut all = vec![o];
                all.extend(whens);
                let mut all = self.comparable(all)?.into_iter();
                (all.next(), all.collect())
            }
        };
        let thens = branches.iter().map(|(_, t)| self.cast(self.typed(t)?, ty)).collect::<Result<Vec<_>>>()?;
        let otherwise = otherwise.map(|e| self.cast(self.typed(e)?, ty)).transpose()?;
        let case = CaseExpr::try_new(operand, whens.into_iter().zip(thens).collect(), otherwise).map_err(to_error)?;
        let node: Node = Arc::new(case);
        let gives = self.arrow_type(&node)?;
        self.layout(node, &gives, &ty.to_arrow())
    }

    fn call(&self, function: &str, args: &[Expr], ty: &SqlType) -> Result<Node> {
        let mut of = args.iter().map(|a| self.typed(a)).collect::<Result<Vec<_>>>()?;
        let arity = |n: usize| {
            if of.len() == n { Ok(()) } else { Err(Error::internal(format!("{function} with {} arguments", of.len()))) }
        };
        let node: Node = match function {
            "and" | "or" => {
                let kind = || if function == "and" { Kind::And } else { Kind::Or };
                let mut all = of.into_iter().map(|a| self.cast(a, &SqlType::Boolean));
                let first = all.next().ok_or_else(|| Error::internal(format!("{function} without arguments")))??;
                all.try_fold(first, |l, r| Ok::<_, Error>(native(kind(), vec![l, r?], DataType::Boolean)))?
            }
            "not" => {
                arity(1)?;
                Arc::new(NotExpr::new(self.cast(of.remove(0), &SqlType::Boolean)?))
            }
            "is_null" | "is_unknown" => {
                arity(1)?;
                Arc::new(IsNullExpr::new(of.remove(0).node))
            }
            "is_not_null" | "is_not_unknown" => {
                arity(1)?;
                Arc::new(IsNotNullExpr::new(of.remove(0).node))
            }
            "is_true" | "is_not_true" | "is_false" | "is_not_false" => {
                arity(1)?;
                let truth = Arc::new(Literal::new(ScalarValue::Boolean(Some(function.ends_with("true")))));
                let op = if function.contains("not") { Operator::IsDistinctFrom } else { Operator::IsNotDistinctFrom };
                Arc::new(BinaryExpr::new(self.cast(of.remove(0), &SqlType::Boolean)?, op, truth))
            }
            "=" | "<>" | "!=" | "<" | "<=" | ">" | ">=" | "is_distinct_from" | "is_not_distinct_from" => {
                arity(2)?;
                let op = match function {
                    "=" => Operator::Eq,
                    "<" => Operator::Lt,
                    "<=" => Operator::LtEq,
                    ">" => Operator::Gt,
                    ">=" => Operator::GtEq,
                    "is_distinct_from" => Operator::IsDistinctFrom,
                    "is_not_distinct_from" => Operator::IsNotDistinctFrom,
                    _ => Operator::NotEq,
                };
                self.binary(op, of)?
            }
            "in" | "not_in" => {
                let mut all = self.comparable(of)?;
                if all.is_empty() {
                    return Err(Error::internal("IN without a list"));
                }
                let first = all.remove(0);
                in_list(first, all, &(function == "not_in"), &self.schema).map_err(to_error)?
            }
            "+" | "-" | "*" | "/" | "%" | "mod" if of.len() == 2 => {
                let right = of.remove(1);
                let op = Op::of(function).ok_or_else(|| Error::internal(format!("no operator {function}")))?;
                return self.arithmetic(op, of.remove(0), right, ty);
            }
            "negative" => {
                arity(1)?;
                return self.negative(of.remove(0), ty);
            }
            "||" if of.iter().all(|a| {
                a.ty.is_string() || !matches!(a.ty, SqlType::Array(_) | SqlType::VarBinary(_) | SqlType::Binary(_))
            }) =>
            {
                arity(2)?;
                let text = of.into_iter().map(|a| self.cast(a, &SqlType::STRING)).collect::<Result<Vec<_>>>()?;
                let [l, r] = pair(text)?;
                Arc::new(BinaryExpr::new(l, Operator::StringConcat, r))
            }
            "||" if of.iter().any(|a| matches!(a.ty, SqlType::Array(_))) => {
                return self.function("array_concat", of, ty);
            }
            "||" => return self.function("binary_concat", of, ty),
            "&" | "|" | "#" | "^" | "<<" | ">>" => {
                arity(2)?;
                let op = match function {
                    "&" => Operator::BitwiseAnd,
                    "|" => Operator::BitwiseOr,
                    "<<" => Operator::BitwiseShiftLeft,
                    ">>" => Operator::BitwiseShiftRight,
                    _ => Operator::BitwiseXor,
                };
                let both = of.into_iter().map(|a| self.cast(a, ty)).collect::<Result<Vec<_>>>()?;
                let [l, r] = pair(both)?;
                Arc::new(BinaryExpr::new(l, op, r))
            }
            "like" | "not_like" | "ilike" | "not_ilike" => {
                let escape = match args.get(2) {
                    None => None,
                    Some(Expr::Literal(GraphLiteral { value: LiteralValue::String(s), .. }))
                        if s.chars().count() == 1 =>
                    {
                        s.chars().next()
                    }
                    Some(_) => return Err(Error::type_("the ESCAPE of LIKE is one character, as a literal")),
                };
                if of.len() < 2 {
                    return Err(Error::internal("LIKE without a pattern"));
                }
                let pattern = match &args[1] {
                    Expr::Literal(GraphLiteral { value: LiteralValue::String(s), .. }) => {
                        Arc::new(Literal::new(ScalarValue::Utf8(Some(rewrite_pattern(s, escape)?)))) as Node
                    }
                    _ => {
                        let pattern = self.cast(of.remove(1), &SqlType::STRING)?;
                        native(Kind::LikePattern(escape), vec![pattern], DataType::Utf8)
                    }
                };
                let value = self.cast(of.remove(0), &SqlType::STRING)?;
                Arc::new(LikeExpr::new(function.starts_with("not"), function.ends_with("ilike"), value, pattern))
            }
            "~" | "~*" | "!~" | "!~*" => {
                arity(2)?;
                let op = match function {
                    "~" => Operator::RegexMatch,
                    "~*" => Operator::RegexIMatch,
                    "!~" => Operator::RegexNotMatch,
                    _ => Operator::RegexNotIMatch,
                };
                let text = of.into_iter().map(|a| self.cast(a, &SqlType::STRING)).collect::<Result<Vec<_>>>()?;
                let [l, r] = pair(text)?;
                Arc::new(BinaryExpr::new(l, op, r))
            }
            "coalesce" | "ifnull" | "nvl" => {
                let all = of.into_iter().map(|a| self.cast(a, ty)).collect::<Result<Vec<_>>>()?;
                if all.is_empty() {
                    return Err(Error::type_("COALESCE takes at least one argument"));
                }
                native(Kind::Coalesce, all, ty.to_arrow())
            }
            "if" if args.len() == 3 => {
                let branch = [(args[0].clone(), args[1].clone())];
                return self.case(None, &branch, Some(&args[2]), ty);
            }
            "nvl2" if args.len() == 3 => {
                let branch = [(Expr::call("is_not_null", vec![args[0].clone()], SqlType::Boolean), args[1].clone())];
                return self.case(None, &branch, Some(&args[2]), ty);
            }
            _ => return self.function(function, of, ty),
        };
        let gives = self.arrow_type(&node)?;
        self.layout(node, &gives, &ty.to_arrow())
    }

    /// A function of the registry; arguments are cast to what it takes.
    fn function(&self, name: &str, args: Vec<Typed>, ty: &SqlType) -> Result<Node> {
        let udf =
            registry().get(name).ok_or_else(|| Error::name(format!("there is no function {}", name.to_uppercase())))?;
        let fields: Vec<FieldRef> = args.iter().map(|a| Arc::new(Field::new("", a.ty.to_arrow(), true))).collect();
        let wanted = fields_with_udf(&fields, udf.as_ref())
            .map_err(|e| to_error(e).context(format_args!("{}", name.to_uppercase())))?;
        let mut children = vec![];
        for (arg, wanted) in args.into_iter().zip(&wanted) {
            let to = wanted.data_type();
            let from = arg.ty.to_arrow();
            let is_literal = arg.node.downcast_ref::<Literal>().map(|l| l.value().clone());
            let node = if from == *to {
                arg.node
            } else {
                match SqlType::from_arrow(to) {
                    Some(sql) if sql.to_arrow() == *to && is_supported(&arg.ty, &sql) => self.cast(arg, &sql)?,
                    _ => native(Kind::Layout, vec![arg.node], to.clone()),
                }
            };
            // A literal stays one: functions look at their constant arguments.
            children.push(match is_literal {
                Some(_) if node.downcast_ref::<Literal>().is_none() => constant(&node)?,
                _ => node,
            });
        }
        let call = CallFields::new(udf, &children, &self.schema)?;
        let gives = call.result().clone();
        let node = native(Kind::Call(udf.clone(), call), children, gives.clone());
        self.layout(node, &gives, &ty.to_arrow())
    }

    fn binary(&self, op: Operator, of: Vec<Typed>) -> Result<Node> {
        let native_op = match op {
            Operator::Eq => Some(Comparison::Eq),
            Operator::NotEq => Some(Comparison::NotEq),
            Operator::Lt => Some(Comparison::Lt),
            Operator::LtEq => Some(Comparison::LtEq),
            Operator::Gt => Some(Comparison::Gt),
            Operator::GtEq => Some(Comparison::GtEq),
            _ => None,
        };
        let (ty, of) = self.common(of)?;
        if let Some(op) = native_op
            && compare::is_native(&ty.to_arrow())
        {
            return Ok(native(Kind::Compare(op), of, DataType::Boolean));
        }
        let [l, r] = pair(self.plain(&ty, of)?)?;
        Ok(Arc::new(BinaryExpr::new(l, op, r)))
    }

    /// Operands of a comparison, cast to the type that all fit; floats so that Arrow's order is SQL's.
    fn comparable(&self, of: Vec<Typed>) -> Result<Vec<Node>> {
        let (ty, nodes) = self.common(of)?;
        self.plain(&ty, nodes)
    }

    /// Operands of a comparison, cast to the type that all fit.
    fn common(&self, of: Vec<Typed>) -> Result<(SqlType, Vec<Node>)> {
        let mut ty = SqlType::Null;
        for t in &of {
            ty = common_type(&ty, &t.ty, Purpose::Compare)
                .ok_or_else(|| Error::type_(format!("{ty} and {} cannot be compared; CAST one of them", t.ty)))?;
        }
        // Lengths do not matter for comparing; a cast to CHAR(n) would fill with blanks.
        if ty.is_string() {
            ty = SqlType::STRING;
        }
        let nodes = of.into_iter().map(|t| self.cast(t, &ty)).collect::<Result<_>>()?;
        Ok((ty, nodes))
    }

    fn plain(&self, ty: &SqlType, nodes: Vec<Node>) -> Result<Vec<Node>> {
        if !matches!(ty, SqlType::Float | SqlType::Double) {
            return Ok(nodes);
        }
        nodes
            .into_iter()
            .map(|node| {
                let plain = native(Kind::PlainFloat, vec![node.clone()], ty.to_arrow());
                // IN wants its list as literals.
                if node.downcast_ref::<Literal>().is_some() { constant(&plain) } else { Ok(plain) }
            })
            .collect()
    }

    fn arithmetic(&self, op: Op, l: Typed, r: Typed, ty: &SqlType) -> Result<Node> {
        use SqlType::*;
        let is_float = |t: &SqlType| matches!(t, Float | Double);
        let is_decimal = |t: &SqlType| matches!(t, Decimal { .. });
        let numeric = |t: &SqlType| t.is_numeric() || *t == Null;
        if numeric(&l.ty) && numeric(&r.ty) {
            // The type to compute in, then that of the result.
            let (of, result) = if is_float(&l.ty) || is_float(&r.ty) || is_float(ty) {
                let single = [&l.ty, &r.ty].into_iter().all(|t| *t == Float || *t == Null) && *ty == Float;
                let of = if single { Float } else { Double };
                (Some(of.clone()), of)
            } else if is_decimal(&l.ty) || is_decimal(&r.ty) || is_decimal(ty) {
                (None, if is_decimal(ty) { ty.clone() } else { Decimal { precision: 76, scale: 6 } })
            } else {
                let wider = |a: SqlType, b: &SqlType| if integer_width(b) > integer_width(&a) { b.clone() } else { a };
                let of = wider(wider(l.ty.clone(), &r.ty), ty);
                let of = if of == Null { BigInt } else { of };
                (Some(of.clone()), of)
            };
            let operand = |t: Typed| match &of {
                Some(of) => self.cast(t, of),
                // A decimal as it is; an integer as one.
                None if is_decimal(&t.ty) => Ok(t.node),
                None => {
                    let decimal = Decimal { precision: 19, scale: 0 };
                    self.cast(t, &decimal)
                }
            };
            let children = vec![operand(l)?, operand(r)?];
            let node = native(Kind::Arithmetic(op, result.clone()), children, result.to_arrow());
            return self.cast(Typed { node, ty: result }, ty);
        }
        // Dates, times and intervals.
        let (l, r) = match (&l.ty, &r.ty) {
            // DATE + INTERVAL of hours is a timestamp.
            (Date, Interval) if *ty != Date => (Typed { node: self.cast(l, ty)?, ty: ty.clone() }, r),
            (Interval, Date) if *ty != Date => (l, Typed { node: self.cast(r, ty)?, ty: ty.clone() }),
            (Date | Timestamp(_) | TimestampLtz(_), Date | Timestamp(_) | TimestampLtz(_))
                if l.ty != r.ty || *ty == Interval =>
            {
                let common = match common_type(&l.ty, &r.ty, Purpose::Compare) {
                    Some(Date) | None => Timestamp(6),
                    Some(t) => t,
                };
                let cast = |t: Typed| Ok::<_, Error>(Typed { node: self.cast(t, &common)?, ty: common.clone() });
                (cast(l)?, cast(r)?)
            }
            _ => (l, r),
        };
        let op = match op {
            Op::Add => Operator::Plus,
            Op::Sub => Operator::Minus,
            Op::Mul => Operator::Multiply,
            Op::Div => Operator::Divide,
            Op::Rem => Operator::Modulo,
        };
        let types = format!("{} and {}", l.ty, r.ty);
        let node: Node = Arc::new(BinaryExpr::new(l.node, op, r.node).with_fail_on_overflow(true));
        let gives = node.data_type(&self.schema).map_err(|_| Error::type_(format!("{op} does not take {types}")))?;
        self.layout(node, &gives, &ty.to_arrow())
    }

    fn negative(&self, of: Typed, ty: &SqlType) -> Result<Node> {
        match of.ty {
            SqlType::Float | SqlType::Double | SqlType::Interval | SqlType::Null => {
                let t = of.ty.clone();
                let node: Node = Arc::new(NegativeExpr::new(of.node));
                self.cast(Typed { node, ty: t }, ty)
            }
            ref t if t.is_numeric() => {
                let zero = GraphLiteral {
                    ty: t.clone(),
                    value: if t.is_integer() { LiteralValue::Integer(0) } else { LiteralValue::Decimal("0".into()) },
                };
                let zero = Typed { node: literal(&zero)?, ty: t.clone() };
                self.arithmetic(Op::Sub, zero, of, ty)
            }
            ref t => Err(Error::type_(format!("there is no negative of {t}"))),
        }
    }

    /// A cast, if one is needed. Literals stay literals.
    fn cast(&self, of: Typed, to: &SqlType) -> Result<Node> {
        if of.ty == *to || (of.ty.is_string() && *to == SqlType::STRING) {
            return Ok(of.node);
        }
        if !is_supported(&of.ty, to) {
            return Err(Error::type_(format!("{} does not convert to {to}", of.ty)));
        }
        let is_literal = of.node.downcast_ref::<Literal>().is_some();
        let kind = Kind::Cast { from: of.ty, to: to.clone(), safe: false };
        let node = native(kind, vec![of.node], to.to_arrow());
        // What fails stays where it is, so that the row that needs it fails.
        if is_literal && let Ok(folded) = constant(&node) {
            return Ok(folded);
        }
        Ok(node)
    }

    /// The same values in another layout (`Utf8View`, unsigned integers, nullability inside of lists).
    fn layout(&self, node: Node, from: &DataType, to: &DataType) -> Result<Node> {
        if from == to {
            return Ok(node);
        }
        if let (Some(f), Some(t)) = (SqlType::from_arrow(from), SqlType::from_arrow(to))
            && f.to_arrow() == *from
            && t.to_arrow() == *to
            && is_supported(&f, &t)
            && f != t
        {
            return Ok(native(Kind::Cast { from: f, to: t, safe: false }, vec![node], to.clone()));
        }
        if !arrow::compute::can_cast_types(from, to) {
            return Err(Error::type_(format!("{from} does not convert to {to}")));
        }
        Ok(native(Kind::Layout, vec![node], to.clone()))
    }

    fn arrow_type(&self, node: &Node) -> Result<DataType> {
        node.data_type(&self.schema).map_err(to_error)
    }
}

fn native(kind: Kind, children: Vec<Node>, ty: DataType) -> Node {
    Arc::new(Native { kind, children, ty })
}

fn pair(nodes: Vec<Node>) -> Result<[Node; 2]> {
    nodes.try_into().map_err(|n: Vec<Node>| Error::internal(format!("an operator of two with {} operands", n.len())))
}

fn integer_width(ty: &SqlType) -> u8 {
    match ty {
        SqlType::TinyInt => 1,
        SqlType::SmallInt => 2,
        SqlType::Int => 4,
        SqlType::BigInt => 8,
        _ => 0,
    }
}

/// The value of a node without columns, as a literal.
fn constant(node: &Node) -> Result<Node> {
    let empty = Arc::new(Schema::empty());
    let one = super::to_batch(empty, vec![], 1)?;
    let value = node.evaluate(&one).map_err(to_error)?.into_array(1).map_err(to_error)?;
    Ok(Arc::new(Literal::new(ScalarValue::try_from_array(&value, 0).map_err(to_error)?)))
}

fn literal(l: &GraphLiteral) -> Result<Node> {
    let array = literal_array(&l.value, &l.ty)?;
    Ok(Arc::new(Literal::new(ScalarValue::try_from_array(&array, 0).map_err(to_error)?)))
}

/// A literal as a column of one row.
pub fn literal_array(value: &LiteralValue, ty: &SqlType) -> Result<ArrayRef> {
    let bad = || Error::internal(format!("{value:?} is not a literal of type {ty}"));
    let arrow = ty.to_arrow();
    Ok(match (value, ty) {
        (LiteralValue::Null, _) => new_null_array(&arrow, 1),
        (LiteralValue::Boolean(b), SqlType::Boolean) => Arc::new(BooleanArray::from(vec![*b])),
        (LiteralValue::Integer(i), _) => {
            let wide: ArrayRef = Arc::new(PrimitiveArray::<Int64Type>::from(vec![*i]));
            match &arrow {
                DataType::Int64 => wide,
                DataType::Int8 | DataType::Int16 | DataType::Int32 => {
                    let options = arrow::compute::CastOptions { safe: false, ..Default::default() };
                    arrow::compute::cast_with_options(&wide, &arrow, &options)?
                }
                DataType::Date32 => {
                    Arc::new(PrimitiveArray::<Date32Type>::from(vec![i32::try_from(*i).map_err(|_| bad())?]))
                }
                DataType::Time64(_) | DataType::Timestamp(..) => {
                    let data = wide.to_data().into_builder().data_type(arrow).build()?;
                    arrow::array::make_array(data)
                }
                _ => return Err(bad()),
            }
        }
        (LiteralValue::Float(bits), SqlType::Float) => Arc::new(Float32Array::from(vec![f64::from_bits(*bits) as f32])),
        (LiteralValue::Float(bits), SqlType::Double) => Arc::new(Float64Array::from(vec![f64::from_bits(*bits)])),
        (LiteralValue::Decimal(digits), SqlType::Decimal { precision, .. }) => {
            let v = thalweg_functions::decimal::parse(digits, 0).ok_or_else(bad)?;
            if *precision <= 38 {
                let v = v.to_i128().ok_or_else(bad)?;
                Arc::new(PrimitiveArray::<Decimal128Type>::from(vec![v]).with_data_type(arrow))
            } else {
                Arc::new(PrimitiveArray::<Decimal256Type>::from(vec![v]).with_data_type(arrow))
            }
        }
        (LiteralValue::String(s), t) if t.is_string() => Arc::new(StringArray::from(vec![s.as_str()])),
        (LiteralValue::Bytes(b), SqlType::Binary(_) | SqlType::VarBinary(_)) => {
            Arc::new(BinaryArray::from(vec![b.as_slice()]))
        }
        (LiteralValue::Interval { months, days, nanos }, SqlType::Interval) => {
            Arc::new(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(*months, *days, *nanos)]))
        }
        (LiteralValue::List(items), SqlType::Array(e)) => {
            let DataType::List(field) = arrow else { return Err(bad()) };
            let values = values(items, &e.ty)?;
            let offsets = OffsetBuffer::from_lengths([items.len()]);
            Arc::new(ListArray::try_new(field, offsets, values, None)?)
        }
        (LiteralValue::List(pairs), SqlType::Map(k, v)) => {
            let DataType::Map(field, sorted) = arrow else { return Err(bad()) };
            let DataType::Struct(fields) = field.data_type() else { return Err(bad()) };
            let (mut keys, mut items) = (vec![], vec![]);
            for pair in pairs {
                let LiteralValue::List(pair) = pair else { return Err(bad()) };
                let [key, item] = pair.as_slice() else { return Err(bad()) };
                keys.push(key.clone());
                items.push(item.clone());
            }
            let columns = vec![values(&keys, k)?, values(&items, &v.ty)?];
            let entries = StructArray::try_new(fields.clone(), columns, None)?;
            let offsets = OffsetBuffer::from_lengths([pairs.len()]);
            Arc::new(MapArray::try_new(field.clone(), offsets, entries, None, sorted)?)
        }
        (LiteralValue::List(items), SqlType::Row(columns)) if items.len() == columns.len() => {
            let DataType::Struct(fields) = arrow else { return Err(bad()) };
            let arrays = items.iter().zip(columns).map(|(i, c)| literal_array(i, &c.ty)).collect::<Result<Vec<_>>>()?;
            if fields.is_empty() {
                Arc::new(StructArray::new_empty_fields(1, None))
            } else {
                Arc::new(StructArray::try_new(fields, arrays, None)?)
            }
        }
        _ => return Err(bad()),
    })
}

fn values(items: &[LiteralValue], ty: &SqlType) -> Result<ArrayRef> {
    let arrays = items.iter().map(|i| literal_array(i, ty)).collect::<Result<Vec<_>>>()?;
    if arrays.is_empty() {
        return Ok(arrow::array::new_empty_array(&ty.to_arrow()));
    }
    Ok(concat(&arrays.iter().map(|a| &**a as &dyn Array).collect::<Vec<_>>())?)
}
