//! All processes of a guest scanned at once, beside one scan of the frames involved.
//!
//! `spaces [IMAGE [LAYOUT]]`: finds the processes of the guest (without an image: makes eight), collects the frames that their own halves
//! map, and measures three ways to look for the same signatures on one thread: the frames, once, as
//! physical memory; all processes with `scan_many`; each process on its own. It fails when the last two
//! do not find the same.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vmie::paging::ExtentItem;
use vmie::scan::{Run, Selection, scan_each};
use vmie::signature::{Set, Signature};
use vmie::{
    AddrRange, AddressSpace, Fault, Gpa, Gva, Image, Layout, Memory, Mode, OpenOptions, Prot,
    SpacePart, Span, SpanKind, Spans, os,
};

const ROUNDS: usize = 9;
const PAGE: u64 = 4096;

/// The frames that were involved, and nothing else of physical memory.
struct Involved {
    phys: Arc<Image>,
    /// Ascending, not touching.
    runs: Vec<(u64, u64)>,
}

impl Involved {
    fn of(phys: &Arc<Image>, parts: &[SpacePart<'_>]) -> Self {
        let mut frames = BTreeSet::new();
        for part in parts {
            for item in part.space.extents(part.range) {
                if let ExtentItem::Extent(extent) = item {
                    let first = extent.gpa.0 / PAGE;
                    frames.extend(first..first + extent.len / PAGE);
                }
            }
        }
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for frame in frames {
            match runs.last_mut() {
                Some((start, len)) if *start + *len == frame * PAGE => *len += PAGE,
                _ => runs.push((frame * PAGE, PAGE)),
            }
        }
        let phys = Arc::clone(phys);
        Self { phys, runs }
    }
}

impl Memory for Involved {
    type Addr = Gpa;

    fn spans(&self, range: AddrRange<Gpa>) -> Spans<'_, Gpa> {
        Box::new(self.runs.iter().filter_map(move |&(start, len)| {
            let cut = AddrRange::new(Gpa(start), len)?.intersect(range)?;
            Some(Span {
                start: cut.start(),
                len: cut.len(),
                kind: SpanKind::Mapped(Prot::RWX),
            })
        }))
    }

    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        self.phys.read(addr, buf)
    }

    fn borrow(&self, range: AddrRange<Gpa>) -> Option<&[u8]> {
        self.phys.borrow(range)
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let Some(path) = args.next() else {
        return synthetic();
    };
    let layout = args
        .next()
        .map(|text| text.parse::<Layout>().expect("a layout"));
    let image = Arc::new(
        Image::open_with(
            &path,
            &OpenOptions {
                layout,
                ..OpenOptions::default()
            },
        )
        .expect("opens"),
    );
    let phys: Arc<dyn Memory<Addr = Gpa>> = image.clone();
    let guest = os::find(&phys, &image.info().hints).expect("an operating system");
    let processes = guest.processes().expect("a list of processes");
    let spaces: Vec<AddressSpace> = processes
        .items
        .iter()
        .filter_map(|process| guest.space_of(process).ok())
        .collect();
    table(&image, &spaces);
}

/// Eight processes that share all of their 508 MiB, in frames that lie in random order.
fn synthetic() {
    let guest = vmie_synth::guest::scattered(512 << 20, 1);
    let path = std::env::temp_dir().join(format!("vmie-bench-{}.raw", std::process::id()));
    std::fs::write(&path, &guest.phys).expect("the image can be written");
    let image = Arc::new(Image::open(&path).expect("opens"));
    // The mapping keeps the content.
    std::fs::remove_file(&path).expect("it was just written");
    let space = AddressSpace::new(image.clone(), Gpa(guest.root), Mode::FourLevel);
    table(&image, &vec![space; 8]);
}

fn table(image: &Arc<Image>, spaces: &[AddressSpace]) {
    let parts: Vec<SpacePart<'_>> = spaces
        .iter()
        .map(|space| SpacePart {
            space,
            range: AddrRange::new(
                Gva(0),
                match space.mode() {
                    Mode::FiveLevel => 1 << 56,
                    _ => 1 << 47,
                },
            )
            .expect("not empty"),
        })
        .collect();
    let involved = Involved::of(image, &parts);
    let bytes: u64 = involved.runs.iter().map(|run| run.1).sum();
    println!(
        "{} processes with memory, {:.1} MiB of frames in {} runs",
        parts.len(),
        bytes as f64 / 1048576.0,
        involved.runs.len()
    );
    println!(
        "| signatures | longest | frames once | all processes | ratio | one by one | matches |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (count, len) in [(1, 8), (100, 16), (1000, 16), (100, 256)] {
        measure(&involved, &parts, bytes, count, len);
    }
}

/// Signatures cut from the frames themselves, every fourth byte of each left open.
fn signatures(involved: &Involved, count: usize, len: usize) -> Set {
    let mut all = Vec::new();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    while all.len() < count {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let (start, run) = involved.runs[(seed >> 20) as usize % involved.runs.len()];
        let at = start + (seed >> 40) % (run - len as u64);
        let mut bytes = vec![0; len];
        involved
            .read(Gpa(at), &mut bytes)
            .expect("a frame of the image");
        let distinct: BTreeSet<u8> = bytes.iter().copied().collect();
        // Not padding and tables of small numbers: those match everywhere.
        if distinct.len() < 6 {
            continue;
        }
        let text: Vec<String> = bytes
            .iter()
            .enumerate()
            .map(|(i, byte)| {
                if i % 4 == 3 {
                    "??".to_owned()
                } else {
                    format!("{byte:02X}")
                }
            })
            .collect();
        all.push(Signature::parse(format!("{}", all.len()), &text.join(" ")).expect("valid"));
    }
    Set::compile(all).expect("compiles")
}

fn measure(involved: &Involved, parts: &[SpacePart<'_>], bytes: u64, count: usize, len: usize) {
    let set = signatures(involved, count, len);
    let run = || Run::new().threads(1);
    let once = || {
        let mut found = 0_u64;
        let memory: &dyn Memory<Addr = Gpa> = involved;
        let outcome = scan_each(memory, &set, &Selection::all(), run(), |_| {
            found += 1;
            ControlFlow::Continue(())
        });
        assert_eq!(outcome.coverage.read, bytes);
        found
    };
    let many = || {
        let mut found = Vec::new();
        let _ = scan_each(parts, &set, &Selection::all(), run(), |hit| {
            found.push((hit.space, hit.start, hit.item.sig));
            ControlFlow::Continue(())
        });
        found
    };
    let each = || {
        let mut found = Vec::new();
        for (space, part) in parts.iter().enumerate() {
            let memory: &dyn Memory<Addr = Gva> = part.space;
            let selection = Selection::all().range(part.range);
            let _ = scan_each(memory, &set, &selection, run(), |hit| {
                found.push((space, hit.start, hit.item.sig));
                ControlFlow::Continue(())
            });
        }
        found
    };
    let together = many();
    assert!(
        together == each(),
        "all at once finds what one by one finds"
    );
    let mut best = [Duration::MAX; 3];
    for _ in 0..ROUNDS {
        let works: [&dyn Fn(); 3] = [
            &|| {
                once();
            },
            &|| drop(many()),
            &|| drop(each()),
        ];
        for (best, work) in best.iter_mut().zip(works) {
            let start = Instant::now();
            work();
            *best = (*best).min(start.elapsed());
        }
    }
    let ms = best.map(|time| time.as_secs_f64() * 1e3);
    println!(
        "| {count} | {len} B | {:.2} ms | {:.2} ms | {:.2} | {:.2} ms | {} |",
        ms[0],
        ms[1],
        ms[1] / ms[0],
        ms[2],
        together.len()
    );
}
