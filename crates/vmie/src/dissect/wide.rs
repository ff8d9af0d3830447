//! Numbers that are one: eight bytes that one instance cannot tell from two numbers of four.
//!
//! Identifiers, hashes and times have 64 bits, of which each half alone may look like a number, a float or nothing.
//! How instances differ tells, by what two numbers of four bytes do not do. Eight aligned bytes are one
//! number where no instance has a pointer or text in them, and of two or more
//!
//! - *random*: each of the eight bytes takes many values, and of both halves a fourth or more make no sense as numbers of
//!   their own. Floats fail the second, colours and addresses of networks the first, for the bytes that they have in
//!   common; or, of three or more,
//! - *tagged*: the upper half is the same everywhere and makes no sense as a number of its own, while the lower half
//!   differs; or
//! - *in a narrow range*: the upper half takes values close to each other, too large for a count and no floats, while the
//!   lower half is random, as of times in nanoseconds and of identifiers that are made of times; or
//! - *grown*: the upper half is zero in some instances, where the lower half is small, and not in two or more others,
//!   where the lower half is large, as of a counter that has passed 32 bits.
//!
//! Two random numbers of four bytes beside each other are taken for one of eight: nothing tells them apart. Times in
//! microseconds stay two: their upper half is what a count beside a hash would be.

use std::collections::BTreeSet;

use super::look::Bytes;
use super::number::four;
use super::{Field, Kind, Value};

/// The fewest instances that tell, of random numbers and of others.
const FEWEST: usize = 2;
const FEWEST_OTHERS: usize = 3;
/// Numbers below this are small: a kind, a count.
const SMALL: u32 = 1 << 24;
/// How sure it is that it is one number.
const SURE: u8 = 60;

/// Makes one field of what is one number, in the maps of all instances; those that vote decide.
pub(super) fn join(all: &[Bytes], maps: &mut [Vec<Field>], voters: &[usize]) {
    let Some(&first) = voters.first() else {
        return;
    };
    let phase = all[first].at % 8;
    if voters.len() < FEWEST || all.iter().any(|one| one.at % 8 != phase) {
        return;
    }
    let end = all.iter().map(|one| one.bytes.len()).min().unwrap_or(0);
    let start = (8 - phase as usize) % 8;
    for offset in (start..end.saturating_sub(7)).step_by(8) {
        let Some(why) = joined(all, maps, voters, offset) else {
            continue;
        };
        for (bytes, map) in all.iter().zip(&mut *maps) {
            let inside = |field: &Field| {
                offset as u64 <= field.offset && field.offset + field.len <= offset as u64 + 8
            };
            // What has no vote may have a larger field there.
            let number = word(bytes, offset).filter(|&number| number != 0);
            let (Some(number), Some(at)) = (number, map.iter().position(inside)) else {
                continue;
            };
            if map[at].offset != offset as u64 {
                continue;
            }
            let count = map[at..].iter().take_while(|field| inside(field)).count();
            let whole = map[at..at + count]
                .iter()
                .map(|field| field.len)
                .sum::<u64>()
                == 8;
            if whole {
                let field = Field {
                    offset: offset as u64,
                    len: 8,
                    kind: Kind::Integer,
                    value: Value::Bits(number),
                    detail: String::new(),
                    confidence: SURE,
                    evidence: why.clone(),
                };
                map.splice(at..at + count, [field]);
            }
        }
    }
}

/// Why eight bytes at an offset are one number.
fn joined(all: &[Bytes], maps: &[Vec<Field>], voters: &[usize], offset: usize) -> Option<String> {
    let mut seen = Vec::new();
    let mut doubles = 0;
    for &voter in voters {
        let Some(number) = word(&all[voter], offset) else {
            continue;
        };
        let numeric = |field: &&Field| {
            let plain = [
                Kind::Integer,
                Kind::Flags,
                Kind::Unknown,
                Kind::Float,
                Kind::Double,
            ];
            plain.contains(&field.kind) || field.kind == Kind::Zero
        };
        let (from, to) = (offset as u64, offset as u64 + 8);
        let mut here = maps[voter]
            .iter()
            .filter(|field| field.offset < to && from < field.offset + field.len);
        if number != 0 {
            if !here.all(|field| {
                doubles += usize::from(field.kind == Kind::Double);
                numeric(&field)
            }) {
                return None;
            }
            seen.push(number);
        }
    }
    // Of random numbers few look like a double.
    if seen.len() < FEWEST || 2 * doubles >= seen.len() {
        return None;
    }
    reason(&seen)
}

/// Why these are numbers of 64 bits, none of them zero; `None` where they may as well be pairs.
fn reason(seen: &[u64]) -> Option<String> {
    let lows: Vec<u32> = seen.iter().map(|&one| one as u32).collect();
    let highs: Vec<u32> = seen.iter().map(|&one| (one >> 32) as u32).collect();
    let count = seen.len();
    if is_random(&lows) && is_random(&highs) {
        return Some(format!(
            "all eight bytes differ in {count} instances, and neither half is a number: one number"
        ));
    }
    if count < FEWEST_OTHERS {
        return None;
    }
    let (least, most) = (*highs.iter().min()?, *highs.iter().max()?);
    let differ = lows.iter().any(|&low| low != lows[0]);
    if least == most && differ && four(least).kind == Kind::Unknown {
        return Some(format!(
            "the upper half is {least:#x} in all {count} instances, and no number: one number"
        ));
    }
    let narrow = least >= SMALL && most > least && most - least <= least / 64;
    let floats = highs.iter().any(|&high| four(high).kind == Kind::Float);
    if narrow && !floats && is_random(&lows) {
        return Some(format!(
            "of {count} instances the lower half is random, the upper between {least:#x} and {most:#x}: one number"
        ));
    }
    let large: Vec<u64> = seen.iter().copied().filter(|one| one >> 32 != 0).collect();
    let small = count - large.len();
    let grown = large.len() >= 2
        && small >= 2
        && most < SMALL
        && large.iter().all(|&one| one as u32 >= SMALL)
        && seen
            .iter()
            .filter(|&&one| one >> 32 == 0)
            .all(|&one| one < u64::from(SMALL));
    grown.then(|| {
        format!("small in {small} instances, with a large lower half in those where the upper is not zero: one number")
    })
}

/// Whether these look drawn at random from all 32-bit numbers.
fn is_random(halves: &[u32]) -> bool {
    // Of few draws hardly any are alike; of many some are.
    let enough = (halves.len() * 3 / 5).max(2);
    let varied = (0..4).all(|byte| {
        let values: BTreeSet<u8> = halves.iter().map(|half| half.to_le_bytes()[byte]).collect();
        values.len() >= enough
    });
    let count = |is: &dyn Fn(u32) -> bool| halves.iter().filter(|&&half| is(half)).count();
    let senseless = count(&|half| four(half).kind == Kind::Unknown);
    let small = count(&|half| half.cast_signed().unsigned_abs() < SMALL);
    let least = (halves.len() / 4).max(1);
    varied && senseless >= least && small * 8 <= halves.len().max(8)
}

/// The number at an offset, if it was read.
fn word(bytes: &Bytes, offset: usize) -> Option<u64> {
    bytes.is_read(offset, offset + 8).then_some(())?;
    Some(u64::from_le_bytes(
        *bytes.bytes.get(offset..)?.first_chunk()?,
    ))
}

#[cfg(test)]
mod tests {
    use vmie_synth::guest::Rng;

    use super::*;

    /// How many of `rounds` draws of `count` instances each are taken for one number.
    fn share(rounds: usize, count: usize, mut draw: impl FnMut(&mut Rng, u64) -> u64) -> usize {
        let mut rng = Rng::new(11);
        let one = |rng: &mut Rng, draw: &mut dyn FnMut(&mut Rng, u64) -> u64| {
            let seen: Vec<u64> = (0..count as u64).map(|index| draw(rng, index)).collect();
            usize::from(reason(&seen).is_some())
        };
        (0..rounds).map(|_| one(&mut rng, &mut draw)).sum()
    }

    fn pair(low: u32, high: u32) -> u64 {
        u64::from(high) << 32 | u64::from(low)
    }

    fn random(rng: &mut Rng) -> u32 {
        rng.below(1 << 32) as u32
    }

    /// A float like a position or a weight.
    fn float(rng: &mut Rng) -> u32 {
        ((rng.below(2_000_000) as f32 - 1_000_000.0) / 317.0).to_bits()
    }

    #[test]
    fn numbers_of_64_bits() {
        let nearly_all = |share: usize| assert!(share >= 95, "{share} of 100");
        let most = |share: usize| assert!(share >= 80, "{share} of 100");
        let two = share(100, 2, |rng, _| pair(random(rng), random(rng)));
        assert!(two >= 55, "{two} of 100");
        most(share(100, 3, |rng, _| pair(random(rng), random(rng))));
        for count in [6, 16, 64] {
            nearly_all(share(100, count, |rng, _| pair(random(rng), random(rng))));
        }
        for count in [3, 16] {
            // A tag above a counter; what Twitter made of milliseconds.
            let all = |share: usize| assert_eq!(share, 100);
            all(share(100, count, |_, index| 0xa5a5_0000_0000_0001 + index));
            all(share(100, count, |rng, index| {
                (1_500_000_000_000_000_000 + index * 1_000_000) | rng.below(4096)
            }));
        }
        // Nanoseconds since 1970, of ten minutes; Windows' time of an hour.
        let nanoseconds = 1_700_000_000_000_000_000;
        most(share(100, 3, |rng, _| {
            nanoseconds + rng.below(600_000_000_000)
        }));
        nearly_all(share(100, 12, |rng, _| {
            nanoseconds + rng.below(600_000_000_000)
        }));
        nearly_all(share(100, 12, |rng, _| {
            133_500_000_000_000_000 + rng.below(36_000_000_000)
        }));
        // Bytes that were sent.
        assert!(reason(&[70, 1500, 9_000_000_000, 25_000_000_000]).is_some());
    }

    #[test]
    fn pairs_of_32_bits() {
        let none = |share: usize| assert_eq!(share, 0);
        let few = |share: usize| assert!(share <= 2, "{share} of 100");
        for count in [2, 3, 8, 64] {
            none(share(100, count, |rng, _| pair(float(rng), float(rng))));
            none(share(100, count, |rng, index| {
                pair(index as u32, random(rng) % 1000)
            }));
            none(share(100, count, |rng, _| {
                pair(random(rng), rng.below(9) as u32)
            }));
            none(share(100, count, |rng, _| pair(random(rng), 5)));
            none(share(100, count, |rng, _| {
                pair(random(rng), 100.0_f32.to_bits())
            }));
            none(share(100, count, |rng, index| {
                pair(random(rng), 100_000 + index as u32)
            }));
            // Doubles, of which one instance alone is read as such: the vote settles it.
            none(share(100, count, |rng, _| {
                (rng.below(1 << 30) as f64 / 7.0).to_bits()
            }));
            none(share(100, count, |_, index| {
                pair(1000 + index as u32, 0x8000_0001)
            }));
            // A constant that marks a kind of object, before a count.
            none(share(100, count, |_, index| {
                pair(0xdead_beef, index as u32)
            }));
            none(share(100, count, |rng, _| {
                pair(rng.below(1 << 20) as u32, 0)
            }));
            // Colours without transparency, addresses of one network.
            none(share(100, count, |rng, _| {
                pair(random(rng) | 0xff00_0000, random(rng) | 0xff00_0000)
            }));
            none(share(100, count, |rng, _| {
                let host = |rng: &mut Rng| (rng.below(254) as u32 + 1) << 24 | 0xa8c0;
                pair(host(rng), host(rng))
            }));
        }
        for count in [6, 64] {
            few(share(100, count, |rng, _| pair(random(rng), float(rng))));
            few(share(100, count, |rng, _| pair(float(rng), random(rng))));
        }
        // A flag beside hashes.
        assert!(
            reason(&[
                pair(0x9f3a_77c1, 0),
                pair(0xc001_d00d, 1),
                pair(0xfeed_f00d, 0)
            ])
            .is_none()
        );
        assert!(reason(&[pair(7, 0), pair(9, 1), pair(0, 2), pair(12, 0)]).is_none());
    }
}
