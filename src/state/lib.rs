//! thalweg-state
