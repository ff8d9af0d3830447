//! `find --save` and `find --refine` on two moments of a guest.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vmie_synth::guest::{Flags, Machine, Paging, Space};
use vmie_synth::write::{self, Elf};

use crate::support::{Run, for_rows, rows, vmie};

const DATA: u64 = 0x7f00_0000_0000;
/// The page that only the first moment has.
const LOST: u64 = DATA + 0x1000;

/// Two moments, and the root of the one space there is.
struct Moments {
    dir: tempfile::TempDir,
    cr3: String,
}

impl Moments {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let cr3 = moment(&dir.path().join("first.elf"), true);
        assert_eq!(cr3, moment(&dir.path().join("second.elf"), false));
        let cr3 = format!("{cr3:#x}");
        Self { dir, cr3 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, image: &str, args: &[&str]) -> std::process::Command {
        let mut command = for_rows();
        command.current_dir(self.dir.path()).arg("find").arg(image);
        command.args(["--cr3", &self.cr3, "--paging", "4level"]);
        command.args(args);
        command
    }

    fn find(&self, image: &str, args: &[&str]) -> Run {
        self.command(image, args).output().expect("runs").into()
    }

    /// As `find`, for what must work: addresses, values and old values.
    fn found(&self, image: &str, args: &[&str]) -> Vec<(u64, Value, Value)> {
        let run = self.find(image, args);
        assert!(run.status <= 1, "{args:?}: {}", run.err);
        let found: Vec<_> = rows(&run).iter().map(plain).collect();
        assert_eq!(run.status == 0, !found.is_empty());
        found
    }
}

fn plain(row: &Value) -> (u64, Value, Value) {
    let va = row["va"].as_str().expect("text").trim_start_matches("0x");
    let va = u64::from_str_radix(va, 16).expect("an address");
    (va, row["value"].clone(), row["old"].clone())
}

fn moment(path: &Path, first: bool) -> u64 {
    let mut machine = Machine::new(0..4 << 20);
    let space = Space::new(&mut machine, Paging::FourLevel);
    let frames = space.map_new(&mut machine, DATA, 3, Flags::DATA);
    let mut put = |at: u64, bytes: &[u8]| space.write(&mut machine, DATA + at, bytes);
    // Four counters that start alike: one goes up, one down, one stays, one is the last there is.
    let now: [i32; 4] = if first { [100; 4] } else { [103, -5, 100, 101] };
    for (at, value) in [0x10, 0x20, 0x30, 0x2ffc].into_iter().zip(now) {
        put(at, &value.to_le_bytes());
    }
    put(0x40, &(if first { 1.5f32 } else { 1.75 }).to_le_bytes());
    put(0x50, if first { b"level one" } else { b"level two" });
    put(0x1008, &100u32.to_le_bytes());
    if !first {
        machine.phys.make_absent(frames[1]..frames[1] + 0x1000);
    }
    let ranges = machine.phys.ranges().to_vec();
    let mut source =
        |gpa: u64, buf: &mut [u8]| machine.phys.read(gpa, buf).map_err(std::io::Error::other);
    let mut file = File::create(path).expect("a file");
    write::elf(&mut file, &ranges, &mut source, &Elf::default()).expect("writes");
    space.root()
}

#[test]
fn relations_keep_what_they_say() {
    let moments = Moments::new();
    let saved = moments.found("first.elf", &["--i32", "100", "--save", "c"]);
    let at: Vec<u64> = saved.iter().map(|row| row.0 - DATA).collect();
    assert_eq!(at, [0x10, 0x20, 0x30, 0x1008, 0x2ffc]);
    assert!(saved.iter().all(|row| row.2.is_null()), "{saved:?}");
    for (relation, kept) in [
        (&["--changed"][..], &[0x10, 0x20, 0x2ffc][..]),
        (&["--unchanged"], &[0x30]),
        (&["--increased"], &[0x10, 0x2ffc]),
        (&["--decreased"], &[0x20]),
        (&["--eq", "103"], &[0x10]),
        (&["--eq", "-5..102"], &[0x20, 0x30, 0x2ffc]),
        (&["--ne", "100"], &[0x10, 0x20, 0x2ffc]),
        (&["--increased-by", "3"], &[0x10]),
        (&["--increased-by", "1..3"], &[0x2ffc]),
        (&["--decreased-by", "105"], &[0x20]),
        (&["--increased", "--eq", "..103"], &[0x2ffc]),
        (&["--eq", "7"], &[]),
    ] {
        let found = moments.found("second.elf", &[&["--refine", "c"], relation].concat());
        let at: Vec<u64> = found.iter().map(|row| row.0 - DATA).collect();
        assert_eq!(at, kept, "{relation:?}");
        assert!(found.iter().all(|row| row.2 == json!(100)), "{found:?}");
    }
}

#[test]
fn a_file_can_be_narrowed_again_and_again() {
    let moments = Moments::new();
    // An unknown start: every number there is.
    let limited = ["--limit", "1", "--perm", "w", "--i32", "..", "--align", "4"];
    let some = moments.found("first.elf", &[&limited[..], &["--save", "c"]].concat());
    assert_eq!(some.len(), 1, "--limit is about rows");
    let narrow = |image, relation, rows| {
        let args = ["--refine", "c", "--save", "c", relation];
        let found = moments.found(image, &args);
        assert_eq!(found.len(), rows, "{relation}");
        found
    };
    // Three counters, the float, and both words of "one" that became "two".
    let changed = narrow("second.elf", "--changed", 6);
    assert!(changed.iter().all(|row| row.0 != DATA + 0x1008));
    narrow("first.elf", "--changed", 6);
    let found = narrow("second.elf", "--decreased", 1);
    assert_eq!(found, [(DATA + 0x20, json!(-5), json!(100))]);
}

#[test]
fn texts_floats_and_bytes_are_narrowed_too() {
    let moments = Moments::new();
    let what = ["--f32", "1.5", "--str", "LEVEL", "-i", "--bytes", "6c 65"];
    moments.found("first.elf", &[&what[..], &["--save", "c"]].concat());
    let found = moments.found("second.elf", &["--refine", "c", "--increased-by", "0.25"]);
    assert_eq!(found, [(DATA + 0x40, json!(1.75), json!(1.5))]);
    let same = moments.found("second.elf", &["--refine", "c", "--unchanged"]);
    let values: Vec<&Value> = same.iter().map(|row| &row.1).collect();
    assert_eq!(values, [&json!("level"), &json!("6c65")]);
    let begins = moments.found("second.elf", &["--refine", "c", "--eq", "lev"]);
    assert_eq!(begins.len(), 1);
    let run = moments.find("second.elf", &["--refine", "c", "--increased-by", "x"]);
    assert_eq!(run.status, 2, "{}", run.err);
    assert!(run.err.contains("`x` is not a number"), "{}", run.err);
    moments.found("first.elf", &["--str", "level", "--save", "t"]);
    let run = moments.find("second.elf", &["--refine", "t", "--increased"]);
    assert_eq!(run.status, 2, "{}", run.err);
}

#[test]
fn what_cannot_be_read_is_kept_and_never_judged() {
    let moments = Moments::new();
    moments.found("first.elf", &["--i32", "100", "--save", "c"]);
    for relation in ["--changed", "--unchanged"] {
        let args = ["--refine", "c", "--save", "d", relation];
        let run = moments.find("second.elf", &args);
        assert_eq!(run.status, 0, "{}", run.err);
        assert!(rows(&run).iter().all(|row| plain(row).0 != LOST + 8));
        let said = "1 candidates could not be looked at: neither changed nor unchanged";
        assert!(run.err.contains(said), "{}", run.err);
        assert!(run.err.contains("4 B absent"), "{}", run.err);
        let strict = moments.find("second.elf", &[&args[..], &["--strict"]].concat());
        assert_eq!(strict.status, 3, "{}", strict.err);
        // Nothing is lost: at a moment that has the page, it is there.
        let back = moments.found("first.elf", &["--refine", "d", "--eq", "100"]);
        let kept = back.iter().find(|row| row.0 == LOST + 8);
        assert_eq!(kept, Some(&(LOST + 8, json!(100), json!(100))));
    }
    let range = format!("{LOST:#x}..+0x1000");
    moments.found(
        "first.elf",
        &["--i32", "100", "--range", &range, "--save", "c"],
    );
    let before = fs::read(moments.path("c")).expect("readable");
    let args = ["--refine", "c", "--save", "c", "--changed"];
    let run = moments.find("second.elf", &args);
    assert_eq!((run.status, &*run.out), (2, ""), "{}", run.err);
    let said = "none of the 1 candidates could be read";
    assert!(run.err.contains(said), "{}", run.err);
    assert_eq!(fs::read(moments.path("c")).expect("readable"), before);
}

#[test]
fn nothing_left_is_an_answer() {
    let moments = Moments::new();
    moments.found("first.elf", &["--i32", "100", "--save", "c"]);
    let args = ["--refine", "c", "--eq", "12345"];
    moments.found("first.elf", &[&args[..], &["--save", "c"]].concat());
    let run = moments.find("second.elf", &["--refine", "c", "--changed"]);
    assert_eq!((run.status, &*run.out), (1, ""), "{}", run.err);
    assert!(run.err.contains("c holds no candidates"), "{}", run.err);
}

#[test]
fn other_spaces_are_refused() {
    let moments = Moments::new();
    moments.found("first.elf", &["--i32", "100", "--save", "c"]);
    let args = ["find", "second.elf", "--phys", "--refine", "c", "--changed"];
    let output = for_rows()
        .current_dir(moments.dir.path())
        .args(args)
        .output();
    let run: Run = output.expect("runs").into();
    assert_eq!((run.status, &*run.out), (2, ""), "{}", run.err);
    for said in [
        "c holds candidates of another space",
        &format!("saved: --cr3 {} (4level), of first.elf", moments.cr3),
        "given: --phys",
    ] {
        assert!(run.err.contains(said), "{said}: {}", run.err);
    }
}

#[test]
fn a_closed_pipe_does_not_spoil_the_file() {
    use std::io::Read as _;
    use std::process::Stdio;
    let moments = Moments::new();
    let args = ["--u8", "..", "--perm", "w", "--save", "c"];
    let mut command = moments.command("first.elf", &args);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("runs");
    let mut pipe = child.stdout.take().expect("a pipe");
    pipe.read_exact(&mut [0; 16]).expect("rows come");
    drop(pipe);
    assert!(child.wait().expect("ends").success());
    let left = moments.found("first.elf", &["--refine", "c", "--eq", "1.."]);
    assert!(left.len() > 10, "{}", left.len());
    let run = moments.find(
        "first.elf",
        &["--refine", "c", "--unchanged", "--limit", "1", "-o", "json"],
    );
    let json: Value = serde_json::from_str(&run.out).expect("one document");
    assert!(json["coverage"]["read"].as_u64() > Some(0), "{json}");
    let run = moments.find("first.elf", &["--refine", "c", "--unchanged"]);
    assert_eq!(rows(&run).len(), 3 * 4096, "every byte was saved");
}

#[test]
fn what_makes_no_sense_is_a_mistake() {
    let moments = Moments::new();
    moments.found("first.elf", &["--u8", "100", "--save", "c"]);
    fs::write(moments.path("text"), "not candidates").expect("writes");
    for args in [
        &["--refine", "c"][..],
        &["--changed"],
        &["--refine", "c", "--changed", "--unchanged"],
        &["--refine", "c", "--increased", "--decreased-by", "1"],
        &["--refine", "c", "--changed", "--u8", "1"],
        &["--refine", "c", "--changed", "--range", "0..5"],
        &["--refine", "c", "--eq", "300"],
        &["--refine", "c", "--increased-by", "-1"],
        &["--refine", "text", "--changed"],
        &["--refine", "nothing", "--changed"],
        &["--u8", "1", "--save", "first.elf"],
        &["--u8", "1", "--save", "/dev/null"],
        &["--u8", "1", "--save", "no/such/folder"],
    ] {
        let run = moments.find("first.elf", args);
        assert_eq!((run.status, &*run.out), (2, ""), "{args:?}: {}", run.err);
        assert!(!run.err.is_empty());
    }
    let help = vmie(&["find", "--help"]);
    assert!(help.out.contains("--increased-by"), "{}", help.out);
}

/// Where case does not matter, what stands in memory can be longer or shorter than what was asked for: a value is
/// what stands there, and no byte behind it is looked at again.
#[test]
fn texts_without_case_are_what_stands_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let image = |name: &str, behind: u8| {
        let mut bytes = vec![0; 0x1000];
        let mut put = |at: usize, text: &[u8]| bytes[at..at + text.len()].copy_from_slice(text);
        put(0x100, "ΟΔΟΣ".as_bytes());
        put(0x200, "οδος".as_bytes());
        put(0x300, "Straße".as_bytes());
        put(0x300 + "Straße".len(), &[behind]);
        put(0x400, "STRAẞE".as_bytes());
        put(
            0x500,
            &"STRAẞE"
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect::<Vec<_>>(),
        );
        put(0x600, "maſt \u{212a}elvin \u{2126}m".as_bytes());
        fs::write(dir.path().join(name), bytes).expect("writes");
    };
    image("first.raw", b' ');
    image("second.raw", b'#');
    let find = |image: &str, args: &[&str]| -> Vec<(u64, Value, Value)> {
        let mut command = for_rows();
        command
            .current_dir(dir.path())
            .args(["find", image, "--phys"]);
        let run: Run = command.args(args).output().expect("runs").into();
        assert!(run.status <= 1, "{args:?}: {}", run.err);
        rows(&run).iter().map(plain).collect()
    };
    let there = |at: u64, text: &str| (at, json!(text), Value::Null);
    for (args, found) in [
        (
            &["--str", "ΟΔΟΣ"][..],
            &[there(0x100, "ΟΔΟΣ"), there(0x200, "οδος")][..],
        ),
        (
            &["--str", "οδοσ"],
            &[there(0x100, "ΟΔΟΣ"), there(0x200, "οδος")],
        ),
        (
            &["--str", "straße"],
            &[there(0x300, "Straße"), there(0x400, "STRAẞE")],
        ),
        (
            &["--str", "STRAẞE"],
            &[there(0x300, "Straße"), there(0x400, "STRAẞE")],
        ),
        (&["--utf16", "straße"], &[there(0x500, "STRAẞE")]),
        (&["--str", "mast"], &[there(0x600, "maſt")]),
        (&["--str", "kelvin"], &[there(0x606, "\u{212a}elvin")]),
        (&["--str", "ωm"], &[there(0x60f, "\u{2126}m")]),
        (&["--str", "strasse"], &[]),
    ] {
        assert_eq!(
            find("first.raw", &[args, &["-i"]].concat()),
            found,
            "{args:?}"
        );
    }
    let saved = find("first.raw", &["--str", "STRAẞE", "-i", "--save", "texts"]);
    assert_eq!(saved.len(), 2);
    let changed = find("second.raw", &["--refine", "texts", "--changed"]);
    assert_eq!(changed, [], "the byte behind the text is none of it");
    let same = find("second.raw", &["--refine", "texts", "--unchanged"]);
    assert_eq!(same.len(), 2);
}

/// A number that a type does not have is the nearest one, and that is said.
#[test]
fn what_a_type_does_not_have_is_said() {
    let moments = Moments::new();
    let run = moments.find("first.elf", &["--f32", "16777217", "--f64", "3.14"]);
    let said = "warning: --f32: no f32 is 16777217; 16777216 is looked for, the nearest";
    assert!(run.err.contains(said), "{}", run.err);
    assert_eq!(run.err.matches("warning").count(), 1, "{}", run.err);
    let run = moments.find("first.elf", &["--f32", "1e40"]);
    assert_eq!(run.status, 2, "{}", run.err);
    assert!(run.err.contains("f32 goes to 3.4028235e38"), "{}", run.err);
    let all = ["--f32", "..", "--u8", "7", "--align", "4", "--save", "all"];
    assert_eq!(moments.find("first.elf", &all).status, 0);
    let run = moments.find("second.elf", &["--refine", "all", "--ne", "16777217"]);
    let said = "warning: --ne: no f32 is 16777217; 16777216 is looked for, the nearest";
    assert!(run.err.contains(said), "{}", run.err);
    let run = moments.find("second.elf", &["--refine", "all", "--decreased-by", "1e40"]);
    assert_eq!(run.status, 2, "{}", run.err);
}
