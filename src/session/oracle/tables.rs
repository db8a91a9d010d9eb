//! Random tables: the statements that fill them here, and the rows that are left at the end for the other engine.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Schema};

use super::random::Random;

/// What a column holds. The extremes are for comparisons, groups, MIN and MAX; what is computed with comes from columns
/// whose results both engines can hold, since at the edges their meanings differ (an error here, wrapping there).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// 1, 2, 3 …: never NULL.
    Id,
    /// INT from -4 to 9.
    SmallInt,
    /// BIGINT with both ends of its range.
    BigInt,
    /// DECIMAL(10, 2) of at most 99.99.
    SmallDecimal,
    /// DECIMAL(38, 6) with both ends of its range.
    BigDecimal,
    /// DOUBLE, quarters: sums of them are exact in any order.
    Quarter,
    /// DOUBLE with the ends of its range. Not NaN and -0.0: `NaN = NaN` and `-0.0 = 0.0` hold here, for the other engine
    /// -0.0 < 0.0, and MIN and MAX of NaN depend on the order of the rows. Not the infinities: the other engine's MAX
    /// begins with the smallest finite number, its MIN with the greatest.
    Double,
    Text,
    Boolean,
    Date,
    /// TIMESTAMP(6), years that nanoseconds can hold, which the other engine computes in.
    Timestamp,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Null,
    Integer(i64),
    /// Digits; the scale is the column's.
    Decimal(i128),
    Double(f64),
    Text(String),
    Boolean(bool),
    Date(i32),
    /// Microseconds.
    Timestamp(i64),
}

pub struct Table {
    pub name: &'static str,
    pub columns: Vec<(&'static str, Content)>,
    /// What fills it: CREATE TABLE, INSERT, UPDATE, DELETE.
    pub statements: Vec<String>,
    /// The rows that it has then.
    pub rows: Vec<Vec<Cell>>,
}

const ROWS_MAX: usize = 14;
const BIG_DECIMAL_SCALE: u32 = 6;

/// Three tables: one with a key, one with duplicates; one that was only inserted into. Now and then one is empty.
pub fn tables(random: &mut Random) -> Vec<Table> {
    use Content::*;
    let keyed = vec![
        ("id", Id),
        ("a", SmallInt),
        ("big", BigInt),
        ("d", SmallDecimal),
        ("s", Text),
        ("day", Date),
        ("flag", Boolean),
    ];
    let bag = vec![("a", SmallInt), ("b", SmallInt), ("s", Text), ("q", Quarter), ("f", Double)];
    let log = vec![("a", SmallInt), ("s", Text), ("at", Timestamp), ("huge", BigDecimal), ("d", SmallDecimal)];
    vec![
        table("keyed", keyed, true, true, random),
        table("bag", bag, false, true, random),
        table("logged", log, false, false, random),
    ]
}

fn table(
    name: &'static str,
    columns: Vec<(&'static str, Content)>,
    has_key: bool,
    is_changed: bool,
    random: &mut Random,
) -> Table {
    let declared: Vec<String> = columns.iter().map(|(n, c)| format!("{n} {}", c.declared())).collect();
    let key = if has_key { ", PRIMARY KEY (id) NOT ENFORCED" } else { "" };
    let mut t = Table { name, statements: vec![], rows: vec![], columns };
    t.statements.push(format!("CREATE TABLE {name} ({}{key})", declared.join(", ")));
    if random.one_in(12) {
        return t;
    }
    let mut next_id = 1;
    for _ in 0..random.between(1, 6) {
        match random.below(if is_changed { 4 } else { 1 }) {
            0 | 1 => t.insert(&mut next_id, random),
            2 => t.update(random),
            _ => t.delete(random),
        }
    }
    t
}

impl Table {
    fn insert(&mut self, next_id: &mut i64, random: &mut Random) {
        let mut values = vec![];
        for _ in 0..random.between(1, ROWS_MAX as i64 / 2) {
            if self.rows.len() >= ROWS_MAX {
                break;
            }
            let row: Vec<Cell> = match self.rows.len() {
                // Where there is no key, some rows are there twice.
                n if n > 0 && self.columns[0].1 != Content::Id && random.one_in(4) => {
                    self.rows[random.below(n)].clone()
                }
                _ => self.columns.iter().map(|(_, c)| c.cell(*next_id, random)).collect(),
            };
            *next_id += 1;
            let cells = row.iter().zip(&self.columns).map(|(cell, (_, c))| c.literal(cell));
            values.push(format!("({})", cells.collect::<Vec<_>>().join(", ")));
            self.rows.push(row);
        }
        if !values.is_empty() {
            self.statements.push(format!("INSERT INTO {} VALUES {}", self.name, values.join(", ")));
        }
    }

    /// A column and one of its values, and the rows that have it.
    fn some(&self, random: &mut Random) -> Option<(String, Vec<usize>)> {
        let o = random.below(self.columns.len());
        let (name, content) = self.columns[o];
        let wanted = self.rows.get(random.below(ROWS_MAX))?[o].clone();
        let found = (0..self.rows.len()).filter(|&i| self.rows[i][o] == wanted).collect();
        let condition = match wanted {
            Cell::Null => format!("{name} IS NULL"),
            wanted => format!("{name} = {}", content.literal(&wanted)),
        };
        Some((condition, found))
    }

    fn update(&mut self, random: &mut Random) {
        let Some((condition, found)) = self.some(random) else { return };
        let o = 1 + random.below(self.columns.len() - 1);
        let (name, content) = self.columns[o];
        let cell = content.cell(0, random);
        self.statements.push(format!("UPDATE {} SET {name} = {} WHERE {condition}", self.name, content.literal(&cell)));
        found.into_iter().for_each(|i| self.rows[i][o] = cell.clone());
    }

    fn delete(&mut self, random: &mut Random) {
        let Some((condition, found)) = self.some(random) else { return };
        self.statements.push(format!("DELETE FROM {} WHERE {condition}", self.name));
        let mut i = 0;
        self.rows.retain(|_| {
            i += 1;
            !found.contains(&(i - 1))
        });
    }

    /// The rows that are left, as Arrow.
    pub fn batch(&self) -> RecordBatch {
        let arrays: Vec<ArrayRef> = (0..self.columns.len()).map(|o| self.array(o)).collect();
        let fields = self.columns.iter().zip(&arrays).map(|((n, _), a)| Field::new(*n, a.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        RecordBatch::try_new(schema, arrays).expect("arrays of the schema just made")
    }

    fn array(&self, o: usize) -> ArrayRef {
        let content = self.columns[o].1;
        let cells = || self.rows.iter().map(|r| &r[o]);
        let integer = |c: &Cell| match c {
            Cell::Integer(i) | Cell::Timestamp(i) => Some(*i),
            _ => None,
        };
        let small = |c: &Cell| integer(c).map(|i| i as i32);
        match content {
            Content::Id | Content::SmallInt => Arc::new(cells().map(small).collect::<Int32Array>()),
            Content::BigInt => Arc::new(cells().map(integer).collect::<Int64Array>()),
            Content::SmallDecimal | Content::BigDecimal => {
                let (precision, scale) = content.digits();
                let array = cells().map(|c| if let Cell::Decimal(d) = c { Some(*d) } else { None });
                let array = array.collect::<Decimal128Array>().with_precision_and_scale(precision, scale);
                Arc::new(array.expect("digits that fit"))
            }
            Content::Quarter | Content::Double => {
                let array = cells().map(|c| if let Cell::Double(d) = c { Some(*d) } else { None });
                Arc::new(array.collect::<Float64Array>())
            }
            Content::Text => {
                let array = cells().map(|c| if let Cell::Text(s) = c { Some(s.as_str()) } else { None });
                Arc::new(array.collect::<StringArray>())
            }
            Content::Boolean => {
                let array = cells().map(|c| if let Cell::Boolean(b) = c { Some(*b) } else { None });
                Arc::new(array.collect::<BooleanArray>())
            }
            Content::Date => {
                let array = cells().map(|c| if let Cell::Date(d) = c { Some(*d) } else { None });
                Arc::new(array.collect::<Date32Array>())
            }
            Content::Timestamp => Arc::new(cells().map(integer).collect::<TimestampMicrosecondArray>()),
        }
    }
}

const TEXTS: &[&str] =
    &["", "a", "b", "ab", "A", "Zoë", "北京", "a b", " x ", "it's", "%", "_", "aaaaaaaaaaaaaaaaaaaa"];

impl Content {
    fn declared(self) -> &'static str {
        match self {
            Content::Id => "INT NOT NULL",
            Content::SmallInt => "INT",
            Content::BigInt => "BIGINT",
            Content::SmallDecimal => "DECIMAL(10, 2)",
            Content::BigDecimal => "DECIMAL(38, 6)",
            Content::Quarter | Content::Double => "DOUBLE",
            Content::Text => "STRING",
            Content::Boolean => "BOOLEAN",
            Content::Date => "DATE",
            Content::Timestamp => "TIMESTAMP(6)",
        }
    }

    fn digits(self) -> (u8, i8) {
        if self == Content::BigDecimal { (38, BIG_DECIMAL_SCALE as i8) } else { (10, 2) }
    }

    /// A random value; the same ones come often, so that there are ties, groups and partners.
    pub fn cell(self, id: i64, random: &mut Random) -> Cell {
        if self == Content::Id {
            return Cell::Integer(id);
        }
        if random.one_in(6) {
            return Cell::Null;
        }
        let is_extreme = random.one_in(4);
        match self {
            Content::Id => unreachable!("it has returned"),
            Content::SmallInt => Cell::Integer(random.between(-4, 9)),
            Content::BigInt if is_extreme => Cell::Integer([i64::MIN, i64::MAX][random.below(2)]),
            Content::BigInt => Cell::Integer(random.between(-2, 3) * 1_000_000_007),
            Content::SmallDecimal if is_extreme => Cell::Decimal(i128::from([9999, -9999, 0][random.below(3)])),
            Content::SmallDecimal => Cell::Decimal(i128::from(random.between(-12, 30)) * 25),
            Content::BigDecimal if is_extreme => {
                let most = 10i128.pow(38) - 1;
                Cell::Decimal([most, -most][random.below(2)])
            }
            Content::BigDecimal => Cell::Decimal(i128::from(random.between(-3, 3)) * 1_500_000),
            Content::Quarter => Cell::Double(random.between(-40, 40) as f64 / 4.0),
            Content::Double if is_extreme => {
                let extremes = [f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324];
                Cell::Double(extremes[random.below(extremes.len())])
            }
            Content::Double => Cell::Double(random.between(-3, 3) as f64 / 10.0 + 0.0),
            Content::Text => Cell::Text(random.pick(TEXTS).to_owned()),
            Content::Boolean => Cell::Boolean(random.one_in(2)),
            // Years 1 and 9999.
            Content::Date if is_extreme => Cell::Date([-719_162, 2_932_896][random.below(2)]),
            Content::Date => Cell::Date(random.between(19_000, 19_006) as i32),
            // 1700 and 2200.
            Content::Timestamp if is_extreme => {
                Cell::Timestamp([-8_520_336_000_000_000, 7_258_118_399_999_999][random.below(2)])
            }
            Content::Timestamp => Cell::Timestamp(random.between(0, 5) * 86_399_999_999),
        }
    }

    /// As SQL that both engines read alike.
    pub fn literal(self, cell: &Cell) -> String {
        match cell {
            Cell::Null => "NULL".to_owned(),
            // The minimum has no literal that both read.
            Cell::Integer(i) if *i == i64::MIN => format!("(-{} - 1)", i64::MAX),
            Cell::Integer(i) => i.to_string(),
            Cell::Decimal(d) => {
                let scale = self.digits().1 as usize;
                let digits = format!("{:0>1$}", d.unsigned_abs(), scale + 1);
                let (whole, fraction) = digits.split_at(digits.len() - scale);
                format!("{}{whole}.{fraction}", if *d < 0 { "-" } else { "" })
            }
            Cell::Double(d) => format!("{d:E}"),
            Cell::Text(s) => format!("'{}'", s.replace('\'', "''")),
            Cell::Boolean(b) => b.to_string().to_uppercase(),
            Cell::Date(d) => format!("DATE '{}'", date_text(*d)),
            Cell::Timestamp(us) => {
                let (days, rest) = (us.div_euclid(86_400_000_000), us.rem_euclid(86_400_000_000));
                let (seconds, micros) = (rest / 1_000_000, rest % 1_000_000);
                let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
                format!("TIMESTAMP '{} {h:02}:{m:02}:{s:02}.{micros:06}'", date_text(days as i32))
            }
        }
    }
}

fn date_text(days: i32) -> String {
    let array = Date32Array::from(vec![days]);
    arrow::util::display::array_value_to_string(&array, 0).expect("a date of the years 1 to 9999")
}
