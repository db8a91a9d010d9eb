//! `properties.*`: settings by the names that Java's clients and Flink have for them, as librdkafka knows them. What would
//! break a promise is refused with the reason.

use std::time::Duration;

use thalweg_core::nearest::{did_you_mean, nearest};
use thalweg_core::secret::names_secret;
use thalweg_core::{Error, Result};

use crate::client::{Settings, check_setting, setting_names};

/// How long a start waits for an answer of the cluster.
const API_TIMEOUT: Duration = Duration::from_secs(15);

/// The settings of a table, checked.
#[derive(Debug, Clone)]
pub struct Properties {
    /// By librdkafka's names, without what a consumer or a producer gets by itself.
    pub settings: Settings,
    /// `properties.group.id`.
    pub group: Option<String>,
    /// `properties.auto.offset.reset`: where `group-offsets` begins if nothing was committed.
    pub reset: Option<Reset>,
    /// How long a start waits for an answer of the cluster.
    pub api_timeout: Duration,
    /// `properties.message.max.bytes`, `properties.max.request.size`.
    pub message_bytes_max: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    Earliest,
    Latest,
}

/// Names that Java's clients have for what librdkafka calls otherwise.
const RENAMED: &[(&str, &str)] = &[
    ("fetch.max.wait.ms", "fetch.wait.max.ms"),
    ("receive.buffer.bytes", "socket.receive.buffer.bytes"),
    ("send.buffer.bytes", "socket.send.buffer.bytes"),
    ("request.timeout.ms", "socket.timeout.ms"),
    ("ssl.truststore.certificates", "ssl.ca.pem"),
    ("ssl.keystore.certificate.chain", "ssl.certificate.pem"),
    ("ssl.keystore.key", "ssl.key.pem"),
    ("socket.connection.setup.timeout.max.ms", "socket.connection.setup.timeout.ms"),
];

const BY_FORMATS: &str = "keys and values are read and written by formats: 'key.format', 'value.format'";
const NO_GROUP: &str = "partitions are assigned by Thalweg, whose readers are no members of a group";
const EXACTLY_ONCE: &str = "it would break what the sink promises";

/// Settings that are not for the user, and why.
const REFUSED: &[(&str, &str)] = &[
    ("key.deserializer", BY_FORMATS),
    ("value.deserializer", BY_FORMATS),
    ("key.serializer", BY_FORMATS),
    ("value.serializer", BY_FORMATS),
    ("transactional.id", "it is made of 'sink.transactional-id-prefix', the job's id and the topic"),
    ("partitioner.class", "'sink.partitioner' says how rows are spread"),
    ("partitioner", "'sink.partitioner' says how rows are spread"),
    ("partition.discovery.interval.ms", "set 'scan.topic-partition-discovery.interval'"),
    ("partition.assignment.strategy", NO_GROUP),
    ("group.instance.id", NO_GROUP),
    ("group.protocol", NO_GROUP),
    ("session.timeout.ms", NO_GROUP),
    ("heartbeat.interval.ms", NO_GROUP),
    ("max.poll.interval.ms", NO_GROUP),
    ("max.poll.records", "messages come in batches of the engine's own size"),
    ("enable.auto.offset.store", "offsets are committed with checkpoints, if properties.group.id is given"),
    ("auto.commit.interval.ms", "offsets are committed with checkpoints, if properties.group.id is given"),
    ("allow.auto.create.topics", "topics are not created on the way"),
    ("enable.partition.eof", "it is needed to know the end of bounded input"),
    ("enable.gapless.guarantee", EXACTLY_ONCE),
    ("retries", "the client tries on until delivery.timeout.ms; fewer retries would lose rows"),
    ("message.send.max.retries", "the client tries on until delivery.timeout.ms; fewer retries would lose rows"),
    ("buffer.memory", "set properties.queue.buffering.max.kbytes"),
    ("interceptor.classes", "there is no Java here"),
    ("metric.reporters", "there is no Java here"),
    ("sasl.login.callback.handler.class", "there is no Java here"),
    ("sasl.client.callback.handler.class", "there is no Java here"),
    ("security.providers", "there is no Java here"),
    ("client.dns.lookup", "all addresses of a name are tried"),
    ("opaque", "it is not a setting of a table"),
];

/// Settings of which only some values keep the promises.
const ONLY: &[(&str, &[&str], &str)] = &[
    ("acks", &["all", "-1"], "a row counts as written when all replicas have it"),
    ("request.required.acks", &["all", "-1"], "a row counts as written when all replicas have it"),
    ("enable.idempotence", &["true"], EXACTLY_ONCE),
    ("isolation.level", &["read_committed"], "rows of transactions that are not committed may never be"),
    ("enable.auto.commit", &["false"], "offsets are committed with checkpoints, if properties.group.id is given"),
];

impl Properties {
    /// `given`: name and value without `properties.`; `of`: for messages.
    pub fn of<'a>(given: impl Iterator<Item = (&'a str, &'a str)>, of: &str) -> Result<Self> {
        let mut p = Properties {
            settings: Settings::new(),
            group: None,
            reset: None,
            api_timeout: API_TIMEOUT,
            message_bytes_max: None,
        };
        let mut trust = Trust::default();
        for (name, value) in given {
            p.take(name, value.trim(), &mut trust).map_err(|e| e.context(of))?;
        }
        trust.into_settings(&mut p.settings).map_err(|e| e.context(of))?;
        if p.settings.get("bootstrap.servers").is_none_or(|s| s.is_empty()) {
            return Err(Error::option(format!("{of} needs the option 'properties.bootstrap.servers'"))
                .note("brokers to begin with, with commas between them: 'broker1:9092,broker2:9092'"));
        }
        p.check_sasl(of)?;
        Ok(p)
    }

    fn take(&mut self, name: &str, value: &str, trust: &mut Trust) -> Result<()> {
        let option = format!("'properties.{name}'");
        if let Some((_, why)) = REFUSED.iter().find(|(n, _)| *n == name) {
            return Err(Error::option(format!("{option} cannot be set: {why}")));
        }
        if let Some((_, possible, why)) = ONLY.iter().find(|(n, ..)| *n == name)
            && !possible.iter().any(|p| p.eq_ignore_ascii_case(value))
        {
            return Err(Error::option(format!("{option} = '{value}' is not possible: {why}"))
                .note(format!("leave it out, or set it to '{}'", possible.first().unwrap_or(&""))));
        }
        match name {
            "group.id" => {
                self.group = Some(value.to_owned());
                return Ok(());
            }
            "auto.offset.reset" => {
                self.reset = match value.to_ascii_lowercase().as_str() {
                    "earliest" => Some(Reset::Earliest),
                    "latest" => Some(Reset::Latest),
                    "none" | "error" => None,
                    _ => {
                        return Err(Error::option(format!("{option} = '{value}' is none of earliest, latest, none")));
                    }
                };
                return Ok(());
            }
            "default.api.timeout.ms" | "max.block.ms" => {
                self.api_timeout = Duration::from_millis(number(&option, value)?.max(1));
                return Ok(());
            }
            "message.max.bytes" | "max.request.size" => {
                let bytes = number(&option, value)?;
                self.message_bytes_max = Some(self.message_bytes_max.map_or(bytes, |b| b.min(bytes)));
                return Ok(());
            }
            "sasl.jaas.config" => return jaas(value, &mut self.settings),
            "acks" | "enable.idempotence" | "isolation.level" | "enable.auto.commit" => return Ok(()),
            "sasl.mechanism" | "sasl.mechanisms" => {
                let mechanism = value.to_ascii_uppercase();
                let why = match mechanism.as_str() {
                    "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512" => {
                        self.settings.insert("sasl.mechanism".to_owned(), mechanism);
                        return Ok(());
                    }
                    "GSSAPI" => "Kerberos is not built in",
                    "OAUTHBEARER" => "OAuth is not there yet",
                    _ => "it is not known",
                };
                return Err(Error::unsupported(format!("{option} = '{value}': {why}")).note(
                    "mechanisms: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512; or certificates, with security.protocol = SSL",
                ));
            }
            "security.protocol" => {
                let protocol = value.to_ascii_lowercase();
                if !["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"].contains(&protocol.as_str()) {
                    return Err(Error::option(format!("{option} = '{value}' is not a protocol"))
                        .propose(did_you_mean(value, ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]))
                        .note("one of: PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"));
                }
                self.settings.insert(name.to_owned(), protocol);
                return Ok(());
            }
            "ssl.endpoint.identification.algorithm" if value.is_empty() => {
                self.settings.insert(name.to_owned(), "none".to_owned());
                return Ok(());
            }
            _ if trust.take(name, value) => return Ok(()),
            _ => {}
        }
        let known = RENAMED.iter().find(|(java, _)| *java == name).map_or(name, |(_, ours)| ours);
        check_setting(known, value).map_err(|why| {
            // The value may be in librdkafka's words.
            let why = if names_secret(name) { "the value is not possible".to_owned() } else { why };
            if why.contains("No such configuration property") {
                let names = setting_names();
                let all = names.iter().map(String::as_str).chain(RENAMED.iter().map(|(java, _)| *java));
                let near = nearest(name, all.chain(["bootstrap.servers", "acks"]));
                Error::option(format!("{option} is not a setting of the Kafka client"))
                    .propose(near.map(|near| format!("did you mean 'properties.{near}'?")))
                    .note("settings are those of librdkafka: https://docs.confluent.io/platform/current/clients/librdkafka/html/md_CONFIGURATION.html; many have Java's names")
            } else {
                Error::option(format!("{option}: {why}"))
            }
        })?;
        self.settings.insert(known.to_owned(), value.to_owned());
        Ok(())
    }

    fn check_sasl(&self, of: &str) -> Result<()> {
        let protocol = self.settings.get("security.protocol").map_or("plaintext", String::as_str);
        let has_user = self.settings.contains_key("sasl.username") && self.settings.contains_key("sasl.password");
        if protocol.starts_with("sasl") {
            if !self.settings.contains_key("sasl.mechanism") {
                return Err(Error::option(format!("{of} needs the option 'properties.sasl.mechanism'"))
                    .note("PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, as the broker's listener has it"));
            }
            if !has_user {
                return Err(Error::option(format!("{of} needs the option 'properties.sasl.jaas.config'"))
                    .note("'org.apache.kafka.common.security.plain.PlainLoginModule required username=\"…\" password=\"…\";', or properties.sasl.username and properties.sasl.password"));
            }
        } else if has_user || self.settings.contains_key("sasl.mechanism") {
            return Err(Error::option(format!(
                "{of}: user and password are given, but 'properties.security.protocol' is {protocol}"
            ))
            .note("set 'properties.security.protocol' = 'SASL_SSL' (or 'SASL_PLAINTEXT')"));
        }
        Ok(())
    }
}

fn number(option: &str, value: &str) -> Result<u64> {
    value.parse().map_err(|_| Error::option(format!("{option} = '{value}' is not a whole number, 0 or more")))
}

/// Java's stores of certificates.
#[derive(Default)]
struct Trust {
    store: Option<String>,
    store_type: Option<String>,
    keystore: Option<String>,
    keystore_type: Option<String>,
}

impl Trust {
    fn take(&mut self, name: &str, value: &str) -> bool {
        let place = match name {
            "ssl.truststore.location" => &mut self.store,
            "ssl.truststore.type" => &mut self.store_type,
            "ssl.keystore.location" => &mut self.keystore,
            "ssl.keystore.type" => &mut self.keystore_type,
            // A PEM file has none, and others are refused.
            "ssl.truststore.password" => return true,
            _ => return false,
        };
        *place = Some(value.to_owned());
        true
    }

    fn into_settings(self, settings: &mut Settings) -> Result<()> {
        let is_pem = |path: &str, kind: &Option<String>| match kind {
            Some(kind) => kind.eq_ignore_ascii_case("PEM"),
            None => [".pem", ".crt", ".cer"].iter().any(|e| path.ends_with(e)),
        };
        if let Some(path) = self.store {
            if !is_pem(&path, &self.store_type) {
                return Err(Error::unsupported(format!("'properties.ssl.truststore.location' = '{path}' is no PEM file"))
                    .note("keytool -exportcert -rfc -keystore STORE -alias NAME -file ca.pem, then 'properties.ssl.ca.location' = 'ca.pem'"));
            }
            settings.insert("ssl.ca.location".to_owned(), path);
        }
        if let Some(path) = self.keystore {
            if is_pem(&path, &self.keystore_type) {
                settings.insert("ssl.certificate.location".to_owned(), path.clone());
                settings.insert("ssl.key.location".to_owned(), path);
            } else if self.keystore_type.as_deref().is_none_or(|t| t.eq_ignore_ascii_case("PKCS12"))
                && !path.ends_with(".jks")
            {
                settings.insert("ssl.keystore.location".to_owned(), path);
            } else {
                return Err(Error::unsupported(format!(
                    "'properties.ssl.keystore.location' = '{path}': JKS cannot be read"
                ))
                .note("keytool -importkeystore -srckeystore STORE -destkeystore STORE.p12 -deststoretype PKCS12"));
            }
        }
        Ok(())
    }
}

/// `…PlainLoginModule required username="…" password="…";`
fn jaas(value: &str, settings: &mut Settings) -> Result<()> {
    let bad = |why: &str| {
        // The text holds a password.
        Error::option(format!("'properties.sasl.jaas.config' cannot be understood: {why}")).note(
            "it looks like: org.apache.kafka.common.security.plain.PlainLoginModule required username=\"…\" password=\"…\";",
        )
    };
    let words = jaas_words(value).ok_or_else(|| bad("a quote does not end"))?;
    let mut words = words.iter().map(String::as_str);
    let module = words.next().unwrap_or_default();
    let short = module.rsplit('.').next().unwrap_or_default();
    match short {
        "PlainLoginModule" | "ScramLoginModule" => {}
        "Krb5LoginModule" => return Err(Error::unsupported("Kerberos (Krb5LoginModule) is not built in")),
        "OAuthBearerLoginModule" => {
            return Err(Error::unsupported("OAuth (OAuthBearerLoginModule) is not there yet"));
        }
        _ => return Err(bad("it names neither PlainLoginModule nor ScramLoginModule")),
    }
    if words.next() != Some("required") {
        return Err(bad("the module must be followed by 'required'"));
    }
    for word in words {
        match word.split_once('=') {
            Some((name @ ("username" | "password"), value)) => {
                settings.insert(format!("sasl.{name}"), value.to_owned());
            }
            Some((name, _)) => return Err(bad(&format!("the option {name} is not known"))),
            None => return Err(bad("options are written name=\"value\"")),
        }
    }
    match ["sasl.username", "sasl.password"].iter().find(|k| !settings.contains_key(**k)) {
        Some(missing) => Err(bad(&format!("{} is missing", &missing[5..]))),
        None => Ok(()),
    }
}

/// Words between white space, with quotes taken off, up to the semicolon; `None`: a quote does not end.
fn jaas_words(text: &str) -> Option<Vec<String>> {
    let mut words = vec![];
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ';' => break,
            c if c.is_whitespace() => words.extend(word.take()),
            quote @ ('"' | '\'') => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        c if c == quote => break,
                        '\\' => word.push(chars.next()?),
                        c => word.push(c),
                    }
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(given: &[(&str, &str)]) -> Result<Properties> {
        let all = [("bootstrap.servers", "b:9092")].iter().chain(given).copied();
        Properties::of(all, "table t (connector 'kafka')")
    }

    fn refused(given: &[(&str, &str)]) -> String {
        of(given).unwrap_err().to_string()
    }

    #[test]
    fn flinks_jaas_strings_become_user_and_password() {
        for module in ["plain.PlainLoginModule", "scram.ScramLoginModule"] {
            let jaas = format!(
                "org.apache.kafka.common.security.{module} required\n  username=\"al ice\" password='a\"b;c\\\\' ;"
            );
            let p = of(&[
                ("security.protocol", "SASL_SSL"),
                ("sasl.mechanism", "scram-sha-256"),
                ("sasl.jaas.config", &jaas),
            ])
            .unwrap();
            assert_eq!(p.settings["sasl.username"], "al ice");
            assert_eq!(p.settings["sasl.password"], "a\"b;c\\");
            assert_eq!(p.settings["security.protocol"], "sasl_ssl");
            assert_eq!(p.settings["sasl.mechanism"], "SCRAM-SHA-256");
        }
    }

    #[test]
    fn what_is_wrong_with_a_jaas_string_is_said_without_its_password() {
        for (text, why) in [
            ("PlainLoginModule required username=\"u\" password=\"hush", "does not end"),
            ("PlainLoginModule username=\"u\" password=\"hush\";", "required"),
            ("PlainLoginModule required password=\"hush\";", "username is missing"),
            ("Other required password=\"hush\";", "neither"),
            ("PlainLoginModule required username=u password=hush port=1;", "port"),
        ] {
            let e = refused(&[("sasl.mechanism", "PLAIN"), ("sasl.jaas.config", text)]);
            assert!(e.contains(why) && !e.contains("hush"), "{text}: {e}");
        }
    }

    #[test]
    fn what_would_break_a_promise_is_refused_with_the_reason() {
        for (name, value, why) in [
            ("acks", "1", "all replicas"),
            ("enable.idempotence", "false", "promises"),
            ("transactional.id", "x", "sink.transactional-id-prefix"),
            ("isolation.level", "read_uncommitted", "committed"),
            ("enable.auto.commit", "true", "checkpoints"),
            ("partitioner.class", "x.Y", "sink.partitioner"),
            ("session.timeout.ms", "1", "no members of a group"),
            ("value.deserializer", "x", "formats"),
            ("retries", "0", "lose rows"),
            ("sasl.mechanism", "GSSAPI", "Kerberos"),
            ("security.protocol", "SSLL", "did you mean \"SSL\""),
            ("linger.ms", "soon", "linger.ms"),
            ("no.such.thing", "1", "not a setting"),
            ("bootstrap.server", "b:1", "did you mean 'properties.bootstrap.servers'?"),
            ("fetch.max.byte", "1", "did you mean 'properties.fetch.max.bytes'?"),
            ("recieve.buffer.bytes", "1", "did you mean 'properties.receive.buffer.bytes'?"),
            ("ssl.truststore.location", "/x/trust.jks", "keytool"),
        ] {
            let e = refused(&[(name, value)]);
            assert!(e.contains(why) && e.contains("table t"), "{name}: {e}");
        }
        assert!(of(&[("acks", "all"), ("enable.idempotence", "true"), ("isolation.level", "read_committed")]).is_ok());
    }

    #[test]
    fn javas_names_become_librdkafkas() {
        let p = of(&[
            ("fetch.max.wait.ms", "7"),
            ("max.partition.fetch.bytes", "100000"),
            ("compression.type", "zstd"),
            ("delivery.timeout.ms", "5000"),
            ("ssl.truststore.location", "/x/ca.pem"),
            ("group.id", "g"),
            ("auto.offset.reset", "earliest"),
            ("max.request.size", "2000000"),
        ])
        .unwrap();
        assert_eq!(p.settings["fetch.wait.max.ms"], "7");
        assert_eq!(p.settings["ssl.ca.location"], "/x/ca.pem");
        assert_eq!((p.group.as_deref(), p.reset), (Some("g"), Some(Reset::Earliest)));
        assert_eq!(p.message_bytes_max, Some(2_000_000));
    }

    #[test]
    fn credentials_and_protocol_must_fit() {
        assert!(refused(&[("security.protocol", "SASL_PLAINTEXT")]).contains("sasl.mechanism"));
        assert!(
            refused(&[("security.protocol", "SASL_SSL"), ("sasl.mechanism", "PLAIN")]).contains("sasl.jaas.config")
        );
        let e = refused(&[("sasl.username", "u"), ("sasl.password", "hush"), ("sasl.mechanism", "PLAIN")]);
        assert!(e.contains("security.protocol") && !e.contains("hush"), "{e}");
        assert!(Properties::of([].into_iter(), "table t").unwrap_err().to_string().contains("bootstrap.servers"));
    }
}
