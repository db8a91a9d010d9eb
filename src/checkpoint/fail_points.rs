//! Fail points as tasks pass them, see `thalweg_core::fail_points`.

use thalweg_core::Result;
use thalweg_core::fail_points::{Action, act, due};

pub use thalweg_core::fail_points::pass;

/// Passes a point in a task; `stall` can be cut short by dropping it.
///
/// # Errors
/// Those that the point is armed with.
pub async fn reach(name: &'static str) -> Result<()> {
    let Some(action) = due(name) else { return Ok(()) };
    if let Action::Stall(time) = action {
        eprintln!("fail point {name}: waits");
        tokio::time::sleep(time).await;
    }
    act(name, action)
}
