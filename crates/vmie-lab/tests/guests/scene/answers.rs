//! What views say of a scene, compared with the guest's own word.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::UNIX_EPOCH;

use vmie::scan::Run;
use vmie::views::{self, Ids, Seccomp, Socket};
use vmie_lab::Fact;

use super::{Case, each};

/// `/proc/PID/status` by its keys, the words of each; `None` where there is none.
fn status(case: &Case, pid: u32) -> Option<BTreeMap<String, Vec<String>>> {
    let text = fs::read(case.truth.path(format!("guest/proc/{pid}/status"))).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = |line: &str| {
        let (key, words) = line.split_once(':')?;
        let words = words.split_whitespace().map(str::to_owned);
        Some((key.to_owned(), words.collect()))
    };
    Some(text.lines().filter_map(line).collect())
}

#[test]
fn messages_are_those_of_the_guest() {
    each(|case| {
        let name = &case.truth.variant;
        let log = views::messages(&*case.guest).expect("reads");
        assert_eq!(log.findings, [], "{name}");
        let ours: BTreeMap<u64, _> = log.messages.iter().map(|one| (one.number, one)).collect();
        let theirs = case.truth.log().expect("the log");
        assert!(theirs.len() > 200, "{name}");
        for truth in &theirs {
            let Some(message) = ours.get(&truth.sequence) else {
                // What has been said since may have taken its place, from the first one on.
                assert!(
                    truth.sequence < log.overwritten,
                    "{name}: {truth:?} is missing"
                );
                continue;
            };
            let what = format!("{name}: {truth:?} {message:?}");
            let mut text = String::new();
            for &byte in &message.text {
                match byte {
                    b' '..=b'~' if byte != b'\\' => text.push(byte.into()),
                    _ => text += &format!("\\x{byte:02x}"),
                }
            }
            assert_eq!(text, truth.text, "{what}");
            assert_eq!(message.time.as_micros(), u128::from(truth.time), "{what}");
            let priority = u32::from(message.facility) << 3 | u32::from(message.level);
            assert_eq!(priority, truth.priority, "{what}");
            let device = truth
                .dictionary
                .iter()
                .find_map(|line| line.strip_prefix("SUBSYSTEM="));
            let subsystem = message.device.as_ref().map(|(subsystem, _)| &**subsystem);
            assert_eq!(subsystem, device, "{what}");
        }
    });
}

#[test]
fn open_files_are_those_of_the_guest() {
    each(|case| {
        let name = &case.truth.variant;
        let processes = case.guest.processes().expect("lists").items;
        let listing = views::open_files(&*case.guest, &processes).expect("reads");
        assert_eq!(listing.findings, [], "{name}");
        let mut checked = 0;
        let mut kinds = BTreeSet::new();
        for process in processes.iter().filter(|process| process.pid != 1) {
            let Ok(theirs) = case.truth.descriptors(process.pid) else {
                continue;
            };
            let ours = listing
                .items
                .iter()
                .filter(|file| file.pid == process.pid && file.tid.is_none());
            let ours: BTreeMap<u64, _> = ours.map(|file| (file.fd, file)).collect();
            let what = format!("{name}: {} ({})", process.name, process.pid);
            let numbers: Vec<u64> = theirs.iter().map(|one| one.fd.into()).collect();
            assert_eq!(ours.keys().copied().collect::<Vec<_>>(), numbers, "{what}");
            for truth in &theirs {
                let file = ours[&u64::from(truth.fd)];
                let what = format!("{what}: {truth:?} {file:?}");
                let mut path = file.path.clone().expect("readable");
                if file.deleted {
                    path.extend(b" (deleted)");
                }
                assert_eq!(
                    String::from_utf8_lossy(&path),
                    String::from_utf8_lossy(&truth.path),
                    "{what}"
                );
                if let Some(position) = truth.info.get("pos") {
                    // Programs that run read on.
                    let moves = matches!(&*file.kind, "char" | "pipe");
                    assert!(moves || *position == file.position.to_string(), "{what}");
                }
                if let Some(flags) = truth.info.get("flags") {
                    let theirs = u64::from_str_radix(flags, 8).expect("octal");
                    // O_LARGEFILE is shown where a program asked for it, and kept where it did not.
                    let shown = |flags: u64| flags & !0o100_000;
                    assert_eq!(shown(file.flags), shown(theirs), "{what}");
                }
                if let Some(inode) = truth.info.get("ino") {
                    assert_eq!(Some(inode.parse().expect("a number")), file.inode, "{what}");
                }
                kinds.insert(file.kind.clone());
                checked += 1;
            }
        }
        assert!(checked > 150, "{name}: {checked}");
        for kind in [
            "file",
            "directory",
            "char",
            "fifo",
            "pipe",
            "socket",
            "memfd",
            "namespace",
            "eventfd",
            "eventpoll",
            "timerfd",
            "signalfd",
            "inotify",
            "pidfd",
        ] {
            assert!(kinds.contains(kind), "{name}: {kind} among {kinds:?}");
        }
    });
}

/// An address of `/proc/net/tcp` or `tcp6`: words in the order of the machine, of four bytes each.
fn address(text: &str) -> (String, u32) {
    let (address, port) = text.split_once(':').expect("a port");
    let word = |at: usize| {
        u32::from_str_radix(&address[at..at + 8], 16)
            .expect("digits")
            .to_le_bytes()
    };
    let bytes: Vec<u8> = (0..address.len()).step_by(8).flat_map(word).collect();
    let port = u32::from_str_radix(port, 16).expect("digits");
    let address = match <[u8; 4]>::try_from(&bytes[..]) {
        Ok(bytes) => std::net::Ipv4Addr::from(bytes).to_string(),
        Err(_) => {
            std::net::Ipv6Addr::from(<[u8; 16]>::try_from(bytes).expect("16 bytes")).to_string()
        }
    };
    (address, port)
}

type Ends = (String, u32, String, u32);

fn ends(socket: &Socket) -> Ends {
    let text = |bytes: &Option<Vec<u8>>| {
        bytes
            .as_deref()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let six =
        socket.proto.ends_with('6') || text(&socket.local).is_some_and(|text| text.contains(':'));
    let none = if six { "::" } else { "0.0.0.0" };
    (
        text(&socket.local).unwrap_or_default(),
        socket.lport.unwrap_or_default(),
        text(&socket.remote).unwrap_or_else(|| none.into()),
        socket.rport.unwrap_or_default(),
    )
}

#[test]
fn sockets_are_those_of_the_guest_and_those_that_are_hidden() {
    each(|case| {
        let name = &case.truth.variant;
        let processes = case.guest.processes().expect("lists").items;
        let listing = views::sockets(&*case.guest, &processes).expect("reads");
        assert_eq!(listing.findings, [], "{name}");
        let mut compared = 0;
        for space in case.truth.net_namespaces().expect("namespaces") {
            for table in ["tcp", "tcp6", "udp", "udp6", "raw", "raw6"] {
                let what = format!("{name}: {table} in {space}");
                let proto = table
                    .strip_suffix('6')
                    .filter(|&raw| raw == "raw")
                    .unwrap_or(table);
                let six = table.ends_with('6');
                let ours = listing.items.iter().filter(|socket| {
                    let is_six = ends(socket).0.contains(':');
                    socket.netns.map(u64::from) == Some(space)
                        && socket.proto == proto
                        && is_six == six
                        && socket.listed
                });
                let mut ours: Vec<(Ends, String, u64)> = ours
                    .map(|socket| {
                        (
                            ends(socket),
                            socket.state.to_owned(),
                            socket.inode.unwrap_or_default(),
                        )
                    })
                    .collect();
                let lines = case.truth.net_table(space, table).expect("a table");
                let mut theirs: Vec<(Ends, String, u64)> = lines
                    .iter()
                    .map(|words| {
                        let (local, remote) = (address(&words[1]), address(&words[2]));
                        let state = u8::from_str_radix(&words[3], 16).expect("digits");
                        let state = match state {
                            1 => "ESTABLISHED",
                            2 => "SYN_SENT",
                            3 => "SYN_RECV",
                            4 => "FIN_WAIT1",
                            5 => "FIN_WAIT2",
                            6 => "TIME_WAIT",
                            7 => "CLOSE",
                            8 => "CLOSE_WAIT",
                            9 => "LAST_ACK",
                            10 => "LISTEN",
                            11 => "CLOSING",
                            other => panic!("{what}: state {other}"),
                        };
                        let inode = words[9].parse().expect("a number");
                        (
                            (local.0, local.1, remote.0, remote.1),
                            state.to_owned(),
                            inode,
                        )
                    })
                    .collect();
                ours.sort();
                theirs.sort();
                assert_eq!(ours, theirs, "{what}");
                compared += ours.len();
            }
            let ours = listing.items.iter().filter(|socket| {
                socket.netns.map(u64::from) == Some(space)
                    && socket.proto == "unix"
                    && socket.listed
            });
            let ours: BTreeSet<u64> = ours.filter_map(|socket| socket.inode).collect();
            let theirs = case.truth.net_table(space, "unix").expect("a table");
            let theirs: BTreeSet<u64> = theirs
                .iter()
                .map(|words| words[6].parse().expect("a number"))
                .filter(|&inode| inode != 0)
                .collect();
            assert_eq!(ours, theirs, "{name}: unix in {space}");
            for (table, column) in [("packet", 8), ("netlink", 9)] {
                let ours = listing.items.iter().filter(|socket| {
                    socket.netns.map(u64::from) == Some(space)
                        && socket.proto == table
                        && socket.listed
                });
                let mut ours: Vec<u64> = ours
                    .map(|socket| socket.inode.unwrap_or_default())
                    .collect();
                let theirs = case.truth.net_table(space, table).expect("a table");
                let mut theirs: Vec<u64> = theirs
                    .iter()
                    .map(|words| words[column].parse().expect("a number"))
                    .collect();
                ours.sort_unstable();
                theirs.sort_unstable();
                assert_eq!(ours, theirs, "{name}: {table} in {space}");
                compared += ours.len();
            }
        }
        assert!(compared > 30, "{name}: {compared}");
        // What programs state of their sockets is found, and they hold it: those too that no table has.
        for fact in case.facts.of("socket") {
            let (Some(inode), Some(pid)) = (fact.number("inode"), fact.pid()) else {
                continue;
            };
            if case.facts.hidden_processes().contains(&pid) {
                continue;
            }
            let socket = listing
                .items
                .iter()
                .find(|socket| socket.inode == Some(inode));
            let socket = socket.unwrap_or_else(|| panic!("{name}: {fact:?}"));
            if let Some(fd) = fact.number("fd") {
                let owner = socket
                    .owners
                    .iter()
                    .any(|owner| owner.pid == pid && owner.fd == fd);
                assert!(owner, "{name}: {fact:?} {socket:?}");
            }
        }
    });
}

#[test]
fn interfaces_are_those_of_the_guest() {
    each(|case| {
        let name = &case.truth.variant;
        let listing = views::interfaces(&*case.guest).expect("reads");
        assert_eq!(listing.findings, [], "{name}");
        let spaces = case.truth.net_namespaces().expect("namespaces");
        for space in spaces {
            let ours = listing
                .items
                .iter()
                .filter(|one| u64::from(one.netns) == space);
            let ours: BTreeSet<String> = ours.map(|one| one.name.clone()).collect();
            let theirs = case.truth.net_table(space, "dev").expect("a table");
            // The heading has two lines.
            let theirs: BTreeSet<String> = theirs
                .iter()
                .filter_map(|words| words[0].split_once(':'))
                .map(|(name, _)| name.to_owned())
                .collect();
            assert_eq!(ours, theirs, "{name}: {space}");
        }
        assert!(listing.items.iter().any(|one| one.promiscuous), "{name}");
    });
}

#[test]
fn rights_are_those_of_the_guest() {
    each(|case| {
        let name = &case.truth.variant;
        let processes = case.guest.processes().expect("lists").items;
        let listing = views::credentials(&*case.guest, &processes).expect("reads");
        assert_eq!(listing.findings, [], "{name}");
        let elevated: Vec<u32> = case.facts.of("elevated").filter_map(Fact::pid).collect();
        let mut modes = BTreeSet::new();
        for ours in &listing.items {
            let Some(theirs) = status(case, ours.pid) else {
                continue;
            };
            let what = format!("{name}: {} ({})", ours.process, ours.pid);
            let numbers = |key: &str| -> Vec<u32> {
                theirs[key]
                    .iter()
                    .map(|word| word.parse().expect("a number"))
                    .collect()
            };
            let ids = |ids: Ids| vec![ids.real, ids.effective, ids.saved, ids.files];
            assert_eq!(ids(ours.users), numbers("Uid"), "{what}");
            assert_eq!(ids(ours.groups), numbers("Gid"), "{what}");
            assert_eq!(ours.others, numbers("Groups"), "{what}");
            for (key, set) in [
                ("CapEff", ours.effective),
                ("CapPrm", ours.permitted),
                ("CapInh", ours.inheritable),
                ("CapBnd", ours.bounding),
                ("CapAmb", ours.ambient),
            ] {
                let theirs = u64::from_str_radix(&theirs[key][0], 16).expect("digits");
                assert_eq!(set.0, theirs, "{what}: {key}");
            }
            assert_eq!(
                ours.no_new_privs,
                Some(theirs["NoNewPrivs"][0] == "1"),
                "{what}"
            );
            let seccomp = match numbers("Seccomp")[..] {
                [0] => Seccomp::Disabled,
                [1] => Seccomp::Strict,
                _ => Seccomp::Filter,
            };
            assert_eq!(ours.seccomp, Some(seccomp), "{what}");
            assert_eq!(ours.overridden, elevated.contains(&ours.pid), "{what}");
            modes.insert(format!("{seccomp:?}"));
        }
        assert_eq!(modes.len(), 3, "{name}: {modes:?}");
    });
}

#[test]
fn namespaces_are_those_of_the_guest() {
    each(|case| {
        let name = &case.truth.variant;
        let processes = case.guest.processes().expect("lists").items;
        let listing = views::namespaces(&*case.guest, &processes).expect("reads");
        assert_eq!(listing.findings, [], "{name}");
        let mut apart = BTreeSet::new();
        let mut checked = 0;
        for ours in &listing.items {
            let path = case.truth.path(format!("guest/proc/{}/ns", ours.pid));
            let Ok(text) = fs::read_to_string(path) else {
                continue;
            };
            let what = format!("{name}: {} ({}): {text}", ours.process, ours.pid);
            for (kind, number) in ours.numbers() {
                // Lines of `KIND LINK`, such as `net net:[4026531840]`.
                let link = text
                    .lines()
                    .find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '));
                let Some(link) = link.filter(|link| !link.is_empty()) else {
                    continue;
                };
                let theirs = link
                    .split_once('[')
                    .and_then(|(_, rest)| rest.strip_suffix(']'));
                let theirs = theirs.and_then(|number| number.parse().ok());
                assert_eq!(number, theirs, "{what}: {kind}");
                checked += 1;
            }
            let group =
                fs::read_to_string(case.truth.path(format!("guest/proc/{}/cgroup", ours.pid)));
            if let Some(group) = group
                .ok()
                .as_deref()
                .and_then(|text| text.lines().find_map(|line| line.strip_prefix("0::")))
            {
                assert_eq!(ours.control_group.as_deref(), Some(group), "{what}");
            }
            apart.extend(ours.own.iter().copied());
        }
        assert!(checked > 200, "{name}: {checked}");
        for kind in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
            assert!(apart.contains(kind), "{name}: {kind} among {apart:?}");
        }
    });
}

#[test]
fn environments_have_what_was_planted() {
    each(|case| {
        let name = &case.truth.variant;
        let processes = case.guest.processes().expect("lists").items;
        let mut compared = 0;
        for process in &processes {
            let theirs = fs::read(
                case.truth
                    .path(format!("guest/proc/{}/environ", process.pid)),
            );
            let theirs = theirs.unwrap_or_default();
            let theirs: Vec<&[u8]> = theirs
                .split(|&byte| byte == 0)
                .filter(|text| !text.is_empty())
                .collect();
            let Ok(ours) = views::environment(&*case.guest, process) else {
                assert!(theirs.is_empty(), "{name}: {}", process.pid);
                continue;
            };
            if !ours.findings.is_empty() || theirs.is_empty() {
                continue;
            }
            let joined = ours.items.iter().map(|variable| match &variable.name {
                Some(name) => [name, &b"="[..], &variable.value].concat(),
                None => variable.value.clone(),
            });
            assert_eq!(
                joined.collect::<Vec<_>>(),
                theirs,
                "{name}: {}",
                process.pid
            );
            compared += theirs.len();
        }
        assert!(compared > 100, "{name}: {compared}");
    });
}

#[test]
fn histories_are_what_the_shell_itself_prints() {
    each(|case| {
        let name = &case.truth.variant;
        let Some(shell) = case.facts.of("shell").find_map(Fact::pid) else {
            panic!("{name}: there is no shell");
        };
        let processes = case.guest.processes().expect("lists").items;
        let listing =
            views::history(&*case.guest, &processes, Run::new().threads(1)).expect("reads");
        assert_eq!(listing.findings, [], "{name}");
        let listed = listing.items.iter().filter(|command| command.listed);
        let mut ours = String::new();
        for (index, command) in listed.enumerate() {
            assert_eq!(command.pid, shell, "{name}: {command:?}");
            let seconds = command
                .time
                .duration_since(UNIX_EPOCH)
                .expect("after 1970")
                .as_secs();
            let line = String::from_utf8_lossy(&command.line);
            ours += &format!("{:5}  {seconds} {line}\n", index + 1);
        }
        let theirs = case.truth.path(format!("guest/bash/{shell}/history"));
        let theirs =
            fs::read(&theirs).unwrap_or_else(|error| panic!("{}: {error}", theirs.display()));
        assert_eq!(ours, String::from_utf8_lossy(&theirs), "{name}");
    });
}
