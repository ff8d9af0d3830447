//! Live guests against a QEMU that is none, and against answers that no QEMU gives.

mod fake;
mod hostile;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use fake::{Answer, Fake, GREETING, Machine};
use memmap2::MmapRaw;

use super::*;
use crate::paging::Mode;

/// Waits of tests end soon.
const HASTE: Patience = Patience {
    greeting: Duration::from_millis(300),
    answer: Duration::from_millis(300),
};

fn open(fake: &Fake) -> Result<LiveGuest, LiveErrorKind> {
    LiveGuest::open_patiently(&fake.socket(), Patience::default())
}

/// Bytes of which each 4 KiB differ.
fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7 + at / 4096) as u8).collect()
}

/// A file with these bytes that is mapped as QEMU maps shared RAM.
fn shared(path: &Path, bytes: &[u8]) -> (File, MmapRaw) {
    let mut file = File::create_new(path).expect("a new file");
    file.write_all(bytes).expect("written");
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("it is there");
    let map = MmapRaw::map_raw(&file).expect("mapped");
    (file, map)
}

/// A machine with 32 KiB in a file at 0, of which a page is read-only; a page of it again at 0x20000; and 8 KiB of private
/// memory at 4 GiB.
fn machine(map: &MmapRaw, private: &[u8]) -> Machine {
    let file = map.as_ptr().addr() as u64;
    Machine {
        ram: vec![
            (0, 0x3000, "ram", file),
            (0x3000, 0x1000, "rom", file + 0x3000),
            (0x4000, 0x4000, "ram", file + 0x4000),
            (0x20000, 0x1000, "ram", file + 0x2000),
            (1 << 32, 0x2000, "ram", private.as_ptr().addr() as u64),
        ],
        running: true,
    }
}

#[test]
fn memory_is_read_where_qemu_says_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let (bytes, private) = (content(0x8000), content(0x2000));
    let (_file, map) = shared(&dir.path().join("ram"), &bytes);
    let mut qemu = machine(&map, &private);
    let fake = Fake::new(GREETING, move |command| qemu.answer(command));
    let guest = open(&fake).expect("it opens");

    let range = |at, len| AddrRange::new(Gpa(at), len).expect("not empty");
    let info = guest.info();
    let want = [
        range(0, 0x8000),
        range(0x20000, 0x1000),
        range(1 << 32, 0x2000),
    ];
    assert_eq!(info.ranges, want);
    assert_eq!(
        (info.pid, info.running, info.shared),
        (std::process::id(), true, 0x9000)
    );
    assert_eq!(Mode::from_cpu(&info.cpus[0]), None);
    assert_eq!(info.cpus[0].cr3, 0x1000);
    assert!(
        fake.log().iter().all(|command| command != "stop"),
        "only looked at"
    );

    // Every place and length around the borders, against the plain bytes.
    let reference = |at: u64| -> Option<u8> {
        match at {
            0..0x8000 => Some(bytes[at as usize]),
            0x20000..0x21000 => Some(bytes[(at - 0x1e000) as usize]),
            0x1_0000_0000..0x1_0000_2000 => Some(private[(at & 0xffff) as usize]),
            _ => None,
        }
    };
    for border in [
        0x3000,
        0x4000,
        0x8000,
        0x20000,
        0x21000,
        1 << 32,
        (1 << 32) + 0x2000,
    ] {
        for before in 0..5 {
            for len in 1..12 {
                let at = border - before;
                let mut buf = vec![0; len];
                let want: Vec<Option<u8>> = (at..at + len as u64).map(reference).collect();
                match guest.read(Gpa(at), &mut buf) {
                    Ok(()) => assert_eq!(buf.into_iter().map(Some).collect::<Vec<_>>(), want),
                    Err(fault) => {
                        let gone = want.iter().position(Option::is_none).expect("a hole");
                        assert_eq!(fault.addr, Gpa(at + gone as u64));
                        assert_eq!(fault.cause, Cause::Absent { gpa: fault.addr });
                        let got: Vec<_> = buf[..gone].iter().map(|&byte| Some(byte)).collect();
                        assert_eq!(got, want[..gone]);
                    }
                }
            }
        }
    }
    let mut all = vec![0; 0x8000];
    guest.read(Gpa(0), &mut all).expect("RAM");
    assert!(all == bytes);
    assert!(
        guest.read(Gpa(0xffff_0000), &mut [0]).is_err(),
        "firmware is no RAM"
    );
    assert!(guest.read(Gpa(u64::MAX), &mut [0; 2]).is_err());
    guest
        .read(Gpa(u64::MAX), &mut [])
        .expect("nothing is asked for");

    let spans: Vec<_> = guest
        .spans(range(0x7000, 0x1a000))
        .map(|span| (span.start.0, span.len))
        .collect();
    assert_eq!(spans, [(0x7000, 0x1000), (0x20000, 0x1000)]);
    assert!(guest.recheck().expect("it is still there"));
}

#[test]
fn a_layout_that_has_changed_is_seen() {
    let private = content(0x2000);
    let at = private.as_ptr().addr() as u64;
    let (mut before, mut asked) = (
        Machine {
            ram: vec![(0, 0x2000, "ram", at)],
            running: true,
        },
        0,
    );
    let fake = Fake::new(GREETING, move |command| {
        asked += usize::from(command.starts_with("info mtree"));
        if asked == 2 {
            before.ram = vec![(0, 0x1000, "ram", at)];
        }
        before.answer(command)
    });
    let guest = open(&fake).expect("it opens");
    assert!(!guest.recheck().expect("it answers"));
}

#[test]
fn a_file_that_is_cut_is_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let bytes = content(0x8000);
    let (file, map) = shared(&dir.path().join("ram"), &bytes);
    let mut qemu = machine(&map, &bytes);
    let fake = Fake::new(GREETING, move |command| qemu.answer(command));
    let guest = open(&fake).expect("it opens");
    file.set_len(0x5000).expect("cut");
    let mut buf = vec![0; 0x8000];
    let fault = guest.read(Gpa(0), &mut buf).expect_err("the file is cut");
    let (gpa, offset) = (Gpa(0x5000), 0x5000);
    assert_eq!(
        fault,
        Fault {
            addr: gpa,
            cause: Cause::Truncated { gpa, offset }
        }
    );
    assert!(buf[..0x5000] == bytes[..0x5000]);
}

#[test]
fn a_process_that_has_ended_is_an_error_although_its_file_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, map) = shared(&dir.path().join("ram"), &content(0x8000));
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .expect("it starts");
    let mut qemu = machine(&map, &content(0x2000));
    let fake = Fake::new(GREETING, move |command| qemu.answer(command));
    let guest = LiveGuest {
        process: Process::open(child.id()).expect("it runs"),
        files: vec![file],
        pieces: vec![Piece {
            first: 0,
            last: 0x7fff,
            from: Backing::File {
                index: 0,
                offset: 0,
            },
        }],
        ..open(&fake).expect("it opens")
    };
    guest.read(Gpa(0), &mut [0; 8]).expect("it runs");
    child.kill().expect("it can be ended");
    child.wait().expect("it ends");
    assert!(!guest.is_alive());
    let fault = guest.read(Gpa(0), &mut [0; 8]).expect_err("it has ended");
    assert_eq!(fault.cause, Cause::Gone);
    assert!(matches!(
        guest.recheck(),
        Err(LiveError {
            kind: LiveErrorKind::Gone { .. },
            ..
        })
    ));
}

/// A paused guest's commands that change something.
fn changes(fake: &Fake) -> Vec<String> {
    let mut log = fake.log();
    log.retain(|command| command == "stop" || command == "cont");
    log
}

#[test]
fn a_guest_that_runs_is_stopped_and_resumed_once() {
    let private = content(0x2000);
    let at = private.as_ptr().addr() as u64;
    let mut qemu = Machine {
        ram: vec![(0, 0x2000, "ram", at)],
        running: true,
    };
    let fake = Fake::new(GREETING, move |command| qemu.answer(command));
    let paused = Paused::new(fake.socket()).expect("it stops");
    assert!(paused.is_ours());
    assert_eq!(changes(&fake), ["stop"]);
    let guest = paused.open().expect("it opens");
    assert!(!guest.info().running);
    drop(paused);
    assert_eq!(changes(&fake), ["stop", "cont"]);

    let paused = Paused::new(fake.socket()).expect("it stops");
    paused.resume().expect("it runs on");
    paused.resume().expect("nothing is left to do");
    assert!(paused.open().is_err(), "the connection was given up");
    drop(paused);
    assert_eq!(changes(&fake), ["stop", "cont", "stop", "cont"]);
}

#[test]
fn a_guest_that_stood_before_stays_so() {
    let mut qemu = Machine {
        ram: Vec::new(),
        running: false,
    };
    let fake = Fake::new(GREETING, move |command| qemu.answer(command));
    let paused = Paused::new(fake.socket()).expect("it stands");
    assert!(!paused.is_ours());
    assert!(paused.open().is_err(), "it has no RAM");
    drop(paused);
    assert_eq!(changes(&fake), [""; 0]);
}

#[test]
fn a_guest_is_resumed_when_the_answer_to_stop_is_lost() {
    let mut first = true;
    let fake = Fake::new(GREETING, move |command| match command {
        "query-status" => Answer::Return(serde_json::json!({"running": true, "status": "running"})),
        "stop" if std::mem::take(&mut first) => Answer::Silence,
        _ => Answer::Return(serde_json::json!({})),
    });
    let error = Paused::new_patiently(&fake.socket(), HASTE).expect_err("no answer");
    assert!(
        matches!(error.kind, LiveErrorKind::NoAnswer { .. }),
        "{error}"
    );
    assert_eq!(changes(&fake), ["stop", "cont"]);
}

#[test]
fn a_panic_resumes_the_guest() {
    let mut qemu = Machine {
        ram: Vec::new(),
        running: true,
    };
    let fake = Fake::new(GREETING, move |command| qemu.answer(command));
    let socket = fake.socket();
    let thread = std::thread::spawn(move || {
        let _paused = Paused::new(socket).expect("it stops");
        panic!("on purpose");
    });
    assert!(thread.join().is_err());
    assert_eq!(changes(&fake), ["stop", "cont"]);
}

#[test]
fn others_are_served_as_soon_as_the_guest_is_open_but_not_while_it_is_paused() {
    let private = content(0x2000);
    let at = private.as_ptr().addr() as u64;
    let mut qemu = Machine {
        ram: vec![(0, 0x2000, "ram", at)],
        running: true,
    };
    let fake = Fake::new(GREETING, move |command| qemu.answer(command));
    let first = open(&fake).expect("it opens");
    let second = open(&fake).expect("the socket is free again");
    assert_eq!(first.info(), second.info());
    let paused = Paused::new(fake.socket()).expect("it stops");
    let error = LiveGuest::open_patiently(&fake.socket(), HASTE).expect_err("held");
    assert!(matches!(error, LiveErrorKind::Busy(_)), "{error}");
    drop(paused);
    open(&fake).expect("free again");
}
