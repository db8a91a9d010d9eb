//! The handshake: what the server says of itself, and how we show who we are.

use mysql_common::scramble::{scramble_native, scramble_sha256};

use super::packet::{Io, Packets};
use super::tls::{Tls, TlsMode};
use super::{Cursor, Login, WireError, server_error};

/// Flags of both sides (`CLIENT_…` in MySQL's own names).
mod flag {
    pub const LONG_PASSWORD: u32 = 1;
    pub const LONG_FLAG: u32 = 1 << 2;
    pub const PROTOCOL_41: u32 = 1 << 9;
    pub const SSL: u32 = 1 << 11;
    pub const TRANSACTIONS: u32 = 1 << 13;
    pub const SECURE_CONNECTION: u32 = 1 << 15;
    pub const MULTI_RESULTS: u32 = 1 << 17;
    pub const PLUGIN_AUTH: u32 = 1 << 19;
    pub const CONNECT_ATTRS: u32 = 1 << 20;
    pub const PLUGIN_AUTH_LENENC_DATA: u32 = 1 << 21;
    pub const DEPRECATE_EOF: u32 = 1 << 24;

    /// Without these we do not speak.
    pub const NEEDED: u32 = PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH | DEPRECATE_EOF;
    pub const WANTED: u32 =
        NEEDED | LONG_PASSWORD | LONG_FLAG | TRANSACTIONS | MULTI_RESULTS | CONNECT_ATTRS | PLUGIN_AUTH_LENENC_DATA;
}

/// `utf8mb4_general_ci`, which every server since 5.5 has.
const CHARSET: u8 = 45;
/// Packets that we take at most: MySQL's own limit.
const PACKET_BYTES_MAX: u32 = 1 << 30;
/// Bytes of the nonce that plugins use.
const NONCE_BYTES: usize = 20;

/// What the server says first.
struct Greeting {
    version: String,
    capabilities: u32,
    nonce: Vec<u8>,
    plugin: String,
}

impl Greeting {
    fn parse(packet: &[u8]) -> Result<Self, WireError> {
        if packet.first() == Some(&0xff) {
            return Err(server_error(packet, false));
        }
        let mut c = Cursor::new(packet);
        let protocol = c.u8()?;
        if protocol != 10 {
            return Err(WireError::Protocol(format!("protocol version {protocol}: this is no MySQL server")));
        }
        let version = String::from_utf8_lossy(c.until_nul()?).into_owned();
        c.take(4)?; // connection id
        let mut nonce = c.take(8)?.to_vec();
        c.take(1)?;
        let low = c.u16()?;
        c.take(3)?; // charset, status
        let capabilities = u32::from(low) | u32::from(c.u16()?) << 16;
        let nonce_bytes = usize::from(c.u8()?);
        c.take(10)?;
        if capabilities & flag::NEEDED != flag::NEEDED {
            return Err(WireError::Protocol(format!(
                "server {version} lacks parts of the protocol that are needed (flags {capabilities:#x})"
            )));
        }
        nonce.extend_from_slice(c.take(nonce_bytes.saturating_sub(8).max(13))?);
        nonce.truncate(NONCE_BYTES);
        let plugin = String::from_utf8_lossy(c.until_nul().unwrap_or_default()).into_owned();
        Ok(Greeting { version, capabilities, nonce, plugin })
    }
}

/// Shakes hands over a fresh connection; the packets to go on with, and the server's version.
pub async fn log_in(mut packets: Packets, login: &Login, tls: &Tls) -> Result<(Packets, String), WireError> {
    packets.read().await?;
    let greeting = Greeting::parse(packets.current())?;
    let mut ours = flag::WANTED & greeting.capabilities;
    let has_tls = greeting.capabilities & flag::SSL != 0;
    match tls.mode {
        TlsMode::Disabled => {}
        TlsMode::Preferred if !has_tls => {}
        _ if !has_tls => return Err(WireError::Tls("the server has no TLS".to_owned())),
        _ => {
            ours |= flag::SSL;
            packets.write(&head(ours)).await?;
            let timeout = packets.read_timeout;
            let (tcp, sequence) = packets.into_tcp()?;
            let stream = match tokio::time::timeout(timeout, tls.connect(&login.host, tcp)).await {
                Ok(stream) => stream?,
                Err(_) => return Err(WireError::Silent(timeout)),
            };
            packets = Packets::new(Io::Tls(Box::new(stream)), timeout).with_sequence(sequence);
        }
    }

    let mut response = head(ours);
    response.extend_from_slice(login.user.as_bytes());
    response.push(0);
    let answer = first_answer(&greeting.plugin, login.password.expose(), &greeting.nonce, packets.is_encrypted());
    put_lenenc_bytes(&mut response, &answer);
    response.extend_from_slice(greeting.plugin.as_bytes());
    response.push(0);
    if ours & flag::CONNECT_ATTRS != 0 {
        let mut attributes = vec![];
        for (name, value) in [("program_name", "thalweg"), ("_client_version", env!("CARGO_PKG_VERSION"))] {
            put_lenenc_bytes(&mut attributes, name.as_bytes());
            put_lenenc_bytes(&mut attributes, value.as_bytes());
        }
        put_lenenc_bytes(&mut response, &attributes);
    }
    packets.write(&response).await?;
    finish(&mut packets, login, greeting.plugin, greeting.nonce).await?;
    Ok((packets, greeting.version))
}

/// What both the TLS request and the response begin with.
fn head(capabilities: u32) -> Vec<u8> {
    let mut head = capabilities.to_le_bytes().to_vec();
    head.extend_from_slice(&PACKET_BYTES_MAX.to_le_bytes());
    head.push(CHARSET);
    head.extend_from_slice(&[0; 23]);
    head
}

const NATIVE: &str = "mysql_native_password";
const CACHING_SHA2: &str = "caching_sha2_password";
const SHA256: &str = "sha256_password";
const CLEAR: &str = "mysql_clear_password";

/// A plugin's first word; nothing for plugins that we do not know: the server then says so.
fn first_answer(plugin: &str, password: &str, nonce: &[u8], encrypted: bool) -> Vec<u8> {
    if password.is_empty() {
        return match plugin {
            SHA256 | CLEAR => vec![0],
            _ => vec![],
        };
    }
    match plugin {
        NATIVE => scramble_native(nonce, password.as_bytes()).map(|s| s.to_vec()).unwrap_or_default(),
        CACHING_SHA2 => scramble_sha256(nonce, password.as_bytes()).map(|s| s.to_vec()).unwrap_or_default(),
        // Only where nobody listens; else the server's key is asked for first.
        SHA256 if !encrypted => vec![1],
        SHA256 | CLEAR if encrypted => with_nul(password),
        _ => vec![],
    }
}

fn with_nul(password: &str) -> Vec<u8> {
    let mut bytes = password.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// Answers what the server asks until it says yes or no.
async fn finish(packets: &mut Packets, login: &Login, mut plugin: String, mut nonce: Vec<u8>) -> Result<(), WireError> {
    let password = login.password.expose();
    loop {
        packets.read().await?;
        let packet = packets.current();
        match packet.first() {
            Some(0x00) => return Ok(()),
            Some(0xff) => return Err(server_error(packet, true)),
            Some(0xfe) => {
                let mut c = Cursor::new(&packet[1..]);
                plugin = String::from_utf8_lossy(c.until_nul()?).into_owned();
                let mut data = c.rest().to_vec();
                data.truncate(NONCE_BYTES);
                nonce = data;
                let encrypted = packets.is_encrypted();
                match plugin.as_str() {
                    NATIVE | CACHING_SHA2 | SHA256 => {}
                    CLEAR if encrypted => {}
                    CLEAR => {
                        return Err(WireError::Login(
                            "the server asks for the password in clear text, which needs TLS".to_owned(),
                        ));
                    }
                    other => {
                        return Err(WireError::Login(format!("the user logs in by {other}, which is not supported")));
                    }
                }
                let answer = first_answer(&plugin, password, &nonce, encrypted);
                packets.write(&answer).await?;
            }
            Some(0x01) => match (plugin.as_str(), &packet[1..]) {
                (CACHING_SHA2, [3]) => {}
                (CACHING_SHA2, [4]) if packets.is_encrypted() => packets.write(&with_nul(password)).await?,
                (CACHING_SHA2, [4]) => packets.write(&[2]).await?,
                (CACHING_SHA2 | SHA256, key) => {
                    let sealed = seal(password, &nonce, key)?;
                    packets.write(&sealed).await?;
                }
                (other, _) => return Err(WireError::Login(format!("{other} asks for what is not supported"))),
            },
            _ => return Err(WireError::Protocol("no answer to the login".to_owned())),
        }
    }
}

/// The password under the server's RSA key, for connections without TLS.
fn seal(password: &str, nonce: &[u8], key: &[u8]) -> Result<Vec<u8>, WireError> {
    if nonce.is_empty() {
        return Err(WireError::Protocol("no nonce to log in with".to_owned()));
    }
    let mut bytes = with_nul(password);
    bytes.iter_mut().enumerate().for_each(|(i, b)| *b ^= nonce[i % nonce.len()]);
    // The library takes the key apart with assertions.
    std::panic::catch_unwind(|| mysql_common::crypto::encrypt(&bytes, key))
        .map_err(|_| WireError::Protocol("the server's public key cannot be read".to_owned()))
}

fn put_lenenc_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        n @ 0..=250 => out.push(n as u8),
        n @ 251..=0xffff => {
            out.push(0xfc);
            out.extend_from_slice(&(n as u16).to_le_bytes());
        }
        n => {
            out.push(0xfe);
            out.extend_from_slice(&(n as u64).to_le_bytes());
        }
    }
    out.extend_from_slice(bytes);
}
