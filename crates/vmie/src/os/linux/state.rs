//! What a task is doing, by the bits that say so.

use crate::os::ProcessState;

/// The state of a task, as `/proc/PID/stat` has it.
///
/// Bits are those of `include/linux/sched.h`; the lowest eight have not changed their meaning since
/// 4.14, and the ones below 0x40 since 3.14.
pub(crate) fn task_state(state: u32, exit_state: u32) -> ProcessState {
    /// Waiting, but not counted as load: uninterruptible with `TASK_NOLOAD`.
    const IDLE: u32 = 0x402;
    /// `TASK_RTLOCK_WAIT` and `TASK_FROZEN`, shown as waiting.
    const ALSO_WAITING: u32 = 0x1000 | 0x8000;
    if state & IDLE == IDLE && exit_state == 0 {
        return ProcessState::Idle;
    }
    let bits = (state | exit_state) & 0x7f;
    match u32::BITS - bits.leading_zeros() {
        0 if state & ALSO_WAITING != 0 => ProcessState::Waiting,
        0 => ProcessState::Running,
        1 => ProcessState::Sleeping,
        2 => ProcessState::Waiting,
        3 => ProcessState::Stopped,
        4 => ProcessState::Traced,
        5 => ProcessState::Dead,
        6 => ProcessState::Zombie,
        7 => ProcessState::Parked,
        _ => ProcessState::Unknown,
    }
}
