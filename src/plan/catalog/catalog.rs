//! Tables and views by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_core::{Error, Place, Result};

use crate::catalog::like::apply_like;
use crate::catalog::table::Table;
use crate::catalog::view::View;
use crate::names::{Lookup, ambiguous, look_up, no_such};
use crate::sql::{CreateTable, CreateView, DropKind, DropObject, Name};

/// What can stand in `FROM`: tables and views share one space of names. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    relations: BTreeMap<String, Relation>,
}

#[derive(Debug, Clone)]
pub enum Relation {
    Table(Arc<Table>),
    View(Arc<View>),
}

impl Relation {
    pub fn name(&self) -> &str {
        match self {
            Relation::Table(t) => &t.name,
            Relation::View(v) => &v.name,
        }
    }

    fn is_temporary(&self) -> bool {
        match self {
            Relation::Table(t) => t.temporary,
            Relation::View(v) => v.temporary,
        }
    }
}

/// What `CREATE … IF NOT EXISTS` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    Created,
    /// It was there already and stays as it is.
    Existed,
}

impl Catalog {
    /// The relation that is meant by a name: exactly, else without case if that is unique.
    pub fn get(&self, name: &str) -> Option<&Relation> {
        match look_up(name, self.relations.keys().map(String::as_str)) {
            Lookup::Found(i) => self.relations.values().nth(i),
            _ => None,
        }
    }

    /// As `get`; an error with place, the nearest name and the list of what there is.
    pub fn relation(&self, name: &str, place: Place) -> Result<&Relation> {
        self.find(name, place, "table or view", "tables and views", &|_| true)
    }

    /// The table of this name; a view is an error that says so.
    pub fn table(&self, name: &str, place: Place) -> Result<&Arc<Table>> {
        match self.find(name, place, "table", "tables", &|r| matches!(r, Relation::Table(_)))? {
            Relation::Table(t) => Ok(t),
            Relation::View(v) => Err(Error::name(format!("{} is a view, not a table", v.name)).at(place)),
        }
    }

    /// The view of this name; a table is an error that says so.
    pub fn view(&self, name: &str, place: Place) -> Result<&Arc<View>> {
        match self.find(name, place, "view", "views", &|r| matches!(r, Relation::View(_)))? {
            Relation::View(v) => Ok(v),
            Relation::Table(t) => Err(Error::name(format!("{} is a table, not a view", t.name)).at(place)),
        }
    }

    fn find(
        &self,
        name: &str,
        place: Place,
        what: &str,
        list: &str,
        listed: &dyn Fn(&Relation) -> bool,
    ) -> Result<&Relation> {
        let names: Vec<&str> = self.relations.keys().map(String::as_str).collect();
        match look_up(name, names.iter().copied()) {
            Lookup::Found(i) => Ok(&self.relations[names[i]]),
            Lookup::Ambiguous(which) => {
                let of: Vec<&str> = which.iter().map(|i| names[*i]).collect();
                Err(ambiguous("name", name, place, &of))
            }
            Lookup::NotFound => {
                let candidates = self.relations.values().filter(|r| listed(r)).map(Relation::name);
                Err(no_such(format!("there is no {what} \"{name}\""), name, place, list, candidates))
            }
        }
    }

    /// All of them, by name.
    pub fn relations(&self) -> impl Iterator<Item = &Relation> {
        self.relations.values()
    }

    pub fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.relations.values().filter_map(|r| match r {
            Relation::Table(t) => Some(t),
            Relation::View(_) => None,
        })
    }

    pub fn views(&self) -> impl Iterator<Item = &Arc<View>> {
        self.relations.values().filter_map(|r| match r {
            Relation::View(v) => Some(v),
            Relation::Table(_) => None,
        })
    }

    /// Checks a `CREATE TABLE` and gives the table that it would make, `LIKE` applied; nothing is created yet, so that
    /// the planner and the connector can judge it first.
    pub fn check_table(&self, t: &CreateTable) -> Result<Table> {
        match &t.like {
            None => Table::from_statement(t),
            Some(like) => {
                let base = self.table(&like.table.value, like.table.place)?;
                Table::from_statement(&apply_like(t, like, base)?)
            }
        }
    }

    /// Checks and creates a table.
    pub fn create_table(&mut self, t: &CreateTable) -> Result<Created> {
        if self.exists(&t.name, t.if_not_exists)? {
            return Ok(Created::Existed);
        }
        let table = self.check_table(t)?;
        self.relations.insert(table.name.clone(), Relation::Table(Arc::new(table)));
        Ok(Created::Created)
    }

    /// Creates a view. Its query is not looked into: the planner does that before.
    pub fn create_view(&mut self, v: &CreateView) -> Result<Created> {
        if self.exists(&v.name, v.if_not_exists)? {
            return Ok(Created::Existed);
        }
        if let Some(columns) = &v.columns {
            for (i, c) in columns.iter().enumerate() {
                if columns[..i].iter().any(|other| other.value == c.value) {
                    return Err(
                        Error::name(format!("view {} has two columns \"{}\"", v.name.value, c.value)).at(c.place)
                    );
                }
            }
        }
        self.relations.insert(v.name.value.clone(), Relation::View(Arc::new(View::from_statement(v))));
        Ok(Created::Created)
    }

    /// Whether the exact name is taken; an error unless `IF NOT EXISTS` allows it.
    pub fn exists(&self, name: &Name, allowed: bool) -> Result<bool> {
        match self.relations.get(&name.value) {
            None => Ok(false),
            Some(_) if allowed => Ok(true),
            Some(r) => {
                let what = if matches!(r, Relation::Table(_)) { "table" } else { "view" };
                Err(Error::name(format!("there is a {what} \"{}\" already", name.value)).at(name.place).note(format!(
                    "DROP {} {} removes it",
                    what.to_uppercase(),
                    crate::sql::name_text(&name.value)
                )))
            }
        }
    }

    /// Removes a table or view and gives it; `None` if it is not there and `IF EXISTS` allows that.
    pub fn drop_object(&mut self, d: &DropObject) -> Result<Option<Relation>> {
        if d.if_exists && self.get(&d.name.value).is_none() {
            return Ok(None);
        }
        let place = d.name.place;
        let name = match d.kind {
            DropKind::Table => self.table(&d.name.value, place)?.name.clone(),
            DropKind::View => self.view(&d.name.value, place)?.name.clone(),
        };
        if d.temporary && !self.relations[&name].is_temporary() {
            return Err(Error::name(format!("{name} is not temporary")).at(place).note("leave TEMPORARY out"));
        }
        Ok(self.relations.remove(&name))
    }
}
