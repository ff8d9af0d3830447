//! Decompressed blocks that were used lately: one cache for everything that is stored in compressed blocks.
//!
//! Reading a word out of a compressed file decompresses a whole block, and the next word is most often in the
//! same one; page tables are walked over and over. So what was decompressed is kept, up to a number of *bytes*:
//! blocks of different formats differ in size by a factor of sixteen.
//!
//! ```text
//! shard = some bits of the key's hash              each has a lock and an equal share of the bytes
//! the block that the shard used last?              no hash table is asked then
//! else by key                                      found: it is the one used last now
//! else, without the lock: decompress               two threads may do so at once, none waits for another's
//!      put it in front, drop from the other end until the share suffices
//! ```
//!
//! A block that cannot be decompressed is kept as well, so that a sweep over a damaged one does not try
//! once for each page. It counts as a page, so that a file of damaged blocks does not make the
//! table long.
//!
//! A pass over all of memory reads much at once. What it takes whole it will not want again, and it would drive out
//! page tables and walk through as much memory as the cache may hold: it is not kept ([`Reader::Pass`]).
//!
//! Small reads are copied under the lock, which takes less than counting a reference; larger ones are not.
//!
//! Rejected: a cache for each thread (threads come and go with each scan, and the memory would be multiplied
//! by their number), and sets of four as caches of processors have them (pages that happen to meet in one
//! drive each other out while the rest is empty; a page table is read a thousand times for that).

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shards, so that threads rarely meet.
const SHARDS: usize = 16;

/// What a block costs besides its bytes, and one that cannot be decompressed.
const OVERHEAD: usize = 256;
const DAMAGED: usize = 4096;

/// Reads of up to so many bytes are copied under the lock.
const SMALL: usize = 512;

/// No entry.
const NONE: u32 = u32::MAX;

/// Who reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reader {
    /// Somebody who may want the rest of a block, or the same again: page tables, structures.
    Looking,
    /// Somebody who reads much at once and goes on: what is taken whole is not wanted again, and would drive out
    /// what is.
    Pass,
}

impl Reader {
    /// From so many bytes on a read is taken for a part of a pass.
    const MUCH: usize = 64 << 10;

    /// The reader of so many bytes.
    pub(crate) fn of(len: usize) -> Self {
        match len >= Self::MUCH {
            true => Self::Pass,
            false => Self::Looking,
        }
    }
}

/// What a key leads to; nothing where it does not decompress.
type Block = Option<Arc<Vec<u8>>>;

/// A cache of blocks by a number that the format chooses: the offset of a block, or its index. For all
/// threads.
pub(crate) struct BlockCache {
    shards: Box<[Mutex<Shard>]>,
    /// Bytes of each shard.
    share: usize,
}

impl BlockCache {
    /// A cache that keeps up to `bytes` bytes. A block larger than a sixteenth of that is not kept.
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            share: bytes / SHARDS,
        }
    }

    /// Copies `buf.len()` bytes of a block, from its byte `skip` on. Answers `false`, with `buf` as it was, when the
    /// block does not decompress, or not to that many bytes.
    ///
    /// `decompress` is called without any lock, and only when the block is not there. A block that a pass takes
    /// as a whole is not kept.
    #[must_use]
    pub(crate) fn read(
        &self,
        key: u64,
        skip: usize,
        buf: &mut [u8],
        reader: Reader,
        decompress: impl FnOnce() -> Option<Vec<u8>>,
    ) -> bool {
        let block = {
            let mut shard = self.shard(key);
            match shard.find(key) {
                Some(block) if buf.len() <= SMALL => return copy(block.as_deref(), skip, buf),
                Some(block) => block.clone(),
                None => {
                    drop(shard);
                    let block = decompress();
                    let whole = block.as_ref().is_some_and(|block| block.len() == buf.len());
                    if whole && reader == Reader::Pass {
                        return copy(block.as_ref(), skip, buf);
                    }
                    let block = block.map(Arc::new);
                    self.keep(key, block.clone());
                    block
                }
            }
        };
        copy(block.as_deref(), skip, buf)
    }

    /// A block. What `decompress` fails with is handed on and not kept.
    pub(crate) fn get<E>(
        &self,
        key: u64,
        decompress: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Arc<Vec<u8>>, E> {
        if let Some(Some(block)) = self.shard(key).find(key) {
            return Ok(Arc::clone(block));
        }
        let block = Arc::new(decompress()?);
        self.keep(key, Some(Arc::clone(&block)));
        Ok(block)
    }

    fn keep(&self, key: u64, block: Block) {
        self.shard(key).keep(key, block, self.share);
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        // A panic while the lock is held cannot happen between two steps of a change.
        let shard = self.shards[place(key)].lock();
        shard.unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockCache").finish_non_exhaustive()
    }
}

/// The shard of a key. Neighbours are some tens of KiB apart, or one: they are spread.
fn place(key: u64) -> usize {
    (mix(key) >> 60) as usize % SHARDS
}

fn mix(key: u64) -> u64 {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn copy(block: Option<&Vec<u8>>, skip: usize, buf: &mut [u8]) -> bool {
    match block.and_then(|block| block.get(skip..)?.get(..buf.len())) {
        Some(bytes) => {
            buf.copy_from_slice(bytes);
            true
        }
        None => false,
    }
}

/// Part of the cache: entries in a list by their last use, and a table of them.
struct Shard {
    table: HashMap<u64, u32, BuildHasherDefault<Mixed>>,
    entries: Vec<Entry>,
    /// Entries that are not in use.
    free: Vec<u32>,
    newest: u32,
    oldest: u32,
    /// What all entries cost.
    bytes: usize,
}

struct Entry {
    key: u64,
    block: Block,
    newer: u32,
    older: u32,
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            table: HashMap::default(),
            entries: Vec::new(),
            free: Vec::new(),
            newest: NONE,
            oldest: NONE,
            bytes: 0,
        }
    }
}

impl Shard {
    /// The block of a key, which is the one used last from now on.
    #[inline]
    fn find(&mut self, key: u64) -> Option<&Block> {
        let newest = self.entries.get(self.newest as usize);
        if newest.is_none_or(|newest| newest.key != key) {
            let at = *self.table.get(&key)?;
            self.unlink(at);
            self.put_in_front(at);
        }
        Some(&self.entries[self.newest as usize].block)
    }

    fn keep(&mut self, key: u64, block: Block, share: usize) {
        let cost = cost(&block);
        // Another thread may have been faster.
        if cost > share || self.find(key).is_some() {
            return;
        }
        while self.bytes + cost > share {
            self.drop_oldest();
        }
        self.bytes += cost;
        let entry = Entry {
            key,
            block,
            newer: NONE,
            older: NONE,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.entries[at as usize] = entry;
                at
            }
            None => {
                self.entries.push(entry);
                // Each costs some hundred bytes of a share.
                (self.entries.len() - 1) as u32
            }
        };
        self.table.insert(key, at);
        self.put_in_front(at);
    }

    fn drop_oldest(&mut self) {
        let at = self.oldest;
        self.unlink(at);
        let entry = &mut self.entries[at as usize];
        self.table.remove(&entry.key);
        self.bytes -= cost(&entry.block);
        entry.block = None;
        self.free.push(at);
    }

    fn unlink(&mut self, at: u32) {
        let Entry { newer, older, .. } = self.entries[at as usize];
        match self.entries.get_mut(newer as usize) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn put_in_front(&mut self, at: u32) {
        let older = self.newest;
        let entry = &mut self.entries[at as usize];
        (entry.newer, entry.older) = (NONE, older);
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
    }
}

fn cost(block: &Block) -> usize {
    let bytes = block.as_ref().map_or(DAMAGED, |block| block.capacity());
    bytes.saturating_add(OVERHEAD)
}

/// Keys are offsets or indices, of which the low bits may all be the same; that somebody chooses them so that
/// they meet costs him a walk over one shard's entries, which are few.
#[derive(Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, key: u64) {
        let mixed = mix(self.0 ^ key);
        self.0 = mixed ^ mixed >> 32;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    /// What the block of a key decompresses to, in these tests.
    fn content(key: u64) -> Option<Vec<u8>> {
        let len = [0, 1, 100, 4096, 4096, 4096, 5000, 9000][key as usize % 8];
        (!key.is_multiple_of(11)).then(|| (0..len).map(|at| (key + at) as u8).collect())
    }

    /// Beside it: for each shard the keys by their last use, the latest first.
    struct Naive {
        used: Vec<Vec<u64>>,
        share: usize,
    }

    impl Naive {
        /// Whether the block is there, now that it is asked for.
        fn has(&mut self, key: u64, passed: bool) -> bool {
            let used = &mut self.used[place(key)];
            let at = used.iter().position(|&one| one == key);
            let of = |key| cost(&content(key).map(Arc::new));
            if let Some(at) = at {
                used.remove(at);
            }
            if of(key) <= self.share && (at.is_some() || !passed) {
                used.insert(0, key);
            }
            while used.iter().map(|&key| of(key)).sum::<usize>() > self.share {
                used.pop();
            }
            at.is_some()
        }
    }

    fn patterns() -> impl Strategy<Value = Vec<u64>> {
        let random = prop::collection::vec(0_u64..60, 0..300);
        // Sequential, several times; one again and again among others; addresses that are far apart.
        let sequential = (1_u64..80).prop_map(|count| (0..3 * count).map(|i| i % count).collect());
        let hot = prop::collection::vec(0_u64..200, 0..150)
            .prop_map(|keys| keys.into_iter().flat_map(|key| [key, 3]).collect());
        let far = prop::collection::vec((0_u64..60).prop_map(|i| i << 16 | i << 50), 0..200);
        prop_oneof![random, sequential, hot, far]
    }

    proptest! {
        #[test]
        fn the_latest_blocks_are_kept_and_no_more(
            keys in patterns(),
            share in prop_oneof![Just(0), Just(300), Just(5000), Just(12_000), Just(60_000)],
            (skip, len) in prop_oneof![(0_usize..6000, 0_usize..6000), Just((0, 4096))],
            reader in prop_oneof![Just(Reader::Looking), Just(Reader::Pass)],
        ) {
            let cache = BlockCache::new(share * SHARDS);
            let mut naive = Naive { used: vec![Vec::new(); SHARDS], share };
            for key in keys {
                let asked = Cell::new(false);
                let mut buf = vec![0xee; len];
                let read = cache.read(key, skip, &mut buf, reader, || {
                    asked.set(true);
                    content(key)
                });
                let expected = content(key);
                let expected = expected.as_deref().and_then(|all| all.get(skip..)?.get(..len));
                let untouched = vec![0xee; len];
                prop_assert_eq!(read, expected.is_some());
                prop_assert_eq!(&buf[..], expected.unwrap_or(&untouched));
                let whole = content(key).is_some_and(|block| block.len() == len);
                let passed = whole && reader == Reader::Pass;
                prop_assert_eq!(!asked.get(), naive.has(key, passed), "{:#x}", key);
                for shard in &cache.shards {
                    let shard = shard.lock().unwrap();
                    let costs = shard.table.values().map(|&at| cost(&shard.entries[at as usize].block));
                    let bytes: usize = costs.sum();
                    prop_assert_eq!(bytes, shard.bytes);
                    prop_assert!(bytes <= share);
                    prop_assert_eq!(shard.table.len() + shard.free.len(), shard.entries.len());
                }
            }
        }
    }

    #[test]
    fn a_failure_that_is_told_is_not_kept() {
        let cache = BlockCache::new(1 << 20);
        assert_eq!(cache.get(1, || Err("gone")), Err("gone"));
        let block = cache.get(1, || Ok::<_, &str>(vec![7])).unwrap();
        assert_eq!(*block, [7]);
        let again = cache.get(1, || Err("not asked")).unwrap();
        assert!(Arc::ptr_eq(&block, &again));
    }

    #[test]
    fn threads_read_what_is_theirs() {
        let cache = BlockCache::new(200_000);
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let cache = &cache;
                scope.spawn(move || {
                    for step in 0..20_000_u64 {
                        let key = mix(step + thread) >> 57;
                        let mut buf = [0; 64];
                        let read = cache.read(key, 30, &mut buf, Reader::Looking, || content(key));
                        let expected = content(key);
                        let expected = expected.as_deref().and_then(|all| all.get(30..94));
                        assert_eq!(read.then_some(&buf[..]), expected);
                    }
                });
            }
        });
    }
}
