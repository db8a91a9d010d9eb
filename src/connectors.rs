//! The one list of linked connectors.

use std::sync::Arc;

use thalweg_connector_api::{Connector, Registry};

pub fn registry() -> Registry {
    Registry::new([
        Arc::new(thalweg_blackhole::Blackhole) as Arc<dyn Connector>,
        Arc::new(thalweg_datagen::Datagen),
        Arc::new(thalweg_filesystem::Filesystem),
        Arc::new(thalweg_print::Print),
    ])
}
