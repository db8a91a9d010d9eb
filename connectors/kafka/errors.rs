//! What an error of librdkafka or of a broker means: whether trying again can help, and what a person can do.

use std::ffi::CStr;

use rdkafka::bindings::{rd_kafka_err2name, rd_kafka_err2str, rd_kafka_resp_err_t as Code};
use thalweg_core::{Error, ErrorCode};

/// What is to be done after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The same call again, or a little later.
    Retriable,
    /// The producer is of no use any more: a new one reads the mark and decides.
    NewProducer,
    /// The broker does not take the credentials: they are wrong, or it has just come back and does not know its users yet.
    Login,
    /// No repetition helps.
    Permanent(ErrorCode),
}

/// An error code with librdkafka's or the broker's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: Code,
    pub text: String,
}

/// The words that go with a code.
pub fn describe(code: Code) -> String {
    // SAFETY: both give static text for every code.
    let (name, text) = unsafe { (CStr::from_ptr(rd_kafka_err2name(code)), CStr::from_ptr(rd_kafka_err2str(code))) };
    format!("{} ({})", text.to_string_lossy(), name.to_string_lossy().trim_start_matches('_'))
}

impl Failure {
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Failure { code, text: text.into() }
    }

    /// With the words that go with the code.
    pub fn of(code: Code) -> Self {
        Failure { code, text: describe(code) }
    }

    pub fn class(&self) -> Class {
        class(self.code)
    }

    /// As an error of the job; `what` was being done.
    pub fn to_error(&self, what: &str) -> Error {
        let message = format!("{what}: {}", self.text);
        let mut e = match self.class() {
            Class::Permanent(code) => Error::new(code, message).permanent(),
            // At a job's very first start whoever looks at the target or the source first makes it permanent.
            Class::Login => Error::new(ErrorCode::Access, message).transient(),
            Class::Retriable | Class::NewProducer => Error::io(message),
        };
        if let Some(cure) = cure(self.code) {
            e = e.note(cure);
        }
        e
    }
}

/// The list. What is not in it could be anything, so a new producer tries it; the restart strategy gives up if that does
/// not help.
pub fn class(code: Code) -> Class {
    use Code::*;
    use ErrorCode as E;
    match code {
        // Nothing happened, or it will be known soon.
        RD_KAFKA_RESP_ERR__TIMED_OUT
        | RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE
        | RD_KAFKA_RESP_ERR__TRANSPORT
        | RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN
        | RD_KAFKA_RESP_ERR__WAIT_COORD
        | RD_KAFKA_RESP_ERR__WAIT_CACHE
        | RD_KAFKA_RESP_ERR__IN_PROGRESS
        | RD_KAFKA_RESP_ERR__RETRY
        | RD_KAFKA_RESP_ERR__RESOLVE
        | RD_KAFKA_RESP_ERR__QUEUE_FULL
        | RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE
        | RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION
        | RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT
        | RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE
        | RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE
        | RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION
        | RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS
        | RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE
        | RD_KAFKA_RESP_ERR_NOT_COORDINATOR
        | RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS
        | RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND
        | RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS
        | RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR
        | RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT
        | RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED => Class::Retriable,

        // Another one took over, the transaction ran into its time-out, or the broker has forgotten the producer (an idle
        // one is forgotten after `transactional.id.expiration.ms`, 7 days).
        RD_KAFKA_RESP_ERR__FENCED
        | RD_KAFKA_RESP_ERR__FATAL
        | RD_KAFKA_RESP_ERR__STATE
        | RD_KAFKA_RESP_ERR__MSG_TIMED_OUT
        | RD_KAFKA_RESP_ERR__INCONSISTENT
        | RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE
        | RD_KAFKA_RESP_ERR__PURGE_QUEUE
        | RD_KAFKA_RESP_ERR__PURGE_INFLIGHT
        | RD_KAFKA_RESP_ERR_PRODUCER_FENCED
        | RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH
        | RD_KAFKA_RESP_ERR_INVALID_TXN_STATE
        | RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING
        | RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID
        | RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER
        | RD_KAFKA_RESP_ERR_TRANSACTION_COORDINATOR_FENCED
        | RD_KAFKA_RESP_ERR_UNKNOWN => Class::NewProducer,

        RD_KAFKA_RESP_ERR__AUTHENTICATION | RD_KAFKA_RESP_ERR__SSL | RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED => {
            Class::Login
        }

        RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM
        | RD_KAFKA_RESP_ERR_ILLEGAL_SASL_STATE
        | RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
        | RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED
        | RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED
        | RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED => Class::Permanent(E::Access),

        RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE
        | RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE
        | RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP
        | RD_KAFKA_RESP_ERR_INVALID_RECORD
        | RD_KAFKA_RESP_ERR_INVALID_MSG => Class::Permanent(E::Row),

        RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC
        | RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION
        | RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
        | RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID
        | RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION
        | RD_KAFKA_RESP_ERR__INVALID_ARG
        | RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT
        | RD_KAFKA_RESP_ERR_POLICY_VIOLATION
        | RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS => Class::Permanent(E::Option),

        RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE
        | RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED
        | RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION
        | RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT => Class::Permanent(E::Unsupported),

        RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET
        | RD_KAFKA_RESP_ERR__LOG_TRUNCATION
        | RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE => Class::Permanent(E::Checkpoint),

        _ => Class::NewProducer,
    }
}

/// What to do about it, where that can be said without knowing more.
fn cure(code: Code) -> Option<&'static str> {
    use Code::*;
    Some(match code {
        RD_KAFKA_RESP_ERR__AUTHENTICATION | RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED => {
            "check properties.security.protocol, properties.sasl.mechanism and properties.sasl.jaas.config"
        }
        RD_KAFKA_RESP_ERR__SSL => "check properties.security.protocol and the certificates in properties.ssl.*",
        RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED => {
            "grant Describe and Read on the topic, and Write where it is written: kafka-acls --add --allow-principal User:… --operation … --topic …"
        }
        RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED => {
            "grant Read on the consumer group: kafka-acls --add --allow-principal User:… --operation Read --group … --resource-pattern-type prefixed"
        }
        RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED => {
            "grant Describe and Write on the transactional id: kafka-acls --add --allow-principal User:… --operation Write --operation Describe --transactional-id … --resource-pattern-type prefixed; or set 'sink.delivery-guarantee' = 'at-least-once'"
        }
        RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED => {
            "brokers before Kafka 3.0 need IdempotentWrite on the cluster"
        }
        RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT => {
            "set properties.transaction.timeout.ms to at most the broker's transaction.max.timeout.ms"
        }
        RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART | RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC => {
            "create it: kafka-topics --create --topic …; Thalweg creates no topics"
        }
        RD_KAFKA_RESP_ERR__RESOLVE | RD_KAFKA_RESP_ERR__TRANSPORT | RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN => {
            "check properties.bootstrap.servers, what the brokers say of themselves (advertised.listeners), and properties.security.protocol"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_rule_names_is_in_its_class() {
        use Code::*;
        for code in [RD_KAFKA_RESP_ERR__TIMED_OUT, RD_KAFKA_RESP_ERR_NOT_COORDINATOR, RD_KAFKA_RESP_ERR__TRANSPORT] {
            assert_eq!(class(code), Class::Retriable, "{}", describe(code));
        }
        for code in [
            RD_KAFKA_RESP_ERR_PRODUCER_FENCED,
            RD_KAFKA_RESP_ERR__FENCED,
            RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID,
            RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING,
            RD_KAFKA_RESP_ERR__MSG_TIMED_OUT,
        ] {
            assert_eq!(class(code), Class::NewProducer, "{}", describe(code));
        }
        for code in [
            RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
            RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
        ] {
            let failure = Failure::of(code);
            assert!(matches!(failure.class(), Class::Permanent(_)), "{}", failure.text);
            assert!(!failure.to_error("x").is_transient());
        }
        assert!(Failure::of(RD_KAFKA_RESP_ERR_PRODUCER_FENCED).to_error("x").is_transient());
    }

    #[test]
    fn a_broker_that_does_not_know_its_users_yet_is_asked_again() {
        for code in [Code::RD_KAFKA_RESP_ERR__AUTHENTICATION, Code::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED] {
            let failure = Failure::of(code);
            assert_eq!(failure.class(), Class::Login);
            let e = failure.to_error("table t");
            assert!(e.is_transient() && e.code() == ErrorCode::Access && e.to_string().contains("sasl"), "{e:?}");
        }
    }

    #[test]
    fn rights_that_lack_are_said_with_their_command() {
        let e = Failure::of(Code::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED).to_error("table t");
        assert!(e.to_string().contains("--transactional-id"), "{e}");
    }
}
