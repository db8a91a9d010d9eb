//! What the documents say is so: their examples run as pasted, their tables of options are the declared ones, their
//! links lead somewhere.
//!
//! Blocks of a page run in their order, the SQL of one page in one session. Words behind the language say otherwise:
//!
//! | block | |
//! | --- | --- |
//! | ```` ```sql ```` | runs, as a part of the page's script |
//! | ```` ```sql unbounded ```` | its last query never ends: it must give changes, and end with Ctrl-C |
//! | ```` ```sql file=NAME ```` | is the file NAME for the commands that follow |
//! | ```` ```sh ```` | runs in bash, in a folder that is empty but for `examples` |
//! | ```` ```sh until=FOLDER ```` | the same, but a job in it never ends: it gets Ctrl-C when it has written a file into FOLDER |
//! | ```` ```sql mysql ```` | is for a MySQL server, as its root |
//! | ```` ```sh servers topic=TOPIC ```` | runs with a MySQL and a Kafka in the place of its first line; a job in it never ends |
//! | ```` ```sql ignore ````, ```` ```sh ignore ```` | does not run |

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::engine::thalweg;
use support::kafka::Kafka;
use support::mysqld::Mysqld;
use thalweg_connector_api::Connector;
use thalweg_core::options::{OptionDefault, OptionKind, OptionSpec};
use thalweg_core::table::TableDef;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document, by its path below the root.
fn documents() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().join("docs/src")];
    let mut files: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benches/README.md"].map(|f| root().join(f)).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    for path in files.into_iter().filter(|p| p.extension().is_some_and(|e| e == "md")) {
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        found.insert(name, fs::read_to_string(path).unwrap());
    }
    found
}

struct Block {
    language: String,
    words: Vec<String>,
    text: String,
    line: usize,
}

impl Block {
    fn has(&self, word: &str) -> bool {
        self.words.iter().any(|w| w == word)
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.words.iter().find_map(|w| w.strip_prefix(key)?.strip_prefix('='))
    }
}

/// The fenced blocks of a page.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = vec![];
    let mut open: Option<Block> = None;
    for (i, line) in page.lines().enumerate() {
        let Some(info) = line.trim_start().strip_prefix("```") else {
            if let Some(block) = &mut open {
                block.text.push_str(line);
                block.text.push('\n');
            }
            continue;
        };
        match open.take() {
            Some(block) => blocks.push(block),
            None => {
                let mut words = info.split_whitespace().map(str::to_owned);
                let language = words.next().unwrap_or_default();
                open = Some(Block { language, words: words.collect(), text: String::new(), line: i + 1 });
            }
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// A folder for a page's commands: with the examples, and a `thalweg` that says who it is.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(root().join("examples"), folder.path().join("examples")).unwrap();
        let bin = folder.path().join(".bin");
        fs::create_dir(&bin).unwrap();
        let wrapper =
            format!("#!/bin/sh\necho $$ > '{}/pid'\nexec '{}' \"$@\"\n", bin.display(), env!("CARGO_BIN_EXE_thalweg"));
        fs::write(bin.join("thalweg"), wrapper).unwrap();
        fs::set_permissions(bin.join("thalweg"), fs::Permissions::from_mode(0o755)).unwrap();
        Place { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn files_in(&self, folder: &str) -> usize {
        let Ok(entries) = fs::read_dir(self.path().join(folder)) else { return 0 };
        entries.flatten().filter(|e| !e.file_name().to_string_lossy().starts_with('.')).count()
    }

    /// Starts shell commands; what they print goes into `.log`.
    fn start(&self, commands: &str) -> Child {
        let path = format!("{}:{}", self.path().join(".bin").display(), std::env::var("PATH").unwrap());
        let out = fs::File::create(self.path().join(".log")).unwrap();
        Command::new("bash")
            .args(["-euo", "pipefail", "-c", commands])
            .current_dir(self.path())
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap()
    }

    /// Runs a block of shell commands to its end, status 0.
    fn run(&self, block: &Block, what: &str) {
        let bin = self.path().join(".bin");
        let log = self.path().join(".log");
        let mut bash = self.start(&block.text);
        let began = Instant::now();
        let mut until = block.value("until").map(|folder| (folder, self.files_in(folder)));
        let status = loop {
            if let Some(status) = bash.try_wait().unwrap() {
                break status;
            }
            if let Some((folder, before)) = until
                && self.files_in(folder) > before
            {
                let pid = fs::read_to_string(bin.join("pid")).unwrap();
                assert!(Command::new("kill").args(["-INT", pid.trim()]).status().unwrap().success());
                until = None;
            }
            if began.elapsed() > PATIENCE {
                let _ = bash.kill();
                if let Ok(pid) = fs::read_to_string(bin.join("pid")) {
                    let _ = Command::new("kill").args(["-KILL", pid.trim()]).status();
                }
                panic!("{what} does not end:\n{}", fs::read_to_string(&log).unwrap());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(status.success(), "{what}:\n{}", fs::read_to_string(&log).unwrap());
        assert!(until.is_none(), "{what} wrote nothing:\n{}", fs::read_to_string(&log).unwrap());
    }
}

/// A query that never ends gives changes, and ends well when it is asked to.
fn gives_changes(sql: &str, place: &Path, what: &str) {
    let mut engine = thalweg(["--format", "csv", "-c", sql]).current_dir(place).start();
    let came = engine.wait_until("changes", |e| e.stdout_so_far().lines().count() > 3);
    assert!(came, "{what}: {}", engine.stderr_so_far());
    engine.signal("INT");
    let ended = engine.wait();
    assert_eq!(ended.status.code(), Some(0), "{what}: {ended}");
}

#[test]
fn every_example_runs_as_pasted() {
    let mut ran = 0;
    for (name, page) in documents() {
        if name.starts_with("benches/") || name == "CONTRIBUTING.md" {
            continue;
        }
        let place = Place::new();
        if name == "README.md" {
            // What `scripts/demo` leaves.
            let mut generate = Command::new("examples/demo/generate");
            let made = generate.args(["4000", "target/demo"]).current_dir(place.path()).status();
            assert!(made.unwrap().success());
        }
        // The statements so far, so that a later block finds its tables.
        let mut script = String::new();
        for block in blocks(&page) {
            let what = format!("{name}:{}", block.line);
            if block.has("ignore") || block.has("servers") || block.has("mysql") {
                continue;
            }
            match block.language.as_str() {
                "sql" => {
                    if let Some(file) = block.value("file") {
                        fs::write(place.path().join(file), &block.text).unwrap();
                        continue;
                    }
                    let all = format!("{script}{}", block.text);
                    if block.has("unbounded") {
                        gives_changes(&all, place.path(), &what);
                    } else {
                        let ended = thalweg(["-c", &all]).current_dir(place.path()).ended();
                        assert_eq!(ended.status.code(), Some(0), "{what}\n{ended}");
                        // Without its queries and jobs: what it makes.
                        script = definitions(&all);
                    }
                    ran += 1;
                }
                "sh" => {
                    place.run(&block, &what);
                    ran += 1;
                }
                "text" | "rust" => {}
                other => panic!("{what}: a block of {other:?} that nobody checks"),
            }
        }
    }
    assert!(ran > 15, "only {ran} examples were found");
}

/// A job of a block for servers, killed when it is dropped.
struct Pasted {
    place: Place,
    bash: Child,
}

impl Pasted {
    fn signal(&self, name: &str) {
        let pid = fs::read_to_string(self.place.path().join(".bin/pid")).unwrap_or_default();
        if !pid.trim().is_empty() {
            let _ = Command::new("kill").args([&format!("-{name}"), pid.trim()]).status();
        }
    }

    /// Waits until the topic has a message in which these stand.
    fn wait_for(&mut self, kafka: &Kafka, topic: &str, parts: &[&str], what: &str) {
        let began = Instant::now();
        loop {
            let found = kafka.read(topic);
            if found.iter().filter_map(|m| m.value.as_ref()).any(|v| parts.iter().all(|p| v.contains(p))) {
                return;
            }
            let log = || fs::read_to_string(self.place.path().join(".log")).unwrap();
            assert!(self.bash.try_wait().unwrap().is_none(), "{what} ended:\n{}", log());
            assert!(began.elapsed() < PATIENCE, "{what}: no {parts:?} in {topic}: {found:?}\n{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Pasted {
    fn drop(&mut self) {
        if matches!(self.bash.try_wait(), Ok(None)) {
            self.signal("KILL");
            let _ = self.bash.kill();
            let _ = self.bash.wait();
        }
    }
}

#[test]
fn scripts_for_servers_copy_tables_as_pasted() {
    let (mysql, kafka) = (Mysqld::start(&[]), Kafka::start(&[]));
    let mut root = mysql.session();
    let documents = documents();
    for block in blocks(&documents["docs/src/mysql-to-kafka.md"]).iter().filter(|b| b.has("mysql")) {
        root.run(&block.text);
    }
    let mut ran = 0;
    for name in ["README.md", "docs/src/mysql-to-kafka.md"] {
        for block in blocks(&documents[name]).iter().filter(|b| b.has("servers")) {
            let (what, topic) = (format!("{name}:{}", block.line), block.value("topic").expect("it names its topic"));
            kafka.create(topic, 4, &[]);
            let theirs = "MYSQL_HOST=db1 MYSQL_PORT=3306 KAFKA=kafka1:9092\n";
            let ours = format!("MYSQL_HOST=127.0.0.1 MYSQL_PORT={} KAFKA={}\n", mysql.port(), kafka.address);
            assert!(block.text.starts_with(theirs), "{what}");
            let place = Place::new();
            let bash = place.start(&block.text.replacen(theirs, &ours, 1));
            let mut job = Pasted { place, bash };
            job.wait_for(&kafka, topic, &["99.90"], &what);
            // A change while it runs.
            let amount = format!("{}.25", 1000 + ran);
            root.run(&format!("UPDATE shop.orders SET amount = {amount} WHERE id = 1"));
            job.wait_for(&kafka, topic, &[&amount], &what);
            job.signal("INT");
            let status = job.bash.wait().unwrap();
            assert!(status.success(), "{what}:\n{}", fs::read_to_string(job.place.path().join(".log")).unwrap());
            kafka.delete(topic);
            ran += 1;
        }
    }
    assert_eq!(ran, 3, "scripts for servers");
}

/// The statements of a script that later ones may need.
fn definitions(script: &str) -> String {
    let keep = |s: &&str| {
        let word = s.split_whitespace().next().unwrap_or_default().to_uppercase();
        ["CREATE", "SET", "UPDATE", "DELETE"].contains(&word.as_str()) || s.contains("VALUES")
    };
    script.split_inclusive(";\n").filter(keep).collect()
}

/// Rows of the tables of a page: per row its cells, without the backticks' meaning.
fn table_rows(page: &str) -> Vec<Vec<String>> {
    let rows = page.lines().filter(|l| l.starts_with('|') && !l.starts_with("| ---"));
    // An empty cell is ` | | `.
    let spaced = rows.map(|l| l.trim_matches('|').replace(" | | ", " |  | "));
    spaced.map(|l| l.split(" | ").map(|c| c.trim().to_owned()).collect()).collect()
}

/// The options that a page documents, with the default's cell: of rows whose first cell is names in backticks.
fn documented(page: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for row in table_rows(page).iter().filter(|r| r.len() == 3) {
        let mut last = String::new();
        for (i, name) in row[0].split('`').enumerate() {
            if i % 2 == 0 || !row[0].starts_with('`') {
                continue;
            }
            // `.max` stands for the name before it with another end.
            let name = match name.strip_prefix('.') {
                Some(end) => format!("{}.{end}", last.rsplit_once('.').map_or("", |(begin, _)| begin)),
                None => name.to_owned(),
            };
            found.insert(name.clone(), row[1].clone());
            last = name;
        }
    }
    found
}

/// How a default stands in a table.
fn default_cell(spec: &OptionSpec) -> String {
    match spec.default {
        OptionDefault::Required => "required".to_owned(),
        OptionDefault::Absent => "none".to_owned(),
        OptionDefault::Value(v) => format!("`{v}`"),
    }
}

fn agree(page: &str, documented: &BTreeMap<String, String>, specs: &[OptionSpec]) {
    let fixed: Vec<&OptionSpec> = specs.iter().filter(|s| s.kind != OptionKind::Prefix).collect();
    let prefixes: Vec<&str> = specs.iter().filter(|s| s.kind == OptionKind::Prefix).map(|s| s.name).collect();
    for spec in &fixed {
        let cell =
            documented.get(spec.name).unwrap_or_else(|| panic!("{page} says nothing of the option {}", spec.name));
        assert_eq!(*cell, default_cell(spec), "{page}: the default of {}", spec.name);
    }
    for name in documented.keys() {
        let known = fixed.iter().any(|s| s.name == name) || prefixes.iter().any(|p| name.starts_with(p));
        assert!(known, "{page}: there is no option {name}");
    }
    for prefix in prefixes {
        assert!(documented.keys().any(|n| n.starts_with(prefix)), "{page} says nothing of {prefix}*");
    }
}

fn table(options: &[(&str, &str)]) -> TableDef {
    TableDef {
        name: "t".to_owned(),
        columns: vec![],
        primary_key: vec![],
        partitioned_by: vec![],
        options: options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    }
}

/// Everything that a connector takes, for reading and for writing.
fn declared(connector: &dyn Connector, options: &[(&str, &str)]) -> Vec<OptionSpec> {
    let table = table(options);
    let mut specs = connector.source_options(&table).unwrap_or_default();
    for spec in connector.sink_options(&table).unwrap_or_default() {
        if !specs.iter().any(|s| s.name == spec.name) {
            specs.push(spec);
        }
    }
    specs
}

#[test]
fn tables_of_options_are_the_declared_ones() {
    let documents = documents();
    let page = |name: &str| documented(&documents[&format!("docs/src/connectors/{name}.md")]);
    agree("datagen.md", &page("datagen"), &declared(&thalweg_datagen::Datagen, &[]));
    agree("print.md", &page("print"), &declared(&thalweg_print::Print, &[]));
    agree("blackhole.md", &page("blackhole"), &declared(&thalweg_blackhole::Blackhole, &[]));

    let mut formats = page("formats");
    formats.retain(|name, _| name.contains('.'));
    let mut all_formats = BTreeSet::new();
    for format in ["json", "csv", "debezium-json", "raw"] {
        let prefix = format!("{format}.");
        let specs = declared(&thalweg_filesystem::Filesystem, &[("format", format)]);
        let (of_format, own): (Vec<_>, Vec<_>) = specs.into_iter().partition(|s| s.name.starts_with(&prefix));
        agree("filesystem.md", &page("filesystem"), &own);
        let documented = formats.iter().filter(|(name, _)| name.starts_with(&prefix));
        agree("formats.md", &documented.map(|(n, d)| (n.clone(), d.clone())).collect(), &of_format);
        all_formats.extend(of_format.iter().map(|s| s.name));
    }
    for name in formats.keys() {
        assert!(all_formats.contains(name.as_str()), "formats.md: there is no option {name}");
    }
}

#[test]
fn tables_of_options_of_the_servers_are_the_declared_ones() {
    let documents = documents();
    let cases: [(&str, &dyn Connector); 3] = [
        ("kafka", &thalweg_kafka::Kafka),
        ("upsert-kafka", &thalweg_kafka::UpsertKafka),
        ("mysql-cdc", &thalweg_mysql::MysqlCdc),
    ];
    for (name, connector) in cases {
        let page = &documents[&format!("docs/src/connectors/{name}.md")];
        let section = page.split("## Options").nth(1).unwrap_or_else(|| panic!("{name}.md has no options"));
        let listed = documented(section.split("\n## ").next().unwrap());
        let specs = declared(connector, &[]);
        for spec in &specs {
            let own = |n: &str| if spec.kind == OptionKind::Prefix { n.starts_with(spec.name) } else { n == spec.name };
            let (_, cell) =
                listed.iter().find(|(n, _)| own(n)).unwrap_or_else(|| panic!("{name}.md lacks {}", spec.name));
            // What is left open there follows from another page, or from a rule that the meaning tells.
            if let OptionDefault::Value(v) = spec.default
                && !cell.is_empty()
            {
                let said = if v.is_empty() { "none".to_owned() } else { format!("`{v}`") };
                assert_eq!(*cell, said, "{name}.md: the default of {}", spec.name);
            }
        }
        for n in listed.keys() {
            let known = specs.iter().any(|s| s.name == n || s.kind == OptionKind::Prefix && n.starts_with(s.name));
            assert!(known, "{name}.md: there is no option {n}");
        }
    }
}

#[test]
fn tests_that_the_documents_name_are_there() {
    let page = &documents()["docs/src/mysql-to-kafka-faults.md"];
    let mut seen = 0;
    for name in page.split('`').skip(1).step_by(2) {
        let Some((file, test)) = name.split_once("::") else { continue };
        let places = ["tests", "connectors/mysql/tests"].map(|d| root().join(d).join(format!("{file}.rs")));
        let text = places.iter().find_map(|p| fs::read_to_string(p).ok()).unwrap_or_else(|| panic!("no tests {file}"));
        assert!(text.contains(&format!("#[test]\nfn {test}()")), "there is no test {name}");
        seen += 1;
    }
    assert!(seen > 20, "only {seen} tests are named");
}

#[test]
fn the_table_of_settings_is_the_declared_one() {
    let page = &documents()["docs/src/operations.md"];
    let section = page.split("## Settings").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut documented = documented(section);
    documented.values_mut().filter(|cell| cell.is_empty()).for_each(|cell| "none".clone_into(cell));
    agree("operations.md", &documented, thalweg_session::SETTINGS);
}

#[test]
fn every_flag_of_the_command_line_is_documented() {
    let page = &documents()["docs/src/operations.md"];
    for command in [&["--help"][..], &["run", "--help"], &["test", "--help"], &["checkpoint", "inspect", "--help"]] {
        let help = thalweg(command).succeeds().stdout;
        let flags = help.lines().filter_map(|l| l.split_whitespace().find(|w| w.starts_with("--")));
        for flag in flags.filter(|f| !["--help", "--version"].contains(f)) {
            assert!(
                page.contains(&format!("`{flag}"))
                    || page.contains(&format!("[{flag}"))
                    || page.contains(&format!(" {flag}")),
                "operations.md says nothing of {flag}"
            );
        }
    }
}

#[test]
fn every_function_of_the_documents_is_there() {
    let page = &documents()["docs/src/sql/functions.md"];
    let listed = thalweg(["--format", "csv", "-c", "SHOW FUNCTIONS"]).succeeds().stdout;
    let known: BTreeSet<String> =
        listed.lines().skip(1).filter_map(|l| l.split(',').next()).map(str::to_uppercase).collect();
    // Written in ways of their own, and no functions to `SHOW FUNCTIONS`.
    let special = ["CAST", "TRY_CAST", "EXTRACT", "CASE", "COALESCE", "NULLIF"];
    let mut seen = 0;
    let names = page.split("## Where it differs").next().unwrap();
    for row in table_rows(names) {
        for code in row[0].split('`').skip(1).step_by(2) {
            let name: String =
                code.chars().take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_').collect();
            if name.len() < 2 || !code[name.len()..].starts_with('(') {
                continue;
            }
            seen += 1;
            assert!(known.contains(&name) || special.contains(&name.as_str()), "functions.md: there is no {name}");
        }
    }
    assert!(seen > 80, "only {seen} functions were found");
}

/// A heading as the anchor that mdBook and others make of it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter_map(|c| if c == ' ' { Some('-') } else { (c.is_alphanumeric() || c == '-' || c == '_').then_some(c) })
        .collect()
}

#[test]
fn links_lead_somewhere_and_every_page_is_in_the_summary() {
    let documents = documents();
    let mut in_summary = BTreeSet::new();
    for (name, page) in &documents {
        let folder = Path::new(name).parent().unwrap();
        let mut in_block = false;
        for line in page.lines() {
            in_block ^= line.trim_start().starts_with("```");
            for part in line.split("](").skip(1).filter(|_| !in_block) {
                let Some((link, _)) = part.split_once(')') else { continue };
                if link.starts_with("http") {
                    continue;
                }
                let (file, section) = link.split_once('#').map_or((link, None), |(f, s)| (f, Some(s)));
                let target = if file.is_empty() { PathBuf::from(name) } else { folder.join(file) };
                let real = root().join(&target).canonicalize();
                let real = real.unwrap_or_else(|_| panic!("{name}: {link} leads nowhere"));
                let target = real.strip_prefix(root().canonicalize().unwrap()).unwrap().to_string_lossy().into_owned();
                if let Some(section) = section {
                    let headings = documents[&target].lines().filter(|l| l.starts_with('#')).map(anchor);
                    assert!(headings.into_iter().any(|h| h == section), "{name}: {link}: there is no such heading");
                }
                if name == "docs/src/SUMMARY.md" {
                    in_summary.insert(target);
                }
            }
        }
    }
    for name in documents.keys().filter(|n| n.starts_with("docs/src/") && !n.ends_with("SUMMARY.md")) {
        assert!(in_summary.contains(name), "{name} is not in SUMMARY.md");
    }
}
