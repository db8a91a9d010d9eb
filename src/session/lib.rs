//! thalweg-session
