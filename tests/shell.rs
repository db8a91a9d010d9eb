//! The shell on a terminal: SIGTERM ends it as Ctrl-C ends `run`, and `STOP JOB` ends a job.

mod support;

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::changelog::lines;
use support::engine::{run, thalweg};
use support::files::newest_checkpoint;

const PATIENCE: Duration = Duration::from_secs(60);
const ROWS: usize = 4_000;

/// The shell on a terminal of its own, made by `script` (of util-linux).
struct Shell {
    child: Child,
    stdin: ChildStdin,
    output: Arc<Mutex<Vec<u8>>>,
}

impl Shell {
    /// `arguments` of `thalweg`; when it has ended, its status and how it left the terminal are in files.
    fn start(place: &Path, arguments: &str) -> Shell {
        let inner = format!("{} {arguments}; echo $? > status; stty -a > terminal", env!("CARGO_BIN_EXE_thalweg"));
        let mut child = Command::new("script")
            .args(["-qfec", &inner, "/dev/null"])
            .current_dir(place)
            .env("TERM", "xterm")
            .env("HOME", place)
            .env("TMPDIR", place.join("tmp"))
            .env_remove("THALWEG_FAIL_POINTS")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("`script` is there (package bsdutils)");
        let output = Arc::new(Mutex::new(vec![]));
        let (into, mut pipe) = (output.clone(), child.stdout.take().unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                into.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        let stdin = child.stdin.take().unwrap();
        let shell = Shell { child, stdin, output };
        shell.waits_for("the prompt", || shell.prompts() > 0);
        shell
    }

    /// A line each; what is typed while a statement runs is lost, so every one waits for the prompt of the next.
    fn types(&mut self, lines: &str) {
        for line in lines.lines() {
            let prompts = self.prompts();
            self.types_on(line);
            self.waits_for("the next prompt", || self.prompts() > prompts);
        }
    }

    /// A line whose statement does not end by itself.
    fn types_on(&mut self, line: &str) {
        self.stdin.write_all(format!("{line}\r").as_bytes()).unwrap();
        self.stdin.flush().unwrap();
    }

    /// Prompts so far: each turns the terminal's bracketed paste on.
    fn prompts(&self) -> usize {
        self.text().matches("\x1b[?2004h").count()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    fn said(&self, text: &str) -> bool {
        self.text().contains(text)
    }

    fn waits_for(&self, what: &str, condition: impl Fn() -> bool) {
        let started = Instant::now();
        while !condition() {
            assert!(started.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}; it said:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The process of the shell itself.
    fn pid(&self) -> String {
        let children = |pid: &str| {
            let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
            listed.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        let mut below = children(&self.child.id().to_string());
        while let Some(pid) = below.pop() {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
            if name.trim() == "thalweg" {
                return pid;
            }
            below.extend(children(&pid));
        }
        panic!("the shell does not run; it said:\n{}", self.text());
    }

    fn terminate(&self) {
        assert!(Command::new("kill").args(["-TERM", &self.pid()]).status().unwrap().success());
    }

    /// Ends within a minute; gives the shell's status, which must not have left the terminal raw.
    fn ended(mut self, place: &Path) -> (ExitStatus, i32, String) {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < PATIENCE, "did not end within {PATIENCE:?}; it said:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(2));
        };
        let terminal = std::fs::read_to_string(place.join("terminal")).unwrap();
        assert!(terminal.contains(" icanon") && terminal.contains(" echo "), "{terminal}");
        let code = std::fs::read_to_string(place.join("status")).unwrap().trim().parse().unwrap();
        (status, code, self.text())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("tmp")).unwrap();
    let rows: String = (0..ROWS).map(|i| format!("{{\"id\":{i}}}\n")).collect();
    std::fs::write(place.path().join("rows.json"), rows).unwrap();
    place
}

/// A line each, as they are typed.
fn statements(rate: usize) -> String {
    format!(
        "SET 'execution.checkpointing.interval' = '50 ms';
CREATE TABLE r (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'rows.json', 'format' = 'json', 'scan.rate-limit' = '{rate}');
CREATE TABLE passed (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'json');
INSERT INTO passed SELECT id FROM r;
"
    )
}

fn ids(out: &Path) -> Vec<u64> {
    let id = |l: &String| serde_json::from_str::<serde_json::Value>(l).unwrap()["id"].as_u64().unwrap();
    let mut ids: Vec<u64> = lines(out).iter().map(id).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn sigterm_at_the_prompt_ends_jobs_with_a_final_checkpoint() {
    let place = place();
    let dir = place.path().join("state");
    let mut shell = Shell::start(place.path(), "state");
    shell.types(&statements(1_000));
    shell.waits_for("checkpoints", || newest_checkpoint(&dir) >= 4);
    shell.terminate();
    let (_, status, text) = shell.ended(place.path());
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("stopping passed with a final checkpoint"), "{text}");
    assert!(text.contains("passed  stopped: checkpoint "), "{text}");
    let written = ids(&place.path().join("out"));
    assert!(written.len() < ROWS && written.iter().copied().eq(0..written.len() as u64), "{} rows", written.len());
    // All that was read is delivered: nothing is read twice.
    std::fs::write(place.path().join("job.sql"), statements(1_000_000)).unwrap();
    let ended = run(Path::new("job.sql"), &dir, 2).current_dir(place.path()).arg("--replan").succeeds();
    let rest = ROWS - written.len();
    let rest = if rest < 1000 { rest.to_string() } else { format!("{},{:03}", rest / 1000, rest % 1000) };
    ended.says(&["restored checkpoint", &format!("finished: {rest} changes in")]);
    assert!(ids(&place.path().join("out")).into_iter().eq(0..ROWS as u64));
}

#[test]
fn sigterm_in_a_scratch_shell_delivers_what_was_read_and_leaves_nothing_behind() {
    let place = place();
    let mut shell = Shell::start(place.path(), "");
    shell.types(&statements(1_000));
    let out = place.path().join("out");
    shell.waits_for("output", || out.is_dir() && lines(&out).len() > 100);
    // In the middle of a statement that never ends.
    shell.types("CREATE TABLE n (a INT) WITH ('connector' = 'datagen', 'rows-per-second' = '10');");
    shell.types_on("SELECT a FROM n;");
    shell.waits_for("changes", || shell.said("+I"));
    shell.terminate();
    let (_, status, text) = shell.ended(place.path());
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("passed  stopped: checkpoint "), "{text}");
    let written = ids(&out);
    assert!(written.len() > 100 && written.iter().copied().eq(0..written.len() as u64), "{} rows", written.len());
    assert_eq!(std::fs::read_dir(place.path().join("tmp")).unwrap().count(), 0, "the scratch directory is gone");
}

#[test]
fn stop_job_takes_a_final_checkpoint_and_the_shell_goes_on() {
    let place = place();
    let dir = place.path().join("state");
    let mut shell = Shell::start(place.path(), "state");
    shell.types(&statements(1_000));
    shell.waits_for("checkpoints", || newest_checkpoint(&dir) >= 4);
    shell.types("STOP JOB passed;");
    assert!(shell.said("job passed stopped"), "{}", shell.text());
    let written = ids(&place.path().join("out"));
    assert!(written.len() < ROWS && written.iter().copied().eq(0..written.len() as u64), "{} rows", written.len());
    shell.types("SELECT 40 + 2 AS answer;");
    assert!(shell.said("42"), "{}", shell.text());
    shell.types_on("\\q");
    let (_, status, text) = shell.ended(place.path());
    assert_eq!(status, 0, "{text}");
    assert!(!text.contains("stopping passed"), "it had ended before\n{text}");
}

#[test]
fn stop_job_in_a_script() {
    let place = place();
    let sql = statements(500) + "STOP JOB nothing;";
    thalweg(["state", "-c", &sql]).current_dir(place.path()).fails().says(&["there is no job nothing", "jobs: passed"]);
    let sql = statements(500) + "STOP JOB passed;";
    let ended = thalweg(["state", "-c", &sql]).current_dir(place.path()).succeeds();
    assert!(!ended.stderr.contains("finished"), "{ended}");
}
