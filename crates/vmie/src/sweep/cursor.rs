//! A sweep that is asked for one window after the other.
//!
//! Steps are planned and looked at a batch at a time, on several threads, and come out in order. A window with too many
//! results is halved, and each half looked at again, as often as it takes; halves wait on a stack, so that what is held is
//! the results of one window.

use std::collections::VecDeque;

use super::look::{Buffers, Looked, look};
use super::plan::{Plan, Step, Task};
use super::pool::{Pool, available};
use super::tally::{Heading, Tally};
use super::{
    Found, RESULTS_PER_WINDOW, STEPS_PER_THREAD, SweepOptions, SweepOutcome, WINDOWS_PER_THREAD,
    Window,
};
use crate::addr::Address;
use crate::memory::{Coverage, Memory};

/// A step, and what was seen where it is a window that was looked at.
type Planned<A, R> = (Step<A>, Option<Seen<A, R>>);

/// What looks at windows. It is called once for each, so calling it indirectly is not felt, and all that is done around it is
/// compiled once for each kind of result.
pub(crate) type Look<'m, A, R> = dyn Fn(&Window<'_, A>, &mut Found<R>) + Sync + 'm;

/// What was seen in one window.
struct Seen<A, R> {
    /// How much of it.
    looked: Looked<A>,
    /// Results, in the order the scanner pushed them.
    results: Vec<R>,
    /// Whether there were too many of them.
    overflow: bool,
}

/// See the module.
pub(crate) struct Cursor<'m, A: Address, R> {
    memory: &'m dyn Memory<Addr = A>,
    options: SweepOptions<A>,
    scan: Box<Look<'m, A, R>>,
    plan: Plan<'m, A>,
    buffers: Buffers,
    threads: usize,
    /// `None` until it is needed; without a pool (the system may refuse threads) everything still works on this thread.
    pool: Option<Option<Pool>>,
    /// Room for what is planned next: allocating it for each window would be felt.
    steps: Vec<Step<A>>,
    /// Planned, and windows among them that were looked at.
    ahead: VecDeque<Planned<A, R>>,
    /// Parts of a window that had too many results, the first one last.
    halves: Vec<Task<A>>,
    tally: Tally<'m, A>,
}

impl<'m, A: Address, R: Send> Cursor<'m, A, R> {
    /// Nothing is looked at before the first window is asked for.
    pub(crate) fn new(
        memory: &'m dyn Memory<Addr = A>,
        options: &SweepOptions<A>,
        scan: Box<Look<'m, A, R>>,
    ) -> Self {
        Self {
            memory,
            plan: Plan::new(memory, options),
            options: options.clone(),
            scan,
            buffers: Buffers::default(),
            threads: available(options.threads),
            pool: options.pool.clone().map(Some),
            steps: Vec::new(),
            ahead: VecDeque::new(),
            halves: Vec::new(),
            tally: Tally::new(memory),
        }
    }

    /// The results of the next window, and how many bytes are done with it; `None` at the end.
    pub(crate) fn next_window(&mut self) -> Option<(Vec<R>, u64)> {
        loop {
            let (task, ready) = match self.halves.pop() {
                Some(half) => (half, None),
                None => match self.next_step()? {
                    (Step::Look(task), ready) => (task, ready),
                    (Step::Lost(gap), _) => {
                        self.tally.gap(gap, Heading::of_span(gap.cause));
                        continue;
                    }
                    (Step::Unmapped(range), _) => {
                        self.tally.unmapped(range);
                        continue;
                    }
                },
            };
            // A window of one byte cannot be halved. What can start at one byte is bounded by the scanner.
            let limit = match task.owned {
                1 => usize::MAX,
                _ => RESULTS_PER_WINDOW,
            };
            let window = match ready {
                Some(window) if !window.overflow || limit == RESULTS_PER_WINDOW => window,
                _ => self.look(&task, limit),
            };
            if window.overflow {
                let [first, second] = task.halves(self.options.overlap, self.options.behind);
                self.halves.extend([second, first]);
                continue;
            }
            self.tally.window(&window.looked);
            let done = self.tally.done_with(&task);
            return Some((window.results, done));
        }
    }

    fn next_step(&mut self) -> Option<Planned<A, R>> {
        if self.ahead.is_empty() {
            self.fill();
        }
        self.ahead.pop_front()
    }

    fn look(&self, task: &Task<A>, limit: usize) -> Seen<A, R> {
        let (memory, behind) = (self.memory, self.options.behind);
        see(memory, task, behind, &self.buffers, &*self.scan, limit)
    }

    /// Plans the next batch, and looks at its windows together when there are several.
    fn fill(&mut self) {
        let most = match self.threads {
            1 => 1,
            threads => threads * WINDOWS_PER_THREAD,
        };
        let windows = self
            .plan
            .batch(&mut self.steps, most, self.threads * STEPS_PER_THREAD);
        let several = windows > 1;
        if several && self.pool.is_none() {
            self.pool = Some(Pool::new(self.threads).ok());
        }
        if let (Some(Some(pool)), true) = (&self.pool, several) {
            let (memory, behind) = (self.memory, self.options.behind);
            let (buffers, scan, steps) = (&self.buffers, &*self.scan, &self.steps);
            let one = |index: usize| match &steps[index] {
                Step::Look(task) => {
                    Some(see(memory, task, behind, buffers, scan, RESULTS_PER_WINDOW))
                }
                _ => None,
            };
            let seen = pool.map(steps.len(), &one);
            self.ahead.extend(self.steps.drain(..).zip(seen));
        } else {
            self.ahead
                .extend(self.steps.drain(..).map(|step| (step, None)));
        }
    }

    /// What was looked at so far.
    pub(crate) fn coverage(&self) -> Coverage<A> {
        self.tally.so_far()
    }

    /// What was looked at, in all.
    pub(crate) fn finish(self, stopped: bool) -> SweepOutcome<A> {
        SweepOutcome {
            coverage: self.tally.finish(),
            stopped,
        }
    }
}

/// Looks at one window, until there are more than `limit` results.
fn see<A: Address, R>(
    memory: &dyn Memory<Addr = A>,
    task: &Task<A>,
    behind: usize,
    buffers: &Buffers,
    scan: &Look<'_, A, R>,
    limit: usize,
) -> Seen<A, R> {
    let mut found = Found::with_limit(limit);
    let looked = look(memory, task, behind, buffers, &mut |window| {
        if !found.is_full() {
            scan(window, &mut found);
        }
    });
    Seen {
        looked,
        overflow: found.is_full(),
        results: found.into_items(),
    }
}
