//! thalweg-connector-api
