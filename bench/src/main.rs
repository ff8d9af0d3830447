//! Prints the table of BENCHMARKS.md: every figure from one run, on one thread, the minimum of
//! several repetitions in which the contenders take turns.

use std::time::{Duration, Instant};

use vmie_bench::{Bench, PHYS};

const ROUNDS: usize = 9;

/// One contender: a name and one unit of work.
type Contender<'a> = (&'a str, &'a dyn Fn(&mut Bench));

/// The shortest time of each contender over all rounds, in turns, so that a change of the machine's
/// speed meets all of them.
fn race(bench: &mut Bench, contenders: &[Contender<'_>]) -> Vec<Duration> {
    let mut best = vec![Duration::MAX; contenders.len()];
    for _ in 0..ROUNDS {
        for (best, (_, work)) in best.iter_mut().zip(contenders) {
            let start = Instant::now();
            work(bench);
            *best = (*best).min(start.elapsed());
        }
    }
    best
}

fn rate(amount: f64, time: Duration) -> f64 {
    amount / time.as_secs_f64()
}

fn row(what: &str, figure: &str, beside: &str, ratio: f64, aim: f64) {
    let verdict = if ratio >= aim { "reached" } else { "missed" };
    println!("| {what} | {figure} | {beside} | {ratio:.2} | {aim:.2} | {verdict} |");
}

fn main() {
    let dir = std::env::args_os()
        .nth(1)
        .unwrap_or_else(|| "target/bench".into());
    let mut bench = Bench::new(dir.as_ref());
    bench.verify();
    let pages = bench.pages() as f64;

    println!("| what | vmie | beside | ratio | aim | |");
    println!("|---|---|---|---|---|---|");

    let walks = race(
        &mut bench,
        &[
            ("regions", &|b| {
                b.walk_regions();
            }),
            ("extents", &|b| {
                b.walk_extents();
            }),
            ("memflow", &|b| {
                b.walk_peer();
            }),
        ],
    );
    let mega: Vec<f64> = walks.iter().map(|&time| rate(pages, time) / 1e6).collect();
    let peer = format!("memflow page map {:.1} M PTE/s", mega[2]);
    row(
        "walk, regions",
        &format!("{:.0} M PTE/s", mega[0]),
        "200 M PTE/s",
        mega[0] / 200.0,
        1.0,
    );
    row(
        "walk, regions",
        &format!("{:.0} M PTE/s", mega[0]),
        &peer,
        mega[0] / mega[2],
        20.0,
    );
    // The peer's map does not list frames, so this has no counterpart and no aim.
    println!(
        "| walk, extents (a frame each) | {:.0} M PTE/s | | | | |",
        mega[1]
    );

    const READS: u64 = 200_000;
    let reads = race(
        &mut bench,
        &[
            ("vmie", &|b| {
                b.random_reads(READS);
            }),
            ("memflow", &|b| {
                b.random_reads_peer(READS);
            }),
            ("listed", &|b| {
                b.random_reads_listed(READS);
            }),
        ],
    );
    let ns: Vec<f64> = reads
        .iter()
        .map(|time| time.as_secs_f64() * 1e9 / READS as f64)
        .collect();
    let peer = format!("memflow {:.0} ns", ns[1]);
    row(
        "random 8-byte read",
        &format!("{:.0} ns", ns[0]),
        &peer,
        ns[1] / ns[0],
        8.0,
    );
    println!(
        "| | | from the list of frames {:.0} ns | {:.2} | | |",
        ns[2],
        ns[2] / ns[0]
    );

    for (name, piece, aim) in [("1 MiB", 1 << 20, 0.95), ("4 KiB", 4 << 10, 0.85)] {
        let times = race(
            &mut bench,
            &[
                ("vmie", &|b| b.sequential(piece)),
                ("gather", &|b| b.gather(piece)),
                ("memcpy", &|b| b.memcpy(piece)),
                ("memflow", &|b| b.sequential_peer(piece)),
            ],
        );
        let size = [pages * 4096.0, pages * 4096.0, PHYS as f64, pages * 4096.0];
        let gb: Vec<f64> = times
            .iter()
            .zip(size)
            .map(|(&time, bytes)| rate(bytes, time) / 1e9)
            .collect();
        let what = format!("scattered frames, {name} reads");
        let figure = format!("{:.1} GB/s", gb[0]);
        row(
            &what,
            &figure,
            &format!("gather {:.1} GB/s", gb[1]),
            gb[0] / gb[1],
            aim,
        );
        println!(
            "| | | memcpy in order {:.1} GB/s | {:.2} | | |\n| | | memflow {:.1} GB/s | {:.2} | | |",
            gb[2],
            gb[0] / gb[2],
            gb[3],
            gb[0] / gb[3]
        );
    }
}
