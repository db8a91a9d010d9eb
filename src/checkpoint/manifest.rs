//! The manifest: everything that a checkpoint is, in one file. Putting it is the commit.
//!
//! The file is JSON. It begins with the version of the format and the length and CRC-32 of what follows, so that a flipped,
//! cut or foreign file is told from a good one before anything of it is believed:
//!
//! ```text
//! {"format":1,"bytes":5120,"crc32":"0a1b2c3d","manifest":
//! {"engine":"0.1.0","job":"…",…}
//! }
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thalweg_core::mark::JobId;
use thalweg_core::stored::StoredShard;
use thalweg_core::{Error, Result, key, key_group, value};
use thalweg_graph::{Graph, NodeIx, OperatorId};

use crate::attempt::AttemptId;
use crate::segments::SinkLog;

/// Version of this format. A file of another version is refused, never guessed at.
pub const FORMAT_VERSION: u32 = 1;
/// What to do when a manifest cannot be used.
pub(crate) const WHAT_TO_DO: &str = "nothing was overwritten. `thalweg checkpoint list DIR` shows what there is; start from another checkpoint with \
     --from PATH, or read all sources again with --fresh";

/// One entry in the numbered log of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the engine that wrote it; for people.
    pub engine: String,
    pub job: JobId,
    /// `pipeline.name`, or what messages call the job.
    pub job_name: String,
    /// `pipeline.name` was given: the job is found by it.
    pub is_named: bool,
    pub attempt: AttemptId,
    /// Place in the job's log, from 1; the number of the checkpoint.
    pub number: u64,
    pub kind: Kind,
    /// The last tick that is in it; 0: none.
    pub tick: u64,
    /// Wall clock of that tick, µs since 1970-01-01 UTC.
    pub wall_clock_us: i64,
    pub workers: usize,
    pub max_parallelism: u16,
    pub codecs: CodecVersions,
    pub statement: Statement,
    pub graph: Graph,
    /// Cover the key groups that have state, without overlap.
    pub shards: Vec<StoredShard>,
    pub sources: Vec<SourceLog>,
    pub sinks: Vec<SinkLog>,
    /// All bounded inputs are through, and everything is delivered: the job is done.
    pub finished: bool,
    /// Jobs that this one begins in the place of (`--fresh`, `--from`): from its first manifest on they do not go on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<JobId>,
}

/// Why the entry was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// An attempt took over: a copy of the entry it restores from.
    Claim,
    Checkpoint,
    /// Kept until the user deletes it.
    Savepoint,
}

/// Versions of the frozen bytes in the state files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodecVersions {
    pub key: u32,
    pub value: u32,
    pub hash: u32,
}

impl CodecVersions {
    pub const CURRENT: CodecVersions =
        CodecVersions { key: key::KEY_CODEC_VERSION, value: value::VALUE_CODEC_VERSION, hash: key_group::HASH_VERSION };
}

/// What the job was planned from. If it is unchanged, the stored graph is run as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Statement {
    /// For people; secrets masked.
    pub text: String,
    /// Hash over the statement's tokens and the definitions of all tables, views and settings that enter the plan,
    /// without comments and white space.
    pub fingerprint: String,
}

/// Where a source stands after the manifest's tick.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceLog {
    pub operator: OperatorId,
    pub variant: u64,
    /// As the user calls what is read; for messages.
    pub name: String,
    /// Split → position; also splits that were silent.
    pub positions: BTreeMap<String, serde_json::Value>,
    /// Rows read since the job's first start.
    pub rows: u64,
}

impl SourceLog {
    /// No row was read.
    pub fn is_at_start(&self) -> bool {
        self.positions.is_empty() && self.rows == 0
    }
}

impl Manifest {
    pub fn sink(&self, sink: OperatorId) -> Option<&SinkLog> {
        self.sinks.iter().find(|s| s.sink == sink)
    }

    /// Where the source of a node stands: that of equal variant, else any of the same id.
    pub fn source(&self, operator: OperatorId, variant: u64) -> Option<&SourceLog> {
        let of_id = |s: &&SourceLog| s.operator == operator;
        self.sources.iter().filter(of_id).find(|s| s.variant == variant).or_else(|| self.sources.iter().find(of_id))
    }

    /// Index of the node that a state table belongs to.
    pub fn node(&self, operator: &str, variant: u64) -> Option<NodeIx> {
        self.graph.nodes.iter().position(|n| n.variant == variant && n.id.to_string() == operator)
    }

    /// All objects that this entry needs: state files, and parts of pending segments.
    pub fn objects(&self) -> impl Iterator<Item = &str> {
        let files = self.shards.iter().flat_map(|s| &s.files).map(|f| f.object.as_str());
        let parts = self.sinks.iter().flat_map(|s| &s.pending).flat_map(|s| &s.parts).map(|p| p.object.as_str());
        files.chain(parts)
    }

    /// Size of the state files, in bytes.
    pub fn state_bytes(&self) -> u64 {
        self.shards.iter().flat_map(|s| &s.files).map(|f| f.size).sum()
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let body = serde_json::to_vec(self).expect("a manifest is plain data");
        let crc32 = crc32fast::hash(&body);
        let mut file =
            format!("{{\"format\":{FORMAT_VERSION},\"bytes\":{},\"crc32\":\"{crc32:08x}\",\"manifest\":\n", body.len())
                .into_bytes();
        file.extend(body);
        file.extend(b"\n}\n");
        file
    }

    /// Reads a file's bytes; `file` names it in errors, which all are of code `Checkpoint`.
    pub fn from_bytes(file: &str, bytes: &[u8]) -> Result<Manifest> {
        let damaged = |what: &str| Error::checkpoint(format!("{file} is damaged: {what}")).note(WHAT_TO_DO);
        let end = bytes.iter().position(|b| *b == b'\n').ok_or_else(|| damaged("it has no first line"))?;
        let (head, rest) = (&bytes[..end], &bytes[end + 1..]);
        let head = Head::parse(head).ok_or_else(|| damaged("its first line is not that of a manifest"))?;
        if head.format != FORMAT_VERSION {
            return Err(Error::checkpoint(format!(
                "{file} has format version {}, this engine ({}) reads version {FORMAT_VERSION}",
                head.format,
                engine_version()
            ))
            .note("use the version of Thalweg that wrote it, or a later one that reads both")
            .note(WHAT_TO_DO));
        }
        let body = rest.get(..head.bytes).ok_or_else(|| {
            damaged(&format!("it ends after {} bytes, {} are missing", bytes.len(), head.bytes - rest.len()))
        })?;
        if crc32fast::hash(body) != head.crc32 || &rest[head.bytes..] != b"\n}\n" {
            return Err(damaged("its checksum does not fit its content"));
        }
        let manifest: Manifest = serde_json::from_slice(body).map_err(|e| {
            Error::checkpoint(format!("{file} cannot be read by this engine ({}): {e}", engine_version()))
                .note(WHAT_TO_DO)
        })?;
        if manifest.codecs != CodecVersions::CURRENT {
            return Err(Error::checkpoint(format!(
                "the state of {file} has key, value and hash versions {:?}, this engine writes {:?}",
                manifest.codecs,
                CodecVersions::CURRENT
            ))
            .note(format!("it was written by Thalweg {}: use that version", manifest.engine)));
        }
        Ok(manifest)
    }
}

/// The version that is written into manifests.
pub fn engine_version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

struct Head {
    format: u32,
    bytes: usize,
    crc32: u32,
}

impl Head {
    fn parse(line: &[u8]) -> Option<Head> {
        let line = std::str::from_utf8(line).ok()?;
        let (format, rest) = line.strip_prefix("{\"format\":")?.split_once(",\"bytes\":")?;
        let (bytes, rest) = rest.split_once(",\"crc32\":\"")?;
        let crc32 = rest.strip_suffix("\",\"manifest\":")?;
        Some(Head {
            format: format.parse().ok()?,
            bytes: bytes.parse().ok()?,
            crc32: u32::from_str_radix(crc32, 16).ok()?,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use thalweg_core::ErrorCode;

    use super::*;

    /// A manifest with everything empty.
    pub(crate) fn manifest(job: &str, number: u64) -> Manifest {
        Manifest {
            engine: engine_version().into(),
            job: JobId(job.into()),
            job_name: "orders".into(),
            is_named: false,
            attempt: AttemptId::new(1),
            number,
            kind: Kind::Checkpoint,
            tick: number * 10,
            wall_clock_us: 1_790_000_000_000_000,
            workers: 2,
            max_parallelism: 256,
            codecs: CodecVersions::CURRENT,
            statement: Statement::default(),
            graph: Graph::default(),
            shards: vec![],
            sources: vec![],
            sinks: vec![],
            finished: false,
            replaces: vec![],
        }
    }

    #[test]
    fn a_manifest_is_json_and_comes_back() {
        let mut m = manifest("j", 3);
        m.sources.push(SourceLog {
            operator: OperatorId([7; 16]),
            variant: u64::MAX,
            name: "orders".into(),
            positions: BTreeMap::from([(
                "a.json".into(),
                serde_json::json!({"offset": 18_446_744_073_709_551_615u64}),
            )]),
            rows: 12,
        });
        let bytes = m.to_bytes();
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(json["manifest"]["number"], 3);
        assert_eq!(Manifest::from_bytes("f", &bytes).unwrap(), m);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let bytes = manifest("j", 3).to_bytes();
        for i in 0..bytes.len() {
            let e = Manifest::from_bytes("chk/MANIFEST-3.json", &bytes[..i]).unwrap_err();
            assert!(e.code() == ErrorCode::Checkpoint && e.message().contains("chk/MANIFEST-3.json"), "{e:?}");
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[i] ^= 1 << bit;
                // Upper and lower case hex digits of the checksum are the same number.
                if let Ok(m) = Manifest::from_bytes("f", &flipped) {
                    assert_eq!(m, manifest_of(&bytes), "byte {i} bit {bit}");
                    assert!(i < 60);
                }
            }
        }
    }

    fn manifest_of(bytes: &[u8]) -> Manifest {
        Manifest::from_bytes("f", bytes).unwrap()
    }

    #[test]
    fn another_version_is_refused_with_its_number() {
        let text = String::from_utf8(manifest("j", 3).to_bytes()).unwrap();
        let e = Manifest::from_bytes("f", text.replacen("\"format\":1", "\"format\":7", 1).as_bytes()).unwrap_err();
        assert!(e.message().contains("format version 7"), "{e:?}");
        let mut other = manifest("j", 3);
        other.codecs.hash += 1;
        assert!(Manifest::from_bytes("f", &other.to_bytes()).unwrap_err().message().contains("hash versions"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), headed: bool) {
            let mut file = if headed { b"{\"format\":1,\"bytes\":9,\"crc32\":\"00000000\",\"manifest\":\n".to_vec() } else { vec![] };
            file.extend(bytes);
            prop_assert!(Manifest::from_bytes("f", &file).is_err());
        }
    }
}
