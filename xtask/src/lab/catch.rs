//! Address-space roots without any knowledge of the guest's kernel.
//!
//! The guest programs are busy now and then in a loop that shows a magic number in R14 and the pid in
//! R15 (`spin` in `guest/lab.h`). Stop the CPUs at odd moments: where a CPU is in user mode with that
//! number in R14, its CR3 is the root of process R15. That is as honest as it gets: it is what the
//! CPU itself translates with.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use vmie_lab::qemu::Registers;

use super::guest::Guest;
use crate::Fallible;

/// `SPIN_MAGIC` in `guest/lab.h`.
const SPIN_MAGIC: u64 = 0x564d_4945_4c41_4221;

/// With some 15 busy processes it takes about a hundred stops.
const PATIENCE: Duration = Duration::from_secs(180);

/// Which process a CPU is seen to execute, if it is one of the busy ones.
fn busy_pid(cpu: &Registers) -> Option<u32> {
    (cpu.cpl == 3 && cpu.r14 == SPIN_MAGIC)
        .then(|| u32::try_from(cpu.r15).ok())
        .flatten()
}

/// Stops the guest until each process in `wanted` has been seen once; leaves it running.
pub(crate) fn roots(guest: &mut Guest, wanted: &[u32]) -> Fallible<BTreeMap<u32, u64>> {
    let mut roots = BTreeMap::new();
    sample(guest, |cpus| {
        for cpu in cpus {
            let Some(pid) = busy_pid(cpu) else { continue };
            let before = roots.insert(pid, cpu.root());
            if before.is_some_and(|before| before != cpu.root()) {
                return Err(format!("process {pid} has two roots").into());
            }
        }
        Ok(wanted
            .iter()
            .all(|pid| roots.contains_key(pid))
            .then_some(()))
    })
    .map_err(|error| {
        let missing: Vec<_> = wanted
            .iter()
            .filter(|pid| !roots.contains_key(pid))
            .collect();
        format!("roots of processes {missing:?}: {error}")
    })?;
    guest.resume()?;
    Ok(roots)
}

/// Stops the guest while `pid` is running; answers which CPU it is on and leaves all stopped.
pub(crate) fn stop_in(guest: &mut Guest, pid: u32) -> Fallible<(u32, Vec<Registers>)> {
    sample(guest, |cpus| {
        let cpu = cpus.iter().find(|cpu| busy_pid(cpu) == Some(pid));
        Ok(cpu.map(|cpu| (cpu.cpu, cpus.to_vec())))
    })
    .map_err(|error| format!("process {pid}: {error}").into())
}

/// Stops again and again until `look` has what it wants. Leaves the guest stopped.
fn sample<T>(
    guest: &mut Guest,
    mut look: impl FnMut(&[Registers]) -> Fallible<Option<T>>,
) -> Fallible<T> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = 1;
    loop {
        guest.stop()?;
        if let Some(found) = look(&guest.registers()?)? {
            return Ok(found);
        }
        guest.resume()?;
        if Instant::now() > deadline {
            return Err(format!("not seen on a CPU within {PATIENCE:?}").into());
        }
        // Lengths without a common rhythm, so that the guest's timer cannot hide anybody.
        pause = pause * 7 % 11;
        std::thread::sleep(Duration::from_micros(700 * pause));
    }
}
