//! Named points in the protocol of checkpoint and delivery at which a test can make the engine die, fail or wait.
//! Compiled in always, so that the tests kill the binary that ships; without the environment variable a point costs
//! one load.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::{Error, Result};

/// `THALWEG_FAIL_POINTS=name=action[@n][;…]`: at the n-th passage (default 1) `kill` (as `kill -9` would), `error` (a
/// transient error), `panic`, `full` (an error as of a full disk), `stall:MS` (waits so many milliseconds), or `stop`
/// (the process stops as by SIGSTOP, until somebody sends SIGCONT). A name may stand several times.
pub const VARIABLE: &str = "THALWEG_FAIL_POINTS";

/// Every point that each checkpointed job passes, in the order in which a checkpoint passes them.
pub const POINTS: &[&str] = &[
    "tick",
    "operator-push",
    "operator-end-tick",
    "operator-flush",
    "state-snapshot",
    "stage-output",
    "upload-state",
    "before-manifest",
    "manifest-put",
    "after-manifest",
    "before-fence",
    "after-fence",
    "before-deliver",
    "after-deliver",
    "after-delivered-record",
    "before-cleanup",
    "after-cleanup",
    "attempt-begin",
];

/// Points that are passed in special cases only: what a put that seemed to fail came to is read back; `--from` has the
/// state of the other job and has not begun, and has begun; a target that was silent when output was committed may get it.
pub const RARE_POINTS: &[&str] = &["manifest-read-back", "state-adopted", "from-begun", "after-attempted-record"];

/// Points of connectors' readers: passed only where such a source is read.
pub const SOURCE_POINTS: &[&str] =
    &["mysql-chunk-selected", "mysql-chunk-folded", "mysql-chunk-emitted", "mysql-within-transaction"];

/// Points of sinks, within a delivery.
pub const SINK_POINTS: &[&str] = &["kafka-before-mark", "kafka-before-commit", "kafka-after-commit"];

/// How long `stall` waits if it does not say.
const STALL: Duration = Duration::from_secs(1);

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Kill,
    Error,
    Panic,
    Full,
    Stall(Duration),
    Stop,
}

struct Armed {
    action: Action,
    /// Passages until it acts.
    left: u64,
}

type Points = HashMap<String, Mutex<Vec<Armed>>>;

fn armed() -> &'static Points {
    static ARMED: OnceLock<Points> = OnceLock::new();
    ARMED.get_or_init(|| std::env::var(VARIABLE).map(|v| parse(&v)).unwrap_or_default())
}

fn parse(text: &str) -> Points {
    let mut points = Points::new();
    for part in text.split(';').filter(|p| !p.trim().is_empty()) {
        let (name, action) = part.split_once('=').unwrap_or((part, "kill"));
        let (action, n) = action.split_once('@').unwrap_or((action, "1"));
        let (action, ms) = action.split_once(':').unwrap_or((action, ""));
        let action = match action.trim() {
            "error" => Action::Error,
            "panic" => Action::Panic,
            "full" => Action::Full,
            "stall" => Action::Stall(ms.trim().parse().map_or(STALL, Duration::from_millis)),
            "stop" => Action::Stop,
            _ => Action::Kill,
        };
        let left = n.trim().parse().unwrap_or(1);
        let point = points.entry(name.trim().to_owned()).or_default();
        point.get_mut().unwrap_or_else(PoisonError::into_inner).push(Armed { action, left });
    }
    points
}

/// What is to happen at this passage of the point, which counts as one.
pub fn due(name: &'static str) -> Option<Action> {
    debug_assert!(
        [POINTS, RARE_POINTS, SOURCE_POINTS, SINK_POINTS].iter().any(|p| p.contains(&name)),
        "{name} is not in the list of fail points"
    );
    let mut all = armed().get(name)?.lock().unwrap_or_else(PoisonError::into_inner);
    let mut action = None;
    for point in all.iter_mut().filter(|p| p.left > 0) {
        point.left -= 1;
        if point.left == 0 {
            action = Some(point.action);
        }
    }
    action
}

/// Passes a point; `stall` holds the thread.
///
/// # Errors
/// Those that the point is armed with.
pub fn pass(name: &'static str) -> Result<()> {
    let Some(action) = due(name) else { return Ok(()) };
    if let Action::Stall(time) = action {
        eprintln!("fail point {name}: waits");
        std::thread::sleep(time);
    }
    act(name, action)
}

/// Does what a point is armed with, but for the waiting of `stall`.
///
/// # Errors
/// Those that the point is armed with.
pub fn act(name: &str, action: Action) -> Result<()> {
    match action {
        Action::Kill => {
            // No destructor, no buffer is flushed: what `kill -9` leaves.
            eprintln!("fail point {name}: the process ends");
            std::process::abort()
        }
        Action::Error => Err(Error::io(format!("fail point {name}"))),
        Action::Panic => panic!("fail point {name}"),
        Action::Full => Err(Error::io(format!("fail point {name}: no space left on device"))),
        Action::Stall(_) => Ok(()),
        Action::Stop => {
            eprintln!("fail point {name}: the process stops");
            // This thread at once, the others with it. Goes on from here when somebody sends SIGCONT.
            let stopped = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP);
            assert!(stopped.is_ok(), "the process cannot stop itself at fail point {name}");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_with_action_and_count() {
        let points = parse("tick=error@3; after-manifest;tick=stall:250@5;before-deliver=stop");
        let of = |name: &str| points[name].lock().unwrap().iter().map(|a| (a.action, a.left)).collect::<Vec<_>>();
        assert_eq!(of("tick"), [(Action::Error, 3), (Action::Stall(Duration::from_millis(250)), 5)]);
        assert_eq!(of("after-manifest"), [(Action::Kill, 1)]);
        assert_eq!(of("before-deliver"), [(Action::Stop, 1)]);
    }

    #[test]
    fn an_unarmed_point_does_nothing() {
        assert!(pass("tick").is_ok());
    }
}
