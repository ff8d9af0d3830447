//! One question to several sources.
//!
//! Each source is asked by itself, several at a time within `-j`. What it has to say goes out in the order in which the
//! sources were typed, whichever is ready first: [`Together`] holds the others back. A source that fails is named and does
//! not stop the others.

mod together;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::args::SourceArgs;
use crate::exit::{Done, Failure, Result, Stop};
use crate::interrupt;
use crate::options::Options;
use crate::output::Member;
use together::Together;

/// How one source ended.
type Ended = std::result::Result<Done, Stop>;

/// Asks the first source and those that were typed after it; `ask` is told which one, and how to answer.
pub(crate) fn each(
    first: &SourceArgs,
    more: &[PathBuf],
    options: &Options,
    ask: impl Fn(&Path, &Options) -> Result<Done> + Sync,
) -> Result<Done> {
    if more.is_empty() {
        return ask(&first.source, options);
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
    let together = Arc::new(Together::new(
        options.output,
        sources.len(),
        options.reporter.clone(),
    ));
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let workers = threads.min(sources.len());
    let next = AtomicUsize::new(0);
    let ended: Vec<Mutex<Option<Ended>>> = sources.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(source) = sources.get(index) else {
                        return;
                    };
                    let one = one(source, &ended[index], || {
                        let member = Member::new(Arc::<Together>::clone(&together), index, source);
                        let options = options.of_member(member, (threads / workers).max(1));
                        (ask(source, &options), options)
                    });
                    together.end(index, source, one);
                }
            });
        }
    });
    let stop = together.finish();
    if let Some(stop) = stop {
        return Err(stop);
    }
    let ended = ended
        .into_iter()
        .map(|one| one.into_inner().unwrap_or_else(PoisonError::into_inner));
    all(ended.flatten())
}

/// Asks one source, unless Ctrl-C was pressed before; its status, for the answer.
fn one(
    source: &Path,
    slot: &Mutex<Option<Ended>>,
    ask: impl FnOnce() -> (Result<Done>, Options),
) -> together::Status {
    let (ended, status) = if interrupt::asked() {
        let failure = Failure::new(format!("{} was not looked at", source.display()));
        let stop = Stop::Interrupted(Box::new(failure.found("Ctrl-C")));
        (Err(stop), together::Status::default())
    } else {
        let (ended, options) = ask();
        let status = crate::exit::status(&ended, options.typed.strict);
        let error = match &ended {
            Err(Stop::Failed(failure)) => {
                options.reporter.failure(failure);
                Some(failure.what.clone())
            }
            Err(Stop::Interrupted(failure)) => {
                options.reporter.warn_failure(failure);
                Some(failure.what.clone())
            }
            _ => None,
        };
        (ended, together::Status { status, error })
    };
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
    status
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
