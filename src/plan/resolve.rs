//! Names in queries: what a column's name means in a FROM clause, with place, proposal and the list of what there is.

use sqlparser::ast::Ident;
use thalweg_core::nearest::did_you_mean;
use thalweg_core::{Column, Error, Place, Result, SqlType};
use thalweg_graph::Expr;

use crate::literal;
use crate::names::{Lookup, ambiguous, look_up, no_such};
use crate::sql::place_of_ident;

/// The relations of a FROM clause whose columns can be named.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    pub relations: Vec<ScopeRelation>,
    /// Ordinals of the columns that `*` gives, in its order.
    star: Vec<usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct ScopeRelation {
    /// By which its columns can be qualified: the alias, else the table's name.
    pub name: Option<String>,
    /// What it is: `table orders`, `view v`, `WITH query q`, `subquery`.
    pub what: String,
    pub columns: Vec<ScopeColumn>,
}

#[derive(Debug, Clone)]
pub(crate) struct ScopeColumn {
    pub column: Column,
    pub ordinal: usize,
    /// Found with its qualifier only, and not by `*`: the second of two columns that USING made one.
    pub merged: bool,
}

impl ScopeRelation {
    pub fn new(name: Option<String>, what: String, columns: &[Column]) -> Self {
        let columns = columns
            .iter()
            .enumerate()
            .map(|(ordinal, c)| ScopeColumn { column: c.clone(), ordinal, merged: false })
            .collect();
        ScopeRelation { name, what, columns }
    }

    /// `table orders (o)`
    fn shown(&self) -> String {
        match &self.name {
            Some(alias) if !self.what.ends_with(&format!(" {alias}")) => format!("{} ({alias})", self.what),
            _ => self.what.clone(),
        }
    }

    /// `columns of orders`
    fn list(&self) -> String {
        let short = self.what.rsplit(' ').next().filter(|w| *w != "subquery" && *w != "VALUES");
        format!("columns of {}", short.or(self.name.as_deref()).unwrap_or("the subquery"))
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|c| c.column.name.as_str())
    }

    fn no_such_column(&self, name: &Ident) -> Error {
        let message = format!("{} has no column \"{}\"", self.shown(), name.value);
        no_such(message, &name.value, place_of_ident(name), &self.list(), self.names())
    }

    fn column(&self, name: &Ident) -> Result<&ScopeColumn> {
        let equal = |c: &&ScopeColumn| c.column.name == name.value;
        if self.columns.iter().filter(equal).count() > 1 {
            return Err(Error::name(format!("{} has two columns \"{}\"", self.shown(), name.value))
                .at(place_of_ident(name))
                .note("give one of them another name with AS"));
        }
        match look_up(&name.value, self.names()) {
            Lookup::Found(i) => Ok(&self.columns[i]),
            Lookup::NotFound => Err(self.no_such_column(name)),
            Lookup::Ambiguous(which) => {
                let of: Vec<&str> = which.iter().map(|&i| self.columns[i].column.name.as_str()).collect();
                Err(ambiguous("column", &name.value, place_of_ident(name), &of))
            }
        }
    }
}

impl Scope {
    pub fn one(relation: ScopeRelation) -> Self {
        let star = relation.columns.iter().map(|c| c.ordinal).collect();
        Scope { relations: vec![relation], star }
    }

    /// The columns of two relations side by side.
    pub fn join(mut self, mut right: Scope, left_columns: usize) -> Self {
        for c in right.relations.iter_mut().flat_map(|r| &mut r.columns) {
            c.ordinal += left_columns;
        }
        self.relations.append(&mut right.relations);
        self.star.extend(right.star.iter().map(|o| o + left_columns));
        self
    }

    /// USING makes one column of each pair of ordinals: the first, which stands before all others in `*`.
    pub fn merge(&mut self, pairs: &[(usize, usize)]) {
        for c in self.relations.iter_mut().flat_map(|r| &mut r.columns) {
            c.merged |= pairs.iter().any(|(_, second)| *second == c.ordinal);
        }
        let mut star: Vec<usize> = vec![];
        for (first, _) in pairs {
            if !star.contains(first) {
                star.push(*first);
            }
        }
        let is_other = |o: &usize| pairs.iter().all(|(first, second)| o != first && o != second);
        star.extend(self.star.iter().copied().filter(is_other));
        self.star = star;
    }

    /// A qualifier must mean one relation.
    pub fn check_qualifiers(&self, place: Option<Place>) -> Result<()> {
        let names: Vec<&str> = self.relations.iter().filter_map(|r| r.name.as_deref()).collect();
        for (i, n) in names.iter().enumerate() {
            if names[..i].contains(n) {
                let e = Error::name(format!("two relations of this FROM are called \"{n}\""))
                    .note("give one of them an alias");
                return Err(match place {
                    Some(p) => e.at(p),
                    None => e,
                });
            }
        }
        Ok(())
    }

    /// All columns that an unqualified `*` gives.
    pub fn all(&self) -> impl Iterator<Item = &ScopeColumn> {
        // Ordinals rise from relation to relation.
        let columns: Vec<&ScopeColumn> = self.relations.iter().flat_map(|r| &r.columns).collect();
        self.star.iter().filter_map(move |o| columns.binary_search_by_key(o, |c| c.ordinal).ok().map(|i| columns[i]))
    }

    /// The relation of a qualifier: exactly, else without case if that is unique.
    pub fn relation(&self, name: &Ident) -> Result<Option<&ScopeRelation>> {
        let named: Vec<&ScopeRelation> = self.relations.iter().filter(|r| r.name.is_some()).collect();
        let names = || named.iter().filter_map(|r| r.name.as_deref());
        match look_up(&name.value, names()) {
            Lookup::Found(i) => Ok(Some(named[i])),
            Lookup::NotFound => Ok(None),
            Lookup::Ambiguous(which) => {
                let of: Vec<&str> = which.iter().filter_map(|&i| named[i].name.as_deref()).collect();
                Err(ambiguous("table", &name.value, place_of_ident(name), &of))
            }
        }
    }

    /// The error for a qualifier that is not there.
    pub fn no_such_relation(&self, name: &Ident) -> Error {
        let names: Vec<&str> = self.relations.iter().filter_map(|r| r.name.as_deref()).collect();
        let message = format!("no table or alias \"{}\" in FROM", name.value);
        no_such(message, &name.value, place_of_ident(name), "in FROM", names)
    }

    /// What a name means: the column, and the parts that are fields within it. `None`: an unqualified name that is no
    /// column (the caller may know it otherwise).
    fn find<'n>(&self, parts: &'n [Ident]) -> Result<Option<(&ScopeColumn, &'n [Ident])>> {
        let [first, rest @ ..] = parts else { return Err(Error::internal("a name without parts")) };
        if let [second, fields @ ..] = rest
            && let Some(relation) = self.relation(first)?
        {
            return relation.column(second).map(|c| Some((c, fields)));
        }
        let mut exact = vec![];
        let mut folded = vec![];
        let lower = first.value.to_lowercase();
        for r in &self.relations {
            for c in r.columns.iter().filter(|c| !c.merged) {
                if c.column.name == first.value {
                    exact.push((r, c));
                } else if c.column.name.to_lowercase() == lower {
                    folded.push((r, c));
                }
            }
        }
        let found = if exact.is_empty() { folded } else { exact };
        match found.as_slice() {
            [] => Ok(None),
            [(_, c)] => Ok(Some((c, rest))),
            [(r, _), rest @ ..] if rest.iter().all(|(other, _)| std::ptr::eq(*r, *other)) => {
                Err(Error::name(format!("{} has two columns \"{}\"", r.shown(), first.value))
                    .at(place_of_ident(first))
                    .note("give one of them another name with AS"))
            }
            several => {
                let places: Vec<String> = several
                    .iter()
                    .map(|(r, c)| format!("{}.{}", r.name.as_deref().unwrap_or("subquery"), c.column.name))
                    .collect();
                Err(Error::name(format!("column \"{}\" is ambiguous", first.value))
                    .at(place_of_ident(first))
                    .note(format!("it can be {}", places.join(" or "))))
            }
        }
    }

    /// The expression of a column's name, with fields of a ROW behind it. `None`: an unqualified name that is no column.
    pub fn column(&self, parts: &[Ident]) -> Result<Option<Expr>> {
        let Some((c, fields)) = self.find(parts)? else { return Ok(None) };
        let mut e = Expr::column(c.ordinal, c.column.ty.clone());
        for f in fields {
            e = field(e, f)?;
        }
        Ok(Some(e))
    }

    /// The error for a name that is no column.
    pub fn no_such_column(&self, parts: &[Ident]) -> Error {
        let name = &parts[0];
        if parts.len() > 1 {
            return self.no_such_relation(name);
        }
        match self.relations.as_slice() {
            [] => {
                Error::name(format!("there is no column \"{}\": there is no FROM", name.value)).at(place_of_ident(name))
            }
            [one] => one.no_such_column(name),
            several => {
                let all = several.iter().flat_map(|r| r.names());
                let mut e = Error::name(format!("there is no column \"{}\"", name.value))
                    .at(place_of_ident(name))
                    .propose(did_you_mean(&name.value, all));
                for r in several {
                    e = e.note(format!("{}: {}", r.list(), r.names().collect::<Vec<_>>().join(", ")));
                }
                e
            }
        }
    }
}

/// `e.name`, a field of a ROW.
pub(crate) fn field(e: Expr, name: &Ident) -> Result<Expr> {
    let SqlType::Row(fields) = e.ty() else {
        return Err(Error::type_(format!(
            "\"{}\" cannot be a field: the value before it is {}, not ROW",
            name.value,
            e.ty()
        ))
        .at(place_of_ident(name)));
    };
    let names = || fields.iter().map(|f| f.name.as_str());
    match look_up(&name.value, names()) {
        Lookup::Found(i) => {
            let (field, ty) = (fields[i].name.clone(), fields[i].ty.clone());
            Ok(Expr::call("get_field", vec![e, literal::string(field)], ty))
        }
        Lookup::NotFound => {
            let message = format!("the ROW has no field \"{}\"", name.value);
            Err(no_such(message, &name.value, place_of_ident(name), "fields", names()))
        }
        Lookup::Ambiguous(which) => {
            let of: Vec<&str> = which.iter().map(|&i| fields[i].name.as_str()).collect();
            Err(ambiguous("field", &name.value, place_of_ident(name), &of))
        }
    }
}
