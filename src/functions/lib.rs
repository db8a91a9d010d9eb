//! thalweg-functions
