//! One attempt of an instance: the failure flag that all its threads look at.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures::FutureExt;
use thalweg_core::Error;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Shared by workers, readers and coordinator of one attempt. The first error ends it.
#[derive(Default)]
pub struct Attempt {
    failed: AtomicBool,
    error: Mutex<Option<Error>>,
    /// Wakes the tasks that wait in `failure`.
    ended: Notify,
    on_failure: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Attempt {
    pub fn new() -> Self {
        Self::default()
    }

    /// What to do, once, when the attempt fails (wakes the coordinator and the workers).
    pub fn on_failure(&self, f: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_failure.set(Box::new(f));
    }

    /// Raises the flag. Only the first error is kept: later ones follow from it.
    pub fn fail(&self, error: Error) {
        let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() {
            *first = Some(error);
            drop(first);
            self.failed.store(true, Ordering::Release);
            self.ended.notify_waiters();
            if let Some(f) = self.on_failure.get() {
                f();
            }
        }
    }

    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub fn error(&self) -> Option<Error> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends when the attempt has failed: for whoever tries again and again.
    pub async fn failure(&self) {
        // Made before it is looked: from here on no wake-up is missed.
        let ended = self.ended.notified();
        if !self.has_failed() {
            ended.await;
        }
    }

    /// Spawns a task of the attempt. A panic in it fails the attempt as one on a worker does: nobody waits for such a task,
    /// so nobody else would see that it is gone.
    pub fn spawn(
        self: &Arc<Self>,
        what: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let attempt = self.clone();
        tokio::spawn(async move {
            if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
                attempt.fail(panicked(what, &*panic));
            }
        })
    }
}

/// A panic is a transient error of the attempt: another attempt may meet other timing.
pub fn panicked(who: &str, panic: &(dyn Any + Send)) -> Error {
    let what = panic.downcast_ref::<String>().map(String::as_str);
    let what = what.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    Error::internal(format!("{who} panicked: {what}")).transient()
}
