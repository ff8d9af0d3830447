//! Code that a process has not mapped yet.

use super::Linux;
use super::backed::Backed;
use super::software::EMPTY;
use crate::addr::{AddrRange, Gva, PAGE_SIZE};
use crate::memory::{Cause, Memory, Prot};
use crate::os::object::Budget;
use crate::os::{CodePages, OsError, Process, UnmappedCode, Vma};
use crate::paging::AddressSpace;

/// How many pages that are not mapped are looked for in caches of files: 4 GiB of code.
const MAX_PAGES: usize = 1 << 20;

/// Collects what is not mapped.
struct Collector<'c> {
    memory: &'c Backed<'c>,
    space: &'c AddressSpace,
    budget: Budget,
    code: UnmappedCode,
}

impl Linux {
    /// Pages of executable mappings of files, and of the vdso, that a process has not mapped.
    pub(super) fn code_not_mapped(
        &self,
        process: &Process,
        range: AddrRange<Gva>,
        perm: Prot,
    ) -> Result<UnmappedCode, OsError> {
        let space = self.user_space(process)?;
        let vmas = self.list_vmas(process)?.items;
        let memory = self.backed(process, &vmas)?;
        let mut collector = Collector {
            memory: &memory,
            space: &space,
            budget: Budget(MAX_PAGES),
            code: UnmappedCode::default(),
        };
        let wanted =
            |vma: &&Vma| vma.prot.exec() && allowed(vma).contains(perm) && memory.has_file(vma);
        for vma in vmas.iter().filter(wanted) {
            let Some(part) = vma.range.intersect(range) else {
                continue;
            };
            let mut at = part.start().0;
            for span in space.spans(part) {
                if let Some(last) = span.start.0.checked_sub(1).filter(|&last| last >= at) {
                    collector.gap(vma, at, last);
                }
                // Where it is not known what is mapped, or what is mapped is swapped out, the search itself says so.
                at = span.range().last().0.saturating_add(1);
            }
            if at <= part.last().0 {
                collector.gap(vma, at, part.last().0);
            }
        }
        Ok(collector.code)
    }
}

/// What page tables would allow with the pages of an area.
fn allowed(vma: &Vma) -> Prot {
    vma.prot.union(Prot::R).union(Prot::USER)
}

impl Collector<'_> {
    /// Takes addresses of an area that are not mapped.
    fn gap(&mut self, vma: &Vma, first: u64, last: u64) {
        let mut at = first;
        while at <= last {
            if !self.budget.take() {
                self.missing(at, last);
                return;
            }
            let to = last.min(at | (PAGE_SIZE - 1));
            self.page(vma, at, to);
            match to.checked_add(1) {
                Some(next) => at = next,
                None => return,
            }
        }
    }

    /// Takes a page.
    fn page(&mut self, vma: &Vma, at: u64, last: u64) {
        let Some(range) = AddrRange::inclusive(Gva(at), Gva(last)) else {
            return;
        };
        let untouched = self.space.translate(Gva(at)).is_err_and(
            |fault| matches!(fault.cause, Cause::NotMapped { entry, .. } if EMPTY.holds(entry)),
        );
        let frame = untouched.then(|| self.memory.frame(vma, Gva(at))).flatten();
        let Some(gpa) = frame else {
            self.missing(at, last);
            return;
        };
        let prot = allowed(vma);
        if let Some(before) = self.code.cached.last_mut()
            && before.range.end() == Some(range.start())
            && before.gpa.0.checked_add(before.range.len()) == Some(gpa.0)
            && before.prot == prot
            && let Some(joined) = AddrRange::inclusive(before.range.start(), range.last())
        {
            before.range = joined;
            return;
        }
        self.code.cached.push(CodePages { range, gpa, prot });
    }

    fn missing(&mut self, first: u64, last: u64) {
        let Some(range) = AddrRange::inclusive(Gva(first), Gva(last)) else {
            return;
        };
        self.code.missing = self.code.missing.saturating_add(range.len());
        self.code.first_missing = Some(match self.code.first_missing {
            None => range,
            Some(before) if before.end() == Some(range.start()) => {
                AddrRange::inclusive(before.start(), range.last()).unwrap_or(before)
            }
            Some(before) => before,
        });
    }
}
