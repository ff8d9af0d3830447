//! What a bare page-table root does not show: pages that are in memory though the CPU faults on them.
//!
//! Only the operating system knows what it keeps behind entries that are not present. It is looked for when entries look
//! as if there were such pages, and not otherwise, so that a verb on a bare root does not wait for that.

use vmie::{AddressSpace, PAGE_SIZE};

use crate::escape;
use crate::report::Reporter;
use crate::size;
use crate::source::Source;

/// Says how much a root given as `--cr3` leaves out, and how to see it.
pub(crate) fn tell(source: &Source, space: &AddressSpace, reporter: &Reporter) {
    let Some(out) = source.session().left_out(space) else {
        return;
    };
    let shows = "--cr3 shows what the CPU sees";
    let text = match out.owner {
        Some((process, hidden)) => {
            let (pid, name) = (process.pid, escape::plain(&process.name));
            format!(
                "{shows}: {} of process {pid} ({name}) are in memory though the CPU faults on them ({} pages); \
                 --pid {pid} shows them, too",
                size::approx(hidden),
                hidden / PAGE_SIZE
            )
        }
        None => format!(
            "{shows}: {} more look as if they were in memory though the CPU faults on them ({} pages), and no \
             process with this root was found that would show them",
            size::approx(out.looks),
            out.looks / PAGE_SIZE
        ),
    };
    reporter.note(&text);
}
