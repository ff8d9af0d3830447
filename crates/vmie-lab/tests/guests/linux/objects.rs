//! Objects read by the names of their members: what real kernels count themselves, and what leads to the same by two ways.

use std::collections::BTreeSet;

use vmie::Gva;
use vmie::os::object::{Known, Object, ObjectError, Objects, Walk};

use super::support::{Case, each_raw};

/// More than any of these guests has of anything.
const STEPS: usize = 1 << 20;

/// Runs a check over the objects of each guest, after which nothing may be left that does not add up.
fn each_kernel(check: fn(&Objects<'_>, &Walk, &Case) -> Result<(), ObjectError>) {
    each_raw(|case| {
        let objects = case.guest.objects().expect("types and symbols");
        let walk = Walk::new(STEPS);
        let done = check(&objects, &walk, case);
        done.unwrap_or_else(|error| panic!("{}: {error}", case.name()));
        assert_eq!(walk.finish(), [], "{}", case.name());
    });
}

/// All tasks that lead a process.
fn tasks<'o>(objects: &'o Objects<'o>, walk: &Walk) -> Result<Vec<Object<'o>>, ObjectError> {
    let list = objects.object("init_task", "task_struct")?.place("tasks")?;
    Ok(list.list("task_struct", "tasks", walk)?.collect())
}

#[test]
fn tasks_and_numbers_are_the_processes() {
    each_kernel(|objects, walk, case| {
        let processes = case.guest.processes().expect("lists processes");
        let mut listed = BTreeSet::new();
        for task in tasks(objects, walk)? {
            let task = task.load();
            let pid = task.u32("tgid")?;
            let process = processes.items.iter().find(|process| process.pid == pid);
            let process = process.expect("is a process");
            assert_eq!(process.object, task.address());
            assert_eq!(process.uid(), Some(task.u32("real_cred.uid")?));
            assert_eq!(process.ppid, task.u32("real_parent.tgid")?);
            assert!(process.kernel || process.name == task.text("comm")?);
            // A first thread that has exited before the others has none of their memory.
            if let Some(mm) = task.at("mm").unless_null()? {
                let known = process.linux().and_then(|linux| linux.mm);
                assert_eq!(known, Some(mm.address()));
                // The last part of its program's path.
                let name = mm.text("exe_file.f_path.dentry.d_name.name")?;
                let program = case.guest.program(process).expect("a program");
                assert!(program.is_some_and(|path| path.contains(&name)), "{name}");
            }
            let thread = task.place("signal.thread_head")?;
            let threads = thread.list("task_struct", "thread_node", walk)?;
            assert_eq!(
                threads.count() as u32,
                process.threads,
                "of {}",
                process.name
            );
            listed.insert(pid);
        }
        let all: BTreeSet<u32> = processes.items.iter().map(|process| process.pid).collect();
        assert_eq!(listed, all);
        // Numbers have one entry for each thread, group and session.
        let numbers = objects
            .object("init_pid_ns", "pid_namespace")?
            .place("idr")?;
        let mut named = BTreeSet::new();
        for (number, pid) in numbers.xarray_of("struct pid", walk)? {
            assert_eq!(u64::from(pid.u32("numbers[0].nr")?), number);
            named.insert(number as u32);
        }
        assert!(named.is_superset(&all));
        Ok(())
    });
}

#[test]
fn files_and_their_pages_are_as_many_as_the_kernel_counts() {
    each_kernel(|objects, walk, case| {
        let mut files = 0;
        for task in tasks(objects, walk)? {
            let Some(table) = task.at("files.fdt").unless_null()? else {
                continue;
            };
            let count = table.u64("max_fds")?;
            for (_, file) in table.place("fd")?.pointers(count, walk)? {
                assert_ne!(file.at("f_inode")?.u64("i_ino")?, 0);
                files += 1;
            }
        }
        assert!(files > 3, "{}: {files}", case.name());
        let (mut inodes, mut cached) = (0, 0);
        let blocks = objects.object("super_blocks", "list_head")?;
        for block in blocks.list("super_block", "s_list", walk)? {
            for inode in block.place("s_inodes")?.list("inode", "i_sb_list", walk)? {
                let Some(mapping) = inode.at("i_mapping").unless_null()? else {
                    continue;
                };
                let entries = mapping.place("i_pages | page_tree")?.xarray(walk)?;
                let pages = entries.iter().filter(|entry| entry.pointer().is_some());
                let pages: u64 = pages.map(|entry| entry.last - entry.index + 1).sum();
                assert_eq!(pages, mapping.u64("nrpages")?, "{mapping:?}");
                cached += pages;
                inodes += 1;
            }
        }
        assert!(
            inodes > 100 && cached > 100,
            "{}: {inodes} inodes, {cached} pages",
            case.name()
        );
        Ok(())
    });
}

#[test]
fn mounts_are_as_many_as_the_kernel_counts() {
    each_kernel(|objects, walk, case| {
        let init = objects.object("init_task", "task_struct")?;
        let namespace = init.at("nsproxy.mnt_ns")?;
        // A list, or in newer kernels a tree.
        let count = match namespace.place("list").unless_missing()? {
            Some(list) => list.list("mount", "mnt_list", walk)?.count(),
            None => {
                let tree = namespace.place("mounts")?;
                tree.rb_tree("mount", "mnt_node", walk)?.count()
            }
        };
        // Kernels count the root as they like.
        let told = namespace.u64("nr_mounts | mounts")? as usize;
        assert!(
            count > 0 && count.abs_diff(told) <= 1,
            "{}: {count} of {told}",
            case.name()
        );
        Ok(())
    });
}

#[test]
fn tables_of_sockets_and_cpus_are_walked() {
    each_kernel(|objects, walk, case| {
        let sockets = objects.object("tcp_hashinfo", "inet_hashinfo")?;
        for (table, mask) in [("ehash", "ehash_mask"), ("lhash2", "lhash2_mask")] {
            let count = sockets.u64(mask)? + 1;
            let table = sockets.place(table)?;
            let head = if table.at("")?.has("chain") {
                "chain"
            } else {
                "nulls_head"
            };
            for socket in table.hash_table(count, head, "sock_common", "skc_nulls_node", walk)? {
                assert!(socket.u8("skc_state")? <= 13);
            }
        }
        // Every namespace's, by the table of sockets of the kernel's own protocol.
        let spaces = objects.object("net_namespace_list", "list_head")?;
        assert!(spaces.list("net", "list", walk)?.count() >= 1);
        let tables = objects.behind("nl_table", "netlink_table")?;
        let mut netlink = 0;
        for protocol in 0..32 {
            let table = tables.element(protocol)?.place("hash")?;
            if table.at("tbl").unless_null()?.is_some() {
                let sockets = table.rhashtable("netlink_sock", "node", walk)?.count();
                assert_eq!(sockets as u64, table.u64("nelems")?, "protocol {protocol}");
                netlink += sockets;
            }
        }
        assert!(netlink > 0, "{}", case.name());
        let cpus = objects.cpus()?;
        assert_eq!(cpus.len() as u64, u64::from(case.truth.machine.cpus));
        for cpu in cpus {
            let queue = objects.per_cpu("runqueues", "rq", cpu)?;
            assert_eq!(queue.u32("cpu")?, cpu);
            assert_eq!(queue.at("idle")?.u32("pid")?, 0);
            assert_ne!(queue.pointer("curr")?, Gva(0));
        }
        Ok(())
    });
}
