//! What runs: processes with the command lines that they were started with, one after the other or below their parents.

use std::collections::HashMap;

use crate::os::{Guest, Process};

/// In which order processes are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Order {
    /// As they were listed: by ascending number.
    #[default]
    Listed,
    /// Each behind its parent.
    Tree,
}

/// A process, and what its own memory says of it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ProcessView<'p> {
    /// What the system says of it.
    pub process: &'p Process,
    /// What it was started with, as its memory has it now. `None` where it has no memory, or that part of it is not
    /// there: pages of arguments are evicted like any others, and that is no fault of the list.
    pub cmdline: Option<Vec<String>>,
    /// In a tree: how many parents it is below.
    pub depth: Option<u32>,
}

/// Every one of `processes` once, which are some or all that `guest` listed.
///
/// Parents are the guest's word. In a tree, a process whose parent is not listed starts a tree of its own, and so does one
/// of each loop of parents.
///
/// Cost: command lines are read one by one, as the iterator goes.
pub fn processes<'p>(
    guest: &'p dyn Guest,
    processes: &'p [Process],
    order: Order,
) -> impl Iterator<Item = ProcessView<'p>> + use<'p> {
    let order = match order {
        Order::Listed => (0..processes.len()).map(|index| (index, None)).collect(),
        Order::Tree => tree(processes),
    };
    order.into_iter().map(move |(index, depth)| {
        let process = &processes[index];
        ProcessView {
            process,
            cmdline: process.root.and_then(|_| guest.command_line(process).ok()),
            depth,
        }
    })
}

/// Every process once, each behind its parent, with its depth.
fn tree(processes: &[Process]) -> Vec<(usize, Option<u32>)> {
    let by_pid: HashMap<u32, usize> = processes
        .iter()
        .enumerate()
        .map(|(index, process)| (process.pid, index))
        .collect();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); processes.len()];
    let mut roots = Vec::new();
    for (index, process) in processes.iter().enumerate() {
        match by_pid.get(&process.ppid) {
            Some(&parent) if parent != index => children[parent].push(index),
            _ => roots.push(index),
        }
    }
    let mut order = Vec::with_capacity(processes.len());
    let mut seen = vec![false; processes.len()];
    // Behind the roots, whatever they did not reach: loops.
    for start in roots.into_iter().chain(0..processes.len()) {
        let mut waiting = vec![(start, 0)];
        while let Some((index, depth)) = waiting.pop() {
            if std::mem::replace(&mut seen[index], true) {
                continue;
            }
            order.push((index, Some(depth)));
            waiting.extend(
                children[index]
                    .iter()
                    .rev()
                    .map(|&child| (child, depth + 1)),
            );
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Gva;
    use crate::os::{ProcessState, ProcessSystem};

    fn shape(parents: &[(u32, u32)]) -> Vec<(u32, u32)> {
        let processes: Vec<Process> = parents
            .iter()
            .map(|&(pid, ppid)| Process {
                pid,
                ppid,
                name: "x".into(),
                threads: 1,
                started: None,
                state: ProcessState::Unknown,
                kernel: false,
                root: None,
                user_root: None,
                object: Gva(0),
                system: ProcessSystem::default(),
            })
            .collect();
        let order = tree(&processes).into_iter();
        order
            .map(|(index, depth)| (processes[index].pid, depth.expect("a tree")))
            .collect()
    }

    #[test]
    fn trees_have_every_process_once() {
        assert_eq!(
            shape(&[(1, 0), (2, 0), (3, 1), (4, 2), (5, 3), (6, 1)]),
            [(1, 0), (3, 1), (5, 2), (6, 1), (2, 0), (4, 1)]
        );
        // Its own parent, a parent that is not listed, a loop.
        assert_eq!(
            shape(&[(1, 1), (2, 99), (3, 4), (4, 3), (5, 4)]),
            [(1, 0), (2, 0), (3, 0), (4, 1), (5, 2)]
        );
        // Numbers need not be unique in a damaged list.
        assert_eq!(shape(&[(7, 0), (7, 7)]).len(), 2);
    }
}
