//! From spans to steps: which windows to look at, and which gaps to count, lazily and in order.
//!
//! A run is never held as a list of its regions. The plan knows where the next window starts and
//! how many bytes of the run are known to follow; it takes more spans only while that is less than a
//! window and its look-ahead. So neither one span of 2^47 bytes nor 2^36 spans of one page cost
//! anything before they are visited.

use std::iter::Peekable;

use crate::addr::{AddrRange, Address};
use crate::memory::{Cause, Gap, Memory, Prot, Span, SpanKind, Spans};
use crate::sweep::unseen::Unseen;
use crate::sweep::{MAX_WINDOW, SweepOptions};

/// One window to look at, as addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Task<A> {
    /// First byte owned.
    pub(super) start: A,
    /// Bytes of the run before `start` that are to be shown.
    pub(super) behind: usize,
    /// Bytes owned, never zero.
    pub(super) owned: usize,
    /// Bytes of the run after the owned ones that are to be shown.
    pub(super) ahead: usize,
}

impl<A: Address> Task<A> {
    /// The window in two, for a sweep with this look-ahead and look-behind.
    ///
    /// Only for a window that owns two bytes or more.
    pub(super) fn halves(&self, overlap: usize, behind: usize) -> [Self; 2] {
        debug_assert!(self.owned > 1);
        let left = self.owned / 2;
        let right = self.owned - left;
        let middle = self
            .start
            .checked_add(left as u64)
            .expect("a window does not wrap");
        [
            Self {
                owned: left,
                ahead: (right + self.ahead).min(overlap),
                ..*self
            },
            Self {
                start: middle,
                behind: (self.behind + left).min(behind),
                owned: right,
                ahead: self.ahead,
            },
        ]
    }
}

/// What comes next in address order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step<A: Address> {
    /// Look at this window.
    Look(Task<A>),
    /// Count this as lost, or as absent if it is known to be mapped.
    Lost(Gap<A>),
    /// Count this as not mapped.
    Unmapped(AddrRange<A>),
}

/// The part of the current run that is known and not yet planned.
#[derive(Clone, Copy)]
struct Run<A> {
    /// First byte not yet planned.
    at: A,
    /// Bytes known to follow, `at` included; never zero.
    len: u64,
    /// Bytes of the run before `at`.
    behind: u64,
}

/// Says which protections are wanted.
pub(super) type Keep<'m> = Box<dyn Fn(Prot) -> bool + Send + 'm>;

/// The steps of a sweep, in order.
pub(super) struct Plan<'m, A: Address> {
    spans: Peekable<Spans<'m, A>>,
    perm: Prot,
    keep: Option<Keep<'m>>,
    window: usize,
    overlap: usize,
    behind: usize,
    budget: u64,
    run: Option<Run<A>>,
    unseen: Unseen<A>,
}

impl<'m, A: Address> Plan<'m, A> {
    pub(super) fn new(memory: &'m dyn Memory<Addr = A>, options: &SweepOptions<A>) -> Self {
        Self::within(memory, options, MAX_WINDOW)
    }

    /// With windows of up to `most` bytes.
    pub(super) fn within(
        memory: &'m dyn Memory<Addr = A>,
        options: &SweepOptions<A>,
        most: usize,
    ) -> Self {
        let range = options.range.unwrap_or_else(AddrRange::all);
        Self {
            spans: memory.spans(range).peekable(),
            perm: options.perm,
            keep: None,
            window: options.window.clamp(1, most),
            overlap: options.overlap,
            behind: options.behind,
            budget: options.max_bytes,
            run: None,
            unseen: Unseen::new(options.asked()),
        }
    }

    /// Fills `steps` with up to `max_steps` steps, of which up to `max_windows` are windows, and
    /// answers how many windows there are.
    pub(super) fn batch(
        &mut self,
        steps: &mut Vec<Step<A>>,
        max_windows: usize,
        max_steps: usize,
    ) -> usize {
        let mut windows = 0;
        steps.clear();
        while windows < max_windows && steps.len() < max_steps {
            let Some(step) = self.next() else { break };
            windows += usize::from(matches!(step, Step::Look(_)));
            steps.push(step);
        }
        windows
    }

    fn selects(&self, span: &Span<A>) -> bool {
        matches!(span.kind, SpanKind::Mapped(prot) if self.wants(prot))
    }

    fn wants(&self, prot: Prot) -> bool {
        prot.contains(self.perm) && self.keep.as_ref().is_none_or(|keep| keep(prot))
    }

    /// Leaves out regions of which `keep` does not accept the protection.
    pub(super) fn keep(&mut self, keep: Keep<'m>) {
        self.keep = Some(keep);
    }

    /// Takes a range for mapped that was not when spans were listed.
    pub(super) fn found(&mut self, range: AddrRange<A>) {
        self.run = Some(Run {
            at: range.start(),
            len: range.len(),
            behind: 0,
        });
    }

    /// Has no more bytes looked at.
    pub(super) fn exhaust(&mut self) {
        self.budget = 0;
    }

    /// Takes spans that touch the run until a window and its look-ahead are known, and whether the
    /// run goes on behind the window.
    fn extend(&mut self, run: &mut Run<A>) {
        let wanted = (self.window as u64).saturating_add(self.overlap.max(1) as u64);
        while run.len < wanted {
            let Some(next) = self.spans.peek().copied() else {
                return;
            };
            if next.len == 0 {
                self.spans.next();
                continue;
            }
            if !self.selects(&next) || run.at.checked_add(run.len) != Some(next.start) {
                return;
            }
            self.spans.next();
            self.unseen.seen(next.start, next.len);
            run.len = run.len.saturating_add(next.len);
        }
    }

    /// Cuts the next window off the run.
    fn cut(&mut self, mut run: Run<A>) -> Step<A> {
        self.extend(&mut run);
        if self.budget == 0 {
            self.run = None;
            return Step::Lost(Gap {
                start: run.at,
                len: run.len,
                cause: Cause::Limit,
            });
        }
        let owned = run.len.min(self.window as u64).min(self.budget);
        self.budget -= owned;
        let rest = run.len - owned;
        let task = Task {
            start: run.at,
            behind: clamped(run.behind, self.behind),
            owned: clamped(owned, self.window),
            ahead: clamped(rest, self.overlap),
        };
        self.run = (rest > 0)
            .then(|| run.at.checked_add(owned))
            .flatten()
            .map(|at| Run {
                at,
                len: rest,
                behind: run.behind.saturating_add(owned),
            });
        Step::Look(task)
    }
}

/// `value`, but no more than `most`.
fn clamped(value: u64, most: usize) -> usize {
    usize::try_from(value).map_or(most, |value| value.min(most))
}

impl<A: Address> Iterator for Plan<'_, A> {
    type Item = Step<A>;

    fn next(&mut self) -> Option<Step<A>> {
        loop {
            if let Some(run) = self.run {
                return Some(self.cut(run));
            }
            let next = self.spans.peek().copied();
            let skipped = match &next {
                Some(next) => self.unseen.before(next.start),
                None => self.unseen.rest(),
            };
            if let Some(skipped) = skipped {
                return Some(Step::Unmapped(skipped));
            }
            let span = next?;
            self.spans.next();
            if span.len == 0 {
                continue;
            }
            self.unseen.seen(span.start, span.len);
            match span.kind {
                SpanKind::Lost(cause) => {
                    return Some(Step::Lost(Gap {
                        start: span.start,
                        len: span.len,
                        cause,
                    }));
                }
                SpanKind::Away(prot, cause) if self.wants(prot) => {
                    return Some(Step::Lost(Gap {
                        start: span.start,
                        len: span.len,
                        cause,
                    }));
                }
                SpanKind::Mapped(_) if self.selects(&span) => {
                    self.run = Some(Run {
                        at: span.start,
                        len: span.len,
                        behind: 0,
                    });
                }
                SpanKind::Mapped(_) | SpanKind::Away(..) => {}
            }
        }
    }
}
