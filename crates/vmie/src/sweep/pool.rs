//! Threads that several sweeps share.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

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

    /// What `one` makes of each number below `count`, in order. Each is a piece of work worth a thread's while.
    pub(crate) fn map<T: Send>(&self, count: usize, one: &(dyn Fn(usize) -> T + Sync)) -> Vec<T> {
        let slots: Vec<Mutex<Option<T>>> = (0..count).map(|_| Mutex::new(None)).collect();
        self.each(count, &|index| {
            let made = one(index);
            *slots[index].lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
        });
        let made = slots
            .into_iter()
            .filter_map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner));
        made.collect()
    }

    /// The only place where work is spread over threads: what does that is large, and is compiled once here instead of
    /// once for each kind of scanner.
    fn each(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        let all = || (0..count).into_par_iter().with_max_len(1).for_each(work);
        self.0.install(all);
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
