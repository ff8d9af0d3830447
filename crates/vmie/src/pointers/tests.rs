//! The index and its searches beside their reference implementations, on memories of few pages full of pointers.

use std::collections::BTreeMap;
use std::ops::ControlFlow::Continue;

use proptest::prelude::*;

use super::*;
use crate::addr::Gva;
use crate::memory::Memory;
use crate::scan::Run;
use crate::testmem::TestMemory;

/// Pages that a small memory may have.
const PAGES: u64 = 6;

/// A memory of words most of which lead into it, and some closely beside; a word at an odd place now and
/// then.
pub(super) fn any_map(seed: u64) -> TestMemory<Gva> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    };
    let mut memory = TestMemory::new();
    memory.lends = random(2) == 0;
    let mut start = 0x1_0000;
    for _ in 0..1 + random(PAGES) {
        start += 0x1000 * random(3);
        // What is physical begins and ends anywhere.
        let begin = start + random(2) * random(64);
        let len = 0x100 + random(0x300) as usize;
        let mut bytes = vec![0; len];
        for at in 0..len / 9 {
            let at = if random(8) == 0 {
                at * 9
            } else {
                (at * 8).next_multiple_of(8)
            };
            let value: u64 = match random(4) {
                0 => 0,
                1 => random(u64::MAX),
                _ => {
                    let page = 0x1_0000 + 0x1000 * random(PAGES * 2);
                    page + random(0x400) / 8 * 8 + random(2) * random(8)
                }
            };
            if let Some(word) = bytes.get_mut(at..at + 8) {
                word.copy_from_slice(&value.to_le_bytes());
            }
        }
        let prot = if random(3) == 0 { Prot::R } else { Prot::RWX };
        memory = memory.part(begin, &bytes, prot);
        if random(6) == 0 {
            memory = memory.absent(begin + 0x100, 0xf00 - (begin - start));
        }
        start += 0x1000;
    }
    memory
}

/// Such a memory with pointers enough, and no holes.
pub(super) fn rich_map() -> TestMemory<Gva> {
    (0..1000)
        .map(any_map)
        .find(|memory| {
            let options = PointerOptions::default();
            let edges = PointerMap::build(memory, &options, Run::new())
                .unwrap()
                .len();
            memory.parts.len() > 2 && memory.absent.is_empty() && edges > 50
        })
        .expect("most memories are such")
}

/// All pointers, byte by byte.
fn naive(memory: &TestMemory<Gva>, options: &PointerOptions<Gva>) -> Vec<Edge<Gva>> {
    let range = options.range.unwrap_or_else(AddrRange::all);
    let mapped: Vec<_> = memory
        .spans(range)
        .filter_map(crate::Span::region)
        .collect();
    let width = options.width.bytes();
    let mut edges = Vec::new();
    for (start, bytes) in memory.readable(options.perm, options.sources.or(options.range)) {
        // A word may end behind the range, not behind what can be read.
        for offset in 0..bytes.len() as u64 {
            let at = start + offset;
            let word: Option<Vec<u8>> = (at..at + width as u64)
                .map(|addr| {
                    memory
                        .byte(addr)
                        .ok()
                        .filter(|_| selected(memory, addr, options.perm))
                })
                .collect();
            let Some(mut word) = word else { continue };
            word.resize(8, 0);
            let value = u64::from_le_bytes(word.try_into().unwrap());
            let leads = mapped
                .iter()
                .any(|region| region.range().contains(Gva(value)));
            if leads && at.is_multiple_of(options.align) {
                edges.push(Edge {
                    at: Gva(at),
                    value: Gva(value),
                });
            }
        }
    }
    edges
}

fn selected(memory: &TestMemory<Gva>, addr: u64, perm: Prot) -> bool {
    let holds = |part: &crate::testmem::Part| {
        addr >= part.start && addr - part.start < part.bytes.len() as u64
    };
    memory
        .parts
        .iter()
        .any(|part| holds(part) && part.prot.contains(perm))
}

fn any_options() -> impl Strategy<Value = PointerOptions<Gva>> {
    (
        any::<bool>(),
        prop::sample::select(vec![1u64, 2, 4, 8]),
        prop::sample::select(vec![Prot::NONE, Prot::W]),
        prop::option::of(0u64..0x6000),
    )
        .prop_map(|(wide, align, perm, cut)| {
            let width = if wide { Width::Eight } else { Width::Four };
            PointerOptions {
                // Aligned, so that no word begins before the range and ends in it.
                sources: cut.and_then(|cut| {
                    AddrRange::inclusive(Gva(0x1_0000 + cut / 8 * 8), Gva(0x1_ffff))
                }),
                width,
                align: align.min(width.bytes() as u64),
                perm,
                ..PointerOptions::default()
            }
        })
}

proptest! {
    #[test]
    fn an_index_holds_all_pointers(
        seed: u64,
        options in any_options(),
        threads in 1usize..3,
        asked in prop::collection::vec((0x1_0000u64..0x1_c000, 0u64..0x800), 10),
    ) {
        let memory = any_map(seed);
        let map = PointerMap::build(&memory, &options, Run::new().threads(threads)).unwrap();
        let edges = naive(&memory, &options);
        let all = AddrRange::all();
        prop_assert_eq!(map.pointees(all).collect::<Vec<_>>(), edges.clone());
        prop_assert_eq!(map.len(), edges.len() as u64);
        prop_assert!(map.check(&memory, options.range).is_ok());
        for (start, len) in asked {
            let range = AddrRange::new(Gva(start), len + 1).unwrap();
            let mut into: Vec<_> = edges.iter().copied().filter(|edge| range.contains(edge.value)).collect();
            prop_assert_eq!(map.count_referrers(range), into.len() as u64);
            // Once, in the order of places.
            let sweep = crate::SweepOptions {
                range: options.sources,
                perm: options.perm,
                threads: 1,
                window: 40,
                ..crate::SweepOptions::default()
            };
            let scanner = Referrers::new(range, options.width, options.align);
            let mut once = Vec::new();
            let _ = crate::sweep::seek(&memory, &scanner, &sweep, &mut crate::quiet, |at, value| {
                // A range may reach beyond what is mapped; what leads there leads nowhere.
                if memory.regions(AddrRange::all()).any(|region| region.range().contains(Gva(value))) {
                    once.push(Edge::found(at, value));
                }
                Continue(())
            });
            prop_assert_eq!(&once, &into);
            into.sort_by_key(|edge| (edge.value, edge.at));
            prop_assert_eq!(map.referrers(range).collect::<Vec<_>>(), into);
            let from: Vec<_> = edges.iter().copied().filter(|edge| range.contains(edge.at)).collect();
            prop_assert_eq!(map.pointees(range).collect::<Vec<_>>(), from);
        }
    }

    #[test]
    fn paths_are_all_chains(
        seed: u64,
        target in 0x1_0000u64..0x1_8000,
        base in 0x1_0000u64..0x1_4000,
        value in prop::option::of(0x1_0000u64..0x1_8000),
        depth in 0usize..4,
        max_offset in 0u64..0x60,
        back in prop_oneof![Just(0u64), 0u64..0x20],
        loops: bool,
        wide: bool,
    ) {
        let memory = any_map(seed);
        let (width, align) = if wide { (Width::Eight, 8) } else { (Width::Four, 4) };
        let pointers = PointerOptions { width, align, ..PointerOptions::default() };
        let options = PathOptions {
            ranges: vec![AddrRange::new(Gva(base), 0x800).unwrap(), AddrRange::new(Gva(base + 0x700), 0x300).unwrap()],
            values: value.map(Gva).into_iter().collect(),
            depth,
            max_offset,
            back,
            loops,
            ..PathOptions::default()
        };
        let run = || Run::new().threads(1);
        let map = PointerMap::build(&memory, &pointers, run()).unwrap();
        let mut paths = Vec::new();
        let outcome = find_paths(&map, Gva(target), &options, &run(), &mut |path| {
            paths.push(path);
            Continue(())
        });
        prop_assert_eq!(outcome, PathOutcome { stopped: false, depth });
        for path in &paths {
            prop_assert_eq!(path.follow(&memory, width), Ok(Gva(target)));
        }
        prop_assert_eq!(&paths, &chains(&naive(&memory, &pointers), target, &options));
        let mut once = Vec::new();
        let (outcome, _) = find_paths_once(&memory, &pointers, Gva(target), &options, &run(), &mut |path| {
            once.push(path);
            Continue(())
        }).unwrap();
        prop_assert_eq!(outcome, PathOutcome { stopped: false, depth });
        prop_assert_eq!(once, paths);
    }
}

/// All chains, by following every pointer from every base.
fn chains(edges: &[Edge<Gva>], target: u64, options: &PathOptions<Gva>) -> Vec<Path<Gva>> {
    struct Walk<'w> {
        edges: BTreeMap<u64, u64>,
        target: u64,
        options: &'w PathOptions<Gva>,
        paths: Vec<Path<Gva>>,
    }
    impl Walk<'_> {
        fn fits(&self, offset: i64) -> bool {
            -(self.options.back as i64) <= offset && offset <= self.options.max_offset as i64
        }

        /// `followed` pointers have been followed, the last of them to `pointer`.
        fn on(
            &mut self,
            base: Base<Gva>,
            pointer: u64,
            followed: usize,
            places: &[u64],
            offsets: &[i64],
        ) {
            let to = self.target as i64 - pointer as i64;
            if self.fits(to) {
                let offsets = [offsets, &[to]].concat();
                self.paths.push(Path { base, offsets });
            }
            if followed == self.options.depth {
                return;
            }
            let all: Vec<(u64, u64)> = self.edges.iter().map(|(&at, &value)| (at, value)).collect();
            for (at, value) in all {
                let offset = at as i64 - pointer as i64;
                if self.fits(offset) && (self.options.loops || !places.contains(&at)) {
                    let places = [places, &[at]].concat();
                    self.on(
                        base,
                        value,
                        followed + 1,
                        &places,
                        &[offsets, &[offset]].concat(),
                    );
                }
            }
        }
    }
    let mut walk = Walk {
        edges: edges.iter().map(|edge| (edge.at.0, edge.value.0)).collect(),
        target,
        options,
        paths: Vec::new(),
    };
    for edge in edges {
        let is_base = options.ranges.iter().any(|range| range.contains(edge.at));
        if is_base && options.depth > 0 {
            walk.on(Base::Place(edge.at), edge.value.0, 1, &[edge.at.0], &[]);
        }
    }
    for &value in &options.values {
        walk.on(Base::Value(value), value.0, 0, &[], &[]);
    }
    let followed = |path: &Path<Gva>| match path.base {
        Base::Place(_) => path.offsets.len(),
        Base::Value(_) => path.offsets.len() - 1,
    };
    walk.paths
        .sort_by(|a, b| (followed(a), a.base, &a.offsets).cmp(&(followed(b), b.base, &b.offsets)));
    walk.paths
}

#[test]
fn bounds_are_errors_and_not_answers() {
    let memory = rich_map();
    let build = |options| PointerMap::build(&memory, &options, Run::new());
    let few = PointerOptions {
        max_edges: 3,
        ..PointerOptions::default()
    };
    assert_eq!(build(few).unwrap_err(), BuildError::TooMany { most: 3 });
    let stop = std::sync::atomic::AtomicBool::new(true);
    let run = Run::new().cancel(&stop);
    let stopped = PointerMap::build(&memory, &PointerOptions::default(), run);
    assert_eq!(stopped.unwrap_err(), BuildError::Stopped);

    let map = build(PointerOptions::default()).unwrap();
    let target = map.pointees(AddrRange::all()).last().unwrap().value;
    let options = PathOptions {
        ranges: vec![AddrRange::all()],
        max_offset: 0x4000,
        max_places: 60,
        depth: 5,
        ..PathOptions::default()
    };
    let outcome = find_paths(&map, target, &options, &Run::new(), &mut |_| Continue(()));
    assert!(outcome.depth < 5 && !outcome.stopped, "{outcome:?}");
}

#[test]
fn memory_that_is_another_or_has_changed_is_told_apart() {
    let memory = rich_map();
    let map = PointerMap::build(&memory, &PointerOptions::default(), Run::new()).unwrap();
    let mut changed = memory.clone();
    changed.parts[0].bytes[9] ^= 1;
    assert_eq!(map.check(&changed, None), Err(Foreign::Content));
    let mut other = memory.clone();
    other.parts.pop();
    assert_eq!(map.check(&other, None), Err(Foreign::Mapping));
}

#[test]
fn memory_without_pointers_has_an_index_too() {
    for memory in [TestMemory::new(), TestMemory::<Gva>::of(0x1000, &[0; 256])] {
        let map = PointerMap::build(&memory, &PointerOptions::default(), Run::new()).unwrap();
        assert_eq!(map.len(), 0);
        assert_eq!(map.referrers(AddrRange::all()).count(), 0);
        assert_eq!(map.pointees(AddrRange::all()).count(), 0);
    }
}
