//! What the engine says, as rows have it.

use vmie::{Address, Coverage, Gva, Prot};
use vmie_rows::{Coverage as Totals, Gap, Hex};

use crate::report::Beyond;

/// A protection.
pub(crate) fn prot(prot: Prot) -> vmie_rows::Prot {
    vmie_rows::Prot {
        read: prot.contains(Prot::R),
        write: prot.write(),
        execute: prot.exec(),
        mapped: true,
    }
}

/// A protection, which is [`Prot::NONE`] where nothing is mapped.
pub(crate) fn prot_if_mapped(of: Prot) -> vmie_rows::Prot {
    vmie_rows::Prot {
        mapped: of != Prot::NONE,
        ..prot(of)
    }
}

/// A coverage.
pub(crate) fn totals<A: Address>(coverage: &Coverage<A>) -> Totals {
    let gaps = coverage.gaps.iter().map(|gap| row(gap, None));
    with_gaps(coverage, gaps.collect())
}

/// The same with what is not mapped and belongs to it.
pub(crate) fn with_beyond(totals: Totals, beyond: Option<Beyond>) -> Totals {
    Totals {
        cached: beyond.map(|beyond| beyond.cached),
        not_in_memory: beyond.map(|beyond| beyond.missing),
        ..totals
    }
}

/// The coverage of many spaces together, each with the number of its process.
pub(crate) fn totals_of_many<'c>(
    total: &Coverage<Gva>,
    spaces: impl Iterator<Item = (Option<u32>, &'c Coverage<Gva>)>,
) -> Totals {
    let gaps = spaces.flat_map(|(pid, one)| one.gaps.iter().map(move |gap| (pid, gap)));
    let gaps = gaps.take(total.gaps.len());
    with_gaps(total, gaps.map(|(pid, gap)| row(gap, pid)).collect())
}

fn with_gaps<A: Address>(total: &Coverage<A>, gaps: Vec<Gap>) -> Totals {
    Totals {
        mapped: total.mapped,
        read: total.read,
        absent: total.absent,
        lost: total.lost,
        unmapped: total.unmapped,
        cached: None,
        not_in_memory: None,
        gap_count: total.gap_count,
        gaps,
    }
}

fn row<A: Address>(gap: &vmie::Gap<A>, pid: Option<u32>) -> Gap {
    Gap {
        va: Hex(gap.start.raw()),
        len: gap.len,
        cause: gap.cause.label(),
        pid,
    }
}
