//! thalweg-plan
