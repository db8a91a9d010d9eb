//! thalweg-checkpoint
