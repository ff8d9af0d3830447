//! A sweep that is asked for one window after the other.
//!
//! Steps are planned and looked at a batch at a time, on several threads, and come out in order. A window with too many
//! results is halved, and each half looked at again, as often as it takes; halves wait on a stack, so that what is held is
//! the results of one window.

use std::collections::VecDeque;

use rayon::prelude::*;

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
type Planned<A, R> = (Step<A>, Option<Looked<A, R>>);

/// See the module.
pub(crate) struct Cursor<'m, A: Address, R, F> {
    memory: &'m dyn Memory<Addr = A>,
    options: SweepOptions<A>,
    scan: F,
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

impl<'m, A, R, F> Cursor<'m, A, R, F>
where
    A: Address,
    R: Send,
    F: Fn(&Window<'_, A>, &mut Found<R>) + Sync,
{
    /// Nothing is looked at before the first window is asked for.
    pub(crate) fn new(
        memory: &'m dyn Memory<Addr = A>,
        options: &SweepOptions<A>,
        scan: F,
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
            self.tally.window(&window);
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

    fn look(&self, task: &Task<A>, limit: usize) -> Looked<A, R> {
        look(
            self.memory,
            task,
            self.options.behind,
            &self.buffers,
            &self.scan,
            limit,
        )
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
            let (buffers, scan, steps) = (&self.buffers, &self.scan, &self.steps);
            let looked: Vec<Option<Looked<A, R>>> = pool.install(|| {
                let one = |step: &Step<A>| match step {
                    Step::Look(task) => Some(look(
                        memory,
                        task,
                        behind,
                        buffers,
                        scan,
                        RESULTS_PER_WINDOW,
                    )),
                    _ => None,
                };
                steps.par_iter().with_max_len(1).map(one).collect()
            });
            self.ahead.extend(self.steps.drain(..).zip(looked));
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
