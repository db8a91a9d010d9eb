//! Recompute-from-scratch model of the aggregate.
