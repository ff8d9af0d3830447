//! Writing a snapshot: find the distinct pages, compress them block by block, then say what is where.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use vmie_replace::Replacement;

use super::super::Snapshot;
use super::super::content::Content;
use super::super::layout::SNAPSHOT_PAGE;
use super::super::slot::{Slot, Slots, ZERO};
use super::tables::{Form, Tables, block_count};
use super::{BLOCK_PAGES, FileError, FileErrorKind as Kind, Packer, SaveOptions};
use crate::addr::Address;
use crate::scan::Run;

/// What was saved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Saved {
    /// Bytes in the file.
    pub bytes: u64,
    /// Pages that were captured.
    pub pages: u64,
    /// Of them, pages of zeros.
    pub zero: u64,
    /// Different pages among the others.
    pub distinct: u64,
}

impl<A: Address> Snapshot<A> {
    /// Writes the snapshot to a file.
    ///
    /// The file appears when it is whole and synced, and replaces another one only then. `progress` is called
    /// with the number of bytes of contents done, and may end it.
    ///
    /// # Errors
    ///
    /// When writing fails, the run is cancelled, or the snapshot is itself of a salvaged file and damaged. Nothing
    /// is left behind then.
    ///
    /// # Cost
    ///
    /// One hash of all pages, and compressing the different ones. Memory: some 20 bytes a page.
    pub fn save(
        &self,
        path: impl AsRef<Path>,
        options: &SaveOptions,
        run: Run<'_>,
    ) -> Result<Saved, FileError> {
        let path = path.as_ref();
        self.write(path, options, run).map_err(|kind| FileError {
            path: path.to_owned(),
            kind,
        })
    }

    fn write(&self, path: &Path, options: &SaveOptions, mut run: Run<'_>) -> Result<Saved, Kind> {
        let mut file = Replacement::create(path)?;
        let distinct = Distinct::find(&self.content, &self.slots)?;
        let mut tables = Tables {
            layout: self.layout.clone(),
            slots: distinct.slots,
            taken: self.taken,
            took: self.took,
            origin: self.origin.clone(),
            compression: options.compression,
            pages: distinct.order.len() as u64,
            blocks: Vec::new(),
        };
        file.file().seek(SeekFrom::Start(tables.len()))?;
        let out = file.file();
        let (mut blocks, mut done) = (Vec::with_capacity(block_count(tables.pages) as usize), 0);
        let gather = |pages: &[Slot]| gather(&self.content, pages);
        Packer::of_run(options.compression, &run).pack(&distinct.order, gather, |bytes, sum| {
            out.write_all(bytes)?;
            blocks.push((bytes.len() as u64, sum));
            done += (BLOCK_PAGES * SNAPSHOT_PAGE) as u64;
            match run.step(done) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(Kind::Stopped),
            }
        })?;
        tables.blocks = blocks;
        let encoded = tables.encode(Form::Whole);
        file.file().write_all(&encoded)?;
        let bytes = file.file().stream_position()?;
        file.file().rewind()?;
        file.file().write_all(&encoded)?;
        file.commit()?;
        let zero = self.slots.iter().filter(|slot| **slot == ZERO).count();
        Ok(Saved {
            bytes,
            pages: self.slots.len() as u64,
            zero: zero as u64,
            distinct: tables.pages,
        })
    }
}

/// Which contents are to be written, and the slots that lead to them.
struct Distinct {
    /// Slots of the snapshot, each with another content.
    order: Vec<Slot>,
    /// For each page, its content's place in `order`.
    slots: Slots,
}

impl Distinct {
    fn find(content: &Content, slots: &[Slot]) -> Result<Self, Kind> {
        let count = usize::try_from(content.len()).expect("contents are in memory or mapped");
        let mut places = vec![ZERO; count];
        let mut order = Vec::new();
        let mut by_hash: HashMap<u64, Slot> = HashMap::new();
        let (mut bytes, mut other) = ([0; SNAPSHOT_PAGE], [0; SNAPSHOT_PAGE]);
        for (page, &slot) in slots.iter().enumerate() {
            if slot == ZERO || places[slot as usize] != ZERO {
                continue;
            }
            let read = |slot: Slot, to: &mut [u8; SNAPSHOT_PAGE]| {
                content
                    .read(&[slot], 0, 0, to)
                    .map_err(|(_, cause)| Kind::Unreadable {
                        page: page as u64,
                        cause,
                    })
            };
            let lent = content.slice(&[slot], 0, 0, SNAPSHOT_PAGE);
            if lent.is_none() {
                read(slot, &mut bytes)?;
            }
            let bytes = lent.unwrap_or(&bytes);
            let place = order.len() as Slot;
            let place = match by_hash.entry(xxh3_64(bytes)) {
                Entry::Vacant(entry) => {
                    entry.insert(slot);
                    place
                }
                // The first page of a hash is the one that others may share.
                Entry::Occupied(entry) => {
                    let first = *entry.get();
                    let lent = content.slice(&[first], 0, 0, SNAPSHOT_PAGE);
                    if lent.is_none() {
                        read(first, &mut other)?;
                    }
                    if lent.unwrap_or(&other) == bytes {
                        places[first as usize]
                    } else {
                        place
                    }
                }
            };
            if place as usize == order.len() {
                order.push(slot);
            }
            places[slot as usize] = place;
        }
        let place = |&slot: &Slot| match slot {
            ZERO => ZERO,
            slot => places[slot as usize],
        };
        Ok(Self {
            slots: slots.iter().map(place).collect(),
            order,
        })
    }
}

/// The bytes of some pages in one piece.
fn gather<'c>(content: &'c Content, slots: &[Slot]) -> Result<Cow<'c, [u8]>, Kind> {
    let len = slots.len() * SNAPSHOT_PAGE;
    if let Some(lent) = content.slice(slots, 0, 0, len) {
        return Ok(Cow::Borrowed(lent));
    }
    let mut copy = vec![0; len];
    let unreadable = |(at, cause)| Kind::Unreadable {
        page: u64::from(slots[at / SNAPSHOT_PAGE]),
        cause,
    };
    content.read(slots, 0, 0, &mut copy).map_err(unreadable)?;
    Ok(Cow::Owned(copy))
}
