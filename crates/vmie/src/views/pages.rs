//! Where a page of a process is that the CPU does not see: in swap, behind an entry that is not present, in a file, or
//! nowhere.

use std::mem::discriminant;
use std::sync::OnceLock;

use crate::addr::{AddrRange, Address as _, Gva, PAGE_SIZE};
use crate::os::{Guest, Listing, PageState, Process, Vma};
use crate::paging::AddressSpace;

/// How many pages of a range are looked at one by one.
const MAX_PAGES: usize = 1 << 16;

/// The pages of one process.
pub struct Pages<'g> {
    guest: &'g dyn Guest,
    process: &'g Process,
    space: OnceLock<Option<AddressSpace>>,
    areas: OnceLock<Option<Listing<Vma>>>,
}

/// Where a page is that the CPU does not see.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PageIs {
    /// What its entry says, where that says something: not [`PageState::Present`], not [`PageState::Empty`].
    Kept(PageState),
    /// The kernel's own, which user mode's page tables leave out (page-table isolation).
    Hidden,
    /// The process has nothing arranged there.
    NoArea,
    /// Of a file: never read into this process, or dropped.
    InFile {
        /// The file, as far as its path is known.
        path: String,
        /// Where in it the page is, in bytes.
        offset: u64,
    },
    /// Never touched: zeros when it is.
    Untouched,
}

impl PageIs {
    /// Whether the same can be said of both in one word.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Kept(one), Self::Kept(other)) => discriminant(one) == discriminant(other),
            _ => discriminant(self) == discriminant(other),
        }
    }
}

impl<'g> Pages<'g> {
    /// Those of `process`. What it has arranged is asked once, when it is first needed.
    pub fn new(guest: &'g dyn Guest, process: &'g Process) -> Self {
        Self {
            guest,
            process,
            space: OnceLock::new(),
            areas: OnceLock::new(),
        }
    }

    /// Where the page at `va` is, which the process's page tables do not map; `None` when there is no more to say.
    ///
    /// Cost: a walk over the levels of one address; the list of what the process has arranged, once.
    pub fn state(&self, va: Gva) -> Option<PageIs> {
        let space = self.space()?;
        if self.user().is_some_and(|half| !half.contains(va)) {
            let hidden = self.process.user_root == Some(space.root())
                && self.guest.kernel_space().translate(va).is_ok();
            return hidden.then_some(PageIs::Hidden);
        }
        match self.guest.page_state(self.process, va).ok()? {
            PageState::Present { .. } | PageState::Unknown(_) => None,
            PageState::Empty => self.of_empty(va),
            state => Some(PageIs::Kept(state)),
        }
    }

    /// Cuts a range that the process's page tables do not map into parts of which the same can be said in one word, see
    /// [`PageIs::is_like`]: each with where its first page is, `None` where there is no more to say.
    ///
    /// Cost: that of [`Pages::state`] for each page within what is arranged, of 65,536 at most; of what lies behind those
    /// nothing is said.
    pub fn parts(&self, range: AddrRange<Gva>) -> Vec<(AddrRange<Gva>, Option<PageIs>)> {
        // Holes of terabytes have few areas in them; each of their pages is looked at.
        let mut pages_left = MAX_PAGES;
        let mut parts: Vec<(AddrRange<Gva>, Option<PageIs>)> = Vec::new();
        let mut at = Some(range.start());
        while let Some(part) = at.and_then(|at| AddrRange::inclusive(at, range.last())) {
            let start = part.start();
            let to = self.next_border(start).min(part.last());
            pages_left = pages_left.saturating_sub(1);
            let (last, state) = match pages_left {
                0 => (part.last(), None),
                _ => (to, self.state(start)),
            };
            match parts.last_mut() {
                Some((joined, known)) if alike(known.as_ref(), state.as_ref()) => {
                    if let Some(longer) = AddrRange::inclusive(joined.start(), last) {
                        *joined = longer;
                    }
                }
                _ => parts.extend(AddrRange::inclusive(start, last).map(|new| (new, state))),
            }
            at = last.checked_add(1);
        }
        parts
    }

    /// Where a page is that is nowhere in the guest's memory.
    fn of_empty(&self, va: Gva) -> Option<PageIs> {
        let areas = self.areas()?;
        let Some(area) = next_area(areas, va).filter(|area| area.range.contains(va)) else {
            // Where the list is damaged, it may be in what is lost.
            return areas.findings.is_empty().then_some(PageIs::NoArea);
        };
        Some(match &area.file {
            Some(file) => {
                let within = (va.0 - area.range.start().0) / PAGE_SIZE * PAGE_SIZE;
                PageIs::InFile {
                    path: file.path.clone(),
                    offset: file.offset.wrapping_add(within),
                }
            }
            None => PageIs::Untouched,
        })
    }

    /// The last address that what is said of `va` holds for at least: of its page in an area, all up to the next area
    /// outside.
    fn next_border(&self, va: Gva) -> Gva {
        let Some(areas) = self.areas() else {
            return Gva(u64::MAX);
        };
        match next_area(areas, va) {
            Some(area) if area.range.contains(va) => Gva(va.0 | (PAGE_SIZE - 1)),
            Some(area) => Gva(area.range.start().0.saturating_sub(1)).max(va),
            None => match self.user() {
                Some(half) if half.contains(va) => half.last(),
                _ => Gva(u64::MAX),
            },
        }
    }

    fn space(&self) -> Option<&AddressSpace> {
        let space = || self.guest.space_of(self.process).ok();
        self.space.get_or_init(space).as_ref()
    }

    /// User mode's half, where there are halves.
    fn user(&self) -> Option<AddrRange<Gva>> {
        self.space()?.mode().user_range()
    }

    fn areas(&self) -> Option<&Listing<Vma>> {
        let list = || self.guest.vmas(self.process).ok();
        self.areas.get_or_init(list).as_ref()
    }
}

fn alike(one: Option<&PageIs>, other: Option<&PageIs>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is_like(other),
        (None, None) => true,
        _ => false,
    }
}

/// The area that an address is in, or else the next one behind it. A guest may have very many.
fn next_area(areas: &Listing<Vma>, va: Gva) -> Option<&Vma> {
    let before = areas.items.partition_point(|area| area.range.last() < va);
    areas.items.get(before)
}
