//! Single translations against QEMU's `gva2gpa`.

use vmie::{Gva, Mode, paging};

use crate::support::{are_standard, current, each_image, mode, snapshots};

#[test]
fn translations_agree_with_gva2gpa_in_every_format() {
    each_image(|snapshot, image, name| {
        let space = current(snapshot, image);
        let expected = snapshot.translations().expect("readable");
        let mapped = expected.iter().filter(|t| t.gpa.is_some()).count();
        let unmapped = expected.len() - mapped;
        assert!(
            mapped >= 2000 && unmapped >= 1000,
            "{name}: {mapped}, {unmapped}"
        );
        for translation in expected {
            let va = Gva(translation.va);
            let walk = space.walk(va);
            assert_eq!(walk.result, space.translate(va), "{name}: two ways to {va}");
            match (walk.result, translation.gpa) {
                (Ok(mapping), Some(gpa)) => {
                    assert_eq!(mapping.gpa.0, gpa, "{name}: {va}");
                    let steps = walk.steps.len() as u64;
                    let skipped = u64::from(mapping.page_size.trailing_zeros() - 12) / 9;
                    let levels = if snapshot.machine.five_levels { 5 } else { 4 };
                    assert_eq!(steps + skipped, levels, "{name}: {va}: one entry a level");
                }
                (Err(fault), None) => {
                    assert!(fault.cause.is_unmapped(), "{name}: {va}: {fault}");
                    assert_eq!(fault.addr, va, "{name}");
                }
                (ours, qemu) => panic!("{name}: {va}: {ours:?}, but QEMU says {qemu:x?}"),
            }
        }
    });
}

/// `auto` finds the paging mode: from CPU state where the image has it, else by evidence.
#[test]
fn the_paging_mode_is_detected_in_every_format() {
    each_image(|snapshot, image, name| {
        let cpus = image.info().hints.cpus.clone();
        for root in &snapshot.roots {
            let detection = paging::detect(&*image, vmie::Gpa(root.root), &cpus);
            let detection = detection.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(detection.mode, mode(snapshot), "{name}: {}", detection.why);
        }
    });
    let snapshots = snapshots();
    let modes: Vec<Mode> = snapshots.iter().map(mode).collect();
    let both = modes.contains(&Mode::FourLevel) && modes.contains(&Mode::FiveLevel);
    assert!(both || !are_standard(&snapshots), "{modes:?}");
}
