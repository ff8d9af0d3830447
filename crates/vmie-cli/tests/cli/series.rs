//! Series of moments as scripts rely on them: rows, statuses, and moments that are whole or not there.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::snap::{changed, path};
use crate::support::{DATA, Run, check_document, for_rows, guest, rows, vmie};

/// Adds a moment of an image to a series.
fn add(image: &str, dir: &str, more: &[&str]) -> Run {
    let cr3 = guest().cr3_arg();
    let args = ["snap", "watch", image, "--cr3", &cr3, "-O", dir];
    let run = vmie(&[&args[..], &["--count", "1"], more].concat());
    assert_eq!(run.status, 0, "{}", run.err);
    run
}

/// A series of the guest with these bytes at the beginning of its data, moment by moment, and a counter
/// behind them.
fn series(dir: &str, bytes: &[&[u8]]) {
    let image = format!("{dir}.elf");
    for (index, bytes) in bytes.iter().enumerate() {
        let counter = [index as u8 + 1];
        let at = guest().data_gpa;
        changed(&image, &[(at + 0x10, bytes), (at + 0x800, &counter)]);
        let more: &[&str] = if index == 0 { &[] } else { &["--append"] };
        let row = &rows(&add(&image, dir, more))[0];
        assert_eq!(row["moment"], index + 1);
        let changed = row["changed"].as_u64().expect("a number");
        assert!(if index == 0 {
            changed > 10
        } else {
            changed == 1
        });
    }
}

#[test]
fn rows_are_the_contract() {
    let directory = tempfile::tempdir().expect("a directory");
    let dir = path(directory.path(), "door");
    series(&dir, &[b"shut", b"shut", b"open", b"open"]);
    let run = vmie(&["snap", "series", &dir]);
    assert_eq!(run.status, 0, "{}", run.err);
    let [region] = &rows(&run)[..] else {
        panic!("one region changes: {}", run.out);
    };
    assert_eq!(region["va"], format!("{DATA:#x}"));
    assert_eq!(region["prot"], "rw-");
    assert_eq!(region["changed"], json!([1, 5, 1]));
    let totals = ["modified", "appeared", "disappeared", "protection"].map(|key| &region[key]);
    assert_eq!(totals, [&json!(7), &json!(0), &json!(0), &json!(0)]);
    // What could not be compared is told, as everywhere.
    assert!(run.err.contains("not readable"), "{}", run.err);
    assert_eq!(vmie(&["snap", "series", &dir, "--strict"]).status, 3);
    let envelope = vmie(&["snap", "series", &dir, "-o", "json"]);
    let json: Value = serde_json::from_str(&envelope.out).expect("one JSON document");
    check_document(&json);
    assert_eq!(json["schema"], "vmie.snap-series/1");
    assert_eq!(json["results"], Value::Array(rows(&run)));
    let all = rows(&vmie(&["snap", "series", &dir, "--all"]));
    assert!(all.len() > 3 && all.contains(region));
    // In blocks, the two places are told apart.
    let blocks = rows(&vmie(&["snap", "series", &dir, "--block", "1KiB"]));
    let told: Vec<_> = blocks
        .iter()
        .map(|row| (&row["va"], &row["changed"]))
        .collect();
    let (first, second) = (format!("{DATA:#x}"), format!("{:#x}", DATA + 0x800));
    assert_eq!(
        told,
        [
            (&json!(first), &json!([0, 4, 0])),
            (&json!(second), &json!([1, 1, 1]))
        ]
    );
    let moments = rows(&vmie(&["snap", "series", &dir, "--moments"]));
    assert_eq!(moments.len(), 4);
    assert_eq!(moments[3]["moment"], 4);
    let nothing = vmie(&["snap", "series", &dir, "--range", "0x1000..+4KiB"]);
    assert_eq!((nothing.status, nothing.out.as_str()), (1, ""));
}

#[test]
fn the_variable_behind_an_event_is_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let dir = path(directory.path(), "door");
    series(&dir, &[b"shut", b"shut", b"half", b"open", b"open"]);
    let told = |letters: &str| {
        let run = vmie(&["snap", "series", &dir, "--groups", letters]);
        let told: Vec<_> = rows(&run)
            .iter()
            .map(|row| (row["va"].clone(), row["len"].clone(), row["values"].clone()))
            .collect();
        (run.status, told)
    };
    let hex = |text: &[u8]| {
        text.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let va = json!(format!("{:#x}", DATA + 0x10));
    let values = json!({"A": hex(b"shut"), "B": hex(b"open")});
    assert_eq!(told("AA-BB"), (0, vec![(va.clone(), json!(4), values)]));
    let three = json!({"A": hex(b"shut"), "B": hex(b"half"), "C": hex(b"open")});
    assert_eq!(told("AABCC"), (0, vec![(va, json!(4), three)]));
    // Nothing is constant in both of these.
    assert_eq!(told("ABABA"), (1, vec![]));
    let few = vmie(&["snap", "series", &dir, "--groups", "AAB"]);
    assert_eq!(few.status, 2);
    assert!(
        few.err.contains("3 letters") && few.err.contains("5 snapshots"),
        "{}",
        few.err
    );
    let same = vmie(&["snap", "series", &dir, "--groups", "AAAAA"]);
    assert_eq!(same.status, 2);
}

#[test]
fn every_moment_is_a_source() {
    let directory = tempfile::tempdir().expect("a directory");
    let dir = path(directory.path(), "door");
    series(&dir, &[b"shut", b"open"]);
    let [first, second] = [1, 2].map(|number| format!("{dir}/{number:06}.moment"));
    let read = |moment: &str| {
        let at = format!("{:#x}", DATA + 0x10);
        let run = vmie(&[
            "find",
            moment,
            "--str",
            "open",
            "--range",
            &format!("{at}..+4"),
        ]);
        (run.status, rows(&run).len())
    };
    assert_eq!((read(&first), read(&second)), ((1, 0), (0, 1)));
    let maps = |source: &str, more: &[&str]| {
        let keys = |row: &Value| [&row["va"], &row["len"], &row["prot"]].map(Value::to_string);
        rows(&vmie(&[&["maps", source], more].concat()))
            .iter()
            .map(keys)
            .collect::<Vec<_>>()
    };
    let live = maps(&guest().elf(), &["--cr3", &guest().cr3_arg()]);
    assert_eq!(maps(&first, &[]), live);
    let diff = rows(&vmie(&["snap", "diff", &first, &second]));
    assert_eq!(diff.len(), 2);
    // Neither the pages of all moments nor the directory are, and both say what is.
    let pages = vmie(&["maps", &format!("{dir}/pages.vmie"), "--phys"]);
    assert_eq!(pages.status, 2);
    assert!(pages.err.contains(".moment"), "{}", pages.err);
    let whole = vmie(&["maps", &dir]);
    assert_eq!(whole.status, 2);
    assert!(whole.err.contains(".moment"), "{}", whole.err);
}

#[test]
fn a_series_is_one_and_of_one_memory() {
    let directory = tempfile::tempdir().expect("a directory");
    let dir = path(directory.path(), "door");
    series(&dir, &[b"shut"]);
    let image = format!("{dir}.elf");
    let watch = |more: &[&str]| {
        let args = ["snap", "watch", &image, "-O", &dir, "--count", "1"];
        vmie(&[&args[..], more].concat())
    };
    let again = watch(&["--cr3", &guest().cr3_arg()]);
    assert_eq!(again.status, 2);
    assert!(again.err.contains("--append"), "{}", again.err);
    let other = watch(&["--phys", "--append"]);
    assert_eq!(other.status, 2);
    assert!(
        other.err.contains("not what the snapshots"),
        "{}",
        other.err
    );
    let one = vmie(&["snap", "series", &dir]);
    assert_eq!(one.status, 2);
    assert!(one.err.contains("nothing to compare"), "{}", one.err);
    // What cannot be begun leaves no directory behind.
    let nowhere = path(directory.path(), "nowhere");
    let wrong = vmie(&[
        "snap",
        "watch",
        &image,
        "--cr3",
        "0x7ffffffff000",
        "-O",
        &nowhere,
    ]);
    assert_eq!(wrong.status, 2);
    assert!(!std::path::Path::new(&nowhere).exists());
    let none = vmie(&["snap", "series", &nowhere]);
    assert_eq!(none.status, 2);
    let file = vmie(&["snap", "series", &image]);
    assert_eq!(file.status, 2);
    assert!(file.err.contains("snap diff"), "{}", file.err);
}

#[test]
fn a_damaged_series_is_refused_and_salvaged() {
    let directory = tempfile::tempdir().expect("a directory");
    let dir = path(directory.path(), "door");
    series(&dir, &[b"shut", b"shut", b"open"]);
    let second = format!("{dir}/000002.moment");
    let mut bytes = std::fs::read(&second).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&second, bytes).expect("writes");
    let refused = vmie(&["snap", "series", &dir]);
    assert_eq!(refused.status, 2);
    assert!(
        refused.err.contains("000002.moment") && refused.err.contains("--salvage"),
        "{}",
        refused.err
    );
    let run = vmie(&["snap", "series", &dir, "--salvage"]);
    assert_eq!(run.status, 0, "{}", run.err);
    assert!(run.err.contains("000002.moment"), "{}", run.err);
    assert_eq!(rows(&run)[0]["changed"], json!([5]));
}

#[test]
fn the_picture_needs_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let dir = path(directory.path(), "<b>&\"door");
    series(&dir, &[b"shut", b"shut", b"open"]);
    let html = path(directory.path(), "picture.html");
    let run = vmie(&["snap", "series", &dir, "--html", &html]);
    assert_eq!(run.status, 0, "{}", run.err);
    let page = std::fs::read_to_string(&html).expect("it is there");
    assert_eq!(page.matches("class=\"cell ").count(), 2);
    assert!(page.contains("modified") && page.contains(&format!("{DATA:#x}")));
    for wrong in ["<script", "<link", "<img", "url(", "@import", "src=", "<b>"] {
        assert!(!page.contains(wrong), "{wrong}");
    }
    let address = |part: &str| page.matches(part).count();
    assert_eq!(address("http"), address("http://www.w3.org/2000/svg"));
    let nowhere = path(directory.path(), "no/picture.html");
    assert_eq!(
        vmie(&["snap", "series", &dir, "--html", &nowhere]).status,
        2
    );
}

/// Wherever a watch is killed, what it kept before is a series of whole moments.
#[test]
fn whoever_is_killed_leaves_whole_moments() {
    let directory = tempfile::tempdir().expect("a directory");
    let raw = directory.path().join("noise.raw");
    let mut state = 1u64;
    let mut noise = move || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 33) as u8
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(&mut noise).take(8 << 20).collect();
    std::fs::write(&raw, &bytes).expect("writes");
    let dir = path(directory.path(), "series");
    let raw_path = raw.display().to_string();
    let start = |append: bool| {
        let mut command = for_rows();
        command
            .args(["snap", "watch", &raw_path, "--layout", "0+8MiB@0", "--phys"])
            .args(["-O", &dir, "--count", "2", "--every", "0s"])
            .args(append.then_some("--append"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().expect("it starts")
    };
    let began = Instant::now();
    assert!(start(false).wait().expect("it ends").success());
    let whole = began.elapsed();
    let files = || std::fs::read_dir(&dir).expect("a directory").count();
    let (mut cut_short, mut before) = (0, files());
    const TRIES: u32 = 30;
    for attempt in 0..TRIES {
        // Every moment has new pages to write.
        let at = attempt as usize * 0x1000;
        bytes[at..at + 0x400].fill_with(&mut noise);
        std::fs::write(&raw, &bytes).expect("writes");
        let mut child = start(true);
        std::thread::sleep(whole * attempt * 3 / 2 / TRIES + Duration::from_millis(1));
        let _ = Command::new("kill")
            .args(["-KILL", &child.id().to_string()])
            .status();
        child.wait().expect("it ends");
        let now = files();
        assert!((before..=before + 2).contains(&now));
        cut_short += u32::from(now < before + 2);
        before = now;
        let moments = rows(&vmie(&["snap", "series", &dir, "--moments"]));
        assert_eq!(
            moments.len(),
            now - 1,
            "no file but the pages and the moments"
        );
    }
    assert!(cut_short > 0, "{whole:?}: it was always killed too late");
    // The last one is what there was when it was taken, or what there was before.
    assert!(start(true).wait().expect("it ends").success());
    let last = format!("{dir}/{:06}.moment", files() - 1);
    let same = vmie(&["snap", "diff", &last, &raw_path, "--layout", "0+8MiB@0"]);
    assert_eq!(same.status, 1, "{}", same.err);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_watch_and_keeps_its_moments() {
    let directory = tempfile::tempdir().expect("a directory");
    let dir = path(directory.path(), "series");
    let mut command = for_rows();
    command
        .args(["snap", "watch", &guest().elf(), "--cr3", &guest().cr3_arg()])
        .args(["-O", &dir, "--every", "1h"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().expect("it starts");
    let first = format!("{dir}/000001.moment");
    let began = Instant::now();
    while !std::path::Path::new(&first).exists() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "no moment is kept"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let interrupted = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(interrupted.is_ok_and(|status| status.success()));
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(text.lines().count(), 1, "{text}");
}
