//! The promises of the sweep, one by one and on arbitrary memory.

use std::ops::ControlFlow::{Break, Continue};
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::addr::{Gpa, Gva};
use crate::memory::{Cause, Fault, Span, SpanKind, Spans};
use crate::testany::any_memory;
use crate::testmem::{Made, TestMemory};

const WINDOWS: [usize; 6] = [1, 2, 3, 7, 4096, DEFAULT_WINDOW];

fn options(window: usize, threads: usize) -> SweepOptions<Gva> {
    SweepOptions {
        window,
        threads,
        ..SweepOptions::default()
    }
}

/// Every owned byte with its address.
fn bytes_of(
    memory: &TestMemory<Gva>,
    options: &SweepOptions<Gva>,
) -> (Vec<(u64, u8)>, SweepOutcome<Gva>) {
    let mut seen = Vec::new();
    let outcome = sweep(
        memory,
        options,
        &mut quiet,
        |window, found| {
            for (i, &byte) in window.bytes[..window.owned].iter().enumerate() {
                found.push((window.addr(i).0, byte));
            }
        },
        |result| {
            seen.push(result);
            Continue(())
        },
    );
    (seen, outcome)
}

fn range(start: u64, len: u64) -> Option<AddrRange<Gva>> {
    AddrRange::new(Gva(start), len)
}

#[test]
fn options_are_shared_between_threads() {
    fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<SweepOptions<Gva>>();
    assert_send_sync::<SweepOutcome<Gpa>>();
    assert_send_sync::<Found<u64>>();
}

#[test]
fn a_run_goes_on_across_regions_and_ends_at_what_is_left_out() {
    let rx = Prot::R.union(Prot::X);
    let memory = TestMemory::<Gva>::new()
        .part(0x1000, &[1; 16], rx)
        .part(0x1010, &[2; 16], Prot::RWX)
        .part(0x1020, &[3; 16], Prot::R)
        .part(0x1030, &[4; 16], rx);
    let look = |perm| {
        let mut windows = Vec::new();
        let outcome = sweep(
            &memory,
            &SweepOptions {
                perm,
                threads: 1,
                ..SweepOptions::default()
            },
            &mut quiet,
            |window, found| found.push((window.start.0, window.owned)),
            |window| {
                windows.push(window);
                Continue(())
            },
        );
        assert!(outcome.coverage.is_complete());
        (windows, outcome.coverage.read)
    };
    assert_eq!(look(Prot::NONE), (vec![(0x1000, 64)], 64));
    assert_eq!(look(Prot::X), (vec![(0x1000, 32), (0x1030, 16)], 48));
    assert_eq!(look(Prot::W), (vec![(0x1010, 16)], 16));
}

#[test]
fn look_behind_reaches_into_the_region_before() {
    // The first window ends exactly where the first region does.
    let memory = TestMemory::<Gva>::new()
        .part(0x1000, b"abcd", Prot::RWX)
        .part(0x1004, b"efgh", Prot::R);
    let mut windows = Vec::new();
    let _ = sweep(
        &memory,
        &SweepOptions {
            behind: 3,
            ..options(4, 1)
        },
        &mut quiet,
        |window, found| found.push((window.before.to_vec(), window.bytes.to_vec())),
        |window| {
            windows.push(window);
            Continue(())
        },
    );
    assert_eq!(
        windows,
        [
            (b"".to_vec(), b"abcd".to_vec()),
            (b"bcd".to_vec(), b"efgh".to_vec())
        ]
    );
}

#[test]
fn coverage_tells_absent_lost_and_unmapped_apart() {
    let memory = TestMemory::<Gva>::new()
        .part(0x2000, &[7; 0x3000], Prot::RWX)
        .absent(0x3000, 0x1000)
        .lost(0x8000, 0x2000);
    for window in WINDOWS {
        for threads in [1, 2] {
            let (seen, outcome) = bytes_of(&memory, &options(window, threads));
            assert_eq!(seen.len(), 0x2000);
            let c = &outcome.coverage;
            assert_eq!((c.mapped, c.read, c.absent), (0x3000, 0x2000, 0x1000));
            assert_eq!(
                (c.lost, c.unmapped, c.gap_count),
                (0x2000, 0, 2),
                "window {window}"
            );
            assert!(!outcome.stopped);

            let asked = SweepOptions {
                range: range(0x1800, 0x7000),
                ..options(window, threads)
            };
            let (_, outcome) = bytes_of(&memory, &asked);
            let c = &outcome.coverage;
            assert_eq!((c.mapped, c.read, c.absent), (0x3000, 0x2000, 0x1000));
            assert_eq!((c.lost, c.unmapped), (0x800, 0x800 + 0x3000));
            let gaps: Vec<_> = c.gaps.iter().map(|gap| (gap.start.0, gap.len)).collect();
            assert_eq!(
                gaps,
                [
                    (0x1800, 0x800),
                    (0x3000, 0x1000),
                    (0x5000, 0x3000),
                    (0x8000, 0x800)
                ]
            );
            assert!(matches!(c.gaps[0].cause, Cause::NotMapped { .. }));
        }
    }
}

#[test]
fn a_range_in_which_nothing_is_mapped_is_one_gap() {
    let memory = TestMemory::<Gva>::of(0x2000, &[1; 16]);
    let asked = SweepOptions {
        range: range(0x9000, 0x100),
        ..options(3, 1)
    };
    let (seen, outcome) = bytes_of(&memory, &asked);
    assert_eq!(seen, []);
    let c = &outcome.coverage;
    assert_eq!((c.mapped, c.unmapped, c.gap_count), (0, 0x100, 1));
}

#[test]
fn memory_reaches_the_top_of_the_space() {
    let top = 0u64.wrapping_sub(16);
    let bytes: Vec<u8> = (0xf0..=0xff).collect();
    let memory = TestMemory::of(top, &bytes);
    for window in [1, 3, 16, 4096] {
        let mut seen = 0;
        let outcome = sweep(
            &memory,
            &SweepOptions {
                range: AddrRange::inclusive(Gva(top - 4), Gva(u64::MAX)),
                overlap: 9,
                ..options(window, 1)
            },
            &mut quiet,
            |window, found| found.push((window.start.0, window.owned)),
            |(_, owned)| {
                seen += owned;
                Continue(())
            },
        );
        assert_eq!(
            (seen, outcome.coverage.read, outcome.coverage.unmapped),
            (16, 16, 4)
        );
    }
}

/// Zeros, mapped as an endless or a false list says.
fn zeros(spans: impl Fn() -> Spans<'static, Gva> + Send + Sync) -> impl Memory<Addr = Gva> {
    let read = |_: Gva, buf: &mut [u8]| {
        buf.fill(0);
        Ok(())
    };
    Made::of(move |_| spans(), read)
}

#[test]
fn a_huge_space_ends_at_the_bound_on_the_work() {
    let all = Span {
        start: Gva(0),
        len: 1 << 47,
        kind: SpanKind::Mapped(Prot::RWX),
    };
    for threads in [1, 2] {
        let options = SweepOptions {
            max_bytes: 1_000_000,
            ..options(4096, threads)
        };
        let mut last = 0;
        let outcome = sweep(
            &zeros(move || Box::new(std::iter::once(all))),
            &options,
            &mut |done| {
                last = done;
                Continue(())
            },
            |_, _: &mut Found<()>| {},
            Continue,
        );
        let c = &outcome.coverage;
        assert_eq!((c.read, c.lost), (1_000_000, (1 << 47) - 1_000_000));
        assert_eq!((c.gaps[0].cause, c.gap_count), (Cause::Limit, 1));
        assert_eq!(last, 1_000_000);
    }
}

#[test]
fn regions_without_end_are_taken_one_by_one() {
    // 2^36 pages of alternating protection.
    let endless = zeros(|| {
        Box::new((0u64..1 << 36).map(|i| Span {
            start: Gva(i << 12),
            len: 4096,
            kind: SpanKind::Mapped(if i % 2 == 0 { Prot::R } else { Prot::RWX }),
        }))
    });
    let mut windows = 0;
    let outcome = sweep(
        &endless,
        &options(1 << 14, 2),
        &mut quiet,
        |window, found| found.push(window.owned),
        |owned| {
            assert_eq!(owned, 1 << 14, "one run");
            windows += 1;
            if windows == 100 {
                Break(())
            } else {
                Continue(())
            }
        },
    );
    assert!(outcome.stopped);
    assert_eq!(outcome.coverage.read, 100 << 14);
}

#[test]
fn emit_and_progress_can_stop() {
    let memory = TestMemory::<Gva>::of(0x1000, &[1; 100]);
    for threads in [1, 2] {
        let mut seen = Vec::new();
        let outcome = sweep(
            &memory,
            &options(10, threads),
            &mut quiet,
            |window, found| found.push(window.start.0),
            |at| {
                seen.push(at);
                if at == 0x1014 {
                    Break(())
                } else {
                    Continue(())
                }
            },
        );
        assert!(outcome.stopped);
        assert_eq!(seen, [0x1000, 0x100a, 0x1014]);
        assert_eq!(
            outcome.coverage.read, 30,
            "nothing is said of what was not looked at"
        );

        let outcome = sweep(
            &memory,
            &options(10, threads),
            &mut |done| if done >= 50 { Break(()) } else { Continue(()) },
            |_, _: &mut Found<()>| {},
            Continue,
        );
        assert!(outcome.stopped);
        assert_eq!(outcome.coverage.read, 50);
    }
}

#[test]
fn a_window_with_too_many_results_is_halved_and_nothing_is_lost() {
    let memory = TestMemory::<Gva>::new()
        .part(0x1000, &[1; 3 * 4096], Prot::RWX)
        .absent(0x2000, 4096);
    for threads in [1, 2] {
        let largest = Mutex::new(0);
        let mut emitted = Vec::new();
        let outcome = sweep(
            &memory,
            &SweepOptions {
                overlap: 5,
                behind: 2,
                ..options(DEFAULT_WINDOW, threads)
            },
            &mut quiet,
            |window, found| {
                for i in 0..window.owned {
                    for n in 0..100u64 {
                        found.push((window.addr(i).0, n));
                    }
                    // What a result may look at is the same however the window was halved.
                    let behind = if window.start.0 & 0xfff == 0 { 0 } else { 2 };
                    assert!(
                        window.before.len() <= 2 && (i > 0 || window.before.len() >= behind.min(1))
                    );
                }
                let mut largest = largest.lock().unwrap();
                *largest = found.items().len().max(*largest);
            },
            |result| {
                emitted.push(result);
                Continue(())
            },
        );
        assert!(*largest.lock().unwrap() <= RESULTS_PER_WINDOW);
        let expected: Vec<_> = (0x1000..0x2000)
            .chain(0x3000..0x4000)
            .flat_map(|addr| (0..100).map(move |n| (addr, n)))
            .collect();
        assert!(emitted == expected, "in order, each once");
        assert_eq!(
            (outcome.coverage.read, outcome.coverage.absent),
            (8192, 4096)
        );
    }
}

#[test]
fn more_results_at_one_byte_than_a_window_may_have() {
    let memory = TestMemory::<Gva>::of(0x1000, &[1, 2]);
    let count = RESULTS_PER_WINDOW + 5;
    let mut emitted = 0;
    let _ = sweep(
        &memory,
        &options(DEFAULT_WINDOW, 1),
        &mut quiet,
        |window, found| (0..window.owned * count).for_each(|_| found.push(())),
        |()| {
            emitted += 1;
            Continue(())
        },
    );
    assert_eq!(emitted, 2 * count);
}

#[test]
fn a_source_that_contradicts_itself_does_no_harm() {
    let spans = |_| -> Spans<'static, Gva> {
        let span = |start, len| Span {
            start: Gva(start),
            len,
            kind: SpanKind::Mapped(Prot::R),
        };
        // Out of order, overlapping, empty, wrapping.
        Box::new(
            [
                span(0x3000, 0x1000),
                span(0x1000, 0),
                span(0x1000, 0x3000),
                span(u64::MAX, 9),
            ]
            .into_iter(),
        )
    };
    let read = |addr: Gva, _: &mut [u8]| {
        // A fault that lies before what was asked for.
        Err(Fault {
            addr: Gva(addr.0 / 2),
            cause: Cause::Io { errno: 5 },
        })
    };
    let mut liar = Made::of(spans, read);
    liar.lent = Some(&[1]);
    for range in [None, range(0x800, 0x8000)] {
        let outcome = sweep(
            &liar,
            &SweepOptions {
                range,
                overlap: 3,
                ..options(64, 2)
            },
            &mut quiet,
            |_, _: &mut Found<()>| {},
            Continue,
        );
        let c = &outcome.coverage;
        assert_eq!(c.mapped, c.read + c.absent);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_is_owned_once_or_counted_once(
        memory in any_memory::<Gva>(),
        window in prop_oneof![Just(1usize), 2..9usize, 4000..9000usize, Just(DEFAULT_WINDOW)],
        overlap in 0usize..6000,
        behind in 0usize..4,
        threads in 1usize..=2,
        asked in prop::option::of((0u64..0xa000, 1u64..0xa000)),
        exec in any::<bool>(),
    ) {
        // Tiny windows with a huge overlap read everything thousands of times.
        let overlap = if window < 4000 { overlap % 17 } else { overlap };
        let options = SweepOptions {
            range: asked.and_then(|(start, len)| range(start, len)),
            perm: if exec { Prot::X } else { Prot::NONE },
            window,
            overlap,
            behind,
            threads,
            ..SweepOptions::default()
        };
        let stretches = memory.readable(options.perm, options.range);
        let check = |window: &Window<'_, Gva>| {
            let (start, bytes) = stretches
                .iter()
                .find(|(start, bytes)| {
                    window.start.0 >= *start && window.start.0 - start < bytes.len() as u64
                })
                .expect("a window shows readable bytes");
            let at = (window.start.0 - start) as usize;
            let end = (at + window.owned + overlap).min(bytes.len());
            assert_eq!(window.bytes, &bytes[at..end]);
            assert_eq!(window.before, &bytes[at.saturating_sub(behind)..at]);
            assert!(0 < window.owned && window.owned <= options.window);
        };
        let mut seen = Vec::new();
        let outcome = sweep(
            &memory,
            &options,
            &mut quiet,
            |window, found| {
                check(window);
                for (i, &byte) in window.bytes[..window.owned].iter().enumerate() {
                    found.push((window.addr(i).0, byte));
                }
            },
            |result| {
                seen.push(result);
                Continue(())
            },
        );
        let expected: Vec<_> = stretches
            .iter()
            .flat_map(|(start, bytes)| (*start..).zip(bytes.iter().copied()))
            .collect();
        prop_assert!(seen == expected);

        let wanted = options.range.unwrap_or(range(0, 0x1_0000).expect("fits"));
        let (mut mapped, mut lost, mut unmapped) = (0, 0, 0);
        for addr in wanted.start().0..=wanted.last().0 {
            let part = memory
                .parts
                .iter()
                .find(|part| addr >= part.start && addr - part.start < part.bytes.len() as u64);
            match part {
                Some(part) => mapped += u64::from(part.prot.contains(options.perm)),
                None if memory.lost.iter().any(|&(s, n)| addr >= s && addr - s < n) => lost += 1,
                None => unmapped += u64::from(options.range.is_some()),
            }
        }
        let c = &outcome.coverage;
        prop_assert_eq!(
            (c.mapped, c.read, c.absent, c.lost, c.unmapped),
            (mapped, seen.len() as u64, mapped - seen.len() as u64, lost, unmapped)
        );
    }
}
