//! What a bare page-table root does not show: pages that are in memory though the CPU faults on them.
//!
//! Only the operating system knows what it keeps behind entries that are not present. It is looked for when there
//! are such entries, and not otherwise, so that a verb on a bare root does not wait for that.

use vmie::os::Process;
use vmie::paging::entries_not_present;
use vmie::{AddrRange, AddressSpace, Gva, Memory};

use crate::escape;
use crate::half::own_half;
use crate::report::Reporter;
use crate::size;
use crate::source::Source;

/// Says how much a root given as `--cr3` leaves out, and how to see it.
pub(crate) fn tell(source: &Source, space: &AddressSpace, reporter: &Reporter) {
    let range = own_half(space.mode()).unwrap_or_else(AddrRange::all);
    let entries = entries_not_present(space, range);
    if entries == 0 {
        return;
    }
    let Ok(os) = source.try_os() else {
        reporter.note(&format!(
            "{entries} page-table entries are not present and not empty: what an operating system keeps there is \
             not looked at, and none was found that would say what it is"
        ));
        return;
    };
    let root = space.root();
    let processes = os.processes().map_or(&[][..], |listing| &listing.items);
    let has_root =
        |process: &&Process| process.root == Some(root) || process.user_root == Some(root);
    let owner = processes.iter().find(has_root);
    let Some((process, whole)) = owner.zip(owner.and_then(|owner| os.guest().space_of(owner).ok()))
    else {
        reporter.note(&format!(
            "{entries} page-table entries are not present and not empty, and no process has this root: what the \
             operating system keeps there is not looked at"
        ));
        return;
    };
    let hidden = mapped(&whole, range).saturating_sub(mapped(&whole.hardware(), range));
    if hidden > 0 {
        let (pid, name) = (process.pid, escape::plain(&process.name));
        reporter.note(&format!(
            "--cr3 shows what the CPU sees: {} of process {pid} ({name}) are in memory though the CPU faults on \
             them; --pid {pid} shows them, too",
            size::approx(hidden)
        ));
    }
}

fn mapped(space: &AddressSpace, range: AddrRange<Gva>) -> u64 {
    let lengths = space.regions(range).map(|region| region.len);
    lengths.fold(0, u64::saturating_add)
}
