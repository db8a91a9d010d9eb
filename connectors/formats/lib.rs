//! thalweg-formats
