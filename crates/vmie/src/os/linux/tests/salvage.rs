//! Tables with pages of them overwritten: what is left is what was there, under its number and name.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use vmie_synth::guest::{Machine, Rng};
use vmie_synth::linux::{Arrangement, Btf as Writer, Sym, kallsyms};

use crate::addr::{Address, Gpa};
use crate::os::linux::btf::Btf;
use crate::os::linux::kallsyms::{self as reader, DIGITS, Places};
use crate::os::types::{TypeId, TypeSource};
use crate::testguest::Synthetic;

const PAGE: usize = 4096;

/// Types that refer to each other as those of a kernel do: mostly to some not far before.
fn types(rng: &mut Rng) -> Vec<u8> {
    let mut writer = Writer::default();
    let mut sized = vec![
        (writer.int("int", 4, 1), 4),
        (writer.int("long", 8, 1), 8),
        (writer.int("char", 1, 0), 1),
    ];
    let int = sized[0].0;
    for i in 0..6000_u32 {
        let recent = sized.len().saturating_sub(60);
        let near = recent + rng.below((sized.len() - recent) as u64) as usize;
        let (ty, size) = sized[near];
        let new = match rng.below(8) {
            0 => (writer.pointer(ty), 8),
            1 => (writer.typedef(&format!("alias_{i}"), ty), size),
            2 => {
                let count = rng.below(5) as u32 + 1;
                (writer.array(ty, int, count), size.min(1 << 16) * count)
            }
            3 => {
                let prototype = writer.prototype(ty, &[("first", ty), ("second", int)]);
                writer.function(&format!("function_{i}"), prototype);
                continue;
            }
            4 => {
                writer.enumeration(&format!("kind_{i}"), false, &[("ONE", 1), ("TWO", 2)]);
                continue;
            }
            _ => {
                let mut members = Vec::new();
                let mut at = 0;
                let names: Vec<String> = (0..rng.below(9) + 2).map(|m| format!("m{m}")).collect();
                for name in &names {
                    let (ty, size) =
                        sized[recent + rng.below((sized.len() - recent) as u64) as usize];
                    members.push((name.as_str(), ty, at * 8));
                    at = (at + size).min(1 << 18);
                }
                (writer.structure(&format!("thing_{i}"), at, &members), at)
            }
        };
        if new.1 < 1 << 14 {
            sized.push(new);
        }
    }
    writer.bytes()
}

/// What is put on a page.
fn overwrite(page: &mut [u8], how: u64, rng: &mut Rng, other: &[u8]) {
    match how {
        0 => rng.fill(page),
        1 => page.fill(0),
        _ => page.copy_from_slice(&other[..page.len()]),
    }
}

#[test]
fn types_keep_their_numbers_around_damage() {
    let mut rng = Rng::new(21);
    let whole = types(&mut rng);
    let truth = Btf::parse(whole.clone()).expect("well-formed");
    let strings = whole.len() - 60_000;
    let mut other = vec![0; PAGE];
    for (i, byte) in other.iter_mut().enumerate() {
        *byte = b"some text of something else, \0"[i % 30];
    }
    let mut kept = Vec::new();
    for page in 1..strings / PAGE / 2 {
        let mut bytes = whole.clone();
        let how = page as u64 % 3;
        overwrite(&mut bytes[page * PAGE..][..PAGE], how, &mut rng, &other);
        let (left, losses) = Btf::salvage(bytes, 0).expect("the rest is there");
        assert!(!losses.is_empty());
        let mut same = 0;
        for id in 1..truth.end() {
            let id = TypeId(id);
            if let Some(found) = left.get(id) {
                let known = truth.get(id).expect("whole");
                if found == known {
                    same += 1;
                } else {
                    // On the border of the page parts are wrong or missing, but it is what it was.
                    assert_eq!(truth.name(id), left.name(id), "page {page}, {id:?}");
                }
            }
        }
        kept.push(same);
    }
    // A page holds a record for each twelve bytes at most.
    let least = truth.end() - 1 - (PAGE / 12) as u32 - 2;
    let full = kept.iter().filter(|&&same| same >= least).count();
    assert_eq!(full, kept.len(), "{least}: {kept:?}");
}

#[test]
fn types_with_many_pages_lost_are_those_that_were_there() {
    let mut rng = Rng::new(22);
    let whole = types(&mut rng);
    let truth = Btf::parse(whole.clone()).expect("well-formed");
    for _ in 0..20 {
        let mut bytes = whole.clone();
        for _ in 0..4 {
            let page = rng.below((whole.len() / PAGE) as u64) as usize;
            rng.fill(&mut bytes[page * PAGE..][..PAGE]);
        }
        let Ok((left, _)) = Btf::salvage(bytes, 0) else {
            continue;
        };
        let mut wrong = 0;
        let mut same = 0;
        for id in (1..truth.end()).map(TypeId) {
            match (left.get(id), truth.get(id)) {
                (Some(left), Some(truth)) if left == truth => same += 1,
                (Some(_), _) => wrong += 1,
                (None, _) => {}
            }
        }
        // Those on borders, and those whose names are lost.
        assert!(wrong * 4 < same, "{wrong} wrong, {same} same");
    }
}

#[test]
fn noise_and_hostile_records_end_soon() {
    let mut rng = Rng::new(23);
    let start = Instant::now();
    let mut noise = vec![0; 1 << 20];
    rng.fill(&mut noise);
    let _ = Btf::salvage(noise, 0);
    let _ = Btf::salvage(vec![0; 4 << 20], 0);
    let _ = Btf::salvage(b"\0a".repeat(1 << 20), 0);
    // Stretches of a few records with damage between them, all alike.
    let mut writer = Writer::default();
    writer.int("int", 4, 1);
    for i in 0..40_000 {
        if i % 12 == 11 {
            writer.record("", 31, false, 0, 0, &[u32::MAX]);
        } else {
            writer.pointer(i % 3 + 1);
        }
    }
    let _ = Btf::salvage(writer.bytes(), 0);
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
}

const AT: u64 = 8 << 20;

fn symbols() -> Vec<Sym> {
    let text = (0..20_000).map(|i| {
        let va = 0xffff_ffff_80f0_0000 + 16 * i;
        Sym::new(
            va,
            'T',
            format!("do_{:05}_thing_{}", i * 7919 % 20_000, i % 13),
        )
    });
    let data = Sym::new(0xffff_ffff_8180_0000, 'D', "data");
    text.chain([data]).collect()
}

#[test]
fn symbols_keep_their_addresses_around_damage() {
    let symbols = symbols();
    let truth: HashMap<&str, u64> = symbols.iter().map(|s| (s.name.as_str(), s.va)).collect();
    let mut rng = Rng::new(24);
    for arrangement in [
        Arrangement::V6_0,
        Arrangement::V6_1,
        Arrangement::V6_14,
        Arrangement::V6_19,
        Arrangement::V7_0,
    ] {
        let tables = kallsyms(arrangement, &symbols, 0xffff_ffff_8120_0000);
        let digits = memchr::memmem::find(&tables.bytes, DIGITS).expect("has them");
        let place = |label: &str| {
            let at = tables.labels.get(label)?;
            Some(Gpa(AT + *at as u64))
        };
        let places = Places {
            num_syms: place("kallsyms_num_syms").expect("is there"),
            names: place("kallsyms_names").expect("is there"),
            token_table: place("kallsyms_token_table").expect("is there"),
            token_index: place("kallsyms_token_index").expect("is there"),
            offsets: place("kallsyms_offsets").expect("is there"),
            relative_base: place("kallsyms_relative_base"),
        };
        let tokens = tables.labels["kallsyms_token_table"] / PAGE;
        let (mut by_place, mut by_shape, mut pages) = (0, 0, 0);
        for page in (0..tables.bytes.len() / PAGE).step_by(3) {
            if page == tokens || page == tokens + 1 {
                continue;
            }
            pages += 1;
            let mut bytes = tables.bytes.clone();
            overwrite(
                &mut bytes[page * PAGE..][..PAGE],
                page as u64 % 2,
                &mut rng,
                &[],
            );
            let mut machine = Machine::new(0..16 << 20);
            machine.phys.write(AT, &bytes);
            let ram = Synthetic::new(machine.phys);
            let found = [
                reader::from_damaged_places(&ram, &places, &[]).ok(),
                reader::around_digits(&ram, Gpa(AT + digits as u64)).ok(),
            ];
            for (found, count) in found.into_iter().zip([&mut by_place, &mut by_shape]) {
                let Some(found) = found else {
                    continue;
                };
                let table = found.symbols(0);
                let mut wrong = 0;
                for symbol in table.iter() {
                    let at = match found.is_place_relative() {
                        true => symbol
                            .va
                            .raw()
                            .wrapping_sub(AT)
                            .wrapping_add(0xffff_ffff_8120_0000),
                        false => symbol.va.raw(),
                    };
                    wrong += usize::from(truth.get(symbol.name) != Some(&at));
                }
                assert!(wrong <= 2, "{arrangement:?}, page {page}: {wrong} wrong");
                assert!(
                    table.len() + 1800 >= symbols.len(),
                    "{arrangement:?}, page {page}: {} left",
                    table.len()
                );
                let lost: usize = found.lost(0).iter().map(|lost| lost.count).sum();
                assert_eq!(table.len() + lost, symbols.len());
                *count += 1;
            }
        }
        // The page with the number of symbols and the base of offsets is one of them.
        assert!(
            by_place + 2 >= pages,
            "{arrangement:?}: {by_place} of {pages}"
        );
        assert!(
            by_shape + 4 >= pages,
            "{arrangement:?}: {by_shape} of {pages}"
        );
    }
}
