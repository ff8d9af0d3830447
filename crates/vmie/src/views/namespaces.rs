//! Where processes live: their namespaces, their control group, and the container that these speak of.

use super::threads::tasks;
use crate::addr::Gva;
use crate::os::object::{Known as _, Object, ObjectError, Objects, Walk};
use crate::os::{FindingKind, Guest, Listing, OsError, Process};

/// How deep control groups and pid namespaces can be nested: the kernel's own bound on the latter is 32.
const MAX_DEPTH: usize = 64;

/// Numbers of namespaces, as the links below `/proc/PID/ns` have them; `None` where the system has no such kind, or the
/// process none of it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Namespaces {
    /// The process, by its number in the first pid namespace.
    pub pid: u32,
    /// Its short name.
    pub process: String,
    /// Control groups.
    pub cgroup: Option<u32>,
    /// System V IPC and message queues.
    pub ipc: Option<u32>,
    /// Mounts.
    pub mnt: Option<u32>,
    /// Network.
    pub net: Option<u32>,
    /// Processes: the one that it is in.
    pub pid_ns: Option<u32>,
    /// The one that its children are born into.
    pub pid_for_children: Option<u32>,
    /// Clocks.
    pub time: Option<u32>,
    /// Users.
    pub user: Option<u32>,
    /// Names of the host.
    pub uts: Option<u32>,
    /// Its numbers in the pid namespaces below the first one, the innermost last.
    pub inner_pids: Vec<u32>,
    /// The name that the host has in its UTS namespace.
    pub host: Option<String>,
    /// Its control group in the unified hierarchy, as the first cgroup namespace shows it.
    pub control_group: Option<String>,
    /// The container that the control group is named for: a guess by the names that container engines give.
    pub container: Option<String>,
    /// Which namespaces are not those of the first process, by the names of their links.
    pub own: Vec<&'static str>,
}

/// Where each of `processes` lives, in their order. What has exited has no namespaces but those of its user and number.
///
/// Cost: some twenty reads a process.
///
/// # Errors
///
/// When the system's types or symbols cannot be had. What cannot be read of one process is a finding, and null.
pub fn namespaces(
    guest: &dyn Guest,
    processes: &[Process],
) -> Result<Listing<Namespaces>, OsError> {
    let objects = guest.objects()?;
    let walk = guest.walk();
    let first = objects.object("init_task", "task_struct")?;
    let first = one(&objects, &first, &walk);
    let mut items = Vec::with_capacity(processes.len());
    for process in processes {
        let task = objects.object_at(process.object, "task_struct")?;
        let alive = alive(&task, &walk);
        let what = format_args!("the threads of process {}", process.pid);
        let task = walk.keep(alive, what).flatten().unwrap_or(task);
        let mut row = one(&objects, &task, &walk);
        row.pid = process.pid;
        row.process.clone_from(&process.name);
        row.own = row
            .numbers()
            .into_iter()
            .zip(first.numbers())
            .filter(|((_, ours), (_, theirs))| ours.is_some() && ours != theirs)
            .map(|((name, _), _)| name)
            .collect();
        items.push(row);
    }
    Ok(Listing {
        items,
        findings: walk.finish(),
    })
}

impl Namespaces {
    /// All numbers, by the names of their links in `/proc/PID/ns`.
    pub fn numbers(&self) -> [(&'static str, Option<u32>); 9] {
        [
            ("cgroup", self.cgroup),
            ("ipc", self.ipc),
            ("mnt", self.mnt),
            ("net", self.net),
            ("pid", self.pid_ns),
            ("pid_for_children", self.pid_for_children),
            ("time", self.time),
            ("user", self.user),
            ("uts", self.uts),
        ]
    }
}

/// The first thread of a process that has namespaces: its first one may have exited while others go on.
fn alive<'o>(leader: &Object<'o>, walk: &Walk) -> Result<Option<Object<'o>>, ObjectError> {
    if leader.pointer("nsproxy")? != Gva(0) {
        return Ok(None);
    }
    for thread in tasks(leader, walk)? {
        if thread.pointer("nsproxy")? != Gva(0) {
            return Ok(Some(thread));
        }
    }
    Ok(None)
}

fn one(objects: &Objects<'_>, task: &Object<'_>, walk: &Walk) -> Namespaces {
    let mut row = Namespaces::default();
    let whose = task.address();
    let keep = |read, what: &str| {
        walk.keep(read, format_args!("{what} of the task at {whose}"))
            .flatten()
    };
    row.user = keep(
        number(task, "real_cred.user_ns.ns.inum"),
        "the user namespace",
    );
    let inner = walk.keep(
        numbers(task),
        format_args!("the pid namespace of the task at {whose}"),
    );
    if let Some(Some((inner_pids, pid_ns))) = inner {
        (row.inner_pids, row.pid_ns) = (inner_pids, Some(pid_ns));
    }
    let proxy = walk.keep(
        task.at("nsproxy").unless_null(),
        format_args!("namespaces of the task at {whose}"),
    );
    if let Some(Some(proxy)) = proxy {
        let of = |path| keep(number(&proxy, path), "a namespace");
        row.cgroup = of("cgroup_ns.ns.inum");
        row.ipc = of("ipc_ns.ns.inum");
        row.mnt = of("mnt_ns.ns.inum");
        row.net = of("net_ns.ns.inum");
        row.pid_for_children = of("pid_ns_for_children.ns.inum");
        row.time = of("time_ns.ns.inum");
        row.uts = of("uts_ns.ns.inum");
        let host = proxy.text("uts_ns.name.nodename").unless_null();
        row.host = walk
            .keep(
                host,
                format_args!("the name of the host of the task at {whose}"),
            )
            .flatten();
    }
    let group = control_group(objects, task, walk);
    row.control_group = walk
        .keep(
            group,
            format_args!("the control group of the task at {whose}"),
        )
        .flatten();
    row.container = row.control_group.as_deref().and_then(container);
    row
}

/// A number behind pointers, `None` where one of them is null or the system has no such member.
fn number(object: &Object<'_>, path: &str) -> Result<Option<u32>, ObjectError> {
    let number = object.u32(path).unless_missing();
    Ok(number.unless_null()?.flatten())
}

/// Its numbers below the first pid namespace, and the number of the innermost one.
fn numbers(task: &Object<'_>) -> Result<Option<(Vec<u32>, u32)>, ObjectError> {
    let Some(pid) = task.at("thread_pid").unless_null()? else {
        return Ok(None);
    };
    let level = pid.u64("level")?.min(MAX_DEPTH as u64);
    let numbers = pid.place("numbers[0]")?;
    let mut inner = Vec::new();
    for index in 1..=level {
        inner.push(numbers.element(index)?.u32("nr")?);
    }
    let innermost = numbers.element(level)?;
    Ok(Some((inner, innermost.u32("ns.ns.inum")?)))
}

/// The path of a task's group in the unified hierarchy. `None` where there is none.
fn control_group(
    objects: &Objects<'_>,
    task: &Object<'_>,
    walk: &Walk,
) -> Result<Option<String>, ObjectError> {
    let Some(node) = task
        .at("cgroups.dfl_cgrp.kn")
        .unless_missing()
        .unless_null()?
        .flatten()
    else {
        return Ok(None);
    };
    let mut names = Vec::new();
    let mut here = node;
    loop {
        let above = here.pointer("__parent | parent")?;
        if above == Gva(0) {
            break;
        }
        if names.len() == MAX_DEPTH {
            let text = format!(
                "the control group of the task at {} has no end",
                task.address()
            );
            walk.note(FindingKind::Damaged, Some(here.address()), text);
            return Ok(None);
        }
        names.push(here.text("name")?);
        here = objects.object_at(above, "kernfs_node")?;
    }
    names.reverse();
    Ok(Some(format!("/{}", names.join("/"))))
}

/// What a container engine named a control group for: the number of a container in 64 hexadecimal digits, or a name behind
/// the folder of an engine that uses names.
fn container(group: &str) -> Option<String> {
    let parts = || group.split('/').filter(|part| !part.is_empty());
    let is_id = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    for part in parts() {
        // docker-ID.scope, cri-containerd-ID.scope, crio-ID.scope, libpod-ID.scope, or the number alone.
        let stem = part.strip_suffix(".scope").unwrap_or(part);
        let id = stem.rsplit(['-', ':']).next().unwrap_or(stem);
        if is_id(id) {
            let engine = stem[..stem.len() - id.len()].trim_end_matches(['-', ':']);
            let above = parts()
                .take_while(|&other| other != part)
                .last()
                .unwrap_or_default();
            let engine = if engine.is_empty() { above } else { engine };
            return Some(match engine {
                "" => id.to_owned(),
                engine => format!("{engine}:{id}"),
            });
        }
        for (start, engine) in [("lxc.payload.", "lxc"), ("machine-", "machine")] {
            if let Some(name) = stem.strip_prefix(start) {
                return Some(format!("{engine}:{name}"));
            }
        }
    }
    let mut rest = parts().skip_while(|&part| part != "lxc");
    rest.next()?;
    rest.next().map(|name| format!("lxc:{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_told_by_their_groups() {
        let id = "0123456789abcdef".repeat(4);
        let of =
            |group: &str| container(&group.replace("ID", &id)).map(|name| name.replace(&id, "ID"));
        let is = |group: &str, name: &str| assert_eq!(of(group).as_deref(), Some(name), "{group}");
        is("/system.slice/docker-ID.scope", "docker:ID");
        is("/docker/ID", "docker:ID");
        is(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-pod1.slice/cri-containerd-ID.scope",
            "cri-containerd:ID",
        );
        is("/machine.slice/libpod-ID.scope/container", "libpod:ID");
        is("/lxc.payload.web/system.slice/ssh.service", "lxc:web");
        is("/lxc/web/init", "lxc:web");
        is("/machine.slice/machine-deb.scope", "machine:deb");
        is("/ID", "ID");
        for none in [
            "/",
            "/system.slice/ssh.service",
            "/user.slice/user-0.slice/session-1.scope",
            "/lxc",
            "",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
