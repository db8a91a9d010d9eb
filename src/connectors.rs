//! The one list of linked connectors.

use std::sync::Arc;

use thalweg_connector_api::{Connector, Registry};

pub fn registry() -> Registry {
    let connectors: Vec<Arc<dyn Connector>> = vec![
        Arc::new(thalweg_blackhole::Blackhole),
        Arc::new(thalweg_datagen::Datagen),
        Arc::new(thalweg_filesystem::Filesystem),
        #[cfg(feature = "kafka")]
        Arc::new(thalweg_kafka::Kafka),
        #[cfg(feature = "mysql")]
        Arc::new(thalweg_mysql::MysqlCdc),
        Arc::new(thalweg_print::Print),
        #[cfg(feature = "kafka")]
        Arc::new(thalweg_kafka::UpsertKafka),
    ];
    Registry::new(connectors)
}
