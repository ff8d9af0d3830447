//! What processes may do: users, groups, capabilities, what of system calls is filtered, the label of a security module.

use std::collections::HashMap;

use crate::addr::Gva;
use crate::os::object::{Known as _, Object, ObjectError, Objects, Walk};
use crate::os::{Guest, Listing, OsError, Process};

/// How many supplementary groups one process may have (`NGROUPS_MAX` in `include/uapi/linux/limits.h`).
const MAX_GROUPS: u64 = 1 << 16;

/// Names of capabilities by number (`include/uapi/linux/capability.h`, without `CAP_`); numbers are never given twice.
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// A set of capabilities, a bit for each number.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Their names, as `capsh` and `/proc` decoders have them without `cap_`; a number that has none is `cap_N`.
    pub fn names(self) -> Vec<String> {
        let numbers = (0..u64::BITS as usize).filter(|&number| self.0 >> number & 1 != 0);
        let name = |number: usize| match CAPABILITIES.get(number) {
            Some(&name) => name.to_owned(),
            None => format!("cap_{number}"),
        };
        numbers.map(name).collect()
    }
}

/// A user or group in its roles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ids {
    /// Whose process it is.
    pub real: u32,
    /// Whose rights it has.
    pub effective: u32,
    /// Whose rights it may take again.
    pub saved: u32,
    /// Whose rights it has to files.
    pub files: u32,
}

impl Ids {
    fn read(
        cred: &Object<'_>,
        [real, effective, saved, files]: [&str; 4],
    ) -> Result<Self, ObjectError> {
        Ok(Self {
            real: cred.u32(real)?,
            effective: cred.u32(effective)?,
            saved: cred.u32(saved)?,
            files: cred.u32(files)?,
        })
    }
}

/// What is done about a process's system calls (`include/uapi/linux/seccomp.h`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Seccomp {
    /// Nothing.
    Disabled,
    /// All but four are forbidden.
    Strict,
    /// Programs decide.
    Filter,
    /// A mode of this number.
    Other(u32),
}

/// What a process may do. Ids are the kernel's own, those of the first user namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Credentials {
    /// The process.
    pub pid: u32,
    /// Its short name.
    pub process: String,
    /// The record of what it is (`real_cred`), from which all else here is.
    pub object: Gva,
    /// Users.
    pub users: Ids,
    /// Groups.
    pub groups: Ids,
    /// Supplementary groups, as they are kept: ascending.
    pub others: Vec<u32>,
    /// What it has.
    pub effective: Capabilities,
    /// What it may take.
    pub permitted: Capabilities,
    /// What it hands to programs that it runs, should these want it.
    pub inheritable: Capabilities,
    /// What programs that it runs can have at most.
    pub bounding: Capabilities,
    /// What it hands to programs that it runs.
    pub ambient: Capabilities,
    /// `SECBIT_*` (`include/uapi/linux/securebits.h`).
    pub securebits: u32,
    /// Whether no program that it runs can have more rights than it. `None` where the system does not say.
    pub no_new_privs: Option<bool>,
    /// What is done about its system calls; `None` where the system has no such thing.
    pub seccomp: Option<Seccomp>,
    /// How many programs decide about them, where the system counts them.
    pub seccomp_filters: Option<u32>,
    /// Its label in the security module that has one, such as `unconfined`.
    pub label: Option<String>,
    /// The number of its user namespace.
    pub user_ns: u32,
    /// Whether it acts with other rights than its own (`cred` is not `real_cred`): rarely, within a system call, or because someone changed it.
    pub overridden: bool,
    /// Other processes that have the very same record. Threads share theirs, and so do kernel threads that nobody changed; unrelated processes do not.
    pub shared_with: Vec<u32>,
}

/// What each of `processes` may do, in their order.
///
/// Cost: some ten reads a process.
///
/// # Errors
///
/// When the system's types or symbols cannot be had. What cannot be read of one process is a finding, and it has no row.
pub fn credentials(
    guest: &dyn Guest,
    processes: &[Process],
) -> Result<Listing<Credentials>, OsError> {
    let objects = guest.objects()?;
    let walk = guest.walk();
    let labels = Labels::new(&objects);
    let mut items: Vec<Credentials> = Vec::with_capacity(processes.len());
    let mut owners: HashMap<Gva, Vec<u32>> = HashMap::new();
    for process in processes {
        let read = one(&objects, &labels, process, &walk);
        let what = format_args!("what process {} may do", process.pid);
        if let Some(item) = walk.keep(read, what) {
            owners.entry(item.object).or_default().push(item.pid);
            items.push(item);
        }
    }
    for item in &mut items {
        let owners = owners.get(&item.object).map_or(&[][..], Vec::as_slice);
        item.shared_with = owners
            .iter()
            .copied()
            .filter(|&pid| pid != item.pid)
            .collect();
    }
    Ok(Listing {
        items,
        findings: walk.finish(),
    })
}

fn one(
    objects: &Objects<'_>,
    labels: &Labels,
    process: &Process,
    walk: &Walk,
) -> Result<Credentials, ObjectError> {
    let task = objects.object_at(process.object, "task_struct")?;
    let cred = task.at("real_cred")?.load();
    let mode = task.u32("seccomp.mode").unless_missing()?;
    let seccomp = mode.map(|mode| match mode {
        0 => Seccomp::Disabled,
        1 => Seccomp::Strict,
        2 => Seccomp::Filter,
        other => Seccomp::Other(other),
    });
    let set = |path| cred.u64(path).map(Capabilities);
    let label = walk.keep(
        labels.of(&cred),
        format_args!("the label of process {}", process.pid),
    );
    Ok(Credentials {
        pid: process.pid,
        process: process.name.clone(),
        object: cred.address(),
        users: Ids::read(&cred, ["uid", "euid", "suid", "fsuid"])?,
        groups: Ids::read(&cred, ["gid", "egid", "sgid", "fsgid"])?,
        others: groups(&cred)?,
        effective: set("cap_effective")?,
        permitted: set("cap_permitted")?,
        inheritable: set("cap_inheritable")?,
        bounding: set("cap_bset")?,
        ambient: set("cap_ambient")?,
        securebits: cred.u32("securebits")?,
        // PFA_NO_NEW_PRIVS is the first of the flags that are changed one by one.
        no_new_privs: task
            .u64("atomic_flags")
            .unless_missing()?
            .map(|flags| flags & 1 != 0),
        seccomp,
        seccomp_filters: task.u32("seccomp.filter_count").unless_missing()?,
        label: label.flatten(),
        user_ns: cred.u32("user_ns.ns.inum")?,
        overridden: task.pointer("cred")? != cred.address(),
        shared_with: Vec::new(),
    })
}

fn groups(cred: &Object<'_>) -> Result<Vec<u32>, ObjectError> {
    let Some(info) = cred.at("group_info").unless_null()? else {
        return Ok(Vec::new());
    };
    let count = info.u64("ngroups")?.min(MAX_GROUPS);
    let bytes = info.place("gid")?.bytes("", count * 4)?;
    let (numbers, _) = bytes.as_chunks::<4>();
    Ok(numbers
        .iter()
        .map(|&bytes| u32::from_le_bytes(bytes))
        .collect())
}

/// Where the labels of AppArmor are: it is the one module whose labels are texts in memory.
struct Labels {
    /// How far into what modules keep for each record of rights.
    offset: Option<u64>,
}

impl Labels {
    fn new(objects: &Objects<'_>) -> Self {
        // Without the module there is no such symbol, and a module that was not started has no place.
        let sizes = objects.object("apparmor_blob_sizes", "lsm_blob_sizes");
        let started = objects
            .object("apparmor_initialized", "int")
            .and_then(|started| started.bool(""));
        let offset = match (sizes.and_then(|sizes| sizes.u64("lbs_cred")), started) {
            (Ok(offset), Ok(true)) => Some(offset),
            _ => None,
        };
        Self { offset }
    }

    fn of(&self, cred: &Object<'_>) -> Result<Option<String>, ObjectError> {
        let Some(offset) = self.offset else {
            return Ok(None);
        };
        let blob = cred.pointer("security")?;
        if blob == Gva(0) {
            return Ok(None);
        }
        let objects = cred.objects();
        let at = Gva(blob.0.wrapping_add(offset));
        let label = objects.object_at(at, "u64")?.pointer("")?;
        if label == Gva(0) {
            return Ok(None);
        }
        let label = objects.object_at(label, "aa_label")?;
        label.text("hname").unless_null()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_names() {
        assert_eq!(Capabilities(0).names(), [""; 0]);
        assert_eq!(Capabilities(1 << 21 | 1).names(), ["chown", "sys_admin"]);
        assert_eq!(
            Capabilities(1 << 40 | 1 << 41).names(),
            ["checkpoint_restore", "cap_41"]
        );
        assert_eq!(Capabilities(u64::MAX).names().len(), 64);
    }
}
