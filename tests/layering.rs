//! Who sees whom: the layers of the architecture, checked against the crates' declared dependencies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Per crate of this workspace the crates that it depends on when it is built (tests may see more).
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .expect("cargo runs: it runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let of = |package: &Value| {
        let all = package["dependencies"].as_array().into_iter().flatten();
        all.filter(|d| d["kind"].is_null()).map(|d| text(&d["name"])).collect()
    };
    metadata["packages"].as_array().into_iter().flatten().map(|p| (text(&p["name"]), of(p))).collect()
}

fn is_ours(name: &str) -> bool {
    name.starts_with("thalweg")
}

const CONNECTORS: [&str; 6] =
    ["thalweg-blackhole", "thalweg-datagen", "thalweg-filesystem", "thalweg-kafka", "thalweg-mysql", "thalweg-print"];

/// Of this workspace a crate sees these at most.
const SEES: &[(&str, &[&str])] = &[
    ("thalweg-core", &[]),
    ("thalweg-graph", &["thalweg-core"]),
    ("thalweg-functions", &["thalweg-core"]),
    ("thalweg-state", &["thalweg-core"]),
    ("thalweg-operators", &["thalweg-core", "thalweg-graph", "thalweg-functions"]),
    ("thalweg-plan", &["thalweg-core", "thalweg-graph", "thalweg-functions"]),
    ("thalweg-checkpoint", &["thalweg-core", "thalweg-graph"]),
    ("thalweg-connector-api", &["thalweg-core"]),
    ("thalweg-formats", &["thalweg-core", "thalweg-connector-api"]),
    (
        "thalweg-runtime",
        &["thalweg-core", "thalweg-graph", "thalweg-state", "thalweg-checkpoint", "thalweg-connector-api"],
    ),
    ("thalweg-cli", &["thalweg-core", "thalweg-session"]),
];

#[test]
fn crates_see_only_the_layers_below_them() {
    let all = dependencies();
    for (name, allowed) in SEES {
        let seen = all.get(*name).unwrap_or_else(|| panic!("there is no crate {name}"));
        let other: Vec<_> = seen.iter().filter(|d| is_ours(d) && !allowed.contains(&d.as_str())).collect();
        assert!(other.is_empty(), "{name} must not see {other:?}");
    }
}

#[test]
fn connectors_see_only_the_words_and_their_contract() {
    let all = dependencies();
    let allowed = ["thalweg-core", "thalweg-connector-api", "thalweg-formats"];
    for name in CONNECTORS {
        let other: Vec<_> = all[name].iter().filter(|d| is_ours(d) && !allowed.contains(&d.as_str())).collect();
        assert!(other.is_empty(), "{name} must not see {other:?}");
    }
    for (name, seen) in &all {
        let connectors: Vec<_> = seen.iter().filter(|d| CONNECTORS.contains(&d.as_str())).collect();
        assert!(name == "thalweg" || connectors.is_empty(), "{name} must not see {connectors:?}");
    }
}

#[test]
fn each_engine_below_is_seen_by_one_layer() {
    let all = dependencies();
    let seen_by = |dependency: &str| -> Vec<&str> {
        all.iter().filter(|(_, d)| d.contains(dependency)).map(|(name, _)| name.as_str()).collect()
    };
    assert_eq!(seen_by("timely"), ["thalweg-runtime"]);
    assert_eq!(seen_by("rocksdb"), ["thalweg-state"]);
    assert_eq!(seen_by("object_store"), ["thalweg-checkpoint"]);
    assert_eq!(seen_by("sqlparser"), ["thalweg-plan"]);
    for name in ["thalweg-core", "thalweg-graph"] {
        let planner: Vec<_> =
            all[name].iter().filter(|d| d.starts_with("datafusion") || *d == "timely" || *d == "tokio").collect();
        assert!(planner.is_empty(), "{name} must not see {planner:?}");
    }
}
