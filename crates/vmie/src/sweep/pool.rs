//! Threads that several sweeps share.

use std::fmt;
use std::io;
use std::sync::Arc;

/// Threads for sweeps, started once. Copies of it are the same threads.
#[derive(Clone)]
pub struct Pool(Arc<rayon::ThreadPool>);

impl Pool {
    /// So many threads; 0 for as many as the machine has.
    ///
    /// # Errors
    ///
    /// When the system refuses threads.
    pub fn new(threads: usize) -> io::Result<Self> {
        let threads = available(threads);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(io::Error::other)?;
        Ok(Self(Arc::new(pool)))
    }

    /// How many there are.
    pub fn threads(&self) -> usize {
        self.0.current_num_threads()
    }

    pub(crate) fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.0.install(work)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}

/// What a number of threads means: 0 stands for as many as the machine has.
pub(super) fn available(threads: usize) -> usize {
    match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}
