//! To be written.

use thalweg_core::operator::Operator;
use thalweg_core::{Error, Result};
use thalweg_graph::ops::project;

use crate::BuildCx;

pub(crate) fn build(_: BuildCx<'_>, _: &project::ProjectSpec) -> Result<Box<dyn Operator>> {
    Err(Error::internal("not built yet"))
}
