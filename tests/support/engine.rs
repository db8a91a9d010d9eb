//! The engine as a process: start it, feed it, wait for what it says, end it in every way.

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine: what is not done by then hangs.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(2);

/// A command of the binary under test that is about to run.
pub struct Thalweg {
    command: Command,
    input: Option<String>,
    patience: Duration,
}

/// A kill at a point that every life of a job passes: where the point is passed often, not at its first passage.
pub fn kill_at(point: &str, life: usize) -> String {
    let passage = match (point, life) {
        // Once per start.
        ("attempt-begin" | "before-fence" | "after-fence", _) => 1,
        // Once per operator and batch, or tick.
        ("operator-push" | "operator-end-tick", 0) => 80,
        ("operator-push" | "operator-end-tick", _) => 40,
        (_, 0) => 3,
        _ => 2,
    };
    format!("{point}=kill@{passage}")
}

/// `thalweg ARGS…`
pub fn thalweg<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Thalweg {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thalweg"));
    command.args(args).env_remove("THALWEG_FAIL_POINTS").env("NO_COLOR", "1");
    Thalweg { command, input: None, patience: PATIENCE }
}

/// `thalweg run SCRIPT --dir DIR --workers N`
pub fn run(script: &Path, dir: &Path, workers: usize) -> Thalweg {
    thalweg(["run"]).arg(script.display()).arg("--dir").arg(dir.display()).arg("--workers").arg(workers)
}

impl Thalweg {
    pub fn arg(mut self, arg: impl fmt::Display) -> Self {
        self.command.arg(arg.to_string());
        self
    }

    pub fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    pub fn current_dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Arms a fail point: `after-manifest=kill@2`.
    pub fn fail_point(mut self, armed: &str) -> Self {
        self.command.env("THALWEG_FAIL_POINTS", armed);
        self
    }

    /// How long `ended`, `succeeds` and `fails` wait; else a minute.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Standard input; without it there is none.
    pub fn input(mut self, text: &str) -> Self {
        self.input = Some(text.to_owned());
        self
    }

    pub fn start(mut self) -> Engine {
        let stdin = if self.input.is_some() { Stdio::piped() } else { Stdio::null() };
        let mut child = self
            .command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary that was built for the test starts");
        if let Some(text) = self.input {
            let mut stdin = child.stdin.take().expect("it is piped");
            // A program that ends before it has read everything is judged by its status.
            let _ = stdin.write_all(text.as_bytes());
        }
        let (stdout, stderr) = (Captured::of(child.stdout.take()), Captured::of(child.stderr.take()));
        Engine { child, stdout, stderr, patience: self.patience }
    }

    /// Runs it to its end.
    pub fn ended(self) -> Ended {
        self.start().wait()
    }

    /// Runs it to its end, which must be status 0.
    pub fn succeeds(self) -> Ended {
        let ended = self.ended();
        assert_eq!(ended.status.code(), Some(0), "{ended}");
        ended
    }

    /// Runs it to its end, which must be status 1 with an error on stderr.
    pub fn fails(self) -> Ended {
        let ended = self.ended();
        assert_eq!(ended.status.code(), Some(1), "{ended}");
        assert!(ended.stderr.contains("error"), "an error says so on stderr\n{ended}");
        ended
    }
}

/// What a pipe has given so far, read by a thread of its own.
struct Captured {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Captured {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let text = Arc::new(Mutex::new(vec![]));
        let into = text.clone();
        let mut pipe = pipe.expect("it is piped");
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                into.lock().expect("readers do not panic").extend_from_slice(&buffer[..n]);
            }
        });
        Captured { text, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().expect("readers do not panic")).into_owned()
    }

    fn whole(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("readers do not panic");
        }
        self.so_far()
    }
}

/// A process that runs; killed when it is dropped.
pub struct Engine {
    child: Child,
    stdout: Captured,
    stderr: Captured,
    patience: Duration,
}

/// A process that has ended.
pub struct Ended {
    pub status: ExitStatus,
    /// The most memory that the process held at a time, in bytes, where the system tells.
    pub peak_rss: Option<u64>,
    pub stdout: String,
    pub stderr: String,
}

impl Engine {
    pub fn stdout_so_far(&self) -> String {
        self.stdout.so_far()
    }

    pub fn stderr_so_far(&self) -> String {
        self.stderr.so_far()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Whether it is stopped, as by SIGSTOP.
    pub fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // `pid (name) state …`, and the name may hold anything.
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
    }

    /// Waits until the condition holds, at most a minute; false if the process ended first.
    pub fn wait_until(&mut self, what: &str, mut condition: impl FnMut(&Engine) -> bool) -> bool {
        let started = Instant::now();
        loop {
            if condition(self) {
                return true;
            }
            if !self.is_running() {
                return condition(self);
            }
            if started.elapsed() > PATIENCE {
                let _ = self.child.kill();
                panic!("no {what} within {PATIENCE:?}; stderr:\n{}", self.stderr.so_far());
            }
            std::thread::sleep(POLL);
        }
    }

    /// `kill -9`; whether it was still running.
    pub fn kill(&mut self) -> bool {
        let was_running = self.is_running();
        let _ = self.child.kill();
        let status = self.child.wait().expect("a child can be waited for");
        was_running && status.signal() == Some(9)
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill is there").success());
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `VmHWM` of Linux, in bytes; `None` elsewhere, or when it has ended.
    pub fn peak_rss(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
    }

    /// Ends within a minute (or its patience), or the test fails.
    pub fn wait(mut self) -> Ended {
        let started = Instant::now();
        let mut peak_rss = None;
        let status = loop {
            // A peak is never taken back, so the last look before the end is all but the last moment's.
            peak_rss = self.peak_rss().or(peak_rss);
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                break status;
            }
            if started.elapsed() > self.patience {
                let _ = self.child.kill();
                panic!("did not end within {:?}; stderr:\n{}", self.patience, self.stderr.whole());
            }
            std::thread::sleep(POLL);
        };
        Ended { status, peak_rss, stdout: self.stdout.whole(), stderr: self.stderr.whole() }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Died by a signal, as a fail point `kill` and `kill -9` do it.
    pub fn was_killed(&self) -> bool {
        self.status.signal().is_some()
    }

    /// Every part of the message must stand on stderr.
    pub fn says(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not said\n{self}");
        }
        self
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n--- stdout\n{}\n--- stderr\n{}", self.status, self.stdout, self.stderr)
    }
}
