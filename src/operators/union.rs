//! To be written.

use thalweg_core::operator::Operator;
use thalweg_core::{Error, Result};
use thalweg_graph::ops::union;

use crate::BuildCx;

pub(crate) fn build(_: BuildCx<'_>, _: &union::UnionSpec) -> Result<Box<dyn Operator>> {
    Err(Error::internal("not built yet"))
}
