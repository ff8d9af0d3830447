//! Sockets and answers of all the wrong kinds.

use std::os::unix::net::UnixListener;
use std::time::Instant;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What opening fails with, in less than a few seconds.
fn refused(fake: &Fake) -> String {
    let begun = Instant::now();
    let error = LiveGuest::open_patiently(&fake.socket(), HASTE).expect_err("no guest");
    assert!(begun.elapsed() < Duration::from_secs(20), "{error}");
    error.to_string()
}

#[test]
fn what_is_no_socket_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = |name: &str| LiveGuest::open(dir.path().join(name)).expect_err("no guest");
    assert!(matches!(open("missing").kind, LiveErrorKind::NoSocket));
    std::fs::write(dir.path().join("file"), "text").expect("written");
    assert!(matches!(open("file").kind, LiveErrorKind::NotASocket));
    assert!(matches!(open(".").kind, LiveErrorKind::NotASocket));
    drop(UnixListener::bind(dir.path().join("dead")).expect("bound"));
    let error = open("dead");
    assert!(
        matches!(error.kind, LiveErrorKind::NobodyListens),
        "{error}"
    );
    let path = dir.path().join("dead").display().to_string();
    assert!(error.to_string().contains(&path), "{error}");
}

#[test]
fn other_greetings_are_shown() {
    for (greeting, shown) in [
        (
            "QEMU 7.2.22 monitor - type 'help' for more information",
            "QEMU 7.2.22 monitor",
        ),
        ("{\"hello\": 1}", "{\"hello\":1}"),
        ("{\"QMP\": ", "{\"QMP\":"),
        ("[]", "[]"),
        ("\u{1b}[2J", "\\x1b[2J"),
    ] {
        let said = refused(&Fake::new(greeting, |_| Answer::Silence));
        assert!(
            said.contains("expected its greeting") && said.contains(shown),
            "{said}"
        );
    }
    let silent = Fake::new("", |_| Answer::Silence);
    assert!(refused(&silent).contains("no greeting within"));
}

#[test]
fn answers_that_make_no_sense_are_errors() {
    let flood = || {
        let mut line = vec![b'{'; 33 << 20];
        line[1] = b'"';
        line
    };
    let deep = || [b"[".repeat(1 << 16), b"\n".to_vec()].concat();
    type Case = (&'static str, fn() -> Answer, &'static str);
    let cases: [Case; 9] = [
        (
            "query-status",
            || Answer::Silence,
            "no answer to `query-status`",
        ),
        (
            "query-status",
            || Answer::Close,
            "the connection was closed",
        ),
        (
            "query-status",
            || Answer::Return(json!(7)),
            "expected a status",
        ),
        (
            "query-status",
            || Answer::Error("no such \u{1b} thing"),
            "no such \\x1b",
        ),
        (
            "query-status",
            || Answer::Raw(b"\xff\xfe\n".to_vec()),
            "expected an answer",
        ),
        (
            "query-status",
            || Answer::Raw(b"{\"x\": 1}\n".to_vec()),
            "expected an answer",
        ),
        (
            "query-status",
            || Answer::Raw(b"{\"return\": {}, \"id\": 77}\n".to_vec()),
            "no answer to",
        ),
        (
            "info mtree -f -o",
            || Answer::Return(json!({})),
            "expected text",
        ),
        (
            "info mtree -f -o",
            || Answer::Return(json!("unknown command")),
            "no address space",
        ),
    ];
    let bulky: [(&str, Vec<u8>, &str); 2] = [
        ("query-status", flood(), "expected an answer"),
        ("query-status", deep(), "expected an answer"),
    ];
    let check = |at: &'static str, mut answer: Box<dyn FnMut() -> Answer + Send>, said: &str| {
        let mut qemu = Machine {
            ram: vec![(0, 0x1000, "ram", 0x1000)],
            running: true,
        };
        let fake = Fake::new(GREETING, move |command| match command {
            command if command == at => answer(),
            command => qemu.answer(command),
        });
        let got = refused(&fake);
        assert!(got.contains(said), "{at}: {got}");
        assert!(got.len() < 500, "{} bytes", got.len());
    };
    for (at, answer, said) in cases {
        check(at, Box::new(answer), said);
    }
    for (at, bytes, said) in bulky {
        check(at, Box::new(move || Answer::Raw(bytes.clone())), said);
    }
}

#[test]
fn events_and_late_answers_are_skipped() {
    let private = content(0x1000);
    let mut qemu = Machine {
        ram: vec![(0, 0x1000, "ram", private.as_ptr().addr() as u64)],
        running: true,
    };
    let fake = Fake::new(GREETING, move |command| match command {
        "query-status" => {
            // The second command of each connection.
            let text = "{\"event\": \"STOP\", \"data\": {}}\r\n{\"return\": {}, \"id\": 1}\r\n\
                        {\"return\": {\"running\": true, \"status\": \"running\"}, \"id\": 2}\r\n";
            Answer::Raw(text.as_bytes().to_vec())
        }
        command => qemu.answer(command),
    });
    assert!(open(&fake).expect("it opens").info().running);
    assert!(fake.dir().exists());
}

#[test]
fn lies_about_the_layout_are_found_out() {
    let private = content(0x2000);
    let at = private.as_ptr().addr() as u64;
    let of = |ram: Vec<(u64, u64, &'static str, u64)>, lie: fn(&str) -> Option<&'static str>| {
        let mut qemu = Machine { ram, running: true };
        let fake = Fake::new(GREETING, move |command| match lie(command) {
            Some(text) => Answer::Return(json!(text)),
            None => qemu.answer(command),
        });
        refused(&fake)
    };
    let honest = |_: &str| None;
    let said = of(vec![(0, 0x1000, "ram", 0x1000)], honest);
    assert!(said.contains("nothing is mapped"), "{said}");
    let said = of(vec![(1 << 32, 1 << 45, "ram", at)], honest);
    assert!(said.contains("nothing is mapped"), "{said}");
    let said = of(
        vec![(0, 0x1000, "ram", at), (0x800, 0x1000, "ram", at)],
        honest,
    );
    assert!(said.contains("out of order"), "{said}");
    let other = |command: &str| {
        (command == "gpa2hva 0x0").then_some("Host virtual address for 0x0 (other) is 0x10")
    };
    let said = of(vec![(0, 0x1000, "ram", at)], other);
    assert!(
        said.contains("puts ram at 0x0") && said.contains("(other)"),
        "{said}"
    );
    let bent = |command: &str| {
        (command == "gpa2hva 0xfff").then_some("Host virtual address for 0xfff (ram) is 0x10")
    };
    let said = of(vec![(0, 0x1000, "ram", at)], bent);
    assert!(said.contains("not in one piece"), "{said}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn texts_cut_and_changed_anywhere_do_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<prop::sample::Index>(),
    ) {
        for text in [mtree::SAMPLE, "CPU#0\nEIP=1 ESP=2 CR0=3 CR3=4 CR4=5 EFER=6\nCPU#1"] {
            let mut bytes = text.as_bytes().to_vec();
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            let text = String::from_utf8_lossy(&bytes);
            if let Ok(sections) = mtree::parse(&text) {
                prop_assert!(sections.is_sorted_by(|a, b| a.last < b.first));
            }
            registers::parse(&text);
            mtree::parse_hva(&text);
        }
    }
}
