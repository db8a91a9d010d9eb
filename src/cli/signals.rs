//! SIGINT and SIGTERM: the first asks, the second ends at once.

use std::sync::Arc;

use thalweg_session::core::Result;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Exit status after a second signal: 128 + SIGINT.
const STATUS_INTERRUPTED: i32 = 130;

/// Signals that came to the process.
#[derive(Clone)]
pub struct Signals {
    count: watch::Receiver<u32>,
    _keep: Arc<()>,
}

impl Signals {
    /// For scripts: from now on a first signal only counts, a second ends the process.
    pub fn for_script() -> Result<Self> {
        let (sender, count) = watch::channel(0);
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::spawn(async move {
            loop {
                tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
                if *sender.borrow() > 0 {
                    eprintln!("ended at once");
                    std::process::exit(STATUS_INTERRUPTED);
                }
                sender.send_modify(|c| *c += 1);
            }
        });
        Ok(Signals { count, _keep: Arc::default() })
    }

    /// For the shell: every SIGINT counts, none ends it.
    pub fn for_shell() -> Result<Self> {
        let (sender, count) = watch::channel(0);
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(async move {
            while interrupt.recv().await.is_some() {
                sender.send_modify(|c| *c += 1);
            }
        });
        Ok(Signals { count, _keep: Arc::default() })
    }

    pub fn has_come(&self) -> bool {
        *self.count.borrow() > 0
    }

    /// The next signal that this receiver has not seen.
    pub async fn next(&mut self) {
        if self.count.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Forgets what came before.
    pub fn forget(&mut self) {
        self.count.borrow_and_update();
    }
}
