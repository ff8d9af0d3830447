//! The errors for "nothing at all could be looked at", which must never look like "nothing found".

use vmie::views::Pages;
use vmie::{Address, AddressSpace, Coverage, Gap, Gva, Prot};

use crate::args;
use crate::exit::Failure;
use crate::pages;
use crate::size;
use crate::source::Source;
use crate::space::{Space, Target, other_roots};

/// Not one byte of what was asked for could be read. `range` is what was asked for, as typed.
pub(crate) fn nothing_read<A: Address>(
    coverage: &Coverage<A>,
    space: &Space<'_>,
    source: &Source,
    range: Option<String>,
    perm: Option<Prot>,
) -> Failure {
    let whole = range.is_none() && perm.is_none();
    match (&space.of.target, coverage.gaps.first()) {
        (Target::Virtual(memory), None) if whole => return nothing_mapped(memory, source),
        (Target::Virtual(memory), Some(_)) if whole && coverage.absent == 0 => {
            return no_table(coverage, memory, source);
        }
        _ => {}
    }
    let what = range.unwrap_or_else(|| source.name());
    let mut failure = Failure::new(format!("nothing of {what} could be read"));
    if coverage.absent > 0 {
        failure = failure.found(format!(
            "{} mapped, none of it in the image",
            size::approx(coverage.mapped)
        ));
    }
    failure = match (coverage.gaps.first(), perm) {
        (Some(gap), _) => {
            let failure = failure.found(gap_text(gap));
            let told = gap.cause.is_unmapped() || gap.cause.is_away();
            let is = space.names.process().filter(|_| told);
            let is = is.and_then(|(os, process)| {
                let is = Pages::new(os.guest(), process).state(Gva(gap.start.raw()))?;
                pages::detail(&is)
            });
            is.into_iter().fold(failure, Failure::found)
        }
        (None, Some(perm)) => failure.found(format!(
            "no region allows at least {}",
            args::perm_letters(perm)
        )),
        (None, None) => failure,
    };
    failure.hint("`vmie maps` with the same space, to see what is mapped and what is absent")
}

/// The tables were read, and no entry leads to a page.
pub(crate) fn nothing_mapped(space: &AddressSpace, source: &Source) -> Failure {
    let root = space.root();
    let failure = Failure::new(format!("the page tables at {root} map nothing")).found(format!(
        "no entry that leads to a page, in {} tables",
        space.mode()
    ));
    other_roots(failure, source)
}

/// Page tables are missing, and nothing is known of what they map.
pub(crate) fn no_table<A: Address>(
    coverage: &Coverage<A>,
    space: &AddressSpace,
    source: &Source,
) -> Failure {
    let mut failure = Failure::new(format!(
        "cannot tell what is mapped: page tables below {} are missing",
        space.root()
    ));
    if let Some(gap) = coverage.gaps.first() {
        failure = failure.found(gap_text(gap));
    }
    other_roots(failure, source)
}

fn gap_text<A: Address>(gap: &Gap<A>) -> String {
    format!("{}..+{:#x}: {}", gap.start, gap.len, gap.cause)
}
