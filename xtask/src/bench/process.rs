//! What a command costs as a whole process: time, CPU time, memory.
//!
//! The operating system keeps these figures for all children of a process together, and of memory only
//! the largest. So each run has a parent of its own: this program again, with [`MEASURE`].

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use crate::Fallible;

/// The word that makes this program the parent of one run.
pub(super) const MEASURE: &str = "measure";

/// The cost of one run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cost {
    /// From start to end.
    pub(super) wall: Duration,
    /// In user mode and in the kernel, all threads together.
    pub(super) cpu: Duration,
    /// The most memory that was resident at a time, mapped files included, in KiB.
    pub(super) peak_kib: u64,
}

impl Cost {
    /// The smaller of each figure: what other work on the machine adds is never negative.
    pub(super) fn least(self, other: Self) -> Self {
        Self {
            wall: self.wall.min(other.wall),
            cpu: self.cpu.min(other.cpu),
            peak_kib: self.peak_kib.min(other.peak_kib),
        }
    }
}

/// Runs a command once and answers what it cost. What it prints is thrown away.
///
/// # Errors
///
/// When it cannot be run, or fails.
pub(super) fn measure(command: &Command) -> Fallible<Cost> {
    let said = crate::output(
        Command::new(std::env::current_exe()?)
            .args(["bench", MEASURE])
            .arg(command.get_program())
            .args(command.get_args()),
    )?;
    parse(&String::from_utf8(said)?)
}

/// Runs a command and prints what it cost.
pub(super) fn report(command: &[&str]) -> Fallible<()> {
    let (program, args) = command.split_first().ok_or("nothing to measure")?;
    let started = Instant::now();
    // Errors go on to whoever asked.
    let status = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    let wall = started.elapsed();
    if !status.success() {
        return Err(format!("{program}: {status}").into());
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = usage.user_time() + usage.system_time();
    println!(
        "{} {} {}",
        wall.as_micros(),
        cpu.tv_sec() * 1_000_000 + cpu.tv_usec(),
        usage.max_rss()
    );
    Ok(())
}

fn parse(said: &str) -> Fallible<Cost> {
    let numbers: Vec<u64> = said
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    match numbers[..] {
        [wall, cpu, peak_kib] => Ok(Cost {
            wall: Duration::from_micros(wall),
            cpu: Duration::from_micros(cpu),
            peak_kib,
        }),
        _ => Err(format!("not a cost: {said}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_read_and_compared() {
        let cost = |text| parse(text).expect("a cost");
        let least = cost("10 20 30\n").least(cost("11 19 30"));
        assert_eq!(least, cost("10 19 30"));
        assert_eq!(least.cpu, Duration::from_micros(19));
        assert!(parse("10 20").is_err());
        assert!(parse("10 -20 30").is_err());
    }
}
