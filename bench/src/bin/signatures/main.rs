//! `cargo xtask bench signatures`: the engines of `vmie::signature` beside the best there is.
//!
//! One thread, one image of real pages, one run: the contenders take turns, and the shortest time of
//! each counts, in time of the CPU, so that other work on the machine disturbs less. Every contender reports the number of matches and a checksum over all of them; where
//! they differ, there is no table but an error.
//!
//! All of vmie's engines see windows of the size that a scan uses, with look-ahead, as in a scan that
//! borrows its bytes. The rivals see what is left of the image without its zero pages (and as many
//! bytes around it as a signature is long) in as few calls as possible, which suits them best.

//!
//! Arguments narrow it down: numbers of signatures, `literal` or `masked`, names of engines as
//! [`EngineKind`] has them, `--ours` for no rivals. `scan` measures the whole command
//! instead.

mod endtoend;
mod image;
mod rivals;
mod sample;

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use image::Image;
use rivals::{Rival, Tally};
use sample::{Pattern, Sampler};
use vmie::signature::{EngineKind, Hit, Set};
use vmie::{DEFAULT_WINDOW, Found};

/// How many signatures.
const COUNTS: [usize; 5] = [1, 10, 100, 1_000, 10_000];

/// Every contender runs so often, and again until it has had [`ENOUGH`].
const ROUNDS: usize = 3;
const ENOUGH: Duration = Duration::from_millis(1500);
const MOST_ROUNDS: usize = 15;

/// Seed of everything that is sampled.
const SEED: u64 = 0x5eed_0000_0000_0001;

/// Ratios to the best rival, for the portable engine to `daachorse`; and for [`AIMED`] signatures.
const AIMS: [(EngineKind, [f64; 3]); 3] = [
    (EngineKind::Portable, [1.0; 3]),
    (EngineKind::Avx2, [1.5; 3]),
    (EngineKind::Avx512, [5.0, 5.0, 6.0]),
];

/// The numbers of signatures that the aims are for.
const AIMED: [usize; 3] = [100, 1_000, 10_000];

/// One row of the table under measurement.
struct Contender<'a> {
    name: String,
    run: Box<dyn Fn(&Image) -> Tally + 'a>,
    built: Duration,
    best: Duration,
    spent: Duration,
    tally: Option<Tally>,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let wanted: Vec<usize> = args.iter().filter_map(|a| a.parse().ok()).collect();
    let given = |what: &str| args.iter().any(|arg| arg == what);
    let with_rivals = !given("--ours");
    let named = |kind: &EngineKind| given(kind.name());
    let engines: Vec<EngineKind> = if ENGINES.iter().any(named) {
        ENGINES.into_iter().filter(named).collect()
    } else {
        ENGINES.into()
    };
    let wants = |kind: &str| given(kind) || !(given("literal") || given("masked"));
    let image = Image::load();
    println!("{}\n", image.describe());
    limits(&image);
    if given("scan") {
        endtoend::table(&image);
        return;
    }
    let libraries = if with_rivals {
        rivals::libraries()
    } else {
        Vec::new()
    };
    for (kind, masked) in [("literal", false), ("masked", true)] {
        if !wants(kind) {
            continue;
        }
        for count in COUNTS {
            if !wanted.is_empty() && !wanted.contains(&count) {
                continue;
            }
            let patterns = Sampler::new(&image, SEED ^ count as u64).take(count, masked);
            race(&image, kind, &patterns, &engines, &libraries, with_rivals);
        }
    }
}

/// What no scanner can beat.
fn limits(image: &Image) {
    let time = |work: &mut dyn FnMut()| {
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let start = cpu_time();
            work();
            best = best.min(cpu_time().saturating_sub(start));
        }
        best
    };
    let bytes = image.bytes();
    let mut copy = vec![1; bytes.len()];
    let memcpy = time(&mut || {
        copy.copy_from_slice(bytes);
        std::hint::black_box(&mut copy);
    });
    let read = time(&mut || {
        std::hint::black_box(image::sum(bytes));
    });
    println!(
        "memcpy {:.1} GB/s, read {:.1} GB/s\n",
        gigabytes(bytes.len(), memcpy),
        gigabytes(bytes.len(), read)
    );
}

/// The time that this thread has had.
pub(crate) fn cpu_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime)
        .try_into()
        .expect("it does not run backwards")
}

fn gigabytes(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64() / 1e9
}

/// Measures one set of signatures and prints its table.
fn race(
    image: &Image,
    kind: &str,
    patterns: &[Pattern],
    wanted: &[EngineKind],
    libraries: &[rivals::Library],
    with_rivals: bool,
) {
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    let mut enter = |name: String, built: Duration, run: Box<dyn Fn(&Image) -> Tally>| {
        contenders.push(Contender {
            name,
            run,
            built,
            best: Duration::MAX,
            spent: Duration::ZERO,
            tally: None,
        });
    };
    let mut engines = Vec::new();
    for &engine in wanted.iter().filter(|kind| kind.is_available()) {
        let start = cpu_time();
        let set = Set::compile_for(patterns.iter().map(Pattern::signature).collect(), engine)
            .expect("the sampled signatures are valid");
        let built = cpu_time().saturating_sub(start);
        engines.push(engine);
        let name = format!("vmie {engine:?} ({})", set.engine().name());
        enter(name, built, Box::new(move |image| ours(image, &set)));
    }
    if with_rivals {
        for rival in rivals::all(patterns, libraries) {
            let Rival { name, built, run } = rival;
            enter(name, built, run);
        }
    }

    for round in 0..MOST_ROUNDS {
        for contender in &mut contenders {
            if round >= ROUNDS && contender.spent > ENOUGH {
                continue;
            }
            let start = cpu_time();
            let tally = (contender.run)(image);
            let time = cpu_time().saturating_sub(start);
            contender.spent += time;
            contender.best = contender.best.min(time);
            assert!(contender.tally.is_none_or(|before| before == tally));
            contender.tally = Some(tally);
        }
    }
    let expected = contenders[0].tally;
    for contender in &contenders {
        assert_eq!(
            contender.tally,
            expected,
            "{} and {} disagree on {} {kind} signatures",
            contender.name,
            contenders[0].name,
            patterns.len()
        );
    }

    let others = &contenders[engines.len()..];
    let rate = |c: &Contender<'_>| gigabytes(image.bytes().len(), c.best);
    let best = others.iter().max_by(|a, b| rate(a).total_cmp(&rate(b)));
    let matches = expected.map_or(0, |tally| tally.matches);
    println!("### {} {kind}, {matches} matches\n", patterns.len());
    println!("| | GB/s | of the best rival | aim | built in ms |");
    println!("|---|---|---|---|---|");
    for (i, contender) in contenders.iter().enumerate() {
        let ratio = best.map(|best| rate(contender) / rate(best));
        let aim = engines.get(i).and_then(|&engine| {
            let (_, aims) = AIMS.iter().find(|(kind, _)| *kind == engine)?;
            let column = AIMED.iter().position(|&count| count == patterns.len())?;
            let beside = if engine == EngineKind::Portable {
                others.iter().find(|other| other.name.contains("daachorse"))
            } else {
                best
            };
            Some((aims[column], rate(contender) / rate(beside?)))
        });
        println!(
            "| {} | {:.2} | {} | {} | {:.1} |",
            contender.name,
            rate(contender),
            ratio.map_or(String::new(), |ratio| format!("{ratio:.2}")),
            aim.map_or(String::new(), |(aim, ratio)| {
                let verdict = if ratio >= aim {
                    "reached"
                } else {
                    "**missed**"
                };
                format!("{aim}: {verdict}")
            }),
            contender.built.as_secs_f64() * 1e3,
        );
    }
    println!();
}

/// Engines that are measured. The naive one would take hours.
const ENGINES: [EngineKind; 5] = [
    EngineKind::Auto,
    EngineKind::Anchored,
    EngineKind::Portable,
    EngineKind::Avx2,
    EngineKind::Avx512,
];

/// One scan of the image in windows, as a sweep makes them of memory that can be borrowed.
fn ours(image: &Image, set: &Set) -> Tally {
    over(image.bytes(), set)
}

/// The same of any bytes.
pub(crate) fn over(bytes: &[u8], set: &Set) -> Tally {
    let mut tally = Tally::default();
    for start in (0..bytes.len()).step_by(DEFAULT_WINDOW) {
        let owned = DEFAULT_WINDOW.min(bytes.len() - start);
        let end = (start + owned + set.max_len() - 1).min(bytes.len());
        let mut found: Found<Hit> = Found::with_limit(usize::MAX);
        set.find(&bytes[start..end], owned, &mut found);
        for hit in found.items() {
            tally.add(start + hit.offset, hit.sig);
        }
    }
    tally
}
