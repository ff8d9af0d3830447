//! What views say of processes, compared with `/proc/PID/status` and `/proc/PID/environ`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use vmie::os::Process;
use vmie::views::{self, Ids, Seccomp};

use super::support::{Case, each_raw};

/// A file of the guest's own `/proc`.
fn proc_file(case: &Case, pid: u32, file: &str) -> PathBuf {
    case.truth.dir.join(format!("guest/proc/{pid}/{file}"))
}

/// `/proc/PID/status` by its keys, the words of each.
fn status(case: &Case, pid: u32) -> BTreeMap<String, Vec<String>> {
    let path = proc_file(case, pid, "status");
    let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = |line: &str| {
        let (key, words) = line.split_once(':')?;
        let words = words.split_whitespace().map(str::to_owned);
        Some((key.to_owned(), words.collect()))
    };
    text.lines().filter_map(line).collect()
}

/// Those that a guest has listed, and a case of it.
fn each_guest(mut check: impl FnMut(&Case, &[Process])) {
    each_raw(|case| {
        let listing = case.guest.processes().expect("lists processes");
        assert!(listing.items.len() > 40, "{}", case.name());
        check(case, &listing.items);
    });
}

#[test]
fn rights_equal_the_guests_own_word() {
    each_guest(|case, processes| {
        let listing = views::credentials(&*case.guest, processes).expect("reads");
        assert_eq!(listing.findings, [], "{}", case.name());
        assert_eq!(listing.items.len(), processes.len(), "{}", case.name());
        let mut users = 0;
        for ours in &listing.items {
            let what = format!("{}: {} ({})", case.name(), ours.process, ours.pid);
            let theirs = status(case, ours.pid);
            let numbers = |key: &str| -> Vec<u32> {
                let words = theirs[key].iter();
                words.map(|word| word.parse().expect("a number")).collect()
            };
            let ids = |ids: Ids| vec![ids.real, ids.effective, ids.saved, ids.files];
            assert_eq!(ids(ours.users), numbers("Uid"), "{what}");
            assert_eq!(ids(ours.groups), numbers("Gid"), "{what}");
            assert_eq!(ours.others, numbers("Groups"), "{what}");
            let sets = [
                ("CapEff", ours.effective),
                ("CapPrm", ours.permitted),
                ("CapInh", ours.inheritable),
                ("CapBnd", ours.bounding),
                ("CapAmb", ours.ambient),
            ];
            for (key, set) in sets {
                let theirs = u64::from_str_radix(&theirs[key][0], 16).expect("digits");
                assert_eq!(set.0, theirs, "{what}: {key}");
            }
            let flag = |key: &str| theirs[key][0] == "1";
            assert_eq!(ours.no_new_privs, Some(flag("NoNewPrivs")), "{what}");
            let seccomp = match numbers("Seccomp")[..] {
                [0] => Seccomp::Disabled,
                [1] => Seccomp::Strict,
                _ => Seccomp::Filter,
            };
            assert_eq!(ours.seccomp, Some(seccomp), "{what}");
            let filters = Some(numbers("Seccomp_filters")[0]);
            assert_eq!(ours.seccomp_filters, filters, "{what}");
            assert!(!ours.overridden, "{what}");
            users += u32::from(ours.users.real != 0);
        }
        assert!(users > 0, "{}: somebody is not root", case.name());
    });
}

#[test]
fn environments_equal_the_guests_own_word() {
    each_guest(|case, processes| {
        let mut variables = 0;
        for process in processes {
            let what = format!("{}: {} ({})", case.name(), process.name, process.pid);
            let path = proc_file(case, process.pid, "environ");
            let theirs = fs::read(&path).expect("environ");
            let theirs: Vec<&[u8]> = theirs
                .split(|&b| b == 0)
                .filter(|t| !t.is_empty())
                .collect();
            let Ok(ours) = views::environment(&*case.guest, process) else {
                assert!(theirs.is_empty(), "{what}");
                continue;
            };
            if !ours.findings.is_empty() {
                // Pages in swap: what could be read is of it, and that the rest is missing is said.
                assert!(
                    ours.items.len() < theirs.len(),
                    "{what}: {:?}",
                    ours.findings
                );
                continue;
            }
            let joined = ours.items.iter().map(|variable| match &variable.name {
                Some(name) => [name, &b"="[..], &variable.value].concat(),
                None => variable.value.clone(),
            });
            // The guest shows none of a process whose first thread has exited.
            if !theirs.is_empty() {
                assert_eq!(joined.collect::<Vec<_>>(), theirs, "{what}");
            }
            variables += theirs.len();
        }
        assert!(variables > 50, "{}: {variables}", case.name());
    });
}

#[test]
fn numbers_within_namespaces_equal_the_guests_own_word() {
    each_guest(|case, processes| {
        let listing = views::namespaces(&*case.guest, processes).expect("reads");
        assert_eq!(listing.findings, [], "{}", case.name());
        let mut nested = 0;
        for (ours, process) in listing.items.iter().zip(processes) {
            let what = format!("{}: {} ({})", case.name(), ours.process, ours.pid);
            let theirs: Vec<u32> = status(case, process.pid)["NSpid"]
                .iter()
                .map(|word| word.parse().expect("a number"))
                .collect();
            // What has exited has no number any more where it was nested.
            if ours.pid_ns.is_some() {
                assert_eq!(ours.inner_pids, theirs[1..], "{what}");
            }
            nested += theirs.len() - 1;
            let exited = process.root.is_none() && !process.kernel;
            assert_eq!(ours.mnt.is_none(), exited, "{what}");
            assert_eq!(ours.own.contains(&"pid"), theirs.len() > 1, "{what}");
            assert_eq!(ours.container, None, "{what}");
            assert!(
                ours.user.is_some() && ours.control_group.is_some(),
                "{what}"
            );
        }
        assert!(
            nested > 0,
            "{}: one is in a namespace of its own",
            case.name()
        );
    });
}

#[test]
fn threads_equal_the_guests_own_word() {
    each_guest(|case, processes| {
        let listing = views::threads(&*case.guest, processes).expect("reads");
        assert_eq!(listing.findings, [], "{}", case.name());
        let theirs = case.truth.processes().expect("the guest's processes");
        let mut programs = 0;
        for truth in &theirs {
            let what = format!("{}: process {}", case.name(), truth.pid);
            let mut ours: Vec<_> = listing
                .items
                .iter()
                .filter(|one| one.pid == truth.pid)
                .collect();
            ours.sort_by_key(|thread| thread.tid);
            let numbers = |thread: &&vmie::views::Thread| thread.tid;
            let tids: Vec<u32> = truth.threads.iter().map(|thread| thread.tid).collect();
            assert_eq!(ours.iter().map(numbers).collect::<Vec<_>>(), tids, "{what}");
            for (ours, theirs) in ours.iter().zip(&truth.threads) {
                let what = format!("{what}: thread {}", theirs.tid);
                // What workers did last is shown behind their names, and longer names of the kernel's threads instead.
                if !truth.kernel_thread {
                    let name = theirs.name.strip_suffix(b"\n").unwrap_or(&theirs.name);
                    assert_eq!(ours.name, name, "{what}");
                }
                // The guest shows no mappings of a process whose first thread has exited; others may go on.
                let process = processes.iter().find(|one| one.pid == truth.pid);
                let process = process.expect("listed");
                let has_memory = process.root.is_some();
                assert_eq!(
                    ours.user.is_some(),
                    has_memory && ours.stack.is_some(),
                    "{what}: {ours:?}"
                );
                if let Some(user) = ours.user {
                    let vmas = case.guest.vmas(process).expect("mappings").items;
                    let within = vmas.iter().any(|vma| vma.range.contains(user.ip));
                    assert!(within, "{what}: {user:?}");
                    programs += 1;
                }
            }
        }
        assert!(programs > 20, "{}: {programs}", case.name());
    });
}

#[test]
fn messages_begin_with_what_the_guest_says_of_itself_and_none_is_missing() {
    each_guest(|case, _| {
        let log = views::messages(&*case.guest).expect("reads");
        assert_eq!(log.findings, [], "{}", case.name());
        assert_eq!(log.overwritten, 0, "{}", case.name());
        let said = |file: &str| {
            let path = case.truth.dir.join("guest").join(file);
            let text = fs::read_to_string(&path);
            text.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let texts: Vec<_> = log
            .messages
            .iter()
            .map(|one| String::from_utf8_lossy(&one.text))
            .collect();
        assert_eq!(texts[0], said("version").trim_end(), "{}", case.name());
        let command = format!("Command line: {}", said("cmdline").trim_end());
        assert_eq!(texts[1], command, "{}", case.name());
        let numbers: Vec<u64> = log.messages.iter().map(|one| one.number).collect();
        assert_eq!(
            numbers,
            (0..numbers.len() as u64).collect::<Vec<_>>(),
            "{}",
            case.name()
        );
        // The last thing that the guest does before it reports is to use a swap area.
        let swap = texts
            .iter()
            .rposition(|text| text.starts_with("Adding 65532k swap on"));
        assert!(
            swap.is_some_and(|at| at > 200),
            "{}: {texts:?}",
            case.name()
        );
    });
}

#[test]
fn open_files_equal_the_guests_own_word() {
    each_guest(|case, processes| {
        let listing = views::open_files(&*case.guest, processes).expect("reads");
        assert_eq!(listing.findings, [], "{}", case.name());
        let mut checked = 0;
        for process in processes {
            let what = format!("{}: {} ({})", case.name(), process.name, process.pid);
            let path = proc_file(case, process.pid, "fds");
            let theirs = fs::read(&path).expect("descriptors");
            let theirs: BTreeMap<u64, Vec<u8>> = theirs
                .split(|&byte| byte == b'\n')
                .filter_map(|line| {
                    let space = line.iter().position(|&byte| byte == b' ')?;
                    let fd = std::str::from_utf8(&line[..space]).ok()?.parse().ok()?;
                    Some((fd, line[space + 1..].to_vec()))
                })
                .collect();
            let ours = listing.items.iter().filter(|file| file.pid == process.pid);
            let ours: BTreeMap<u64, Vec<u8>> = ours
                .map(|file| {
                    let mut path = file.path.clone().expect("readable");
                    if file.deleted {
                        path.extend(b" (deleted)");
                    }
                    (file.fd, path)
                })
                .collect();
            // The guest shows none of a process whose first thread has exited, and the witness itself reads on.
            if process.pid == 1 || theirs.is_empty() {
                continue;
            }
            assert_eq!(ours, theirs, "{what}");
            checked += ours.len();
        }
        assert!(checked > 40, "{}: {checked}", case.name());
    });
}
