//! Damaged and malicious tables: an answer or a refusal, never a panic or a hang.

use std::time::{Duration, Instant};

use vmie_synth::guest::{Machine, Rng};
use vmie_synth::linux::{Arrangement, Kernel, KernelPlan, Sym, kallsyms};

use crate::addr::{Address, Gpa};
use crate::hints::Hints;
use crate::os::linux::Linux;
use crate::os::linux::kallsyms::{self as reader, DIGITS, NotFound};
use crate::testguest::Synthetic;

const AT: u64 = 2 << 20;

/// Text before and data behind the tables, as place-relative offsets are checked for.
fn symbols() -> Vec<Sym> {
    let text = (0..1499).map(|i| {
        let va = 0xffff_ffff_80f0_0000 + 16 * i;
        Sym::new(va, 'T', format!("do_{i:04}_thing"))
    });
    let data = Sym::new(0xffff_ffff_8110_0000, 'D', "data");
    text.chain([data]).collect()
}

/// Looks for tables in `bytes`, placed at [`AT`] with zeros around.
fn locate(bytes: &[u8]) -> Result<usize, NotFound> {
    let mut machine = Machine::new(0..8 << 20);
    machine.phys.write(AT, bytes);
    let ram = Synthetic::new(machine.phys);
    let digits = memchr::memmem::find(bytes, DIGITS).ok_or(NotFound::NoTable)?;
    let found = reader::locate(&ram, Gpa(AT + digits as u64))?;
    Ok(found.symbols(0).len())
}

#[test]
fn undamaged_tables_are_read() {
    for arrangement in Arrangement::ALL {
        let symbols = symbols();
        let tables = kallsyms(arrangement, &symbols, 0xffff_ffff_8100_1000);
        assert_eq!(locate(&tables.bytes), Ok(symbols.len()), "{arrangement:?}");
    }
}

#[test]
fn damaged_tables_are_refused_or_read() {
    let symbols = symbols();
    let mut rng = Rng::new(3);
    let (mut refused, mut read) = (0, 0);
    for arrangement in Arrangement::ALL {
        let tables = kallsyms(arrangement, &symbols, 0xffff_ffff_8100_1000);
        for _ in 0..60 {
            let mut bytes = tables.bytes.clone();
            for _ in 0..rng.below(3) + 1 {
                let at = rng.below(bytes.len() as u64) as usize;
                let end = bytes.len().min(at + 1 + rng.below(16) as usize);
                match rng.below(3) {
                    0 => bytes[at..end].fill(0),
                    1 => bytes[at..end].fill(0xff),
                    _ => rng.fill(&mut bytes[at..end]),
                }
            }
            match locate(&bytes) {
                Ok(count) => {
                    assert_eq!(count, symbols.len());
                    read += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    // What is damaged in the letters of a token is read; lengths, counts and addresses are noticed.
    assert!(refused > 100 && read > 20, "{refused} refused, {read} read");
}

#[test]
fn every_table_that_is_cut_off_is_refused() {
    let tables = kallsyms(Arrangement::V6_14, &symbols(), 0xffff_ffff_8100_0000);
    for cut in (0..tables.labels["kallsyms_seqs_of_names"]).step_by(251) {
        assert!(locate(&tables.bytes[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn counts_that_lie_are_refused() {
    for arrangement in [Arrangement::V4_19, Arrangement::V6_14] {
        let tables = kallsyms(arrangement, &symbols(), 0xffff_ffff_8100_0000);
        let at = tables.labels["kallsyms_num_syms"];
        for count in [0_u32, 1, 1499, 1501, 1 << 20, u32::MAX] {
            let mut bytes = tables.bytes.clone();
            bytes[at..at + 4].copy_from_slice(&count.to_le_bytes());
            assert!(locate(&bytes).is_err(), "{arrangement:?}, {count}");
        }
    }
}

#[test]
fn addresses_that_do_not_ascend_are_refused() {
    for arrangement in Arrangement::ALL {
        let tables = kallsyms(arrangement, &symbols(), 0xffff_ffff_8100_1000);
        let (label, width) = match arrangement {
            Arrangement::V4_5 => ("kallsyms_addresses", 8),
            _ => ("kallsyms_offsets", 4),
        };
        let mut bytes = tables.bytes.clone();
        let at = tables.labels[label] + 700 * width;
        bytes[at] ^= 0x80;
        bytes[at + width - 2] ^= 1;
        let seen = locate(&bytes);
        assert!(
            matches!(&seen, Err(NotFound::Table(why)) if why.starts_with("no addresses for")),
            "{arrangement:?}: {seen:?}"
        );
    }
}

#[test]
fn memory_made_to_waste_time_ends_soon() {
    // Every place looks like markers, and like a number of symbols that fits them.
    let tables = kallsyms(Arrangement::V6_14, &symbols(), 0xffff_ffff_8100_0000);
    let start = tables.labels["kallsyms_token_table"];
    let end = tables.labels["kallsyms_offsets"];
    let mut bytes = Vec::new();
    while bytes.len() < 3 << 20 {
        for marker in (0..8_u32).map(|i| i * 0x201) {
            bytes.extend(marker.to_le_bytes());
        }
    }
    bytes.extend(&tables.bytes[start..end]);
    let begin = Instant::now();
    let seen = locate(&bytes);
    assert!(matches!(&seen, Err(NotFound::Table(_))), "{seen:?}");
    let mut machine = Machine::new(0..16 << 20);
    machine.phys.write(AT, &bytes);
    let digits = memchr::memmem::find(&bytes, DIGITS).expect("has them");
    let left = reader::around_digits(&Synthetic::new(machine.phys), Gpa(AT + digits as u64));
    assert!(left.is_err());
    // Without a bound on the work this takes minutes.
    assert!(
        begin.elapsed() < Duration::from_secs(20),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn damaged_guests_end_with_an_answer() {
    let mut machine = Machine::new(0..64 << 20);
    let kernel = Kernel::load(
        &mut machine,
        &KernelPlan {
            functions: 600,
            ..KernelPlan::default()
        },
    );
    let note = kernel.write_note(&mut machine, &kernel.note_lines());
    let root = kernel.space.root();
    let tables = kernel.gpa(kernel.kallsyms_va);
    let len = kernel.kallsyms.bytes.len() as u64;
    let mut rng = Rng::new(4);
    for _ in 0..40 {
        let mut machine = machine.clone();
        for _ in 0..1 + rng.below(4) {
            let at = match rng.below(4) {
                0 => note + 24 + rng.below(600),
                1 => root + 8 * 504 + rng.below(64),
                2 => tables + rng.below(len),
                _ => kernel.gpa(kernel.text + rng.below(8 << 20)),
            };
            let mut bytes = [0; 8];
            rng.fill(&mut bytes);
            machine.phys.write(at, &bytes[..1 + rng.below(8) as usize]);
        }
        match Linux::find(&Synthetic::of(machine), &Hints::default()) {
            Ok(found) => assert!(found.space.root().raw().is_multiple_of(4096)),
            Err(missed) => assert!(!missed.steps.is_empty()),
        }
    }
}
