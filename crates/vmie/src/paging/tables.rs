//! The tables under a root, one by one, and whether each looks like one: what tells whether memory lies where it is
//! believed to.
//!
//! Page tables name each other by physical addresses. Where memory is laid out as it was in the machine, what they name is
//! tables; where it is not, it is whatever else lies there, or nothing. Only tables are looked at and not the pages that they
//! map, whose contents say nothing.
//!
//! Unlike the walk, this goes breadth first and is a sample: of each level a bounded number of tables, evenly spread over
//! those found. Each table is seen once, however many entries lead to it.

use std::collections::HashSet;

use super::space::AddressSpace;
use super::walk::read_entries;
use crate::addr::{Gpa, PAGE_SIZE};
use crate::arch::{Level, Spec};

/// What stands where a table should.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    /// Entries as a table of its level has them.
    Sound,
    /// Nothing but zeros. A table that others lead to rarely is.
    Empty,
    /// Something else.
    Unsound,
    /// It cannot be read.
    Missing,
}

/// Looks at the tables of a space, the root among them, `per_level` of each level at most, and hands on where each is, its level, and
/// how it looks. Addresses of physical memory from `limit` on are taken for nonsense.
///
/// Cost: reads each table that is looked at once.
pub(crate) fn each_table(
    space: &AddressSpace,
    per_level: usize,
    limit: Gpa,
    mut see: impl FnMut(Gpa, u8, Look),
) {
    let spec = space.mode().spec();
    let roots = space.roots();
    let mut seen: HashSet<Gpa> = HashSet::new();
    let mut tables: Vec<Gpa> = [false, true]
        .into_iter()
        .filter_map(|half| roots.of_half(half))
        .filter(|&root| seen.insert(root))
        .collect();
    for level in spec.levels {
        let step = tables.len().div_ceil(per_level.max(1)).max(1);
        let mut below = Vec::new();
        for &table in tables.iter().step_by(step) {
            let mut entries = [0; Spec::MAX_ENTRIES];
            let entries = &mut entries[..level.entries()];
            let bits = space.kept_bits();
            let read = read_entries(&**space.phys(), spec, bits, table, 0, entries);
            if read < entries.len() {
                see(table, level.number, Look::Missing);
                continue;
            }
            let mut leads_to = Vec::new();
            let look = look(spec, level, entries, limit, &mut leads_to);
            see(table, level.number, look);
            // What is no table leads nowhere.
            if look == Look::Sound {
                below.extend(leads_to.into_iter().filter(|&next| seen.insert(next)));
            }
        }
        tables = below;
    }
}

/// Judges the entries of a table, and collects where they lead.
fn look(spec: &Spec, level: &Level, entries: &[u64], limit: Gpa, below: &mut Vec<Gpa>) -> Look {
    let (mut good, mut bad, mut other) = (0_usize, 0_usize, 0_usize);
    for &entry in entries {
        if !spec.present.holds(entry) {
            other += usize::from(entry != 0);
            continue;
        }
        let is_page = level.is_page.holds(entry);
        let target = if is_page { &level.page } else { &level.table };
        let to = Gpa(target.address(entry));
        if entry & target.reserved != 0 || to >= limit {
            bad += 1;
        } else if to.0 < PAGE_SIZE && !is_page {
            // Small odd numbers look like entries that lead there, and no table does.
            bad += 1;
        } else if to.0 >= PAGE_SIZE {
            good += 1;
            if !is_page {
                below.push(to);
            }
        }
    }
    // Entries that are not present may be anything to the system; but a table is for those that are, or has none at all.
    match (good, bad, other) {
        (0, 0, 0) => Look::Empty,
        _ if good > 0 && bad * 8 <= good => Look::Sound,
        // Of a program that is swapped out, or one that a debugger looks at: says nothing, and may be no table.
        _ => Look::Unsound,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vmie_synth::guest::{Flags, Machine, Paging, Space};

    use super::*;
    use crate::arch::Mode;
    use crate::testguest::Synthetic;

    fn looks(machine: &Machine, space: &Space, mode: Mode, per_level: usize) -> Vec<(u64, Look)> {
        let phys = Synthetic::of(machine.clone());
        let space = AddressSpace::new(phys, Gpa(space.root()), mode);
        let mut seen = Vec::new();
        each_table(&space, per_level, Gpa(1 << 40), |gpa, _, look| {
            seen.push((gpa.0, look));
        });
        seen
    }

    #[test]
    fn each_table_is_seen_once_and_told_from_what_is_none() {
        for (paging, mode) in [
            (Paging::X86, Mode::X86),
            (Paging::Pae, Mode::Pae),
            (Paging::FourLevel, Mode::FourLevel),
            (Paging::FiveLevel, Mode::FiveLevel),
        ] {
            let mut machine = Machine::new(0x1000..0x80_0000);
            let space = Space::new(&mut machine, paging);
            for va in [0x40_0000, 0x80_0000, 0x4000_0000] {
                space.map_new(&mut machine, va, 3, Flags::DATA);
            }
            let all = looks(&machine, &space, mode, 256);
            assert!(
                all.iter().all(|&(_, look)| look == Look::Sound),
                "{mode}: {all:x?}"
            );
            assert!(all.iter().all(|&(gpa, _)| machine.is_table(gpa)), "{mode}");
            assert_eq!(all[0].0, space.root());
            let lowest = all.len();
            assert!(lowest >= 4, "{mode}: {lowest}");
            assert!(looks(&machine, &space, mode, 1).len() < lowest);

            // Text, zeros and nothing where the last table was.
            let (last, _) = *all.last().expect("tables");
            let mut text = machine.clone();
            text.phys.write(last, &[b'a'; 4096]);
            // Nothing is wrong in an entry of 32 bits.
            let told = if mode == Mode::X86 {
                Look::Sound
            } else {
                Look::Unsound
            };
            assert_eq!(looks(&text, &space, mode, 256).last(), Some(&(last, told)));
            let mut zeros = machine.clone();
            zeros.phys.write(last, &[0; 4096]);
            assert_eq!(
                looks(&zeros, &space, mode, 256).last(),
                Some(&(last, Look::Empty))
            );
            let mut gone = machine.clone();
            gone.phys.make_absent(last..last + 4096);
            assert_eq!(
                looks(&gone, &space, mode, 256).last(),
                Some(&(last, Look::Missing))
            );
        }
    }

    #[test]
    fn a_table_that_leads_to_itself_ends() {
        let mut machine = Machine::new(0x1000..0x20_0000);
        let space = Space::new(&mut machine, Paging::FourLevel);
        let root = space.root();
        machine.phys.write_uint(root + 8 * 256, root | 0x63, 8);
        let phys: Arc<dyn crate::Memory<Addr = Gpa>> = Synthetic::of(machine);
        let space = AddressSpace::new(phys, Gpa(root), Mode::FourLevel);
        let mut count = 0;
        each_table(&space, 256, Gpa(1 << 40), |_, _, look| {
            assert_eq!(look, Look::Sound);
            count += 1;
        });
        assert_eq!(count, 1);
    }
}
