//! How a scan, or other work over memory, runs: threads, bounds, telling how far it is, being stopped.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Selection;
use crate::addr::Address;
use crate::sweep::{DEFAULT_MAX_BYTES, DEFAULT_WINDOW, Pool, SweepOptions};

/// How a scan, or other work over memory, runs: there is one way to say on how many threads, how much at most, how far it is
/// and when to stop, for scans, indexes of pointers, snapshots and comparisons.
pub struct Run<'r> {
    threads: usize,
    pool: Option<Pool>,
    window: usize,
    max_bytes: u64,
    progress: Option<Box<dyn FnMut(u64) + 'r>>,
    cancel: Option<&'r AtomicBool>,
}

impl<'r> Run<'r> {
    /// On all threads that the machine has, without telling how far it is.
    pub fn new() -> Self {
        Self {
            threads: 0,
            pool: None,
            window: DEFAULT_WINDOW,
            max_bytes: DEFAULT_MAX_BYTES,
            progress: None,
            cancel: None,
        }
    }

    /// On so many threads; 0 for as many as the machine has. With 1, everything runs on the calling thread.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// On these threads, which other scans may use as well, instead of some that are started for this one.
    #[must_use]
    pub fn pool(mut self, pool: &Pool) -> Self {
        self.threads = pool.threads();
        self.pool = Some(pool.clone());
        self
    }

    /// With windows of so many bytes, as [`SweepOptions::window`]: for tests, what is found does not depend on it.
    #[must_use]
    pub fn window(mut self, bytes: usize) -> Self {
        self.window = bytes;
        self
    }

    /// Looking at no more bytes than this; what is beyond counts as lost.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Told now and then, after each window at the latest, how many bytes are done, on the calling thread.
    #[must_use]
    pub fn progress(mut self, progress: impl FnMut(u64) + 'r) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// Until this is set, from whichever thread, or by what is told the progress: looked at after each window.
    #[must_use]
    pub fn cancel(mut self, cancel: &'r AtomicBool) -> Self {
        self.cancel = Some(cancel);
        self
    }

    pub(crate) fn options<A: Address>(&self, selection: &Selection<A>) -> SweepOptions<A> {
        SweepOptions {
            range: selection.range,
            part: selection.part,
            perm: selection.perm,
            window: self.window,
            threads: self.threads,
            pool: self.pool.clone(),
            max_bytes: self.max_bytes,
            ..SweepOptions::default()
        }
    }

    /// How many threads; 0 for as many as the machine has.
    pub(crate) fn thread_count(&self) -> usize {
        self.threads
    }

    /// The threads that others may use as well, where some were given.
    pub(crate) fn shared_pool(&self) -> Option<&Pool> {
        self.pool.as_ref()
    }

    /// How many bytes may be looked at.
    pub(crate) fn bound(&self) -> u64 {
        self.max_bytes
    }

    /// Whether to go on, where it is not known how far it is.
    pub(crate) fn check(&self) -> ControlFlow<()> {
        match self.cancel {
            Some(cancel) if cancel.load(Ordering::Relaxed) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    pub(crate) fn step(&mut self, done: u64) -> ControlFlow<()> {
        if let Some(progress) = &mut self.progress {
            progress(done);
        }
        self.check()
    }
}

impl Default for Run<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("threads", &self.threads)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}
