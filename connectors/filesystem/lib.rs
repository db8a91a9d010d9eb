//! thalweg-filesystem
