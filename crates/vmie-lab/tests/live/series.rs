//! Series of a guest that runs: what an event changed, and the picture of it.

use serde_json::Value;
use vmie_lab::Program;

use crate::browser;
use crate::machine::{Machine, run, wait_for};

fn program(machine: &Machine, name: &str) -> Program {
    let text = std::fs::read_to_string(machine.dir.join("programs").join(name));
    Program::parse(&text.expect("the program runs")).expect("it says what it should")
}

/// Adds moments of a process to a series; the guest stands still for each.
fn watch(machine: &Machine, pid: u32, count: u32, append: bool) {
    let (pid, count) = (pid.to_string(), count.to_string());
    let mut args = vec![
        "qemu:qmp", "--pid", &pid, "--pause", "--strict", "-O", "series",
    ];
    args.extend(["--count", &count, "--every", "10ms"]);
    args.extend(append.then_some("--append"));
    let (rows, _) = run(machine.on("watch", "snap", &args), 0);
    assert_eq!(rows.lines().count().to_string(), count);
}

fn rows(machine: &Machine, args: &[&str]) -> Vec<Value> {
    let (rows, _) = run(machine.on("series", "snap", args), 0);
    let row = |line: &str| serde_json::from_str(line).expect("a row");
    rows.lines().map(row).collect()
}

fn address(row: &Value) -> u64 {
    let va = row["va"].as_str().expect("an address");
    u64::from_str_radix(va.trim_start_matches("0x"), 16).expect("a number")
}

/// What is constant while the guest stands still, on either side of a time in which it ran, and different
/// across it, is what the program has changed in that time: its counter, and no value that it says is constant.
#[test]
fn the_variable_behind_an_event_is_found_and_drawn() {
    let machine = Machine::new("shared");
    let program = program(&machine, "objects-static");
    let series = machine.dir.join("series");
    if series.exists() {
        std::fs::remove_dir_all(&series).expect("removes");
    }
    let ticks = program.ticks.iter().find(|tick| tick.name == "world.ticks");
    let ticks = ticks.expect("the world's clock").va;
    let ticks_now = || {
        let (pid, at) = (program.pid.to_string(), format!("{ticks:#x}..+8"));
        let args = [at.as_str(), "--pid", &pid, "--as", "u64"];
        run(machine.command("read", &args), 0).0
    };
    {
        let _stopped = machine.stop();
        watch(&machine, program.pid, 2, false);
    }
    let then = ticks_now();
    wait_for("the program has gone on", || ticks_now() != then);
    {
        let _stopped = machine.stop();
        watch(&machine, program.pid, 2, true);
    }
    let telling = rows(&machine, &["series", "--groups", "AABB", "--strict"]);
    let covers = |at: u64| {
        telling.iter().find(|row| {
            let len = row["len"].as_u64().expect("a number");
            (address(row)..address(row) + len).contains(&at)
        })
    };
    let counter = covers(ticks).expect("the counter tells the two sides apart");
    assert_ne!(counter["values"]["A"], counter["values"]["B"]);
    for value in &program.values {
        assert!(covers(value.va).is_none(), "{} does not change", value.name);
    }
    // They are what differs between the moments next to the event, and nothing else is.
    let differing = ["series/000002.moment", "series/000003.moment"];
    let (diff, _) = run(machine.on("diff", "snap", &differing), 0);
    let place = |row: &Value| (address(row), row["len"].as_u64());
    let row = |line: &str| serde_json::from_str::<Value>(line).expect("a row");
    let modified = diff
        .lines()
        .map(row)
        .filter(|row| row["change"] == "modified");
    assert_eq!(
        telling.iter().map(place).collect::<Vec<_>>(),
        modified.map(|row| place(&row)).collect::<Vec<_>>()
    );

    // Region by region: all of it happened in the second step.
    let regions = rows(
        &machine,
        &["series", "--strict", "--html", "picture.html", "--all"],
    );
    let counts = |row: &Value| {
        let counts = row["changed"].as_array().expect("counts").iter();
        counts
            .map(|count| count.as_u64().expect("a number"))
            .collect::<Vec<_>>()
    };
    let changed: Vec<&Value> = regions
        .iter()
        .filter(|row| counts(row).iter().any(|&bytes| bytes > 0))
        .collect();
    assert!(!changed.is_empty() && changed.len() < regions.len());
    assert!(
        changed
            .iter()
            .all(|row| matches!(counts(row)[..], [0, (1..), 0]))
    );
    // What has appeared meanwhile tells nothing apart: it was not there before.
    let modified = changed.iter().filter_map(|row| row["modified"].as_u64());
    let total: u64 = modified.sum();
    let telling: u64 = telling.iter().filter_map(|row| row["len"].as_u64()).sum();
    assert_eq!(total, telling);
    // The counter is on the heap, and both are called what the guest calls them.
    let home = |row: &&&Value| {
        let len = row["len"].as_u64().expect("a number");
        (address(row)..address(row) + len).contains(&ticks)
    };
    let home = changed.iter().find(home).expect("a region");
    assert_eq!(home["region"], "[heap]");
    drawn(&machine, changed.len());
}

/// Looks at the picture: a cell for each region that changed, where it can be seen.
fn drawn(machine: &Machine, changed: usize) {
    let page = std::fs::read_to_string(machine.dir.join("picture.html")).expect("it is there");
    let directory = tempfile::tempdir().expect("a directory");
    let report = browser::look(&page, LOOK, directory.path());
    let number = |key: &str| {
        report[key]
            .as_u64()
            .unwrap_or_else(|| panic!("{key}: {report}"))
    };
    assert_eq!(number("cells"), changed as u64, "{report}");
    assert_eq!(number("seen"), number("cells"), "{report}");
    assert_eq!(number("rows"), changed as u64, "{report}");
    assert_eq!(number("outside"), 0, "{report}");
    assert_eq!(number("overlapping"), 0, "{report}");
    assert_eq!(number("fetched"), 0, "{report}");
    // Cells have colours of their own, other than that of a region that stays the same.
    let colours = report["colours"].as_array().expect("colours");
    assert!(
        !colours.is_empty() && !colours.contains(&report["none"]),
        "{report}"
    );
    let text = report["text"].as_str().expect("text");
    assert!(
        text.contains("[heap]") && text.contains("more regions did not change"),
        "{text}"
    );
}

/// What the page looks like: how many cells there are and can be seen, and texts that leave the picture or lie over
/// each other.
const LOOK: &str = r"
const svg = document.querySelector('svg');
const cells = [...svg.querySelectorAll('rect.cell')];
const frame = svg.getBoundingClientRect();
const inside = box => box.left >= frame.left - 1 && box.right <= frame.right + 1
    && box.top >= frame.top - 1 && box.bottom <= frame.bottom + 1;
const seen = cells.filter(cell => {
    cell.scrollIntoView({block: 'center', inline: 'center'});
    const box = cell.getBoundingClientRect();
    const at = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
    return box.width >= 3 && box.height >= 8 && at === cell;
});
const texts = [...svg.querySelectorAll('text')].filter(text => text.textContent);
const boxes = [...texts, ...svg.querySelectorAll('rect')].map(one => one.getBoundingClientRect());
const over = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
let overlapping = 0;
for (let i = 0; i < texts.length; i++)
    for (let j = i + 1; j < boxes.length; j++)
        if (boxes[i].width && over(boxes[i], boxes[j])) overlapping++;
return {
    cells: cells.length,
    seen: seen.length,
    rows: svg.querySelectorAll('rect.none').length,
    outside: [...texts, ...cells].filter(one => !inside(one.getBoundingClientRect())).length,
    overlapping,
    fetched: performance.getEntriesByType('resource').length,
    colours: [...new Set(cells.map(cell => getComputedStyle(cell).fill))],
    none: getComputedStyle(svg.querySelector('rect.none')).fill,
    text: document.body.innerText,
};
";
