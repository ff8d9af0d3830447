//! An index of pointers: how long it takes to build, to open, to ask, and to find paths with it.
//!
//! `pointers [DIR [IMAGE LAYOUT]]`: one thread, one run, the least CPU time of several rounds in which the contenders
//! take turns. It fails when searches do not agree.

mod space;

use std::hint::black_box;
use std::io::Write;
use std::ops::ControlFlow::Continue;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use space::{BASE, Flat, LEN};
use vmie::paging::ExtentItem;
use vmie::pointers::{PathFinder, PathOptions, PointerMap, PointerOptions, find_paths_once};
use vmie::scan::Run;
use vmie::{
    AddrRange, Address, AddressSpace, Gpa, Gva, Image, Layout, Memory, Mode, OpenOptions, os,
};

const ROUNDS: usize = 5;
const PAGE: usize = 4096;

fn main() {
    let mut args = std::env::args_os().skip(1);
    let dir = PathBuf::from(args.next().unwrap_or_else(|| "target/bench".into()));
    std::fs::create_dir_all(&dir).expect("the bench directory can be made");
    if let Some(image) = args.next() {
        let layout = args
            .next()
            .map(|text| text.to_string_lossy().parse().expect("a layout"));
        guest(Path::new(&image), layout);
        return;
    }
    println!("| what | vmie | beside | ratio | aim | |\n|---|---|---|---|---|---|");
    let flat = Flat::new();
    let map = contiguous(&flat);
    scattered(&flat, &dir);
    saved(&map, &dir);
    queries(&map);
    paths(&flat, &map);
}

/// On one thread.
fn one() -> Run<'static> {
    Run::new().threads(1)
}

fn options() -> PointerOptions<Gva> {
    PointerOptions::default()
}

/// CPU time of this thread: of what others do on the machine, only caches and memory are felt.
fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The shortest time of each piece of work, in turns.
fn race<const N: usize>(mut work: [&mut dyn FnMut(); N]) -> [Duration; N] {
    let mut best = [Duration::MAX; N];
    for _ in 0..ROUNDS {
        for (best, work) in best.iter_mut().zip(&mut work) {
            let start = now();
            work();
            *best = (*best).min(now() - start);
        }
    }
    best
}

fn rate(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64() / 1e9
}

fn row(what: &str, ours: &str, beside: &str, ratio: f64, aim: f64) {
    let verdict = if ratio >= aim {
        "reached"
    } else {
        "**missed**"
    };
    println!("| {what} | {ours} | {beside} | {ratio:.2} | {aim} | {verdict} |");
}

/// A comparison for which nothing is aimed at.
fn beside(what: &str, ours: &str, beside: &str, ratio: f64) {
    println!("| {what} | {ours} | {beside} | {ratio:.2} | | |");
}

fn contiguous(flat: &Flat) -> PointerMap<Gva> {
    let mut to = vec![1; LEN];
    let mut map = None;
    let [build, copy] = race([
        &mut || map = Some(PointerMap::build(flat, &options(), one()).expect("builds")),
        &mut || {
            to.copy_from_slice(&flat.0);
            black_box(&to);
        },
    ]);
    let map = map.expect("was built");
    let what = format!("build, one piece, {} pointers", map.len());
    let (ours, theirs) = (rate(LEN, build), rate(LEN, copy));
    row(
        &what,
        &format!("{ours:.1} GB/s"),
        &format!("memcpy {theirs:.1} GB/s"),
        ours / theirs,
        0.35,
    );
    map
}

/// The same words in frames in random order.
fn scattered(flat: &Flat, dir: &Path) {
    let guest = vmie_synth::guest::scattered(LEN as u64 + (8 << 20), 1);
    let mut phys = guest.phys;
    let pages = LEN / PAGE;
    let moved = guest.va.wrapping_sub(BASE);
    for (frame, page) in guest.frames[..pages].iter().zip(flat.0.chunks_exact(PAGE)) {
        let to = &mut phys[*frame as usize..][..PAGE];
        for (to, word) in to
            .as_chunks_mut::<8>()
            .0
            .iter_mut()
            .zip(page.as_chunks::<8>().0)
        {
            let value = u64::from_le_bytes(*word);
            let inside = value.wrapping_sub(BASE) < LEN as u64;
            *to = if inside {
                value.wrapping_add(moved)
            } else {
                value
            }
            .to_le_bytes();
        }
    }
    let path = dir.join("pointers.raw");
    let mut file = std::fs::File::create(&path).expect("the image can be created");
    file.write_all(&phys).expect("the image can be written");
    drop((file, phys));
    let image = Arc::new(Image::open(&path).expect("opens"));
    let space = AddressSpace::new(image.clone(), Gpa(guest.root), Mode::FourLevel);
    let range = AddrRange::new(Gva(guest.va), LEN as u64).expect("not empty");
    measure("build, scattered frames", &image, &space, range);
    let _ = std::fs::remove_file(path);
}

/// The processes of a real guest, and its kernel.
fn guest(path: &Path, layout: Option<Layout>) {
    let image = Image::open_with(
        path,
        &OpenOptions {
            layout,
            ..OpenOptions::default()
        },
    )
    .expect("opens");
    let image = Arc::new(image);
    let phys: Arc<dyn Memory<Addr = Gpa>> = image.clone();
    let guest = os::find(&phys, &image.info().hints).expect("a known operating system");
    println!("| what | vmie | beside | ratio | aim | |\n|---|---|---|---|---|---|");
    let half = AddrRange::new(Gva(1 << 63), 1 << 63).expect("not empty");
    measure("build, the kernel", &image, guest.kernel_space(), half);
}

/// An index of a range of a space beside a copy of the same frames in the same order.
fn measure(what: &str, image: &Arc<Image>, space: &AddressSpace, range: AddrRange<Gva>) {
    let whole = image
        .info()
        .ranges
        .iter()
        .map(|range| range.last().raw())
        .max()
        .unwrap_or(0);
    let phys: Vec<u8> = {
        let mut bytes = vec![0; whole as usize + 1];
        for range in &image.info().ranges {
            let (at, len) = (range.start().raw() as usize, range.len() as usize);
            let _ = image.read(range.start(), &mut bytes[at..at + len]);
        }
        bytes
    };
    let mut frames = Vec::new();
    for item in space.extents(range) {
        if let ExtentItem::Extent(extent) = item {
            let first = extent.gpa.raw();
            let each = (first..first + extent.len).step_by(PAGE);
            frames.extend(each.filter(|&frame| frame + PAGE as u64 <= phys.len() as u64));
        }
    }
    let bytes = frames.len() * PAGE;
    let mut buffer = vec![0; 1 << 20];
    let options = PointerOptions {
        range: Some(range),
        ..options()
    };
    let mut pointers = 0;
    let [build, gather] = race([
        &mut || {
            let map = PointerMap::build(space, &options, one()).expect("builds");
            pointers = map.len();
        },
        &mut || {
            for chunk in frames.chunks(buffer.len() / PAGE) {
                for (to, &frame) in buffer.as_chunks_mut::<PAGE>().0.iter_mut().zip(chunk) {
                    to.copy_from_slice(&phys[frame as usize..][..PAGE]);
                }
                black_box(&buffer);
            }
        },
    ]);
    let (ours, theirs) = (rate(bytes, build), rate(bytes, gather));
    row(
        &format!("{what}, {} MiB, {pointers} pointers", bytes >> 20),
        &format!("{ours:.1} GB/s"),
        &format!("gather {theirs:.1} GB/s"),
        ours / theirs,
        0.5,
    );
}

fn saved(map: &PointerMap<Gva>, dir: &Path) {
    let path = dir.join("pointers.index");
    map.save(&path, "a bench").expect("can be saved");
    let size = std::fs::metadata(&path).expect("was saved").len();
    let mut len = 0;
    let [open] = race([&mut || len = PointerMap::<Gva>::open(&path).expect("opens").len()]);
    assert_eq!(len, map.len(), "what was saved is what is opened");
    let _ = std::fs::remove_file(path);
    let each = size as f64 / len as f64;
    row(
        "size",
        &format!("{each:.2} bytes a pointer"),
        "10 bytes",
        10.0 / each,
        1.0,
    );
    let ms = open.as_secs_f64() * 1e3;
    // What ten million would take.
    let scaled = ms * 1e7 / len as f64;
    row(
        "open, all checksums verified",
        &format!("{ms:.1} ms, {scaled:.1} ms for 10 M"),
        "20 ms for 10 M",
        20.0 / scaled,
        1.0,
    );
}

fn queries(map: &PointerMap<Gva>) {
    const COUNT: u64 = 200_000;
    let mut found = 0;
    let [ask] = race([&mut || {
        let mut state = 1_u64;
        for _ in 0..COUNT {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let at = Gva(BASE + (state >> 20) % LEN as u64 / 64 * 64);
            let range = AddrRange::new(at, 64).expect("not empty");
            found += map
                .referrers(range)
                .map(|edge| edge.at.raw() & 1 ^ 1)
                .sum::<u64>();
        }
    }]);
    black_box(found);
    let each = COUNT as f64 / ask.as_secs_f64() / 1e6;
    row(
        "referrers of 64 bytes",
        &format!("{each:.2} M/s"),
        "1 M/s",
        each,
        1.0,
    );
}

/// Sixteen targets, offsets up to 0x400, the first 4 MiB static.
fn paths(flat: &Flat, map: &PointerMap<Gva>) {
    let targets: Vec<Gva> = (1..=16_u64)
        .map(|n| Gva(BASE + n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % LEN as u64 / 8 * 8))
        .collect();
    for depth in 3..=7 {
        let options = PathOptions {
            ranges: vec![AddrRange::new(Gva(BASE), 4 << 20).expect("not empty")],
            depth,
            max_offset: 0x400,
            ..PathOptions::default()
        };
        let mut ours = Vec::new();
        let [search] = race([&mut || {
            ours.clear();
            let mut finder = PathFinder::new(map, &options);
            for &target in &targets {
                let outcome = finder.find(target, &one(), &mut |path| {
                    ours.push(path);
                    Continue(())
                });
                assert!(outcome.depth == depth && !outcome.stopped);
            }
        }]);
        let mut flat_count = 0;
        let [plain] = race([&mut || {
            flat_count = targets
                .iter()
                .map(|&target| backwards(map, target, depth))
                .sum();
        }]);
        assert_eq!(flat_count, ours.len(), "the plain search finds as many");
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let figure = format!("{:.2} ms", ms(search));
        if depth >= 6 {
            let start = now();
            let mut once = Vec::new();
            for &target in &targets {
                let (outcome, _) = find_paths_once(
                    flat,
                    &self::options(),
                    target,
                    &options,
                    &one(),
                    &mut |path| {
                        once.push(path);
                        Continue(())
                    },
                )
                .expect("few pieces");
                assert!(outcome.depth == depth && !outcome.stopped);
            }
            let time = now() - start;
            assert!(once == ours, "the search without an index finds the same");
            row(
                &format!("paths, depth {depth}, {} found", ours.len()),
                &figure,
                &format!("without an index {:.0} ms", ms(time)),
                ms(time) / ms(search),
                3.0,
            );
        }
        beside(
            &format!("paths, depth {depth}, {} found", ours.len()),
            &figure,
            &format!("plain search of the index {:.2} ms", ms(plain)),
            ms(plain) / ms(search),
        );
    }
}

/// How many paths lead to a target, each followed backwards on its own.
fn backwards(map: &PointerMap<Gva>, target: Gva, depth: usize) -> usize {
    let low = Gva(target.raw().saturating_sub(0x400));
    let range = AddrRange::inclusive(low, target).expect("in order");
    map.referrers(range)
        .map(|edge| {
            let here = usize::from(edge.at.raw() - BASE < 4 << 20);
            let on = if depth > 1 {
                backwards(map, edge.at, depth - 1)
            } else {
                0
            };
            here + on
        })
        .sum()
}
