//! Several instances of one class: each votes for what it was taken for.
//!
//! ```text
//! at each offset, of all fields that begin there and end before a part that is taken:
//!   the (length, kind) with the highest sum of confidences wins; zeros vote with nothing
//! where no field begins: up to the next one that does, unknown or zero
//! ```
//!
//! A number whose bytes vary as those of one number do not is taken apart in the end (`split.rs`).
//!
//! A large kind (a string object) can be hidden in an instance where it is empty and its parts were
//! taken for something else; the sum decides, and the winner's length is skipped.

use std::collections::BTreeMap;

use super::fields::{classify, value};
use super::look::{Bytes, Look};
use super::split;
use super::{Field, Kind, MAX_INSTANCES, Value};
use crate::addr::Address;

/// What instances have in common.
#[derive(Clone, PartialEq, Debug)]
pub struct Comparison<A> {
    /// The instances that were compared, as given.
    pub instances: Vec<A>,
    /// The fields, in order, without holes between them.
    pub fields: Vec<Common>,
}

/// A field of all instances.
#[derive(Clone, PartialEq, Debug)]
pub struct Common {
    /// The field as the first instance that voted for it has it, with the confidence of all.
    pub field: Field,
    /// How many instances voted for it.
    pub votes: usize,
    /// How many have something other than zeros there.
    pub of: usize,
    /// Whether its bytes differ between the instances, as far as they could be read.
    pub varies: bool,
    /// What each instance has there.
    pub values: Vec<Value>,
}

/// Ballots for one kind of field at one offset.
#[derive(Default)]
struct Tally {
    sum: u32,
    votes: usize,
    /// The first that voted so: instance and field.
    first: (usize, usize),
}

pub(super) fn compare<A: Address>(look: &mut Look<'_, A>, at: &[A], len: u64) -> Comparison<A> {
    let at = &at[..at.len().min(MAX_INSTANCES)];
    let all: Vec<Bytes> = at.iter().map(|at| look.bytes(at.raw(), len)).collect();
    let maps: Vec<Vec<Field>> = all.iter().map(|bytes| classify(look, bytes)).collect();
    let end = all.iter().map(|one| one.bytes.len()).min().unwrap_or(0) as u64;

    let mut tallies: BTreeMap<u64, BTreeMap<(u64, Kind), Tally>> = BTreeMap::new();
    for (instance, fields) in maps.iter().enumerate() {
        for (index, field) in fields.iter().enumerate() {
            if matches!(field.kind, Kind::Zero | Kind::Unreadable) || field.offset + field.len > end
            {
                continue;
            }
            let tally = tallies
                .entry(field.offset)
                .or_default()
                .entry((field.len, field.kind))
                .or_default();
            if tally.votes == 0 {
                tally.first = (instance, index);
            }
            tally.votes += 1;
            tally.sum += u32::from(field.confidence);
        }
    }

    split_wide(&mut tallies);

    let mut fields = Vec::new();
    let mut offset = 0;
    while offset < end {
        let winner = tallies.get(&offset).and_then(|here| {
            // The first of equals, in the order of lengths and kinds: the same in every run.
            here.iter()
                .reduce(|best, one| if one.1.sum > best.1.sum { one } else { best })
        });
        let field = match winner {
            Some((&(len, _), tally)) => {
                let mut field = maps[tally.first.0][tally.first.1].clone();
                field.len = len;
                let against = tallies
                    .get(&offset)
                    .map_or(0, |here| here.values().map(|one| one.sum).sum::<u32>());
                // The mean confidence, less what voted for something else.
                let sure = u64::from(tally.sum) * u64::from(tally.sum)
                    / (tally.votes as u64 * u64::from(against)).max(1);
                field.confidence = sure.min(100) as u8;
                field
            }
            None => {
                let next = tallies
                    .range(offset + 1..)
                    .next()
                    .map_or(end, |(next, _)| *next);
                nothing(offset, next, &all)
            }
        };
        let len = field.len;
        let votes = winner.map(|one| one.1.votes);
        let number = matches!(field.kind, Kind::Integer | Kind::Flags | Kind::Unknown);
        let parts = number
            .then(|| split::parts(&all, offset as usize, len as usize))
            .flatten();
        match parts {
            Some(parts) => fields.extend(
                parts
                    .into_iter()
                    .map(|part| common(look, part_field(look, &all, part), votes, &all, &maps)),
            ),
            None => fields.push(common(look, field, votes, &all, &maps)),
        }
        offset += len;
    }
    merge_common(&mut fields);
    Comparison {
        instances: at.to_vec(),
        fields,
    }
}

/// Integers of eight bytes whose upper half is a field of its own in another instance have four.
fn split_wide(tallies: &mut BTreeMap<u64, BTreeMap<(u64, Kind), Tally>>) {
    let halves: Vec<u64> = tallies
        .keys()
        .copied()
        .filter(|offset| tallies.contains_key(&(offset + 4)))
        .collect();
    for offset in halves {
        let Some(here) = tallies.get_mut(&offset) else {
            continue;
        };
        let Some(wide) = here.remove(&(8, Kind::Integer)) else {
            continue;
        };
        let narrow = here.entry((4, Kind::Integer)).or_default();
        if narrow.votes == 0 {
            narrow.first = wide.first;
        }
        narrow.sum += wide.sum;
        narrow.votes += wide.votes;
    }
}

/// A part of a number that turned out to be several.
fn part_field<A: Address>(look: &Look<'_, A>, all: &[Bytes], part: split::Part) -> Field {
    let bytes = |one: &Bytes| one.bytes[part.offset..part.offset + part.len].to_vec();
    let first = all
        .iter()
        .map(bytes)
        .find(|bytes| bytes.iter().any(|&byte| byte != 0));
    let (kind, confidence) = match first {
        Some(_) => (Kind::Integer, 70),
        None => (Kind::Zero, 0),
    };
    Field {
        offset: part.offset as u64,
        len: part.len as u64,
        kind,
        value: value(kind, &first.unwrap_or_default(), look.width),
        detail: String::new(),
        confidence,
        evidence: part.evidence,
    }
}

/// A part in which no instance has a field.
fn nothing(from: u64, to: u64, all: &[Bytes]) -> Field {
    let (start, end) = (from as usize, to as usize);
    let hole = |one: &Bytes| {
        one.holes
            .iter()
            .find(|hole| hole.0 < end && start < hole.1)
            .copied()
    };
    let holes: Vec<_> = all.iter().map(hole).collect();
    let zero = all
        .iter()
        .all(|one| one.bytes[start..end].iter().all(|&byte| byte == 0));
    let (kind, value, evidence) = match holes.iter().flatten().next() {
        // A hole in every instance cannot be told from zeros; in some, the others tell.
        Some(hole) if holes.iter().all(Option::is_some) => (
            Kind::Unreadable,
            Value::Unread(hole.2),
            format!("in every instance: {}", hole.2),
        ),
        _ if zero => (Kind::Zero, Value::Zeros, "zero in all instances".to_owned()),
        _ => (
            Kind::Unknown,
            Value::Partial,
            "the readings overlap".to_owned(),
        ),
    };
    Field {
        offset: from,
        len: to - from,
        kind,
        value,
        detail: String::new(),
        confidence: 0,
        evidence,
    }
}

fn common<A: Address>(
    look: &Look<'_, A>,
    field: Field,
    votes: Option<usize>,
    all: &[Bytes],
    maps: &[Vec<Field>],
) -> Common {
    let (from, to) = (field.offset as usize, (field.offset + field.len) as usize);
    let mut read: Vec<&[u8]> = Vec::new();
    let mut values = Vec::new();
    for (bytes, map) in all.iter().zip(maps) {
        let part = &bytes.bytes[from..to];
        if !bytes.is_read(from, to) {
            let hole = bytes.holes.iter().find(|hole| hole.0 < to && from < hole.1);
            let whole = hole.filter(|hole| hole.0 <= from && to <= hole.1);
            values.push(whole.map_or(Value::Partial, |hole| Value::Unread(hole.2)));
            continue;
        }
        read.push(part);
        let same = map
            .binary_search_by_key(&field.offset, |one| one.offset)
            .ok()
            .map(|index| &map[index])
            .filter(|one| (one.len, one.kind) == (field.len, field.kind));
        values.push(match same {
            Some(one) => one.value.clone(),
            None if field.kind == Kind::Unknown && field.len > 8 => Value::Partial,
            None => value(field.kind, part, look.width),
        });
    }
    Common {
        votes: votes.unwrap_or(0),
        of: read
            .iter()
            .filter(|part| part.iter().any(|&byte| byte != 0))
            .count(),
        varies: read.windows(2).any(|two| two[0] != two[1]),
        values,
        field,
    }
}

/// Makes one field of zeros that follow each other.
pub(super) fn merge_zeros(fields: &mut Vec<Field>) {
    fields.dedup_by(|later, earlier| {
        let both = later.kind == Kind::Zero && earlier.kind == Kind::Zero;
        if both {
            earlier.len += later.len;
        }
        both
    });
}

fn merge_common(fields: &mut Vec<Common>) {
    fields.dedup_by(|later, earlier| {
        let both = later.field.kind == Kind::Zero && earlier.field.kind == Kind::Zero;
        if both {
            earlier.field.len += later.field.len;
        }
        both
    });
}
