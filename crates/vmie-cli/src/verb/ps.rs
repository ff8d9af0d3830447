//! `vmie ps`: the processes of the guest.
//!
//! Rows are what the guest's own records say; what does not add up among them (a loop, a process that
//! one list has and another lacks) goes to standard error as warnings.

use std::collections::HashMap;

use clap::Args;
use vmie::os::{Guest, Process};
use vmie_rows::{Hex, ProcessRow};

use crate::args::SourceArgs;
use crate::exit::{Done, Failure, Result};
use crate::guest::tell_findings;
use crate::options::Options;
use crate::output::{Cell, Row, SpaceKind};
use crate::source::Source;

#[derive(Args, Debug)]
pub(crate) struct PsArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,

    /// Each process below its parent
    #[arg(long)]
    pub(crate) tree: bool,
}

pub(super) fn run(args: &PsArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.source, &options.reporter)?;
    let os = source.os()?;
    let listing = os.processes()?;
    let incomplete = tell_findings(&listing.findings, &options.reporter);
    let processes = &listing.items;
    if processes.is_empty() {
        return Err(Failure::new("the list of processes is empty")
            .found("a running system has at least one")
            .into());
    }
    let order = if args.tree {
        tree(processes)
    } else {
        (0..processes.len()).map(|index| (index, None)).collect()
    };
    let mut sink = options.sink::<ProcessRow<'_>>(SpaceKind::Virtual);
    for (index, depth) in order {
        let row = row(os.guest(), &processes[index], depth);
        if sink.row(&row)?.is_break() {
            break;
        }
    }
    sink.finish(None)?;
    Ok(Done {
        found: true,
        complete: !incomplete,
    })
}

/// Every process once, each behind its parent, with its depth.
///
/// Parents are the guest's word. A process whose parent is not listed starts a tree of its own, and so
/// does one of each loop of parents.
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

fn row<'a>(guest: &dyn Guest, process: &'a Process, depth: Option<u32>) -> ProcessRow<'a> {
    ProcessRow {
        pid: process.pid,
        ppid: process.ppid,
        uid: process.uid(),
        euid: process.euid(),
        name: &process.name,
        cr3: process.root.map(|root| Hex(root.0)),
        user_cr3: process.user_root.map(|root| Hex(root.0)),
        state: process.state.letter(),
        threads: process.threads,
        started: process.started.map(|started| started.as_secs_f64()),
        kernel: process.kernel,
        // Pages of arguments are evicted like any others; that is no fault of the list.
        cmdline: process.root.and_then(|_| guest.command_line(process).ok()),
        depth,
    }
}

/// The command line for people; short names in brackets where there is none, as `ps` does.
fn command(row: &ProcessRow<'_>) -> String {
    match &row.cmdline {
        Some(arguments) if !arguments.is_empty() => arguments.join(" "),
        _ => format!("[{}]", row.name),
    }
}

impl Row for ProcessRow<'_> {
    fn cell(&self, key: &str) -> Option<Cell> {
        /// A doctored list can nest as deep as it is long.
        const MAX_INDENT: usize = 32;
        let text = match key {
            "started" => format!("{:.2}", self.started?),
            "name" => {
                let depth = self.depth.unwrap_or(0) as usize;
                format!("{}{}", "  ".repeat(MAX_INDENT.min(depth)), self.name)
            }
            "cmdline" => command(self),
            _ => return None,
        };
        Some(Cell::new(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmie::Gva;
    use vmie::os::{ProcessState, ProcessSystem};

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
