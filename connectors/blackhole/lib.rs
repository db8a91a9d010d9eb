//! thalweg-blackhole
