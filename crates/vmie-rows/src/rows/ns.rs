//! `vmie ns`.

use crate::define::row;

row! {
    /// Where a process lives. Namespaces have the numbers that links below `/proc/PID/ns` have; null where a process has none, or the kernel no such kind.
    pub struct NsRow<'a>: "vmie.ns/1" of "vmie ns" {
        /// The process, by its number in the first pid namespace.
        pid: u32 => right strong;
        /// Its short name.
        process: &'a str => left;
        /// Its numbers in the pid namespaces below the first one, the innermost last.
        inner_pids: &'a [u32] => left;
        /// Control groups.
        cgroup: Option<u32> => hidden;
        /// System V IPC and message queues.
        ipc: Option<u32> => hidden;
        /// Mounts.
        mnt: Option<u32> => right;
        /// Network.
        net: Option<u32> => right;
        /// Processes.
        pid_ns: Option<u32> => right;
        /// The pid namespace that its children are born into.
        pid_for_children: Option<u32> => hidden;
        /// Clocks.
        time: Option<u32> => hidden;
        /// Users.
        user: Option<u32> => right;
        /// Names of the host.
        uts: Option<u32> => hidden;
        /// Kinds of namespaces in which it is not with the first process.
        own: &'a [&'static str] => left;
        /// The name of the host that it sees; null when not known.
        host: Option<&'a str> => hidden;
        /// Its control group in the unified hierarchy; null when not known.
        control_group: Option<&'a str> => left;
        /// The container that its control group is named for, a guess; null when there is none.
        container: Option<&'a str> => left;
    }
}
