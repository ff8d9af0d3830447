//! Tasks that no view leads to, found by their shape.
//!
//! The first thread of a process holds its own address, as its `group_leader`, and tasks lie in the
//! kernel's map of all memory, where an address is a physical one plus a constant. So a word that holds
//! its own place, less the offset of that member, is found by one addition and one comparison for each word
//! of memory, and nothing else has that shape.
//!
//! Tasks that have exited have it too. What is found counts only if the kernel still speaks of it: its
//! `struct pid` names it, or a neighbour in one of its lists does, and it belongs to what is known of
//! this kernel (its namespace, its parent, its neighbours): memory can hold the tasks of a kernel that ran
//! before.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::hints::window;
use super::kallsyms::{IMAGE_LAST, IMAGE_START};
use super::pids::PidTables;
use super::scan::each_chunk;
use super::taskplan::{Task, TaskPlan};
use crate::addr::{AddrRange, Address, Gpa, Gva};
use crate::memory::Memory;
use crate::os::object::link;
use crate::paging::AddressSpace;

/// Where kernels map all memory unless they choose at random: with four levels and with five.
const MAPS: [u64; 2] = [0xffff_8880_0000_0000, 0xff11_0000_0000_0000];

/// How many candidates for the first task are looked at.
const MAX_CANDIDATES: usize = 4096;

/// What leads from a task that was found to others, and tells that it is one.
#[derive(Clone, Copy)]
pub(super) struct Leads<'t> {
    /// What a task is.
    pub(super) task: &'t TaskPlan,
    /// The tables of numbers.
    pub(super) pids: Option<&'t PidTables>,
    /// The first task.
    pub(super) init_task: Option<Gva>,
    /// Where the start of the map of all memory is kept.
    pub(super) page_offset_base: Option<Gva>,
}

/// The first task, by its name in the kernel's image: it is its own first thread, and its list of tasks leads
/// back to it.
pub(super) fn first_task(memory: &dyn Memory<Addr = Gva>, plan: &TaskPlan) -> Option<Gva> {
    const NAME: &[u8] = b"swapper";
    let finder = memchr::memmem::Finder::new(NAME);
    let mut found = None;
    let mut seen = 0;
    let _ = each_chunk(
        memory,
        window(),
        |prot| prot.write() && !prot.exec(),
        NAME.len() - 1,
        |start, bytes| {
            for at in finder.find_iter(bytes) {
                seen += 1;
                let name = start.raw() + at as u64;
                let task = name.wrapping_sub(plan.comm_offset());
                let is_first = plan.read(memory, task).is_ok_and(|task| {
                    task.pid == 0 && task.tgid == 0 && is_linked(memory, plan, &task)
                });
                if is_first {
                    found = Some(Gva(task));
                }
                if is_first || seen == MAX_CANDIDATES {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        },
    );
    found
}

/// Whether a task leads its own group, and a neighbour in the list of tasks leads to it.
fn is_linked(memory: &dyn Memory<Addr = Gva>, plan: &TaskPlan, task: &Task) -> bool {
    let leads = plan.group_leader.is_none() || task.group_leader == task.at.raw();
    let listed = plan
        .tasks_node
        .is_none_or(|node| neighbour(memory, task.at.raw().wrapping_add(node)).is_some());
    leads && listed
}

/// A neighbour of the list node at `node` that leads back to it.
fn neighbour(memory: &dyn Memory<Addr = Gva>, node: u64) -> Option<u64> {
    let at = link(node).ok()?;
    let word = |at: u64| link(at).ok().and_then(|at| memory.read_u64(at).ok());
    let (next, prev) = (word(at.raw())?, word(at.raw().wrapping_add(8))?);
    let behind = (next != node && word(next.wrapping_add(8)) == Some(node)).then_some(next);
    behind.or_else(|| (prev != node && word(prev) == Some(node)).then_some(prev))
}

/// First threads of processes, by ascending physical address. `known` are those that were found already;
/// at most `limit` are answered.
///
/// Cost: one pass over memory.
pub(super) fn search(
    space: &AddressSpace,
    memory: &dyn Memory<Addr = Gva>,
    leads: Leads<'_>,
    known: &[Gva],
    limit: usize,
) -> Vec<Gva> {
    let Some(leader) = leads.task.group_leader else {
        return Vec::new();
    };
    let Some(base) = map_of_memory(space, leads.page_offset_base, known) else {
        return Vec::new();
    };
    let shift = base.wrapping_sub(leader.offset);
    let mut candidates: Vec<Gva> = Vec::new();
    let _ = each_chunk(
        &**space.phys(),
        AddrRange::all(),
        |_| true,
        0,
        |start: Gpa, bytes| {
            let skip = (start.raw().wrapping_neg() % 8) as usize;
            let (words, _) = bytes.get(skip..).unwrap_or_default().as_chunks::<8>();
            let first = shift.wrapping_add(start.raw() + skip as u64);
            for (index, word) in words.iter().enumerate() {
                let here = first.wrapping_add(8 * index as u64);
                if u64::from_le_bytes(*word) == here {
                    candidates.push(Gva(here));
                    if candidates.len() >= limit {
                        return ControlFlow::Break(());
                    }
                }
            }
            ControlFlow::Continue(())
        },
    );
    living(memory, leads, known, candidates)
}

/// The constant between physical addresses and those at which the kernel maps all memory.
pub(super) fn map_of_memory(
    space: &AddressSpace,
    page_offset_base: Option<Gva>,
    known: &[Gva],
) -> Option<u64> {
    let image = IMAGE_START..=IMAGE_LAST;
    let in_map = |va: &Gva| !image.contains(&va.raw());
    let of_task = known.iter().copied().filter(in_map).find_map(|va| {
        let mapped = space.translate(va).ok()?;
        Some(va.raw().wrapping_sub(mapped.gpa.raw()))
    });
    let told = || {
        let at = page_offset_base?;
        space.read_u64(at).ok().filter(|&base| base >> 63 == 1)
    };
    let usual = || {
        MAPS.into_iter()
            .find(|&base| space.translate(Gva(base)).is_ok_and(|m| m.gpa.raw() == 0))
    };
    of_task.or_else(told).or_else(usual)
}

/// Those of the candidates that the kernel still speaks of, and that belong to what is known of it.
fn living(
    memory: &dyn Memory<Addr = Gva>,
    leads: Leads<'_>,
    known: &[Gva],
    candidates: Vec<Gva>,
) -> Vec<Gva> {
    let plan = leads.task;
    let mut family: HashSet<Gva> = known.iter().copied().chain(leads.init_task).collect();
    let mut waiting: Vec<Task> = candidates
        .into_iter()
        .filter(|at| !family.contains(at))
        .filter_map(|at| plan.read(memory, at.raw()).ok())
        .filter(|task| task.pid != 0 && task.leads())
        .collect();
    let namespace = leads.pids.and_then(PidTables::namespace);
    let mut living = Vec::new();
    // A child may come before its parent, so those that belong to nothing are asked again.
    loop {
        let before = living.len();
        waiting.retain(|task| {
            let node = |offset: Option<u64>| offset.map(|o| task.at.raw().wrapping_add(o));
            let named = leads.pids.zip(node(plan.pid_node)).zip(task.thread_pid);
            let named = named.is_some_and(|((pids, node), at)| {
                pids.speaks_for(memory, at, task.pid, node, namespace)
            });
            let beside = node(plan.tasks_node).and_then(|node| neighbour(memory, node));
            let of_task = |node: u64| {
                let offset = plan.tasks_node.unwrap_or(0);
                Gva(node.wrapping_sub(offset))
            };
            let thread = node(plan.thread_node).and_then(|node| neighbour(memory, node));
            let related = family.contains(&Gva(task.real_parent))
                || beside.is_some_and(|node| family.contains(&of_task(node)));
            let lives = named && (namespace.is_some() || related)
                || related && (beside.is_some() || thread.is_some());
            if lives {
                family.insert(task.at);
                living.push(task.at);
            }
            !lives
        });
        if living.len() == before {
            break;
        }
    }
    living
}
