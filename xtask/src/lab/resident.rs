//! The moment in which a guest with NUMA nodes is looked at: one with pages that are in memory although the
//! CPU does not find them, for each reason that the guest has (`guest/resident.cpp`).
//!
//! The kernel makes and unmakes such entries all the time, so tests could find none by bad luck. Whether there
//! are any is seen in the RAM of the stopped guest, by the walker that tests use, too.

use std::collections::BTreeMap;
use std::fs::{self, File};

use vmie_lab::qemu::Registers;
use vmie_lab::walker::{Hidden, Migration, Ram, Why, hidden_in};
use vmie_lab::{Area, Program};

use super::catch;
use super::guest::Guest;
use super::kernel::Kernel;
use super::machine::{has_five_levels, visible};
use crate::Fallible;

/// Stops in the wanted program. Of some five one is good.
const ATTEMPTS: usize = 100;

/// What shall be there: pages of an area.
struct Wanted {
    area: Area,
    root: u64,
    why: Why,
}

/// All that shall be there, and what it takes to see it.
pub(crate) struct Resident {
    release: String,
    config: String,
    wanted: Vec<Wanted>,
}

impl Resident {
    pub(crate) fn new(
        kernel: &Kernel,
        programs: &[Program],
        roots: &BTreeMap<u32, u64>,
    ) -> Fallible<Self> {
        let config = fs::read_to_string(kernel.config())
            .map_err(|error| format!("{}: {error}", kernel.config().display()))?;
        let mut wanted = Vec::new();
        for (name, areas, why) in [
            ("numabal", &["NUMABAL", "NUMATHP"][..], Why::ProtNone),
            ("mover", &["MOVER", "MOVERTHP"], Why::Migration),
        ] {
            let program = programs.iter().find(|program| program.name == name);
            let program = program.ok_or_else(|| format!("no program {name} reports"))?;
            for name in areas {
                let area = program.area(name);
                wanted.push(Wanted {
                    area: area.ok_or_else(|| format!("no area {name}"))?.clone(),
                    root: roots[&program.pid],
                    why,
                });
            }
        }
        Ok(Self {
            release: kernel.release.clone(),
            config,
            wanted,
        })
    }

    /// As [`catch::stop_in`], and some pages are where they shall be: of sampled ones in each area, of moved
    /// ones in one of them.
    pub(crate) fn stop_in(&self, guest: &mut Guest, pid: u32) -> Fallible<(u32, Vec<Registers>)> {
        let mtree = guest.qmp.monitor("info mtree -f", 0)?.replace('\r', "");
        let mut pieces = Vec::new();
        for block in guest.blocks() {
            let file = File::open(guest.ram(&block))?;
            pieces.push((file, visible(&mtree, &block.name, 0)?));
        }
        let ram = Ram::new(pieces);
        let mut seen = String::new();
        for attempt in 1..=ATTEMPTS {
            let stopped = catch::stop_in(guest, pid)?;
            let counts = self.counts(&ram, has_five_levels(&stopped.1));
            let pairs = || self.wanted.iter().zip(&counts);
            let each = pairs().map(|(wanted, count)| format!("{} {count}", wanted.area.name));
            seen = each.collect::<Vec<_>>().join(", ");
            let of = |why| pairs().filter(move |(wanted, _)| wanted.why == why);
            let sampled = of(Why::ProtNone).all(|(_, count)| *count > 0);
            let moved = of(Why::Migration).any(|(_, count)| *count > 0);
            if sampled && moved {
                eprintln!(
                    "lab: {}: pages that are not present: {seen}; stop {attempt}",
                    guest.variant.name
                );
                return Ok(stopped);
            }
            guest.resume()?;
        }
        Err(format!(
            "guest {} had no moment in {ATTEMPTS} in which its kernel sampled accesses and moved pages; in \
             the last one there were {seen}",
            guest.variant.name
        )
        .into())
    }

    /// How many pages there are of each that is wanted, huge ones counted once.
    fn counts(&self, ram: &Ram, five_levels: bool) -> Vec<usize> {
        let migration = Migration::of_kernel(&self.release, &self.config, five_levels);
        let levels = if five_levels { 5 } else { 4 };
        let count = |wanted: &Wanted| {
            let pages = hidden_in(ram, levels, wanted.root, &migration);
            let is_it = |page: &&Hidden| page.why == wanted.why && wanted.area.contains(page.va);
            pages.iter().filter(is_it).count()
        };
        self.wanted.iter().map(count).collect()
    }
}
