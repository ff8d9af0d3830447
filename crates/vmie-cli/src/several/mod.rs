//! One question to several sources.
//!
//! Each source is asked by itself, several at a time within `-j`. What it has to say goes out in the order in which the
//! sources were typed, whichever is ready first: [`Together`] holds the others back. A source that fails is named and does
//! not stop the others.

mod together;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::args::Several;
use crate::exit::{Done, Failure, Result, Stop};
use crate::interrupt;
use crate::options::Options;
use crate::output::Member;
use together::Together;

/// How one source ended.
type Ended = std::result::Result<Done, Stop>;

/// Asks each source that was typed; `ask` answers for one of them.
pub(crate) fn each<A: Several>(
    args: &A,
    options: &Options,
    ask: impl Fn(&A, &Options) -> Result<Done> + Sync,
) -> Result<Done> {
    let (first, more) = (args.source(), args.more());
    if more.is_empty() {
        return ask(args, options);
    }
    if let Some(option) = first.layers.typed() {
        return Err(Failure::new(format!(
            "{option} belongs to one source, and {} were typed",
            more.len() + 1
        ))
        .hint("each such source by itself")
        .into());
    }
    let sources: Vec<&Path> = std::iter::once(first.source.as_path())
        .chain(more.iter().map(PathBuf::as_path))
        .collect();
    let together = Arc::new(Together::new(options.output, &sources, &options.reporter));
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let workers = threads.min(sources.len());
    let next = AtomicUsize::new(0);
    let ended = Mutex::new(Vec::with_capacity(sources.len()));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(source) = sources.get(index) else {
                        return;
                    };
                    let member = Member::new(Arc::<Together>::clone(&together), index, source);
                    let options = options.of_member(member, (threads / workers).max(1));
                    let one = match interrupt::asked() {
                        true => Err(not_begun(source)),
                        false => {
                            let mut args = args.clone();
                            args.source_mut().source = source.to_path_buf();
                            ask(&args, &options)
                        }
                    };
                    together.end(index, options.tell(&one), &one);
                    let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                    ended.push(one);
                }
            });
        }
    });
    if let Some(stop) = together.finish() {
        return Err(stop);
    }
    let ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    all(ended.into_iter())
}

/// A source whose turn came after Ctrl-C.
fn not_begun(source: &Path) -> Stop {
    let failure = Failure::new(format!("{} was not looked at", source.display()));
    Stop::Interrupted(Box::new(failure.found("Ctrl-C")))
}

/// How all of them ended together: an error if one failed, else incomplete if one was, else found if one found something.
fn all(ended: impl Iterator<Item = Ended>) -> Result<Done> {
    let mut together = Done {
        found: false,
        complete: true,
    };
    let (mut failed, mut interrupted) = (false, false);
    for one in ended {
        match one {
            Ok(done) => {
                together.found |= done.found;
                together.complete &= done.complete;
            }
            Err(Stop::ClosedPipe) => return Err(Stop::ClosedPipe),
            Err(Stop::Interrupted(_)) => interrupted = true,
            Err(Stop::Failed(_) | Stop::Told) => failed = true,
        }
    }
    match (failed, interrupted) {
        (true, _) => Err(Stop::Told),
        (false, true) => Ok(Done {
            complete: false,
            ..together
        }),
        (false, false) => Ok(together),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_all_decides() {
        let done = |found, complete| Ok(Done { found, complete });
        let failed = || Err(Stop::from(Failure::new("no")));
        let status = |ended: Vec<Ended>| crate::exit::status(&all(ended.into_iter()), true);
        assert_eq!(status(vec![done(true, true), done(false, true)]), 0);
        assert_eq!(status(vec![done(false, true), done(false, true)]), 1);
        assert_eq!(status(vec![done(true, false), done(true, true)]), 3);
        assert_eq!(status(vec![done(true, false), failed()]), 2);
        assert_eq!(status(vec![failed(), done(true, true)]), 2);
    }
}
