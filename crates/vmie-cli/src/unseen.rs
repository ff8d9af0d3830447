//! What a bare page-table root does not show: pages that are in memory though the CPU faults on them.
//!
//! Only the operating system knows what it keeps behind entries that are not present. It is looked for when entries look
//! as if there were such pages, and not otherwise, so that a verb on a bare root does not wait for that.

use vmie::os::linux::looks_resident;
use vmie::{AddrRange, AddressSpace, Gva, Memory, PAGE_SIZE};

use crate::escape;
use crate::report::Reporter;
use crate::size;
use crate::source::Source;

/// Says how much a root given as `--cr3` leaves out, and how to see it.
pub(crate) fn tell(source: &Source, space: &AddressSpace, reporter: &Reporter) {
    let range = space.mode().user_range().unwrap_or_else(AddrRange::all);
    let looks = looks_resident(space, range);
    if looks == 0 {
        return;
    }
    let root = space.root();
    let os = source.try_os().ok();
    let processes = os
        .and_then(|os| os.processes().ok())
        .map_or(&[][..], |listing| &listing.items);
    let owner = processes.iter().find(|one| one.has_root(root));
    let whole = os
        .zip(owner)
        .and_then(|(os, owner)| os.guest().space_of(owner).ok());
    let shows = "--cr3 shows what the CPU sees";
    let text = match (owner, whole) {
        (Some(process), Some(whole)) => {
            let hidden = mapped(&whole, range).saturating_sub(mapped(&whole.hardware(), range));
            if hidden == 0 {
                return;
            }
            let (pid, name) = (process.pid, escape::plain(&process.name));
            format!(
                "{shows}: {} of process {pid} ({name}) are in memory though the CPU faults on them ({} pages); \
                 --pid {pid} shows them, too",
                size::approx(hidden),
                hidden / PAGE_SIZE
            )
        }
        _ => format!(
            "{shows}: {} more look as if they were in memory though the CPU faults on them ({} pages), and no \
             process with this root was found that would show them",
            size::approx(looks),
            looks / PAGE_SIZE
        ),
    };
    reporter.note(&text);
}

fn mapped(space: &AddressSpace, range: AddrRange<Gva>) -> u64 {
    let lengths = space.regions(range).map(|region| region.len);
    lengths.fold(0, u64::saturating_add)
}
