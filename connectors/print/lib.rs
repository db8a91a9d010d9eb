//! thalweg-print
