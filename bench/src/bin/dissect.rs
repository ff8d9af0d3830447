//! Objects taken apart: how many a second, and how instances of a class are found.
//!
//! `dissect [DIR]`: one thread, one run, the least CPU time of several rounds in which the contenders take turns. The
//! guest is made: 128 MiB of heap, one object in 128 bytes. It fails when the index and the search do not find the same.

use std::hint::black_box;
use std::io::Write;
use std::ops::ControlFlow::Continue;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use vmie::dissect::Dissector;
use vmie::pointers::{PointerMap, PointerOptions, Referrers, Width};
use vmie::scan::{Run, Selection, scan_each};
use vmie::{AddrRange, AddressSpace, Gva, Image, Memory, Mode, Prot};
use vmie_synth::guest::{Flags, Machine, PageSize, Paging, Space};

const ROUNDS: usize = 5;
const HEAP: u64 = 0x5555_0000_0000;
const HEAP_LEN: u64 = 128 << 20;
const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x50_0000;
/// From one object to the next.
const STRIDE: u64 = 128;
/// How many classes take turns.
const CLASSES: u64 = 64;
const SIZE: u64 = 96;

fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

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

/// `{vtable, Object *, u32, float, double, std::string, u16, u8, const char *}` and what is left.
fn object(number: u64) -> [u8; STRIDE as usize] {
    let at = HEAP + number * STRIDE + 16;
    let next = HEAP + number * 7919 % (HEAP_LEN / STRIDE) * STRIDE + 16;
    let words = [
        0,
        STRIDE | 1,
        DATA + 0x100 * (number % CLASSES) + 16,
        next,
        number & 0xffff | u64::from((number as f32 / 2.0).to_bits()) << 32,
        (number as f64 / 8.0).to_bits(),
        at + 48,
        3,
        u64::from_le_bytes(*b"Ada\0\0\0\0\0"),
        0,
        number & 0xff | (number % 5) << 16,
        DATA + 0x100 * (number % CLASSES) + 0xa0,
    ];
    let mut bytes = [0; STRIDE as usize];
    for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *to = word.to_le_bytes();
    }
    bytes
}

fn guest(dir: &std::path::Path) -> AddressSpace {
    let mut machine = Machine::new(0..HEAP_LEN + (32 << 20));
    let space = Space::new(&mut machine, Paging::FourLevel);
    space.map_new(&mut machine, CODE, 4, Flags::CODE);
    space.map_new(&mut machine, DATA, 16, Flags::CONST);
    for class in 0..CLASSES {
        let table = DATA + 0x100 * class;
        space.write_u64(&mut machine, table + 8, table + 0x80);
        for slot in 0..4 {
            space.write_u64(&mut machine, table + 16 + 8 * slot, CODE + 16 * slot);
        }
        space.write_u64(&mut machine, table + 0x80, DATA + 0x10);
        space.write_u64(&mut machine, table + 0x88, table + 0xa0);
        let name = format!("7Class{class:02}\0");
        space.write(&mut machine, table + 0xa0, name.as_bytes());
    }
    let heap = machine.frames.alloc_block(HEAP_LEN, 2 << 20);
    for at in (0..HEAP_LEN).step_by(2 << 20) {
        space.map(
            &mut machine,
            HEAP + at,
            heap + at,
            PageSize::Size2M,
            Flags::DATA,
        );
    }
    for number in 0..HEAP_LEN / STRIDE {
        machine.phys.write(heap + number * STRIDE, &object(number));
    }
    let root = space.root();
    let path = dir.join("dissect.raw");
    let mut file = std::fs::File::create(&path).expect("the image can be created");
    file.write_all(&machine.phys.into_dense())
        .expect("the image can be written");
    drop(file);
    let image = Image::open(&path).expect("a raw image");
    AddressSpace::new(Arc::new(image), vmie::Gpa(root), Mode::FourLevel)
}

fn main() {
    let dir = PathBuf::from(
        std::env::args_os()
            .nth(1)
            .unwrap_or_else(|| "target/bench".into()),
    );
    std::fs::create_dir_all(&dir).expect("the bench directory can be made");
    let space = guest(&dir);
    let at = |number: u64| Gva(HEAP + number * STRIDE + 16);
    let some: Vec<Gva> = (0..4096).map(|number| at(number * CLASSES)).collect();
    let (model, len) = (at(0), some.len() as f64);

    let table = Gva(DATA + 16);
    let what = AddrRange::inclusive(table, table).expect("one address");
    let options = PointerOptions::default();
    let map = PointerMap::build(&space, &options, Run::new().threads(1)).expect("builds");
    let selection = Selection::all().perm(Prot::W);
    let scanner = Referrers::new(what, Width::Eight, 8);
    let (mut searched, mut indexed) = (Vec::new(), Vec::new());
    let [alone, judged, together, search, index] = race([
        &mut || {
            let mut dissector = Dissector::new(&space, Width::Eight);
            for &one in &some {
                black_box(dissector.instance(one, SIZE));
            }
        },
        &mut || {
            let all = Dissector::new(&space, Width::Eight).likeness(model, &some, SIZE);
            assert!(all.iter().all(|one| one.alike));
        },
        &mut || {
            let mut dissector = Dissector::new(&space, Width::Eight);
            for part in some.chunks(64) {
                black_box(dissector.instances(part, SIZE));
            }
        },
        &mut || {
            searched.clear();
            let memory: &dyn Memory<Addr = Gva> = &space;
            let run = Run::new().threads(1);
            let outcome = scan_each(memory, &scanner, &selection, run, |found| {
                searched.push(found.start);
                Continue(())
            });
            assert!(outcome.coverage.is_complete());
        },
        &mut || {
            indexed.clear();
            // Type information refers to a table too, and is constant.
            let places = map.referrers(what).map(|edge| edge.at);
            indexed.extend(places.filter(|&at| at >= Gva(HEAP)));
            indexed.sort_unstable();
        },
    ]);
    assert!(
        searched == indexed,
        "the index and the search find the same"
    );
    assert_eq!(searched.len() as u64, HEAP_LEN / STRIDE / CLASSES);
    println!("| what | figure | beside |\n|---|---|---|");
    let rate = |time: Duration| len / time.as_secs_f64() / 1e3;
    println!(
        "| one object of {SIZE} bytes, 9 fields | {:.0} k/s | |",
        rate(alone)
    );
    println!("| is it like another one | {:.0} k/s | |", rate(judged));
    println!("| 64 objects together | {:.0} k/s | |", rate(together));
    let found = searched.len();
    println!(
        "| {found} instances of a class in 128 MiB, by a search | {:.1} ms | {:.1} GB/s |",
        search.as_secs_f64() * 1e3,
        HEAP_LEN as f64 / search.as_secs_f64() / 1e9
    );
    println!(
        "| the same, by an index | {:.2} ms | {:.0} times faster |",
        index.as_secs_f64() * 1e3,
        search.as_secs_f64() / index.as_secs_f64()
    );
}
