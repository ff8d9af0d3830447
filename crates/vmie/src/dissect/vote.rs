//! Several instances of one class: each votes for what it was taken for, and against the rest.
//!
//! ```text
//! at each offset, of all fields (length, kind) that begin there and end before a part that is taken, an instance is
//!   for it        where it was taken for just that (text: of any length): with its confidence
//!   for it        where it holds a pointer of a more telling kind, if this one is a mere pointer: as a mere pointer
//!   of no opinion where it holds nothing but zeros, which every kind may
//!   against it    else: with the confidence of what it was taken for, and with half of it where that differs in
//!                 degree only (a number of another kind of the same length, a mere pointer)
//! the one with the most votes for it, less those against it, wins; where each has more against it: unknown
//! confidence: the mean of those for it
//!             * (for - against) / (for + against)
//!             * votes * (votes + 1) / (votes + zeros), at most 1
//! where no field begins: up to the next one that does, unknown or zero
//! ```
//!
//! So one instance of seventeen that holds a pointer where the others hold zeros says little: it may be what was in
//! that memory before. Four that agree are believed.
//!
//! Instances that are not in use any more (`life.rs`) are shown and have no vote. Before the vote, words that vary as
//! one number of eight bytes are made one (`wide.rs`); after it, a number whose bytes vary as those of one number do not
//! is taken apart (`split.rs`).
//!
//! A large kind (a string object) can be hidden in an instance where it is empty and its parts were
//! taken for something else; the sum decides, and the winner's length is skipped.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::fields::{classify, value};
use super::look::{Bytes, Look};
use super::{Field, Kind, MAX_INSTANCES, Value};
use super::{split, wide};
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
    /// How many instances were taken for just this.
    pub votes: usize,
    /// How many of those that vote have something other than zeros there.
    pub of: usize,
    /// Whether its bytes differ between the instances that vote, as far as they could be read.
    pub varies: bool,
    /// What each instance has there, with a vote or without.
    pub values: Vec<Value>,
}

/// What an instance that disagrees counts at least.
const LEAST: u32 = 30;
/// The same where a pointer or text was expected: words that lead nowhere are told easily.
const LEAST_TELLING: u32 = 50;
/// What is said of a field that all of them contradict.
const DOUBTFUL: u8 = 5;

/// A field that was proposed for an offset.
type Proposal = (u64, Kind);

/// What all instances say of a proposal.
#[derive(Default)]
struct Poll {
    pro: u32,
    contra: u32,
    /// Instances that were taken for just this, and which was the first: instance and field.
    votes: usize,
    first: (usize, usize),
    /// Instances that support it.
    backers: usize,
    against: usize,
    zeros: usize,
}

impl Poll {
    fn score(&self) -> i64 {
        i64::from(self.pro) - i64::from(self.contra)
    }

    /// How sure it is, as the module says.
    fn confidence(&self) -> u8 {
        let (pro, contra) = (u64::from(self.pro), u64::from(self.contra));
        let backers = self.backers as u64;
        let enough = (backers * (backers + 1)).min(backers + self.zeros as u64);
        let sure = pro * pro.saturating_sub(contra) * enough
            / (backers * (pro + contra) * (backers + self.zeros as u64)).max(1);
        (sure.min(100) as u8).max(DOUBTFUL)
    }

    /// What those said that do not support it, where that mattered.
    fn doubts(&self) -> String {
        let all = self.backers + self.against + self.zeros;
        let mut doubts = String::new();
        if self.against > 0 {
            doubts.push_str(&format!(
                "; {} of {all} instances say otherwise",
                self.against
            ));
        }
        if self.backers * self.backers < self.zeros {
            doubts.push_str(&format!("; zero in {} of {all} instances", self.zeros));
        }
        doubts
    }
}

/// Compares instances, of which those with a vote decide; all of them where none has.
pub(super) fn compare<A: Address>(
    look: &mut Look<'_, A>,
    at: &[A],
    votes: impl Fn(usize) -> bool,
    len: u64,
) -> Comparison<A> {
    let at = &at[..at.len().min(MAX_INSTANCES)];
    let all: Vec<Bytes> = at.iter().map(|at| look.bytes(at.raw(), len)).collect();
    let mut maps: Vec<Vec<Field>> = all.iter().map(|bytes| classify(look, bytes)).collect();
    let end = all.iter().map(|one| one.bytes.len()).min().unwrap_or(0) as u64;
    let mut voters: Vec<usize> = (0..all.len()).filter(|&index| votes(index)).collect();
    if voters.is_empty() {
        voters = (0..all.len()).collect();
    }
    wide::join(&all, &mut maps, &voters);
    narrow(&mut maps, &voters, end);

    let mut proposals: BTreeMap<u64, BTreeSet<Proposal>> = BTreeMap::new();
    for &voter in &voters {
        for field in &maps[voter] {
            let empty = matches!(field.kind, Kind::Zero | Kind::Unreadable);
            if !empty && field.offset + field.len <= end {
                let here = proposals.entry(field.offset).or_default();
                here.insert((field.len, field.kind));
            }
        }
    }
    let seats = Seats {
        all: &all,
        maps: &maps,
        voters: &voters,
    };
    let mut fields = Vec::new();
    let mut offset = 0;
    while offset < end {
        let next = proposals.range(offset + 1..).next();
        let next = next.map_or(end, |(next, _)| *next);
        let winner = proposals.get(&offset).and_then(|here| {
            // The first of equals, in the order of lengths and kinds: the same in every run.
            here.iter()
                .map(|&proposal| (proposal, seats.poll(offset, proposal)))
                .reduce(|best, one| match one.1.score().cmp(&best.1.score()) {
                    Ordering::Greater => one,
                    // Of texts the longest, in which the others have room.
                    Ordering::Equal if is_text(one.0.1) && one.0.1 == best.0.1 => one,
                    _ => best,
                })
        });
        let (field, votes) = match &winner {
            Some(((len, _), poll)) if poll.score() >= 0 => {
                let mut field = maps[poll.first.0][poll.first.1].clone();
                field.len = *len;
                field.confidence = poll.confidence();
                field.evidence.push_str(&poll.doubts());
                (field, poll.votes)
            }
            Some(((len, _), _)) => (seats.disagreement(offset, *len, next), 0),
            None => (seats.nothing(offset, next), 0),
        };
        let len = field.len;
        let number = matches!(field.kind, Kind::Integer | Kind::Flags | Kind::Unknown);
        let parts = number
            .then(|| split::parts(&seats.voting(), offset as usize, len as usize))
            .flatten();
        match parts {
            Some(parts) => fields.extend(
                parts
                    .into_iter()
                    .map(|part| seats.common(look, part_field(look, &seats, part), votes)),
            ),
            None => fields.push(seats.common(look, field, votes)),
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
fn narrow(maps: &mut [Vec<Field>], voters: &[usize], end: u64) {
    let taken: BTreeSet<u64> = voters
        .iter()
        .flat_map(|&voter| &maps[voter])
        .filter(|field| !matches!(field.kind, Kind::Zero | Kind::Unreadable))
        .filter(|field| field.offset + field.len <= end)
        .map(|field| field.offset)
        .collect();
    for &voter in voters {
        for field in &mut maps[voter] {
            if (field.len, field.kind) == (8, Kind::Integer) && taken.contains(&(field.offset + 4))
            {
                field.len = 4;
            }
        }
    }
}

/// Who votes, and on what.
struct Seats<'c> {
    all: &'c [Bytes],
    maps: &'c [Vec<Field>],
    voters: &'c [usize],
}

impl Seats<'_> {
    /// The instances that vote.
    fn voting(&self) -> Vec<&Bytes> {
        self.voters.iter().map(|&voter| &self.all[voter]).collect()
    }

    fn poll(&self, offset: u64, proposal: Proposal) -> Poll {
        let (len, kind) = proposal;
        let (from, to) = (offset as usize, (offset + len) as usize);
        let mut poll = Poll::default();
        let mut whole = false;
        for &voter in self.voters {
            let bytes = &self.all[voter];
            if !bytes.is_read(from, to) {
                continue;
            }
            let map = &self.maps[voter];
            let first = map.partition_point(|field| field.offset + field.len <= offset);
            if let Some(field) = map.get(first)
                && (field.offset, field.kind) == (offset, kind)
                && (field.len == len || is_text(kind))
            {
                if poll.votes == 0 || field.len == len && !whole {
                    poll.first = (voter, first);
                    whole = field.len == len;
                }
                poll.votes += 1;
                poll.backers += 1;
                poll.pro += u32::from(field.confidence);
                continue;
            }
            if bytes.bytes[from..to].iter().all(|&byte| byte == 0) {
                poll.zeros += 1;
                continue;
            }
            let others = map[first..]
                .iter()
                .take_while(|field| field.offset < offset + len);
            let other = others
                .filter(|field| !matches!(field.kind, Kind::Zero | Kind::Unreadable))
                .max_by_key(|field| field.confidence);
            match other {
                Some(other) if supports(kind, len, other) => {
                    poll.backers += 1;
                    poll.pro += MERE_POINTER;
                }
                other => {
                    poll.against += 1;
                    poll.contra += objection(kind, len, other);
                }
            }
        }
        poll
    }

    /// A part of which each reading is contradicted by more instances than support it.
    fn disagreement(&self, offset: u64, len: u64, next: u64) -> Field {
        let to = next.min(offset + len);
        let mut said: BTreeMap<&str, usize> = BTreeMap::new();
        for &voter in self.voters {
            let field = self.maps[voter].iter().find(|field| field.offset == offset);
            if let Some(field) = field
                && !matches!(field.kind, Kind::Zero | Kind::Unreadable)
            {
                *said.entry(field.kind.label()).or_default() += 1;
            }
        }
        let said: Vec<String> = said
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        let (from, end) = (offset as usize, to as usize);
        let bytes = &self.all[self.voters[0]].bytes[from..end];
        let value = match bytes.len() {
            ..=8 => Value::Bits(bits(bytes)),
            _ => Value::Partial,
        };
        Field {
            offset,
            len: to - offset,
            kind: Kind::Unknown,
            value,
            detail: String::new(),
            confidence: DOUBTFUL,
            evidence: format!("the instances disagree: {}", said.join(", ")),
        }
    }

    /// A part in which no instance has a field.
    fn nothing(&self, from: u64, to: u64) -> Field {
        let (start, end) = (from as usize, to as usize);
        let all = self.voting();
        let hole = |one: &&Bytes| {
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

    fn common<A: Address>(&self, look: &Look<'_, A>, field: Field, votes: usize) -> Common {
        let (from, to) = (field.offset as usize, (field.offset + field.len) as usize);
        let values = self.all.iter().zip(self.maps).map(|(bytes, map)| {
            let part = &bytes.bytes[from..to];
            if !bytes.is_read(from, to) {
                let hole = bytes.holes.iter().find(|hole| hole.0 < to && from < hole.1);
                let whole = hole.filter(|hole| hole.0 <= from && to <= hole.1);
                return whole.map_or(Value::Partial, |hole| Value::Unread(hole.2));
            }
            let same = map
                .binary_search_by_key(&field.offset, |one| one.offset)
                .ok()
                .map(|index| &map[index])
                .filter(|one| (one.len, one.kind) == (field.len, field.kind));
            match same {
                Some(one) => one.value.clone(),
                None if field.kind == Kind::Unknown && field.len > 8 => Value::Partial,
                // Numbers that are shown by their bits are so in every instance.
                None if matches!(field.value, Value::Bits(_)) && bits(part) != 0 => {
                    Value::Bits(bits(part))
                }
                None => value(field.kind, part, look.width),
            }
        });
        let values = values.collect();
        let voting = self.voting();
        let read: Vec<&[u8]> = voting
            .iter()
            .filter(|bytes| bytes.is_read(from, to))
            .map(|bytes| &bytes.bytes[from..to])
            .collect();
        Common {
            votes,
            of: read
                .iter()
                .filter(|part| part.iter().any(|&byte| byte != 0))
                .count(),
            varies: read.windows(2).any(|two| two[0] != two[1]),
            values,
            field,
        }
    }
}

/// What a pointer to something that is not known counts for, where only that it is a pointer is claimed.
const MERE_POINTER: u32 = 65;

/// Whether what an instance was taken for includes the proposal: every telling pointer is a pointer.
fn supports(kind: Kind, len: u64, other: &Field) -> bool {
    kind == Kind::Pointer && other.kind.is_pointer() && other.len == len
}

/// Text in place, which is as long as it happens to be in each instance.
fn is_text(kind: Kind) -> bool {
    matches!(kind, Kind::Utf8 | Kind::Utf16)
}

/// How much it counts against a proposal that an instance was taken for this.
fn objection(kind: Kind, len: u64, other: Option<&Field>) -> u32 {
    let number = |kind: Kind| {
        let plain = [Kind::Integer, Kind::Flags, Kind::Unknown];
        plain.contains(&kind)
    };
    let telling = !number(kind) && !matches!(kind, Kind::Float | Kind::Double);
    let least = if telling { LEAST_TELLING } else { LEAST };
    let Some(other) = other else {
        return least;
    };
    let sure = u32::from(other.confidence);
    let in_degree = other.len == len
        && (number(kind) && number(other.kind) || kind.is_pointer() && other.kind == Kind::Pointer);
    if in_degree {
        return sure / 2;
    }
    sure.max(least)
}

/// Up to eight bytes as a number.
fn bits(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    let len = bytes.len().min(8);
    word[..len].copy_from_slice(&bytes[..len]);
    u64::from_le_bytes(word)
}

/// A part of a number that turned out to be several.
fn part_field<A: Address>(look: &Look<'_, A>, seats: &Seats<'_>, part: split::Part) -> Field {
    let bytes = |one: &&Bytes| one.bytes[part.offset..part.offset + part.len].to_vec();
    let first = seats
        .voting()
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
        // What has no vote may hold something there.
        let same = both && later.values == earlier.values;
        if same {
            earlier.field.len += later.field.len;
        }
        same
    });
}
