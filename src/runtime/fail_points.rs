//! Named points in the protocol of checkpoint and delivery at which a test can make the engine die, fail or wait.
//! Compiled in always, so that the tests kill the binary that ships; without the environment variable a point costs
//! one load.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use thalweg_core::{Error, Result};

/// `THALWEG_FAIL_POINTS=name=action[@n][;…]`: at the n-th passage (default 1) `kill` (as `kill -9` would), `error` (a
/// transient error), `panic`, or `full` (an error as of a full disk).
pub const VARIABLE: &str = "THALWEG_FAIL_POINTS";

/// Every point, in the order in which a checkpoint passes them.
pub const POINTS: &[&str] = &[
    "tick",
    "operator-flush",
    "state-snapshot",
    "stage-output",
    "upload-state",
    "before-manifest",
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Kill,
    Error,
    Panic,
    Full,
}

struct Armed {
    action: Action,
    /// Passages until it acts.
    left: u64,
}

fn armed() -> &'static HashMap<String, Mutex<Armed>> {
    static ARMED: OnceLock<HashMap<String, Mutex<Armed>>> = OnceLock::new();
    ARMED.get_or_init(|| std::env::var(VARIABLE).map(|v| parse(&v)).unwrap_or_default())
}

fn parse(text: &str) -> HashMap<String, Mutex<Armed>> {
    let mut points = HashMap::new();
    for part in text.split(';').filter(|p| !p.trim().is_empty()) {
        let (name, action) = part.split_once('=').unwrap_or((part, "kill"));
        let (action, n) = action.split_once('@').unwrap_or((action, "1"));
        let action = match action.trim() {
            "error" => Action::Error,
            "panic" => Action::Panic,
            "full" => Action::Full,
            _ => Action::Kill,
        };
        let left = n.trim().parse().unwrap_or(1);
        points.insert(name.trim().to_owned(), Mutex::new(Armed { action, left }));
    }
    points
}

/// Passes a point.
pub fn pass(name: &'static str) -> Result<()> {
    debug_assert!(POINTS.contains(&name), "{name} is not in the list of fail points");
    let Some(point) = armed().get(name) else { return Ok(()) };
    let mut point = point.lock().unwrap_or_else(PoisonError::into_inner);
    if point.left == 0 {
        return Ok(());
    }
    point.left -= 1;
    if point.left > 0 {
        return Ok(());
    }
    match point.action {
        Action::Kill => {
            // No destructor, no buffer is flushed: what `kill -9` leaves.
            eprintln!("fail point {name}: the process ends");
            std::process::abort()
        }
        Action::Error => Err(Error::io(format!("fail point {name}"))),
        Action::Panic => panic!("fail point {name}"),
        Action::Full => Err(Error::io(format!("fail point {name}: no space left on device"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_with_action_and_count() {
        let points = parse("tick=error@3; after-manifest");
        let tick = points["tick"].lock().unwrap();
        assert_eq!((tick.action, tick.left), (Action::Error, 3));
        assert_eq!(points["after-manifest"].lock().unwrap().action, Action::Kill);
    }

    #[test]
    fn an_unarmed_point_does_nothing() {
        assert!(pass("tick").is_ok());
    }
}
