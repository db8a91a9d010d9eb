//! The binder: from sqlparser's tree to the logical plan, with every name looked up and every type known. Each error has
//! the place of the smallest part of the text that it is about.

mod aggregate;
mod coerce;
mod expr;
mod from;
mod function;
mod interval;
mod query;
mod select;
mod source;

use thalweg_core::{Error, Place, Result};

use crate::catalog::Catalog;
use crate::planner::{Connectors, PlanSettings};
use crate::sql::Hints;

pub(crate) use coerce::{Zone, store};
pub(crate) use expr::{Clause, ExprBinder};
pub(crate) use query::BoundQuery;
pub(crate) use source::{masked, scope_of_table};

/// Views within views at most.
const VIEW_NESTING_MAX: usize = 64;

/// What binding needs to know.
pub(crate) struct Binder<'a> {
    pub catalog: &'a Catalog,
    pub connectors: &'a dyn Connectors,
    pub settings: &'a PlanSettings,
    /// Of the query that is bound.
    pub hints: &'a Hints,
    view_depth: usize,
}

impl<'a> Binder<'a> {
    pub fn new(
        catalog: &'a Catalog,
        connectors: &'a dyn Connectors,
        settings: &'a PlanSettings,
        hints: &'a Hints,
    ) -> Self {
        Binder { catalog, connectors, settings, hints, view_depth: 0 }
    }

    /// A binder for the query of a view, one level deeper.
    fn for_view<'b>(&self, hints: &'b Hints, view: &str, place: Place) -> Result<Binder<'b>>
    where
        'a: 'b,
    {
        let view_depth = self.view_depth + 1;
        if view_depth > VIEW_NESTING_MAX {
            return Err(
                Error::unsupported(format!("view {view} reads views more than {VIEW_NESTING_MAX} deep")).at(place)
            );
        }
        Ok(Binder { catalog: self.catalog, connectors: self.connectors, settings: self.settings, hints, view_depth })
    }
}
