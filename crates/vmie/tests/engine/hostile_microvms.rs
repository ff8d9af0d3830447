//! Damaged and lying states of microVMs: they are refused, or open as what they say; nothing panics, hangs or
//! allocates by a number in them.
//!
//! Deterministic: every run tries the same states.

use std::ops::Range;

use crate::bodies::open_microvm::{open_microvm, with_checksum};
use crate::common::cpus;
use vmie_synth::write::{self, Firecracker, FirecrackerForm};

const RANGES: [Range<u64>; 2] = [0..0xc_0000, 0x1_0000_0000..0x1_0004_0000];

fn states() -> Vec<(FirecrackerForm, Vec<u8>)> {
    let state = |form| {
        let options = Firecracker {
            form,
            cpus: cpus(),
            ..Firecracker::default()
        };
        (form, write::firecracker(&RANGES, &options))
    };
    FirecrackerForm::ALL.into_iter().map(state).collect()
}

/// What an undamaged state says.
fn truth(form: FirecrackerForm, bytes: &[u8]) -> (Vec<(u64, u64)>, usize) {
    let image = open_microvm(bytes).unwrap_or_else(|error| panic!("{form:?}: {error}"));
    let ranges = image.info().ranges.iter();
    (
        ranges.map(|range| (range.start().0, range.len())).collect(),
        image.info().hints.cpus.len(),
    )
}

#[test]
fn damaged_states_of_firecracker_are_refused() {
    let mut tried = 0;
    for (form, bytes) in states() {
        assert_eq!(truth(form, &bytes).1, 3, "{form:?}");
        for cut in (0..64).chain((64..bytes.len()).step_by(101)) {
            assert!(
                open_microvm(&bytes[..cut]).is_err(),
                "{form:?} cut at {cut}"
            );
            tried += 1;
        }
        for at in (0..400)
            .chain((400..bytes.len()).step_by(151))
            .chain(bytes.len() - 8..bytes.len())
        {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            assert!(open_microvm(&bytes).is_err(), "{form:?}, byte {at}");
            tried += 1;
        }
    }
    assert!(tried > 3000, "{tried}");
}

/// With a checksum that fits, everything else still has to.
#[test]
fn lying_states_of_firecracker_do_no_harm() {
    for (form, bytes) in states() {
        let (ranges, _) = truth(form, &bytes);
        let extremes = [0, 255, 1 << 52, u64::MAX];
        for at in (0..140).chain((140..300).step_by(3)) {
            for value in extremes {
                let mut bytes = bytes.clone();
                bytes[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
                if let Ok(image) = open_microvm(&with_checksum(&bytes)) {
                    // Regions may be said to lie elsewhere; there is no more and no less of them.
                    let len = |ranges: &[(u64, u64)]| ranges.iter().map(|one| one.1).sum::<u64>();
                    let seen = image.info().ranges.iter();
                    let seen: Vec<_> = seen.map(|one| (one.start().0, one.len())).collect();
                    assert_eq!(seen[0].0, 0, "{form:?}, {value:#x} at {at}");
                    assert_eq!(len(&seen), len(&ranges), "{form:?}, {value:#x} at {at}");
                }
            }
        }
    }
}

/// Two lists of regions that both add up: neither is believed.
#[test]
fn a_second_list_of_regions_is_no_choice() {
    for (form, bytes) in states() {
        if matches!(form, FirecrackerForm::V1_15 | FirecrackerForm::Numbers) {
            continue;
        }
        let needle: Vec<u8> = [2_u64, 0, 0xc_0000]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        let at = bytes
            .windows(24)
            .position(|part| part == needle)
            .expect("there");
        let other: Vec<u8> = [2_u64, 0, 0x8_0000, 0x1_0000_0000, 0x8_0000]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        let planted = [&bytes[..at], &other, &bytes[at..]].concat();
        let error = open_microvm(&with_checksum(&planted)).expect_err("two of them");
        let error = error.to_string();
        assert!(
            error.contains("several different ones"),
            "{form:?}: {error}"
        );
    }
}

#[cfg(feature = "cloud-hypervisor")]
#[test]
fn lying_states_of_cloud_hypervisor_do_no_harm() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut source = |gpa: u64, buf: &mut [u8]| {
        crate::common::fill(gpa, buf);
        Ok(())
    };
    write::cloud_hypervisor(directory.path(), &RANGES, &mut source, &cpus()).expect("writes");
    let state = std::fs::read(directory.path().join("state.json")).expect("reads");
    for at in (1..state.len()).step_by(7) {
        for byte in [b'9', b'"', 0xff] {
            let mut state = state.clone();
            state[at] = byte;
            let _ = open_microvm(&state);
        }
    }
}
