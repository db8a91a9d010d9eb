//! Runs an operator beside its model.
