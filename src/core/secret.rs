//! Values that must never be shown.

use std::fmt;

use crate::nearest::nearest;

/// A password or the like: shows as `****` wherever it is printed, and is left out of everything that is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// What stands in place of a secret.
pub const MASK: &str = "****";

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The value itself; only for handing it to the server that it is meant for.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Whether an option's name says that its value is a secret, whatever connector it belongs to: the one rule for what is
/// shown, what is stored and what a client's messages may quote. The name's end decides, so that the place of a key
/// (`ssl.key.location`) or the kind of a generated column (`fields.password.kind`) is none. A slip in `password` counts
/// too: the error that is made of it does not show the value.
pub fn names_secret(option: &str) -> bool {
    const ENDS: &[&[&str]] = &[
        &["password"],
        &["passwd"],
        &["pwd"],
        &["passphrase"],
        &["secret"],
        &["secrets"],
        &["token"],
        &["tokens"],
        &["credential"],
        &["credentials"],
        &["jaas", "config"],
        &["oauthbearer", "config"],
        &["user", "info"],
        &["api", "key"],
        &["apikey"],
        &["access", "key"],
        &["account", "key"],
        &["encryption", "key"],
        &["keystore", "key"],
        &["private", "key"],
        &["secret", "key"],
        &["ssl", "key"],
        &["key", "pem"],
    ];
    let option = option.to_lowercase();
    let words: Vec<&str> = option.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
    let is_slip = |w: &&str| w.starts_with('p') && nearest(w, ["password"]).is_some();
    ENDS.iter().any(|end| words.ends_with(end)) || words.last().is_some_and(is_slip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_say_so_are_those_of_secrets() {
        for name in [
            "password",
            "PASSWORD",
            "passwd",
            "key.passphrase",
            "properties.ssl.truststore.password",
            "properties.sasl.oauthbearer.client.secret",
            "s3.secret-key",
            "secret-access-key",
            "access-token",
            "credentials",
            "properties.ssl.key.pem",
            "ssl.key",
            "ssl_key_pem",
            "properties.sasl.jaas.config",
            "properties.ssl.keystore.key",
            "avro-confluent.basic-auth.user-info",
            "pasword",
            "properties.sasl.passwort",
        ] {
            assert!(names_secret(name), "{name}");
        }
        for name in [
            "",
            "port",
            "path",
            "partition",
            "nopassword",
            "fields.password.kind",
            "fields.token.length",
            "properties.ssl.keystore.location",
            "properties.ssl.key.location",
            "properties.ssl.certificate.pem",
            "properties.sasl.oauthbearer.token.endpoint.url",
            "key.fields",
            "key.format",
            "primary-key",
        ] {
            assert!(!names_secret(name), "{name}");
        }
    }
}
