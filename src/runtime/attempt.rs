//! One attempt of an instance: the failure flag that all its threads look at.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use thalweg_core::Error;

/// Shared by workers, readers and coordinator of one attempt. The first error ends it.
#[derive(Default)]
pub struct Attempt {
    failed: AtomicBool,
    error: Mutex<Option<Error>>,
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
}
