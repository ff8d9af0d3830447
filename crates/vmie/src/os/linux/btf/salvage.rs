//! BTF with pages of it overwritten or missing: what is left of it, under the numbers that it had.
//!
//! Records have no marks between them and no numbers of their own, so damage does two things: the walk
//! over the records loses its way, and from there on it is not known how many were passed. Both come back
//! from what is behind the damage:
//!
//! ```text
//! walk records while their heads are plausible; where one is not:
//!     find the next place from which a chain of plausible records starts: a new stretch
//! for each stretch but the first: try every number that its first record can have
//!     (what is lost takes 12 bytes a record at least), and count how many of its references would lead
//!     to something of a sensible kind and size; of the few candidates one agrees with nearly all
//! ```
//!
//! A record's head says how long it is, so a large structure of which only the middle is damaged costs
//! no number; its members are looked at one by one. A stretch about which nothing can be decided is
//! lost, never guessed. Strings are judged by the page: in one that is whole, what is referred to starts
//! behind a NUL and is text.
//!
//! Rejected: keeping numbers apart by hashing what a record says. Records that say the same are many.

use std::ops::Range;

use super::{Btf, Head, MAGIC, at, head_at, kind, word};

const PAGE: usize = crate::addr::PAGE_SIZE as usize;

/// What of a blob is lost, in words.
pub(in crate::os::linux) type Losses = Vec<String>;

/// How many plausible records in a row make a chain.
const CHAIN: usize = 8;

/// How many references of a stretch are looked at, first and to decide.
const SAMPLE: [usize; 2] = [400, 4000];

/// How many stretches are looked at: more than one for each page of a blob in which every other is damaged
/// makes no sense.
const MAX_STRETCHES: usize = 4096;

/// The most that a decision may cost in all, in references looked at.
const BUDGET: usize = 200_000_000;

/// A run of records without damage between them.
struct Stretch {
    /// Where each starts.
    records: Vec<u32>,
    /// The number of the first, when that is known.
    first: Option<u32>,
}

impl Stretch {
    /// Where the record of this number starts.
    fn get(&self, id: u32) -> Option<u32> {
        let index = id.checked_sub(self.first?)?;
        self.records.get(index as usize).copied()
    }
}

struct Salvage<'b> {
    bytes: &'b [u8],
    types: Range<usize>,
    strings: Range<usize>,
    /// By page of the blob as it lies in memory: whether strings in it cannot be relied on.
    bad_pages: Vec<bool>,
    /// Where in its first page the blob starts.
    skew: usize,
}

impl Btf {
    /// Opens what is left of a blob that [`Btf::parse`] refuses. `skew` is where in its page it starts,
    /// since damage comes in pages; what could not be read is zeros.
    ///
    /// Cost: that of [`Btf::parse`], and for each stretch of damage some milliseconds.
    ///
    /// # Errors
    ///
    /// When nothing of it can be made sense of.
    pub(in crate::os::linux) fn salvage(
        bytes: Vec<u8>,
        skew: usize,
    ) -> Result<(Self, Losses), String> {
        if u32::try_from(bytes.len()).is_err() {
            return Err("larger than 4 GiB".into());
        }
        let mut losses = Losses::new();
        let (types, strings) = match sections(&bytes) {
            Some(found) => found,
            None => {
                losses.push("its header is damaged".into());
                sections_by_shape(&bytes, skew)
                    .ok_or("its header is damaged, and where its strings start cannot be told")?
            }
        };
        let mut salvage = Salvage {
            bytes: &bytes,
            types: types.clone(),
            strings: strings.clone(),
            bad_pages: vec![false; (bytes.len() + skew) / PAGE + 1],
            skew,
        };
        salvage.judge_strings();
        let stretches = salvage.stretches();
        let stretches = salvage.number(stretches);
        let (records, mut lost) = records_of(&stretches);
        let dropped: usize = stretches
            .iter()
            .filter(|stretch| stretch.first.is_none())
            .map(|stretch| stretch.records.len())
            .sum();
        if records.len() < 2 {
            return Err("no type in it can be made out".into());
        }
        lost.retain(|range| !range.is_empty());
        let count: u32 = lost.iter().map(|range| range.end - range.start).sum();
        if count > 0 {
            let ranges: Vec<String> = lost
                .iter()
                .take(8)
                .map(|range| match range.end - range.start {
                    1 => range.start.to_string(),
                    _ => format!("{} to {}", range.start, range.end - 1),
                })
                .collect();
            let more = lost.len().saturating_sub(8);
            let more = match more {
                0 => String::new(),
                more => format!(" and {more} more ranges"),
            };
            losses.push(format!(
                "{count} of {} types are lost: {}{more}",
                records.len() - 1,
                ranges.join(", ")
            ));
        }
        if dropped > 0 {
            losses.push(format!(
                "{dropped} records stand between damage, and their numbers cannot be told"
            ));
        }
        let bad = salvage.bad_string_pages();
        if bad > 0 {
            losses.push(format!("{bad} pages of names are damaged"));
        }
        let bad_strings = salvage.bad_strings();
        let btf = Self {
            records,
            strings,
            first_id: 0,
            first_string: 0,
            damage: Some(super::Damage {
                strings: bad_strings,
            }),
            bytes,
        };
        if losses.is_empty() {
            losses.push("parts of its records are damaged".into());
        }
        Ok((btf, losses))
    }
}

/// The sections as the header has them.
fn sections(bytes: &[u8]) -> Option<(Range<usize>, Range<usize>)> {
    let field = |at: usize| word(bytes, at).map(|word| word as usize);
    let (magic, header) = (field(0)?, field(4)?);
    let (types, len) = (header.checked_add(field(8)?)?, field(12)?);
    let (strings, strings_len) = (header.checked_add(field(16)?)?, field(20)?);
    let types = types..types.checked_add(len)?;
    let strings = strings..strings.checked_add(strings_len)?;
    let fits = magic & 0x00ff_ffff == 1 << 16 | usize::from(MAGIC)
        && header >= 24
        && types.start.is_multiple_of(4)
        && types.end <= strings.start
        && strings.end <= bytes.len()
        && !strings.is_empty();
    fits.then_some((types, strings))
}

/// The sections of a blob without a header, as they stand in every kernel's: types from byte 24 on, and
/// strings behind them up to the end.
fn sections_by_shape(bytes: &[u8], skew: usize) -> Option<(Range<usize>, Range<usize>)> {
    const HEADER: usize = 24;
    /// So many pages of strings in a row may be damaged.
    const GAP: usize = 4;
    // The first page from the end that is text, with no damage longer than that behind it.
    let pages = (bytes.len() + skew).div_ceil(PAGE);
    let page = |index: usize| {
        let from = (index * PAGE)
            .saturating_sub(skew)
            .max(HEADER.min(bytes.len()));
        let to = ((index + 1) * PAGE - skew).min(bytes.len());
        from..to.max(from)
    };
    let mut first = None;
    let mut gap = 0;
    for index in (0..pages).rev() {
        match is_text(&bytes[page(index)]) {
            true => {
                first = Some(index);
                gap = 0;
            }
            false => gap += 1,
        }
        if gap > GAP {
            break;
        }
    }
    // It starts in the page before, at a NUL with a name behind it; the records tell where, for their
    // names start behind NULs.
    let first = first?;
    let from = page(first.saturating_sub(1)).start;
    let to = page(first).end.min(page(first).start + 4);
    let candidates = (from.next_multiple_of(4)..to).step_by(4).filter(|&start| {
        bytes.get(start) == Some(&0) && bytes.get(start + 1).is_some_and(u8::is_ascii_graphic)
    });
    let score = |&start: &usize| {
        let strings = &bytes[start..];
        (HEADER..start.saturating_sub(12))
            .step_by(4)
            .take(1 << 16)
            .filter(|&record| {
                head_at(bytes, record).is_some_and(|head| {
                    head.kind() == kind::STRUCT
                        && head.info & 0x60ff_0000 == 0
                        && head.name != 0
                        && strings.get(head.name as usize - 1) == Some(&0)
                })
            })
            .count()
    };
    let start = candidates.max_by_key(score)?;
    Some((HEADER..start, start..bytes.len()))
}

/// Whether these are names with NULs between them.
fn is_text(bytes: &[u8]) -> bool {
    let text = bytes
        .iter()
        .all(|&byte| byte == 0 || byte == b' ' || byte.is_ascii_graphic());
    text && bytes.contains(&0) && !bytes.windows(2).any(|pair| pair == [0, 0])
}

impl Salvage<'_> {
    /// The page that a place in the blob is in.
    fn page(&self, at: usize) -> usize {
        (at + self.skew) / PAGE
    }

    /// Finds the pages whose strings are not what is referred to.
    fn judge_strings(&mut self) {
        let mut seen = vec![(0_u32, 0_u32); self.bad_pages.len()];
        let mut note = |name: u32| {
            let place = self.strings.start + name as usize;
            if name == 0 || place >= self.strings.end {
                return;
            }
            let (all, wrong) = &mut seen[(place + self.skew) / PAGE];
            *all += 1;
            let before = self.bytes[place - 1] == 0;
            *wrong += u32::from(!before || !self.bytes[place].is_ascii_graphic());
        };
        // Heads that are not heads are rare among those that look like them, so no walk is needed.
        let mut at = self.types.start;
        while let Some(head) = self.whole_head(at) {
            if !self.may_be_head(head) {
                at += 4;
                continue;
            }
            note(head.name);
            let tail = self.tail(at, head);
            for (name, ..) in parts(head, tail) {
                note(name);
            }
            at += 12 + tail.len();
        }
        for (page, (all, wrong)) in seen.into_iter().enumerate() {
            self.bad_pages[page] = wrong * 4 > all;
        }
        for page in self.page(self.strings.start)..=self.page(self.strings.end - 1) {
            let from = (page * PAGE)
                .saturating_sub(self.skew)
                .max(self.strings.start);
            let to = ((page + 1) * PAGE - self.skew).min(self.strings.end);
            self.bad_pages[page] |= !is_text(&self.bytes[from..to.max(from)]);
        }
    }

    fn bad_string_pages(&self) -> usize {
        let first = self.page(self.strings.start);
        self.bad_pages[first..].iter().filter(|&&bad| bad).count()
    }

    /// The same as ranges of the blob.
    fn bad_strings(&self) -> Vec<Range<usize>> {
        let first = self.page(self.strings.start);
        let bad = (first..self.bad_pages.len()).filter(|&page| self.bad_pages[page]);
        bad.map(|page| (page * PAGE).saturating_sub(self.skew)..(page + 1) * PAGE - self.skew)
            .collect()
    }

    fn whole_head(&self, at: usize) -> Option<Head> {
        head_at(self.bytes, at).filter(|_| at + 12 <= self.types.end)
    }

    /// What is behind a head, as far as the section goes.
    fn tail(&self, at: usize, head: Head) -> &[u8] {
        let len = head.tail().unwrap_or(0);
        let from = (at + 12).min(self.types.end);
        &self.bytes[from..(from + len).min(self.types.end)]
    }

    /// Whether a string can start at this offset.
    fn may_be_name(&self, name: u32) -> bool {
        let place = self.strings.start + name as usize;
        match place < self.strings.end {
            _ if name == 0 => true,
            true if self.bad_pages[self.page(place)] || self.bad_pages[self.page(place - 1)] => {
                true
            }
            true => self.bytes[place - 1] == 0 && self.bytes[place] != 0,
            false => false,
        }
    }

    /// More types than this there are not.
    fn bound(&self) -> u32 {
        (self.types.len() / 12) as u32
    }

    /// Whether a head can be one, whatever strings there are.
    fn may_be_head(&self, head: Head) -> bool {
        const RESERVED: u32 = 0x60ff_0000;
        let name = head.name;
        let (vlen, flag, word) = (head.vlen(), head.flag(), head.word);
        let place = self.strings.start + name as usize;
        let named = name != 0 && place < self.strings.end;
        let refers = word <= self.bound();
        head.info & RESERVED == 0
            && match head.kind() {
                kind::INT => named && vlen == 0 && !flag && (1..=16).contains(&word),
                kind::PTR | kind::VOLATILE | kind::CONST | kind::RESTRICT => {
                    name == 0 && vlen == 0 && !flag && refers
                }
                kind::ARRAY => name == 0 && vlen == 0 && !flag && word == 0,
                kind::STRUCT | kind::UNION => (name == 0 || named) && word < 1 << 24,
                kind::ENUM | kind::ENUM64 => (name == 0 || named) && word <= 8,
                kind::FWD => named && vlen == 0,
                kind::TYPEDEF | kind::TYPE_TAG => named && vlen == 0 && refers,
                kind::FUNC => named && vlen <= 2 && !flag && word != 0 && refers,
                kind::FUNC_PROTO => name == 0 && !flag && refers,
                kind::VAR => named && vlen == 0 && !flag && refers,
                kind::DATASEC => named && !flag,
                kind::FLOAT => named && vlen == 0 && word <= 16,
                kind::DECL_TAG => named && vlen == 0 && refers,
                _ => false,
            }
    }

    /// The record at `at`, when its head is plausible and it ends in the section.
    fn plausible(&self, at: usize) -> Option<(Head, usize)> {
        let head = self.whole_head(at)?;
        let end = at + 12 + head.tail()?;
        let fits = end <= self.types.end && self.may_be_head(head) && self.may_be_name(head.name);
        fits.then_some((head, end))
    }

    /// Whether a chain of records starts at `at`. In a chain, unlike in what is found by walking, members
    /// have to make sense as well.
    fn chain(&self, at: usize) -> bool {
        let mut here = at;
        for _ in 0..CHAIN {
            let Some((head, end)) = self.plausible(here) else {
                return false;
            };
            let tail = self.tail(here, head);
            let sensible = parts(head, tail).all(|(name, ty, offset)| {
                self.may_be_name(name)
                    && ty <= self.bound()
                    && (!head.is_record() || offset & 0xff_ffff <= head.word.saturating_mul(8))
            });
            if !sensible {
                return false;
            }
            here = end;
            if here == self.types.end {
                return true;
            }
        }
        true
    }

    /// Walks over all records, from one piece of damage to the next.
    fn stretches(&self) -> Vec<Stretch> {
        let mut stretches = vec![Stretch {
            records: Vec::with_capacity(self.types.len() / 24),
            first: Some(1),
        }];
        let mut at = self.types.start;
        while at < self.types.end {
            if let Some((_, end)) = self.plausible(at) {
                if let Some(last) = stretches.last_mut() {
                    last.records.push(at as u32);
                }
                at = end;
                continue;
            }
            let next = (at + 4..self.types.end)
                .step_by(4)
                .find(|&at| self.chain(at));
            let Some(next) = next.filter(|_| stretches.len() < MAX_STRETCHES) else {
                break;
            };
            stretches.push(Stretch {
                records: Vec::new(),
                first: None,
            });
            // Of a head across the border of a damaged page, the front may be what was put there.
            at = match self.plausible(next) {
                Some((_, end)) if self.page(next) != self.page(next + 11) => end,
                _ => next,
            };
        }
        stretches
    }

    /// Finds out the number of the first record of each stretch.
    fn number(&self, mut stretches: Vec<Stretch>) -> Vec<Stretch> {
        let mut budget = BUDGET;
        // The number that the next record has at least, and the end of what was numbered.
        let mut least = 1;
        let mut end = self.types.start;
        for index in 0..stretches.len() {
            if index > 0 {
                let Some(&start) = stretches[index].records.first() else {
                    continue;
                };
                let room = (start as usize).saturating_sub(end) / 12;
                let most = least + room as u32;
                stretches[index].first = self.decide(&stretches, index, least..=most, &mut budget);
            }
            let stretch = &stretches[index];
            if let (Some(first), Some(&last)) = (stretch.first, stretch.records.last()) {
                least = first + stretch.records.len() as u32;
                let tail = self
                    .plausible(last as usize)
                    .map_or(last as usize, |(_, end)| end);
                end = tail;
            }
        }
        stretches
    }

    /// The only number with which what a stretch says of types makes sense.
    fn decide(
        &self,
        stretches: &[Stretch],
        index: usize,
        candidates: std::ops::RangeInclusive<u32>,
        budget: &mut usize,
    ) -> Option<u32> {
        /// So many claims must speak for a number.
        const LEAST: u32 = 8;
        let claims = self.claims(stretches, index);
        let judge = |first: u32, sample: usize, budget: &mut usize| {
            let step = claims.len().div_ceil(sample).max(1);
            let view = View {
                salvage: self,
                stretches,
                index,
                first,
            };
            let (mut right, mut wrong) = (0_u32, 0_u32);
            for claim in claims.iter().step_by(step) {
                *budget = budget.saturating_sub(1);
                match view.holds(claim) {
                    Some(true) => right += 1,
                    Some(false) => wrong += 1,
                    None => {}
                }
            }
            // Wrong ones in thousands of all.
            (
                u64::from(wrong) * 1000 / u64::from((right + wrong).max(1)),
                right,
            )
        };
        let mut ranked: Vec<(u64, std::cmp::Reverse<u32>, u32)> = Vec::new();
        for first in candidates {
            if *budget == 0 {
                return None;
            }
            let (wrong, right) = judge(first, SAMPLE[0], budget);
            if right >= LEAST.min(claims.len() as u32 / 2).max(3) {
                ranked.push((wrong, std::cmp::Reverse(right), first));
            }
        }
        ranked.sort_unstable();
        ranked.truncate(6);
        let mut finals: Vec<(u64, std::cmp::Reverse<u32>, u32)> = ranked
            .iter()
            .map(|&(.., first)| {
                let (wrong, right) = judge(first, SAMPLE[1], budget);
                (wrong, std::cmp::Reverse(right), first)
            })
            .collect();
        finals.sort_unstable();
        let &(wrong, right, first) = finals.first()?;
        // The right number explains nearly all; the second best must be clearly worse.
        let clear = finals
            .get(1)
            .is_none_or(|&(other, ..)| other >= 40 && other >= 4 * wrong.max(1));
        (wrong <= 30 && right.0 >= LEAST && clear).then_some(first)
    }

    /// All that is said in which the number of this stretch matters.
    fn claims(&self, stretches: &[Stretch], index: usize) -> Vec<Claim> {
        const MOST: usize = 1 << 17;
        let mut claims = Vec::new();
        // What it says of itself comes first, then what others say of what comes behind them.
        let others = (0..index).filter(|&other| stretches[other].first.is_some());
        for (i, stretch) in std::iter::once(index)
            .chain(others)
            .map(|i| (i, &stretches[i]))
        {
            for &at in &stretch.records {
                let at = at as usize;
                let Some((head, _)) = self.plausible(at) else {
                    continue;
                };
                claims_of(head, self.tail(at, head), |ty, what| {
                    // Those before the damage speak of what is far ahead only now and then.
                    if i == index || stretches[..index].iter().all(|s| s.get(ty).is_none()) {
                        claims.push(Claim { ty, what });
                    }
                });
                if claims.len() > MOST {
                    return claims;
                }
            }
        }
        claims
    }
}

/// That the type `ty` is something.
struct Claim {
    ty: u32,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Prototype,
    Variable,
    Integer,
    /// Of this many bytes at most, and when that is told, not far below.
    Sized(u32),
    /// Something that a value can have, or void.
    Value,
}

/// What a record says of others.
fn claims_of(head: Head, tail: &[u8], mut say: impl FnMut(u32, What)) {
    match head.kind() {
        kind::FUNC => say(head.word, What::Prototype),
        kind::PTR | kind::CONST | kind::VOLATILE | kind::TYPEDEF | kind::VAR => {
            say(head.word, What::Value);
        }
        kind::ARRAY => {
            say(at(tail, 0), What::Sized(u32::MAX));
            say(at(tail, 4), What::Integer);
        }
        kind::DATASEC => {
            for entry in tail.chunks_exact(12) {
                say(at(entry, 0), What::Variable);
            }
        }
        kind::STRUCT if !head.flag() => {
            let members: Vec<(u32, u32)> = parts(head, tail)
                .map(|(_, ty, offset)| (ty, offset))
                .collect();
            for (i, &(ty, offset)) in members.iter().enumerate() {
                let next = members
                    .get(i + 1)
                    .map_or(head.word.saturating_mul(8), |&(_, next)| next);
                if let Some(room) = next.checked_sub(offset)
                    && ty != 0
                {
                    say(ty, What::Sized(room / 8));
                }
            }
        }
        kind::UNION if !head.flag() => {
            for (_, ty, _) in parts(head, tail).filter(|&(_, ty, _)| ty != 0) {
                say(ty, What::Sized(head.word));
            }
        }
        kind::FUNC_PROTO => {
            say(head.word, What::Value);
            for (_, ty, _) in parts(head, tail) {
                say(ty, What::Value);
            }
        }
        _ => {}
    }
}

/// Name, type and offset of what a record consists of; the offset is 0 for what has none.
fn parts(head: Head, tail: &[u8]) -> impl Iterator<Item = (u32, u32, u32)> {
    let (width, typed) = match head.kind() {
        kind::STRUCT | kind::UNION => (12, true),
        kind::FUNC_PROTO => (8, true),
        kind::ENUM => (8, false),
        kind::ENUM64 => (12, false),
        _ => (usize::MAX, false),
    };
    tail.chunks_exact(width.min(tail.len().max(1)))
        .filter(move |part| part.len() == width)
        .map(move |part| match (typed, width) {
            (true, 12) => (at(part, 0), at(part, 4), at(part, 8)),
            (true, _) => (at(part, 0), at(part, 4), 0),
            (false, _) => (at(part, 0), 0, 0),
        })
}

/// The types as they are when a stretch has a certain number.
struct View<'v> {
    salvage: &'v Salvage<'v>,
    stretches: &'v [Stretch],
    index: usize,
    first: u32,
}

impl View<'_> {
    fn get(&self, id: u32) -> Option<(Head, usize)> {
        let here = &self.stretches[self.index];
        let own = id
            .checked_sub(self.first)
            .and_then(|i| here.records.get(i as usize).copied());
        let at = own.or_else(|| self.stretches[..self.index].iter().find_map(|s| s.get(id)))?;
        Some((head_at(self.salvage.bytes, at as usize)?, at as usize))
    }

    /// Whether a claim holds; `None` where that cannot be told.
    fn holds(&self, claim: &Claim) -> Option<bool> {
        if claim.ty == 0 {
            return None;
        }
        let (head, _) = self.get(claim.ty)?;
        let kind = head.kind();
        Some(match claim.what {
            What::Prototype => kind == kind::FUNC_PROTO,
            What::Variable => kind == kind::VAR,
            What::Integer => kind == kind::INT,
            What::Value => !matches!(
                kind,
                kind::FUNC | kind::VAR | kind::DATASEC | kind::DECL_TAG
            ),
            What::Sized(room) => {
                let size = self.size(claim.ty)?;
                // Up to seven bytes may pad what is in front of a pointer, and more only before what is
                // aligned to a cache line: that is rare enough not to matter.
                size <= room && (room == u32::MAX || room - size < 8)
            }
        })
    }

    /// Bytes of a value of this type; `Some(u32::MAX)` for what has none.
    fn size(&self, id: u32) -> Option<u32> {
        let mut id = id;
        let mut times = 1_u32;
        for _ in 0..24 {
            let (head, at) = self.get(id)?;
            let tail = self.salvage.tail(at, head);
            let size = match head.kind() {
                kind::INT
                | kind::STRUCT
                | kind::UNION
                | kind::ENUM
                | kind::ENUM64
                | kind::FLOAT => head.word,
                kind::PTR => 8,
                kind::TYPEDEF | kind::CONST | kind::VOLATILE | kind::RESTRICT | kind::TYPE_TAG => {
                    id = head.word;
                    continue;
                }
                kind::ARRAY => {
                    times = times.saturating_mul(super::at(tail, 8));
                    id = super::at(tail, 0);
                    continue;
                }
                _ => return Some(u32::MAX),
            };
            return Some(size.saturating_mul(times));
        }
        None
    }
}

/// Where each record starts, by number, and the ranges of numbers that are lost.
fn records_of(stretches: &[Stretch]) -> (Vec<u32>, Vec<Range<u32>>) {
    let mut records = vec![0];
    let mut lost = Vec::new();
    for stretch in stretches {
        let Some(first) = stretch.first else {
            continue;
        };
        let end = records.len() as u32;
        lost.push(end..first);
        records.resize(first as usize, 0);
        records.extend(&stretch.records);
    }
    (records, lost)
}
