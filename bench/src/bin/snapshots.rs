//! Moments of memory beside what each cannot do without: a copy, a comparison, a compression of the same bytes.
//!
//! `snapshots DIR [IMAGE LAYOUT]`: a made space of 508 MiB in frames that lie in random order, or the kernel of a
//! guest; `snapshots DIR qemu:SOCKET`: the watch alone, over the physical memory of a running guest. On one thread: capture beside a copy of the same frames in the same order; a comparison with a moment at
//! which one page in a hundred has changed beside `memcmp` of the same bytes, both in one piece and where they are;
//! writing the file beside LZ4 alone; a moment of a watch over an idle guest beside one read of what it maps.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vmie::paging::ExtentItem;
use vmie::scan::Run;
use vmie::snapshot::series::Recorder;
use vmie::snapshot::{self, DiffOptions, Origin, SaveOptions, Snapshot, TakeOptions, diff};
use vmie::{
    AddrRange, Address, AddressSpace, Gpa, Gva, Image, Layout, LiveGuest, Memory, Mode,
    OpenOptions, os,
};

const ROUNDS: usize = 7;
const PAGE: u64 = 4096;
/// Bytes compressed at once, as in the file.
const BLOCK: usize = 64 << 10;

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = args.next().expect("a directory");
    std::fs::create_dir_all(&dir).expect("the directory can be made");
    let dir = Path::new(&dir);
    let Some(path) = args.next() else {
        return made(dir);
    };
    if let Some(socket) = path.strip_prefix("qemu:") {
        let guest = LiveGuest::open(socket).expect("a running guest");
        return watching(dir, &guest, &guest);
    }
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
    let space = guest.kernel_space().clone();
    table(dir, &image, &space, None);
    watching(dir, &space, &space);
}

fn made(dir: &Path) {
    let mut guest = vmie_synth::guest::scattered(512 << 20, 1);
    let open = |name: &str, phys: &[u8]| {
        let path = dir.join(name);
        std::fs::write(&path, phys).expect("the image can be written");
        let image = Arc::new(Image::open(&path).expect("opens"));
        // The mapping keeps the content.
        std::fs::remove_file(&path).expect("it was just written");
        image
    };
    let space = |image: &Arc<Image>, root| {
        AddressSpace::new(Arc::clone(image) as Arc<_>, Gpa(root), Mode::FourLevel)
    };
    let image = open("before.raw", &guest.phys);
    let frames = guest.frames.clone();
    for frame in frames.iter().step_by(1000) {
        guest.phys[*frame as usize + 200] ^= 1;
    }
    let idle = open("idle.raw", &guest.phys);
    for frame in frames.iter().step_by(1000) {
        guest.phys[*frame as usize + 200] ^= 1;
    }
    for frame in frames.iter().step_by(100) {
        guest.phys[*frame as usize + 100] ^= 1;
    }
    let later = open("later.raw", &guest.phys);
    let (before, after) = (space(&image, guest.root), space(&later, guest.root));
    table(dir, &image, &before, Some((&later, &after)));
    watching(dir, &before, &space(&idle, guest.root));
}

/// A watch: every other moment is of another memory, which an idle guest may come to.
fn watching<A: Address>(dir: &Path, before: &dyn Memory<Addr = A>, after: &dyn Memory<Addr = A>) {
    let options = SaveOptions::default();
    let dir = dir.join("series");
    let mut recorder = Recorder::create(&dir, &options)
        .expect("a new series")
        .threads(1);
    let mut add = |memory: &dyn Memory<Addr = A>| {
        let wanted = TakeOptions::default();
        let moment = recorder.capture(memory, &wanted, Run::new());
        let moment = moment.expect("it fits");
        let read = moment.coverage().read;
        let recorded = moment.keep(Origin::default()).expect("it can be written");
        (read, recorded)
    };
    let (len, _) = add(before);
    // New pages are written once, as they would be.
    let (_, first) = add(after);
    let (mut read, mut moment) = (Best(Duration::MAX), Best(Duration::MAX));
    let mut window = vec![0; 256 << 10];
    for round in 0..ROUNDS {
        let memory = if round % 2 == 0 { before } else { after };
        let done = read.time(|| read_all(memory, &mut window));
        assert_eq!(done, len);
        moment.time(|| add(memory));
    }
    let what = format!("a moment of a watch, {} pages changed", first.changed);
    row(&what, &moment, "one read of the same", &read, len, 0.5);
    std::fs::remove_dir_all(dir).expect("it was just written");
}

/// Reads everything that is mapped, window by window.
fn read_all<A: Address>(memory: &dyn Memory<Addr = A>, window: &mut [u8]) -> u64 {
    let mut done = 0;
    for region in memory.regions(AddrRange::all()) {
        let mut at = 0;
        while at < region.len {
            let len = (region.len - at).min(window.len() as u64);
            let here = A::new(region.start.raw() + at);
            let read = memory.read(here, &mut window[..len as usize]);
            done += read.map_or(0, |()| len);
            at += len;
        }
    }
    black_box(&window);
    done
}

/// The frames of a space in the order of their addresses.
fn frames(space: &AddressSpace) -> Vec<(Gpa, u64)> {
    space
        .extents(AddrRange::all())
        .filter_map(|item| match item {
            ExtentItem::Extent(extent) => Some((extent.gpa, extent.len)),
            ExtentItem::Lost { .. } | ExtentItem::Away { .. } => None,
        })
        .collect()
}

fn bytes<'i>(image: &'i Image, frames: &[(Gpa, u64)]) -> Vec<&'i [u8]> {
    let lent = |&(gpa, len): &(Gpa, u64)| image.borrow(AddrRange::new(gpa, len)?);
    frames.iter().filter_map(lent).collect()
}

/// The shortest of several runs, taken in turns with others.
struct Best(Duration);

impl Best {
    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = black_box(work());
        self.0 = self.0.min(began.elapsed());
        result
    }
}

fn row(what: &str, ours: &Best, beside: &str, theirs: &Best, len: u64, aim: f64) {
    let rate = |best: &Best| len as f64 / best.0.as_secs_f64() / 1e9;
    println!(
        "| {what} | {:.2} | {beside} | {:.2} | {:.2} | {aim} |",
        rate(ours),
        rate(theirs),
        theirs.0.as_secs_f64() / ours.0.as_secs_f64()
    );
}

fn table(dir: &Path, image: &Image, space: &AddressSpace, later: Option<(&Image, &AddressSpace)>) {
    let new = || Best(Duration::MAX);
    let frames = frames(space);
    let here = bytes(image, &frames);
    let len: u64 = here.iter().map(|part| part.len() as u64).sum();
    let mut copy = vec![1u8; len as usize];
    let (mut gather, mut capture) = (new(), new());
    let mut taken = None;
    for _ in 0..ROUNDS {
        gather.time(|| {
            let mut at = 0;
            for part in &here {
                copy[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
        });
        // Before the next one, so that two are never there at once.
        drop(taken.take());
        let now = capture.time(|| snapshot::take(space, &TakeOptions::default(), Run::new()));
        taken = Some(now.expect("it fits"));
    }
    let taken = taken.expect("at least one round");
    println!(
        "{} MiB in {} extents, {} pages stored\n",
        len >> 20,
        frames.len(),
        taken.stored_pages()
    );
    println!("| what | GB/s | beside | GB/s | ratio | aim |\n|---|---|---|---|---|---|");
    row(
        "capture",
        &capture,
        "a copy of the same frames",
        &gather,
        len,
        0.5,
    );
    if let Some((image, after)) = later {
        differences(&taken, &copy, image, after, len);
    }
    file(dir, &taken, &copy, len);
}

fn differences(
    taken: &Snapshot<Gva>,
    before: &[u8],
    image: &Image,
    after: &AddressSpace,
    len: u64,
) {
    let new = || Best(Duration::MAX);
    let there = bytes(image, &frames(after));
    let flat: Vec<u8> = there.concat();
    let later = snapshot::take(after, &TakeOptions::default(), Run::new()).expect("it fits");
    let count = |before: &dyn Memory<Addr = Gva>, after: &dyn Memory<Addr = Gva>| {
        let mut rows = 0u64;
        let outcome = diff(before, after, &DiffOptions::default(), Run::new(), |_| {
            rows += 1;
            ControlFlow::Continue(())
        });
        assert!(outcome.coverage.is_complete());
        rows
    };
    let (mut in_place, mut scattered) = (new(), new());
    let (mut moments, mut now) = (new(), new());
    let mut rows = 0;
    for _ in 0..ROUNDS {
        in_place.time(|| {
            let pages = before.chunks(PAGE as usize).zip(flat.chunks(PAGE as usize));
            pages.filter(|(one, other)| one != other).count()
        });
        scattered.time(|| {
            let mut at = 0;
            let mut different = 0;
            for part in &there {
                for page in part.chunks(PAGE as usize) {
                    different += usize::from(before[at..at + page.len()] != *page);
                    at += page.len();
                }
            }
            different
        });
        rows = moments.time(|| count(taken, &later));
        assert_eq!(now.time(|| count(taken, after)), rows);
    }
    println!("| {rows} changes | | | | | |");
    let beside = "memcmp of two pieces";
    row(
        "two moments compared",
        &moments,
        beside,
        &in_place,
        len,
        0.9,
    );
    let beside = "memcmp of the same frames";
    row(
        "a moment compared with now",
        &now,
        beside,
        &scattered,
        len,
        0.9,
    );
}

fn file(dir: &Path, taken: &Snapshot<Gva>, copy: &[u8], len: u64) {
    let (mut alone, mut saved) = (Best(Duration::MAX), Best(Duration::MAX));
    let path = dir.join("bench.snap");
    let options = SaveOptions::default();
    let mut out = vec![0; lz4_flex::block::get_maximum_output_size(BLOCK)];
    let mut size = 0;
    for _ in 0..3 {
        alone.time(|| {
            let pack = |block| lz4_flex::block::compress_into(block, &mut out).expect("room");
            copy.chunks(BLOCK).map(pack).sum::<usize>()
        });
        size = saved
            .time(|| taken.save(&path, &options, Run::new().threads(1)))
            .expect("it can be written")
            .bytes;
    }
    let what = format!("file of {} MiB", size >> 20);
    row(&what, &saved, "LZ4 alone", &alone, len, 0.7);
    let mut opened = Best(Duration::MAX);
    for _ in 0..ROUNDS {
        let again = opened
            .time(|| Snapshot::<Gva>::open(&path))
            .expect("it is whole");
        assert_eq!(again.coverage(), taken.coverage());
    }
    println!(
        "\nopened and verified in {:.1} ms",
        opened.0.as_secs_f64() * 1e3
    );
    std::fs::remove_file(path).expect("it was just written");
}
