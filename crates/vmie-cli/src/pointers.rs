//! What `refs` and `paths` have in common: an index of pointers, built or opened.

use std::path::Path;

use serde::{Deserialize, Serialize};
use vmie::pointers::{BuildError, Foreign, IndexErrorKind, PointerMap, PointerOptions};
use vmie::{AddrRange, Address, Memory, Prot};

use crate::args::{BitsArg, FilterArgs, PointerArgs};
use crate::candidates::{Whose, told};
use crate::escape;
use crate::exit::{Failure, Result};
use crate::interrupt;
use crate::options::Options;
use crate::seek::run;
use crate::source::{Source, still_there};
use crate::space::Space;

/// What a saved index says about itself, as JSON in the file.
#[derive(Serialize, Deserialize)]
struct About {
    /// The image. For messages.
    source: String,
    /// Its length, and when it was changed last, in nanoseconds since 1970.
    file: Option<(u64, u64)>,
    space: Whose,
    /// Where pointers stand, if that is not everywhere: first and last address, protections.
    sources: Option<(u64, u64)>,
    perm: Option<String>,
}

/// An index, made for one verb.
pub(crate) struct Indexing<'a, 's> {
    pub(crate) verb: &'static str,
    pub(crate) source: &'a Source,
    pub(crate) space: &'a Space<'s>,
    pub(crate) options: &'a Options,
}

impl Indexing<'_, '_> {
    /// What counts as a pointer, and where to look.
    pub(crate) fn pointers<A: Address>(
        &self,
        pointer: PointerArgs,
        filter: Option<&FilterArgs>,
    ) -> Result<PointerOptions<A>> {
        let typed = filter.and_then(|filter| filter.range.as_ref());
        let sources = typed
            .map(|typed| self.space.range(Some(typed)))
            .transpose()?
            .flatten();
        let range = self.space.range(None)?;
        let reporter = &self.options.reporter;
        let width = self.space.pointers(pointer.bits, sources, reporter);
        Ok(PointerOptions {
            // Whoever asks for pointers outside of a process's half means the whole space.
            range: range
                .filter(|range: &AddrRange<A>| sources.is_none_or(|part| range.covers(part))),
            sources,
            perm: filter.and_then(|filter| filter.perm).unwrap_or(Prot::NONE),
            width,
            align: pointer.align.unwrap_or(width.bytes() as u64),
            ..PointerOptions::default()
        })
    }

    /// Builds an index.
    pub(crate) fn build<A: Address>(
        &self,
        memory: &dyn Memory<Addr = A>,
        pointers: &PointerOptions<A>,
    ) -> Result<PointerMap<A>> {
        interrupt::listen();
        let reporter = &self.options.reporter;
        let map = PointerMap::build(memory, pointers, run(self.verb, self.source, self.options));
        reporter.progress_end();
        Ok(map.map_err(|error| not_indexed(&error))?)
    }

    /// Saves an index.
    pub(crate) fn save<A: Address>(
        &self,
        map: &PointerMap<A>,
        pointers: &PointerOptions<A>,
        path: &Path,
    ) -> Result<()> {
        let about = About {
            source: self.source.name(),
            file: self.source.stamp(),
            space: self.space.whose(),
            sources: pointers
                .sources
                .map(|range| (range.start().raw(), range.last().raw())),
            perm: (pointers.perm != Prot::NONE).then(|| crate::args::perm_letters(pointers.perm)),
        };
        let about = serde_json::to_string(&about)
            .map_err(|error| Failure::new(format!("the index cannot be described: {error}")))?;
        still_there()?;
        map.save(path, &about)
            .map_err(|error| Failure::new(format!("the index was not saved: {error}")))?;
        self.options.reporter.note(&format!(
            "{} pointers saved in {}",
            map.len(),
            path.display()
        ));
        Ok(())
    }

    /// Opens an index, and sees to it that it is of this memory.
    pub(crate) fn open<A: Address>(
        &self,
        path: &Path,
        memory: &dyn Memory<Addr = A>,
    ) -> Result<PointerMap<A>> {
        let map = PointerMap::<A>::open(path).map_err(|error| {
            let failure = Failure::new(error.to_string());
            match error.kind {
                IndexErrorKind::Io(_) => failure.hint("`vmie refs --save FILE` writes an index"),
                _ => failure.hint("`vmie refs --save FILE`, to write it anew"),
            }
        })?;
        let about: Option<About> = serde_json::from_str(map.about()).ok();
        let range = self.space.range(None)?;
        // An index of the whole space serves for a process's half too, if that is what was saved.
        let fits = map
            .check(memory, range)
            .or_else(|_| map.check(memory, None));
        if let Err(foreign) = fits {
            let failure = Failure::new(format!(
                "{} is an index of another memory than {}",
                path.display(),
                self.source.name()
            ))
            .found(foreign.to_string());
            let failure = about.iter().fold(failure, |failure, about| {
                failure.found(format!(
                    "it was built over {}, {}",
                    escape::plain(&about.source),
                    told(&about.space)
                ))
            });
            let hint = match foreign {
                Foreign::Mapping => "the same --pid, --cr3 or --kernel as when it was saved",
                Foreign::Content => "`vmie refs --save FILE`, to build it again",
            };
            return Err(failure.hint(hint).into());
        }
        let reporter = &self.options.reporter;
        let stand = about.as_ref().and_then(|about| about.sources);
        let stand = stand.and_then(|(from, to)| AddrRange::inclusive(A::new(from), A::new(to)));
        let own = self.space.pointers(BitsArg::Auto, stand, reporter);
        if self.space.mode().is_some() && own != map.width() {
            reporter.warn(&format!(
                "the index knows pointers of {} bits, and this space has pointers of {}: `vmie refs --save FILE` \
                 writes one of those",
                map.width().bytes() * 8,
                own.bytes() * 8
            ));
        }
        if let Some(about) = about {
            if about.file != self.source.stamp() {
                reporter.warn(&format!(
                    "the index was built over {}, another file than {} or an earlier state of it; 64 pages of it are the same, others may have changed",
                    escape::plain(&about.source),
                    self.source.name()
                ));
            }
            if let Some((first, last)) = about.sources {
                reporter.warn(&format!(
                    "the index knows pointers only where --range {first:#x}..{:#x} was",
                    u128::from(last) + 1
                ));
            }
            if let Some(perm) = about.perm {
                let perm = escape::plain(&perm);
                reporter.warn(&format!(
                    "the index knows pointers only where --perm {perm} was"
                ));
            }
        }
        Ok(map)
    }
}

/// Why pointers cannot be listed.
pub(crate) fn not_indexed(error: &BuildError) -> Failure {
    match error {
        BuildError::Stopped => {
            Failure::new("stopped before the index was complete").found("Ctrl-C")
        }
        _ => Failure::new("the pointers cannot be indexed")
            .found(error.to_string())
            .hint("--range or --perm, to look at less"),
    }
}
