//! What damage costs: `ps` on a guest's memory with pages of it overwritten.
//!
//! `cargo xtask lab damage` runs it. `pages` overwrites each page of the kernel's image in turn with noise;
//! `spread` overwrites one of a hundred of all pages that are not zeros, with noise, with zeros, or with
//! other pages of the guest. Tables are printed to standard output, what failed with `--list` too.

#[path = "../tests/guests/linux/overlay.rs"]
mod overlay;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use vmie::os::{Guest, Process, find};
use vmie::{AddrRange, Gpa, Hints, Image, Memory, OpenOptions};
use vmie_lab::{ImageFormat, Snapshot};

use overlay::{Chance, Outcome, Overlay, PAGE, image_pages, judge, pages_that_are_not_zero};

const USAGE: &str = "usage: damage pages|spread VARIANT [--list] [--every N] [--seeds N]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, default: usize| {
        let at = args.iter().position(|arg| arg == name);
        let value = at.and_then(|at| args.get(at + 1));
        value.map_or(default, |value| value.parse().expect("a number"))
    };
    let list = args.iter().any(|arg| arg == "--list");
    let passed = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["pages", variant, ..] => pages(&Case::open(variant), number("--every", 1), list),
        ["spread", variant, ..] => spread(&Case::open(variant), number("--seeds", 10), list),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match passed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

struct Case {
    memory: Arc<dyn Memory<Addr = Gpa>>,
    hints: Hints,
    guest: Box<dyn Guest>,
    processes: Vec<Process>,
}

impl Case {
    fn open(variant: &str) -> Self {
        let snapshot = Snapshot::of_variant(variant).expect("a snapshot");
        let file = snapshot.image(ImageFormat::Raw).expect("a raw image");
        let layout = file.layout.as_deref();
        let options = OpenOptions {
            layout: layout.map(|name| name.parse().expect("a layout")),
            ..OpenOptions::default()
        };
        let image = Image::open_with(snapshot.path(&file.file), &options).expect("opens");
        let hints = image.info().hints.clone();
        let memory: Arc<dyn Memory<Addr = Gpa>> = Arc::new(image);
        let start = Instant::now();
        let guest = find(&memory, &hints).expect("a kernel");
        let listing = guest.processes().expect("processes");
        println!(
            "{variant}: {} processes in {:.0} ms; {}",
            listing.items.len(),
            start.elapsed().as_secs_f64() * 1000.0,
            guest.version().trim_end()
        );
        assert_eq!(listing.findings, []);
        Self {
            memory,
            hints,
            guest,
            processes: listing.items,
        }
    }

    fn judge(&self, pages: BTreeMap<u64, Vec<u8>>) -> Outcome {
        let memory = Overlay::over(&self.memory, pages);
        judge(&memory, &self.hints, &self.processes)
    }
}

/// Does `job` for each number below `count`, on all CPUs.
fn each<R: Send>(count: usize, job: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(count));
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        break;
                    }
                    let result = job(index);
                    results.lock().expect("no panic").push((index, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no panic");
    results.sort_unstable_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// What came of the pages of one part of the image.
#[derive(Default)]
struct Tally {
    pages: usize,
    same: usize,
    listed: usize,
    missing: usize,
    refused: usize,
    silent: usize,
    wrong: usize,
}

fn pages(case: &Case, every: usize, list: bool) -> bool {
    let parts = parts(&*case.guest);
    let pages: Vec<_> = image_pages(&*case.guest)
        .into_iter()
        .step_by(every)
        .collect();
    let start = Instant::now();
    let outcomes = each(pages.len(), |index| {
        let gpa = pages[index].1;
        let noise = Chance::new(gpa.0).page();
        case.judge(BTreeMap::from([(gpa.0 / PAGE, noise)]))
    });
    let mut tallies: BTreeMap<usize, Tally> = BTreeMap::new();
    let mut total = Tally::default();
    let symbols = case.guest.symbols().expect("symbols");
    for ((va, gpa), outcome) in pages.iter().zip(&outcomes) {
        let part = parts.iter().position(|(_, range)| range.contains(*va));
        let part = part.unwrap_or(parts.len());
        for tally in [tallies.entry(part).or_default(), &mut total] {
            tally.pages += 1;
            let same =
                outcome.lists_all() && outcome.unknown.is_empty() && outcome.wrong.is_empty();
            tally.same += usize::from(same);
            tally.listed += usize::from(outcome.lists_all());
            tally.missing += usize::from(outcome.refused.is_none() && !outcome.lists_all());
            tally.refused += usize::from(outcome.refused.is_some());
            tally.silent += usize::from(outcome.is_silent());
            tally.wrong += usize::from(!outcome.wrong.is_empty());
        }
        if list && (!outcome.lists_all() || outcome.is_silent() || !outcome.wrong.is_empty()) {
            let near = symbols.nearest(*va).map_or("?", |(symbol, _)| symbol.name);
            let part = parts.get(part).map_or("?", |(name, _)| *name);
            println!("  {va} {gpa} {part} {near}: {}", describe(outcome));
        }
    }
    println!(
        "| part | pages | all as before | all listed | some missing | refused | wrong | silent |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let row = |name: &str, t: &Tally| {
        println!(
            "| {name} | {} | {} | {} | {} | {} | {} | {} |",
            t.pages, t.same, t.listed, t.missing, t.refused, t.wrong, t.silent
        );
    };
    for (part, tally) in &tallies {
        row(
            parts.get(*part).map_or("elsewhere", |(name, _)| name),
            tally,
        );
    }
    row("all", &total);
    let invented: usize = outcomes.iter().map(|outcome| outcome.invented.len()).sum();
    println!(
        "all listed: {:.2} %; invented rows: {invented}; {:.0} s",
        100.0 * total.listed as f64 / total.pages as f64,
        start.elapsed().as_secs_f64()
    );
    total.listed * 100 >= total.pages * 99 && invented == 0
}

/// The parts of the image, the small ones before the large ones that they are in.
fn parts(guest: &dyn Guest) -> Vec<(&'static str, AddrRange<vmie::Gva>)> {
    let symbols = guest.symbols().expect("symbols");
    let part = |name, from, to| {
        let (from, to) = (symbols.address_of(from)?, symbols.address_of(to)?);
        let range = AddrRange::inclusive(from, vmie::Gva(to.0.checked_sub(1)?))?;
        Some((name, range))
    };
    [
        part("BTF", "__start_BTF", "__stop_BTF"),
        part("text", "_text", "_etext"),
        part("read-only data", "__start_rodata", "__end_rodata"),
        part("data", "_sdata", "_edata"),
        part("bss", "__bss_start", "__bss_stop"),
        part("init and the rest", "_text", "_end"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn spread(case: &Case, seeds: usize, list: bool) -> bool {
    let full = pages_that_are_not_zero(&*case.memory);
    println!("{} pages that are not zero", full.len());
    println!("| seed | overwritten | listed | of | rows invented | null | wrong | findings |");
    println!("|---|---|---|---|---|---|---|---|");
    let outcomes = each(seeds, |seed| {
        let mut chance = Chance::new(seed as u64 + 1);
        let mut pages = BTreeMap::new();
        while pages.len() < full.len() / 100 {
            let page = full[chance.below(full.len() as u64) as usize];
            let bytes = match chance.below(3) {
                0 => chance.page(),
                1 => vec![0; PAGE as usize],
                _ => {
                    let other = full[chance.below(full.len() as u64) as usize];
                    let mut bytes = vec![0; PAGE as usize];
                    case.memory
                        .read(Gpa(other * PAGE), &mut bytes)
                        .expect("there");
                    bytes
                }
            };
            pages.insert(page, bytes);
        }
        let overwritten = pages.len();
        let start = Instant::now();
        let outcome = case.judge(pages);
        (overwritten, outcome, start.elapsed())
    });
    let mut good = 0;
    let mut invented = 0;
    for (seed, (overwritten, outcome, took)) in outcomes.iter().enumerate() {
        let listed = match outcome.refused {
            Some(_) => 0,
            None => case.processes.len() - outcome.missing.len(),
        };
        good += usize::from(listed * 10 >= case.processes.len() * 9);
        invented += outcome.invented.len();
        println!(
            "| {seed} | {overwritten} | {listed} | {} | {} | {} | {} | {} | {:.1} s",
            case.processes.len(),
            outcome.invented.len(),
            outcome.unknown.len(),
            outcome.wrong.len(),
            outcome.findings.len(),
            took.as_secs_f64()
        );
        if list {
            println!("  {}", describe(outcome));
            for finding in &outcome.findings {
                println!("    {finding}");
            }
        }
    }
    println!("{good} of {seeds} runs list nine tenths of the processes; {invented} rows invented");
    good * 10 >= seeds * 9 && invented == 0
}

fn describe(outcome: &Outcome) -> String {
    match &outcome.refused {
        Some(why) => format!("refused: {}", why.replace('\n', "; ")),
        None => format!(
            "missing {:?}, invented {:?}, unknown {:?}, wrong {:?}, {} findings: {}",
            outcome.missing,
            outcome.invented,
            outcome.unknown,
            outcome.wrong,
            outcome.findings.len(),
            outcome.findings.first().map_or("", String::as_str)
        ),
    }
}
