//! SIGINT and SIGTERM: the first asks, the second ends at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use thalweg_session::core::Result;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::Status;

/// Exit status after a second signal, and after one that cuts a query short: 128 + SIGINT.
pub const STATUS_INTERRUPTED: Status = 130;
/// After this time the prompt is told again that the shell is to leave.
const TELL_AGAIN: Duration = Duration::from_millis(100);

/// Signals that came to the process.
#[derive(Clone)]
pub struct Signals {
    count: watch::Receiver<u32>,
    leaving: Arc<Leaving>,
}

/// SIGTERM in the shell.
#[derive(Default)]
struct Leaving {
    asked: AtomicBool,
    seen: AtomicBool,
    /// When this process sent itself SIGINT.
    told: Mutex<Option<Instant>>,
}

impl Leaving {
    fn was_just_told(&self) -> bool {
        let told = *self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.is_some_and(|at| at.elapsed() < TELL_AGAIN * 3)
    }
}

impl Signals {
    /// For scripts: from now on a first signal only counts, a second ends the process.
    pub fn for_script() -> Result<Self> {
        let (sender, count) = watch::channel(0);
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::spawn(async move {
            loop {
                tokio::select! { _ = interrupt.recv() => crate::progress::undo_echo(), _ = terminate.recv() => {} }
                if *sender.borrow() > 0 {
                    eprintln!("ended at once");
                    crate::end_process(STATUS_INTERRUPTED);
                }
                sender.send_modify(|c| *c += 1);
            }
        });
        Ok(Signals { count, leaving: Arc::default() })
    }

    /// For the shell: every SIGINT counts, none ends it; SIGTERM asks it to leave.
    pub fn for_shell() -> Result<Self> {
        let (sender, count) = watch::channel(0);
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let asked = Arc::new(Leaving::default());
        let leaving = asked.clone();
        tokio::spawn(async move {
            loop {
                let terminated = tokio::select! {
                    _ = interrupt.recv() => false,
                    _ = terminate.recv() => true,
                };
                // What this process told itself is for the prompt only.
                if terminated || !asked.was_just_told() {
                    sender.send_modify(|c| *c += 1);
                }
                if terminated && !asked.asked.swap(true, Ordering::AcqRel) {
                    tokio::spawn(Self::interrupt_until_seen(asked.clone()));
                }
            }
        });
        Ok(Signals { count, leaving })
    }

    /// The prompt reads the terminal and hears of SIGINT only. It is told again, for it may be just about to read.
    async fn interrupt_until_seen(leaving: Arc<Leaving>) {
        while !leaving.seen.load(Ordering::Acquire) {
            *leaving.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            let sent = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGINT);
            if let Err(e) = sent {
                tracing::warn!(event = "signal", "the shell cannot be told to leave: {e}");
                return;
            }
            tokio::time::sleep(TELL_AGAIN).await;
        }
    }

    /// Whether SIGTERM has come. Says that it was seen.
    pub fn must_leave(&self) -> bool {
        let asked = self.leaving.asked.load(Ordering::Acquire);
        if asked {
            self.leaving.seen.store(true, Ordering::Release);
        }
        asked
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
