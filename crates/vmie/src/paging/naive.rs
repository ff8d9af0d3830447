//! The reference implementation of the walk: one entry at a time, recursively, nothing remembered, nothing merged
//! until the end. Tests compare the fast walk with it.

use super::enumerate::{Extent, ExtentItem};
use super::software::{Bits, Elsewhere, Frame, Meaning};
use super::space::AddressSpace;
use crate::addr::{AddrRange, Address, Gpa, Gva};
use crate::arch::{Above, Level, Spec};
use crate::memory::{Cause, Prot, Span, SpanKind};

/// Every page of `range`, unmerged; a table that cannot be read yields what it spans as lost.
pub(crate) fn pages(space: &AddressSpace, range: AddrRange<Gva>) -> Vec<ExtentItem> {
    pages_by(space, space.mode().spec(), range)
}

/// The same by a format that may be no mode's.
pub(crate) fn pages_by(
    space: &AddressSpace,
    spec: &Spec,
    range: AddrRange<Gva>,
) -> Vec<ExtentItem> {
    let mut out = Vec::new();
    for upper in [false, true] {
        if let Some(root) = space.roots().of_half(upper) {
            let tables = Tables { space, spec, upper };
            visit(&tables, root, 0, 0, Prot::UNLIMITED, range, &mut out);
        }
    }
    out
}

/// The tables of one half of a space.
struct Tables<'t> {
    space: &'t AddressSpace,
    spec: &'t Spec,
    upper: bool,
}

impl Tables<'_> {
    /// The address with these translated bits, if it is in this half.
    fn address(&self, bits: u64) -> Option<Gva> {
        let va = match self.spec.above {
            Above::Zero => bits,
            Above::Sign if bits >> (self.spec.va_bits - 1) == 0 => bits,
            Above::Sign => bits | u64::MAX << self.spec.va_bits,
            Above::Alike if self.upper => bits | u64::MAX << self.spec.va_bits,
            Above::Alike => bits,
        };
        (self.upper == (va >= 1 << 63)).then_some(Gva(va))
    }
}

fn visit(
    tables: &Tables<'_>,
    table: Gpa,
    depth: usize,
    bits: u64,
    inherited: Prot,
    range: AddrRange<Gva>,
    out: &mut Vec<ExtentItem>,
) {
    let (space, spec) = (tables.space, tables.spec);
    let level = &spec.levels[depth];
    for index in 0..level.entries() as u64 {
        let bits = bits | (index << level.shift);
        let Some(va) = tables.address(bits) else {
            continue;
        };
        let all = AddrRange::new(va, level.span()).expect("an entry's span does not wrap");
        let Some(asked) = all.intersect(range) else {
            continue;
        };
        let at = Gpa(table.raw() + index * spec.entry_bytes as u64);
        let read = match spec.entry_bytes {
            8 => space.phys().read_u64(at),
            _ => space.phys().read_u32(at).map(u64::from),
        };
        let Ok(entry) = read else {
            let cause = Cause::TableAbsent {
                level: level.number,
                table,
            };
            out.push(ExtentItem::Lost {
                va: asked.start(),
                len: asked.len(),
                cause,
            });
            continue;
        };
        if !spec.present.holds(entry) {
            out.extend(not_present(space, level, entry, va, asked, inherited));
            continue;
        }
        let is_page = level.is_page.holds(entry);
        let target = if is_page { level.page } else { level.table };
        if entry & target.reserved != 0 {
            continue;
        }
        let prot = inherited.intersect(target.rights.of(entry));
        let gpa = target.address(entry);
        if is_page {
            out.push(ExtentItem::Extent(Extent {
                va: asked.start(),
                gpa: Gpa(gpa + (asked.start().raw() - va.raw())),
                len: asked.len(),
                page_size: level.span(),
                prot: of_page(spec, prot),
            }));
        } else {
            visit(tables, Gpa(gpa), depth + 1, bits, prot, range, out);
        }
    }
}

/// The protection of a page from what all levels allow, one right after the other.
fn of_page(spec: &Spec, allowed: Prot) -> Prot {
    let splits = spec
        .levels
        .last()
        .is_some_and(|level| level.page.rights.no_kernel_exec.is_some());
    if !splits {
        return allowed;
    }
    let (user, kernel) = (allowed.contains(Prot::X), allowed.contains(Prot::OTHER_X));
    let (own, other) = if allowed.user() {
        (user, kernel)
    } else {
        (kernel, user)
    };
    let only = |right: Prot, is_so: bool| if is_so { right } else { Prot::NONE };
    allowed
        .intersect(Prot::R.union(Prot::W).union(Prot::USER))
        .union(only(Prot::X, own))
        .union(only(Prot::OTHER_X, other))
}

/// What the operating system keeps behind an entry, from what its forms say in so many words.
fn not_present(
    space: &AddressSpace,
    level: &Level,
    entry: u64,
    va: Gva,
    asked: AddrRange<Gva>,
    inherited: Prot,
) -> Option<ExtentItem> {
    let software = space.software()?;
    let (forms, backing) = software.forms();
    if entry & software.empty().mask == software.empty().value {
        return None;
    }
    let form = forms.iter().find(|form| {
        form.levels & (1 << level.number) != 0 && entry & form.test.mask == form.test.value
    })?;
    let page = |frame: u64| {
        ExtentItem::Extent(Extent {
            va: asked.start(),
            gpa: Gpa(frame / level.span() * level.span() + (asked.start().raw() - va.raw())),
            len: asked.len(),
            page_size: level.span(),
            prot: inherited.intersect(backing.prot(va).0),
        })
    };
    let away = |area: u64, offset: u64| {
        let area = area.try_into().unwrap_or(u32::MAX);
        ExtentItem::Away {
            va: asked.start(),
            len: asked.len(),
            prot: inherited.intersect(backing.prot(va).0),
            cause: match backing.is_compressed(area, offset) {
                true => Cause::Compressed { area, offset },
                false => Cause::SwappedOut { area, offset },
            },
        }
    };
    let bits = |bits: Bits| ((entry ^ bits.flip) >> bits.shift) & bits.mask;
    Some(match form.meaning {
        Meaning::Nothing => return None,
        Meaning::Resident(Frame { flip, shift, mask }) => page(((entry ^ flip) << shift) & mask),
        Meaning::Swapped { area, offset } => away(bits(area), bits(offset)),
        Meaning::Elsewhere => match backing.elsewhere(va, entry).0 {
            Elsewhere::Nothing => return None,
            Elsewhere::Resident(gpa) => page(gpa.raw()),
            Elsewhere::Swapped { area, offset } => away(area.into(), offset),
        },
    })
}

/// Merges pages to extents.
pub(crate) fn extents(pages: &[ExtentItem]) -> Vec<ExtentItem> {
    let mut out: Vec<ExtentItem> = Vec::new();
    for &item in pages {
        match (out.last_mut(), item) {
            (Some(ExtentItem::Extent(a)), ExtentItem::Extent(b))
                if a.va.raw() + a.len == b.va.raw()
                    && a.gpa.raw() + a.len == b.gpa.raw()
                    && a.prot == b.prot
                    && a.page_size == b.page_size =>
            {
                a.len += b.len;
            }
            (
                Some(ExtentItem::Lost { va, len, cause }),
                ExtentItem::Lost {
                    va: next,
                    len: more,
                    cause: again,
                },
            ) if va.raw() + *len == next.raw() && cause.label() == again.label() => *len += more,
            (
                Some(ExtentItem::Away {
                    va,
                    len,
                    prot,
                    cause,
                }),
                ExtentItem::Away {
                    va: next,
                    len: more,
                    prot: same,
                    cause: again,
                },
            ) if va.raw() + *len == next.raw()
                && *prot == same
                && cause.label() == again.label() =>
            {
                *len += more;
            }
            _ => out.push(item),
        }
    }
    out
}

/// Merges pages to regions.
pub(crate) fn spans(pages: &[ExtentItem]) -> Vec<Span<Gva>> {
    let mut out: Vec<Span<Gva>> = Vec::new();
    for &item in pages {
        let span = match item {
            ExtentItem::Extent(e) => Span {
                start: e.va,
                len: e.len,
                kind: SpanKind::Mapped(e.prot),
            },
            ExtentItem::Lost { va, len, cause } => Span {
                start: va,
                len,
                kind: SpanKind::Lost(cause),
            },
            ExtentItem::Away {
                va,
                len,
                prot,
                cause,
            } => Span {
                start: va,
                len,
                kind: SpanKind::Away(prot, cause),
            },
        };
        match out.last_mut() {
            Some(last)
                if last.start.checked_add(last.len) == Some(span.start)
                    && match (last.kind, span.kind) {
                        (SpanKind::Lost(a), SpanKind::Lost(b)) => a.label() == b.label(),
                        (SpanKind::Away(a, why), SpanKind::Away(b, again)) => {
                            a == b && why.label() == again.label()
                        }
                        (a, b) => a == b,
                    } =>
            {
                last.len += span.len;
            }
            _ => out.push(span),
        }
    }
    out
}
