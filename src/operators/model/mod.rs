//! Recompute-from-scratch models, run beside the operators over random change sequences.

mod aggregate;
mod harness;
