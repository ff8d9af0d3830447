//! Names of kernel threads.
//!
//! A task's `comm` holds 15 bytes. `/proc` shows kernel threads by longer names: the one that the thread
//! was made with (`kthread->full_name`), and for workers of a work queue also what they last worked
//! for, as in `kworker/0:1-events`. A longer name is taken only when it goes on from what `comm` says;
//! anything else, and any pointer that leads nowhere, leaves `comm`.

use super::taskplan::Task;
use crate::addr::Gva;
use crate::memory::Memory;
use crate::os::object::{BadLink, Plan, Planner, Slot, read_text};
use crate::os::types::{TypeError, Types};

/// `flags`: a worker of a work queue (`PF_WQ_WORKER`).
const PF_WQ_WORKER: u32 = 0x20;

/// The longest name that is read.
const MAX_NAME: usize = 128;

/// The most that `/proc` shows of a worker's name (the buffer in `proc_task_name`, with its NUL).
const WORKER_NAME: usize = 64;

/// Bytes of a name that fit into `comm`.
const COMM: usize = 15;

/// Where names are.
#[derive(Clone, Copy, Debug)]
pub(super) struct KthreadPlan {
    plan: Plan,
    full_name: Option<Slot>,
    /// What it runs: null only in the one that makes the others.
    threadfn: Option<Slot>,
    data: Slot,
    worker: WorkerPlan,
}

#[derive(Clone, Copy, Debug)]
struct WorkerPlan {
    plan: Plan,
    task: Slot,
    current_work: Slot,
    pool: Slot,
    desc: Slot,
    rescue_wq: Slot,
    /// Of the name in `struct workqueue_struct`.
    queue_name: u64,
}

impl KthreadPlan {
    pub(super) fn new(types: &Types) -> Result<Self, TypeError> {
        let mut kthread = Planner::new(types, "kthread")?;
        let mut worker = Planner::new(types, "worker")?;
        Ok(Self {
            full_name: kthread.want(&["full_name"]),
            threadfn: kthread.want(&["threadfn"]),
            data: kthread.need("data")?,
            plan: kthread.plan(),
            worker: WorkerPlan {
                task: worker.need("task")?,
                current_work: worker.need("current_work")?,
                pool: worker.need("pool")?,
                desc: worker.need("desc")?,
                rescue_wq: worker.need("rescue_wq")?,
                plan: worker.plan(),
                queue_name: types.offset_of("struct workqueue_struct", "name")?,
            },
        })
    }

    /// Whether all is known that newer kernels have.
    pub(super) fn is_whole(&self) -> bool {
        self.full_name.is_some()
    }

    /// The longer name of a kernel thread, if it has one.
    ///
    /// # Errors
    ///
    /// When its record is not one.
    pub(super) fn name(
        &self,
        memory: &dyn Memory<Addr = Gva>,
        task: &Task,
    ) -> Result<Option<String>, BadLink> {
        if !task.is_kernel() || task.kthread == 0 {
            return Ok(None);
        }
        let kthread = self.plan.follow(memory, task.kthread)?;
        if task.flags.is_some_and(|flags| flags & PF_WQ_WORKER != 0) {
            return self.worker_name(memory, task, kthread.number(self.data));
        }
        let runs = self.threadfn.is_none_or(|slot| kthread.number(slot) != 0);
        if task.comm.len() == COMM && !runs {
            return Err(BadLink::Unused(task.kthread));
        }
        let name = self
            .full_name
            .and_then(|slot| read_text(memory, kthread.number(slot), MAX_NAME).ok());
        Ok(name.filter(|name| goes_on(&task.comm, name)))
    }

    fn worker_name(
        &self,
        memory: &dyn Memory<Addr = Gva>,
        task: &Task,
        worker: u64,
    ) -> Result<Option<String>, BadLink> {
        let plan = self.worker;
        let pointer = worker;
        let worker = plan.plan.follow(memory, worker)?;
        if worker.number(plan.task) != task.at.0 {
            return Err(BadLink::Unused(pointer));
        }
        let mut name = task.comm.clone();
        // Rescuers are called after their queue; where the name was cut, the queue has the rest.
        let queue = worker.number(plan.rescue_wq);
        if let Some(prefix) = name.strip_prefix("kworker/R-")
            && name.len() == COMM
        {
            let queue = read_text(memory, queue.wrapping_add(plan.queue_name), MAX_NAME)?;
            if !queue.starts_with(prefix) {
                return Err(BadLink::Unused(pointer));
            }
            name = format!("kworker/R-{queue}");
        }
        let what = worker.text(plan.desc);
        if worker.number(plan.pool) != 0 && !what.is_empty() {
            name.push(match worker.number(plan.current_work) {
                0 => '-',
                _ => '+',
            });
            name.push_str(&what);
        }
        let cut = name.floor_char_boundary(WORKER_NAME - 1);
        name.truncate(cut);
        Ok(Some(name))
    }
}

/// Whether `long` is what `comm` would be if it had more room.
fn goes_on(comm: &str, long: &str) -> bool {
    match comm.len() {
        COMM => long.starts_with(comm),
        _ => long == comm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_names_go_on_from_the_short_one() {
        assert!(goes_on("rcu_tasks_kthre", "rcu_tasks_kthread"));
        assert!(goes_on("kswapd0", "kswapd0"));
        assert!(
            !goes_on("kswapd0", "kswapd0-not"),
            "there was room for more"
        );
        assert!(!goes_on("rcu_tasks_kthre", "something_else_altogether"));
    }
}
