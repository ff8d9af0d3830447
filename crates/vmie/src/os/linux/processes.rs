//! Rows of processes: what `tasks.rs` found, with owners, states and page tables.

use std::thread;
use std::time::Duration;

use super::Linux;
use super::files::{Files, as_in_proc};
use super::hints::window;
use super::kthreads::KthreadPlan;
use super::linear::{Line, Linear};
use super::mm::{Mm, MmPlan};
use super::rows::LinuxProcess;
use super::state::task_state;
use super::strays;
use super::taskplan::Task;
use super::tasks::{Group, TaskTables, Whole};
use crate::addr::{AddrRange, Address, Gva};
use crate::memory::Memory;
use crate::os::object::{BadLink, Budget, Findings, Part, Plan, Planner, Slot, link};
use crate::os::types::Types;
use crate::os::{
    Acquisition, Finding, FindingKind, Listing, OsError, Process, ProcessState, ProcessSystem,
    SymbolTable,
};
use crate::paging::AddressSpace;

/// Every thread has a stack of 16 KiB in the kernel and a `task_struct`: memory has no room for more
/// threads than this many bytes each.
const MIN_THREAD_BYTES: u64 = 8 << 10;

/// The kernel's own bound on the number of threads.
const MAX_THREADS: u64 = 4 << 20;

/// How many steps the way from a program's file to its path may have: there are many processes to ask for
/// theirs.
const MAX_PATH_STEPS: usize = 512;

/// How often a guest that runs is looked at, at most, and how long after each other: longer than a process
/// takes to appear or to go.
const LOOKS: usize = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// How much of a command line is read.
const MAX_ARGUMENTS: u64 = 1 << 20;

/// What is needed to list processes.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    pub(super) tasks: TaskTables,
    mm: Option<MmPlan>,
    cred: Option<CredPlan>,
    /// Names of kernel threads are a nicety: without these types the short ones are shown.
    kthreads: Option<KthreadPlan>,
}

#[derive(Clone, Copy, Debug)]
struct CredPlan {
    plan: Plan,
    uid: Option<Slot>,
    euid: Option<Slot>,
    /// How often it is referred to.
    usage: Option<Slot>,
    /// What every owner has: `user`, `user_ns`.
    user: Option<Slot>,
    user_ns: Option<Slot>,
}

impl CredPlan {
    fn new(types: &Types, lost: &mut Vec<String>) -> Option<Self> {
        let Ok(mut cred) = Planner::new(types, "cred") else {
            lost.push("struct cred".into());
            return None;
        };
        Some(Self {
            uid: cred.ask(&["uid"], lost),
            euid: cred.ask(&["euid"], lost),
            usage: cred.want(&["usage"]),
            user: cred.want(&["user"]),
            user_ns: cred.want(&["user_ns"]),
            plan: cred.plan(),
        })
    }

    /// The owner at `pointer`; an error when it cannot be one.
    fn read(self, memory: &dyn Memory<Addr = Gva>, pointer: u64) -> Result<Part, BadLink> {
        let cred = self.plan.follow(memory, pointer)?;
        for slot in [self.user, self.user_ns].into_iter().flatten() {
            link(cred.number(slot))?;
        }
        match self.usage {
            Some(usage) if cred.number(usage) == 0 => Err(BadLink::Unused(pointer)),
            _ => Ok(cred),
        }
    }
}

impl Tables {
    pub(super) fn new(
        types: &Types,
        symbols: &SymbolTable,
        memory: &dyn Memory<Addr = Gva>,
        damaged: bool,
    ) -> Result<Self, OsError> {
        let mut tasks = TaskTables::new(types, symbols, memory)?;
        let mm = MmPlan::new(types, &mut tasks.lost);
        if let Err(error) = &mm {
            tasks
                .lost
                .push(format!("what memory a process has ({error})"));
        }
        // Kernels differ in whether there is anything that says so.
        let kthreads = KthreadPlan::new(types);
        if damaged && !kthreads.as_ref().is_ok_and(KthreadPlan::is_whole) {
            let what = "the names of kernel threads beyond 15 bytes";
            tasks.lost.push(what.into());
        }
        Ok(Self {
            mm: mm.ok(),
            cred: CredPlan::new(types, &mut tasks.lost),
            kthreads: kthreads.ok(),
            tasks,
        })
    }

    /// What memory a process has.
    pub(super) fn mm(&self) -> Result<MmPlan, OsError> {
        self.mm.ok_or_else(|| OsError::Unavailable {
            view: "the memory of processes",
            why: "the kernel's types do not say what a mm_struct is".into(),
        })
    }
}

impl Linux {
    /// All processes.
    pub(super) fn list_processes(&self) -> Result<Listing<Process>, OsError> {
        let tables = self.tables()?;
        let bytes: u64 = self
            .space
            .phys()
            .regions(AddrRange::all())
            .fold(0, |sum, region| region.len.saturating_add(sum));
        let limit = (bytes / MIN_THREAD_BYTES).clamp(1024, MAX_THREADS);
        let look = || self.look(&tables, limit as usize);
        match self.acquisition {
            Acquisition::Running => settle(look, || thread::sleep(BETWEEN_LOOKS)),
            Acquisition::Stopped | Acquisition::Unknown => look(),
        }
    }

    /// Looks at all processes once.
    fn look(&self, tables: &Tables, limit: usize) -> Result<Listing<Process>, OsError> {
        let mut findings = Findings::default();
        if !tables.tasks.lost.is_empty() {
            let text = format!(
                "not known of this kernel, and null or made do without: {}",
                tables.tasks.lost.join(", ")
            );
            findings.add(FindingKind::Damaged, None, text);
        }
        let memory = self.linear(tables);
        let whole = Whole {
            space: &self.space,
            acquisition: self.acquisition,
        };
        let groups = tables
            .tasks
            .groups(&memory, Some(whole), limit, &mut findings)?;
        let items = groups
            .iter()
            .map(|group| process(&memory, tables, group, &mut findings))
            .collect();
        if memory.used() > 0 {
            let text = "the kernel's page tables do not map all of its objects: they were read where its map of \
                        all memory has them";
            findings.add(FindingKind::Damaged, None, text);
        }
        Ok(Listing {
            items,
            findings: findings.finish(),
        })
    }

    /// The kernel's memory, as far as it is known beside its page tables.
    fn linear(&self, tables: &Tables) -> Linear<'_> {
        let mut lines = Vec::new();
        if let Some(root_va) = self.trail.marks.first() {
            let shift = root_va.raw().wrapping_sub(self.root.raw());
            lines.push(Line {
                range: window(),
                shift,
            });
        }
        let end = self
            .space
            .phys()
            .regions(AddrRange::all())
            .map(|region| region.range().last().raw())
            .max();
        if let Some(shift) = strays::map_of_memory(&self.space, tables.tasks.page_offset_base, &[])
            && let Some(range) =
                end.and_then(|end| AddrRange::inclusive(Gva(shift), Gva(shift.checked_add(end)?)))
        {
            lines.push(Line { range, shift });
        }
        Linear::new(&self.space, lines)
    }

    /// The memory of a process, read anew.
    pub(super) fn mm_of(&self, process: &Process) -> Result<Mm, OsError> {
        let tables = self.tables()?;
        let mm = match process.linux().and_then(|linux| linux.mm) {
            Some(mm) if process.root.is_some() => mm,
            _ => return Err(OsError::no_memory(process)),
        };
        tables
            .mm()?
            .read(&self.space, mm.raw())
            .map_err(|bad| Self::damaged(process, "the pointer to its memory", bad))
    }

    /// The arguments of a process, as `/proc/PID/cmdline` has them.
    pub(super) fn arguments(&self, process: &Process) -> Result<Vec<String>, OsError> {
        let places = self.mm_of(process)?.arguments();
        let [start, end, env_start, env_end] = places.ok_or_else(|| OsError::Unavailable {
            view: "the arguments of processes",
            why: "the kernel's types do not say where they are".into(),
        })?;
        let space = self.user_space(process)?;
        let read = |from: Gva, to: Gva| {
            let len = to.offset_from(from).unwrap_or(0).min(MAX_ARGUMENTS);
            let mut bytes = vec![0; len as usize];
            match space.read(from, &mut bytes) {
                Ok(()) => Ok(bytes),
                Err(fault) => Err(OsError::Unreadable {
                    what: format!("the command line of process {}", process.pid),
                    fault,
                }),
            }
        };
        let mut bytes = read(start, end)?;
        match bytes.last() {
            None => return Ok(Vec::new()),
            Some(0) => {
                bytes.pop();
            }
            // The process wrote a title of its own over its arguments, which may reach into its
            // environment and ends with a NUL.
            Some(_) => {
                if env_start == end {
                    bytes.extend(read(env_start, env_end)?);
                }
                bytes.truncate(memchr::memchr(0, &bytes).unwrap_or(bytes.len()));
            }
        }
        let text = |arg: &[u8]| String::from_utf8_lossy(arg).into_owned();
        Ok(bytes.split(|&byte| byte == 0).map(text).collect())
    }

    /// The path of the program that a process runs, as `/proc/PID/exe` has it.
    pub(super) fn program_path(&self, process: &Process) -> Result<Option<String>, OsError> {
        let Some(pointer) = self.mm_of(process)?.exe_file().filter(|&file| file != 0) else {
            return Ok(None);
        };
        let mut findings = Findings::default();
        let mut files = Files {
            plan: &self.vma_plan()?.files,
            memory: &self.space,
            symbols: &self.symbols,
            steps: &mut Budget(MAX_PATH_STEPS),
        };
        let file = files
            .file(pointer, &mut findings)
            .map_err(|bad| Self::damaged(process, "the file of its program", bad))?;
        Ok(Some(as_in_proc(&file)))
    }

    /// The space that a process's user mode sees, with the pages in memory that the CPU faults on.
    pub(super) fn user_space(&self, process: &Process) -> Result<AddressSpace, OsError> {
        match process.user_root.or(process.root) {
            Some(root) => Ok(self.with_resident(self.space.with_root(root), process)),
            None => Err(OsError::no_memory(process)),
        }
    }
}

/// The row of a process.
fn process(
    memory: &Linear<'_>,
    tables: &Tables,
    group: &Group,
    findings: &mut Findings,
) -> Process {
    let leader = &group.leader;
    let roots = match (group.mm(), tables.mm) {
        (0, _) | (_, None) => None,
        (mm, Some(plan)) => plan
            .read(memory, mm)
            .and_then(|mm| mm.roots(memory))
            .map_err(|bad| {
                let what = format!("the memory of process {}", leader.tgid);
                findings.bad_link(bad, leader.at, what);
            })
            .ok(),
    };
    let owner = tables.cred.zip(leader.real_cred).and_then(|(plan, cred)| {
        let owner = plan.read(memory, cred).map_err(|bad| {
            let what = format!("the owner of process {}", leader.tgid);
            findings.bad_link(bad, leader.at, what);
        });
        Some((plan, owner.ok()?))
    });
    let user = |slot: fn(&CredPlan) -> Option<Slot>| {
        let (plan, cred) = owner.as_ref()?;
        Some(cred.number32(slot(plan)?))
    };
    Process {
        pid: leader.tgid,
        ppid: group.parent,
        name: kthread_name(memory, tables, leader, findings).unwrap_or_else(|| leader.comm.clone()),
        threads: u32::try_from(group.others.len() + 1).unwrap_or(u32::MAX),
        started: leader.started.map(Duration::from_nanos),
        state: leader.state.map_or(ProcessState::Unknown, |state| {
            task_state(state, leader.exit_state)
        }),
        kernel: leader.is_kernel(),
        system: ProcessSystem::Linux(LinuxProcess {
            uid: user(|cred| cred.uid),
            euid: user(|cred| cred.euid),
            mm: (group.mm() != 0).then_some(Gva(group.mm())),
        }),
        root: roots.map(|roots| roots.full),
        user_root: roots.and_then(|roots| roots.user),
        object: leader.at,
    }
}

/// The longer name of a kernel thread, if it has one.
fn kthread_name(
    memory: &dyn Memory<Addr = Gva>,
    tables: &Tables,
    leader: &Task,
    findings: &mut Findings,
) -> Option<String> {
    let plan = tables.kthreads?;
    plan.name(memory, leader).unwrap_or_else(|bad| {
        let what = format!("the record of kernel thread {}", leader.pid);
        findings.bad_link(bad, leader.at, what);
        None
    })
}

/// Looks again, at a guest that runs, as long as something does not add up: what comes and goes between
/// one list and the next is no finding, what stays is.
fn settle<T>(
    mut look: impl FnMut() -> Result<Listing<T>, OsError>,
    mut wait: impl FnMut(),
) -> Result<Listing<T>, OsError> {
    let mut listing = look()?;
    for _ in 1..LOOKS {
        if listing.findings.is_empty() {
            break;
        }
        wait();
        let again = look()?;
        let stays = |finding: &Finding| again.findings.contains(finding);
        listing.findings.retain(stays);
        listing.items = again.items;
    }
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(items: &[u32], hidden: &[u64]) -> Listing<u32> {
        let finding = |&at: &u64| Finding {
            kind: FindingKind::Hidden,
            at: Some(Gva(at)),
            text: format!("process {at}"),
        };
        Listing {
            items: items.to_vec(),
            findings: hidden.iter().map(finding).collect(),
        }
    }

    #[test]
    fn only_what_stays_is_a_finding_on_a_guest_that_runs() {
        let mut looks = vec![
            listing(&[1, 2, 9], &[2, 9]),
            listing(&[1, 3, 9], &[3, 9]),
            listing(&[1, 9], &[9]),
            listing(&[1, 9], &[9]),
            listing(&[1, 4, 9], &[4, 9]),
        ]
        .into_iter();
        let mut waits = 0;
        let settled = settle(|| Ok(looks.next().expect("no more")), || waits += 1);
        assert_eq!(settled, Ok(listing(&[1, 4, 9], &[9])));
        assert_eq!(waits, LOOKS - 1);
    }

    #[test]
    fn a_guest_in_which_all_adds_up_is_looked_at_once() {
        let mut looks = 0;
        let settled = settle(
            || {
                looks += 1;
                Ok(listing(&[1], if looks == 1 { &[] } else { &[7] }))
            },
            || panic!("waits"),
        );
        assert_eq!(settled, Ok(listing(&[1], &[])));
    }
}
