//! From a name to the numbers of everything that bears it.
//!
//! Symbol tables and type graphs have hundreds of thousands of names, most of which nobody ever asks
//! for, and all of them come from the guest. The index is a sorted list of `(hash of the name, number)`
//! packed into one `u64` each: built by one sort, found by binary search, eight bytes a name.
//!
//! A hash table would answer faster, but a guest can choose a hundred thousand equal names, on which
//! open addressing takes quadratic time to build. Sorting does not care.

/// See the module documentation. The names themselves stay where they are.
#[derive(Debug, Default)]
pub(in crate::os) struct NameIndex {
    /// Hash in the upper half, number in the lower one.
    entries: Box<[u64]>,
}

impl NameIndex {
    /// Indexes names, each with its number.
    pub(in crate::os) fn build<'a>(names: impl Iterator<Item = (&'a [u8], u32)>) -> Self {
        let mut entries: Vec<u64> = names
            .map(|(name, number)| u64::from(hash(name)) << 32 | u64::from(number))
            .collect();
        entries.sort_unstable();
        Self {
            entries: entries.into_boxed_slice(),
        }
    }

    /// Numbers whose name may be `name`, ascending. The caller compares: hashes collide.
    pub(in crate::os) fn candidates(&self, name: &[u8]) -> impl Iterator<Item = u32> + use<'_> {
        let wanted = hash(name);
        let first = self
            .entries
            .partition_point(|&entry| ((entry >> 32) as u32) < wanted);
        self.entries[first..]
            .iter()
            .take_while(move |&&entry| (entry >> 32) as u32 == wanted)
            .map(|&entry| entry as u32)
    }
}

/// Eight bytes at a time, multiply and fold; good enough to keep runs of equal hashes short.
fn hash(name: &[u8]) -> u32 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = name.len() as u64;
    let mut chunks = name.chunks_exact(8);
    let mut mix = |word: u64| {
        let product = u128::from(state ^ word) * u128::from(K);
        state = (product as u64) ^ ((product >> 64) as u64);
    };
    for chunk in &mut chunks {
        mix(u64::from_le_bytes(chunk.try_into().expect("eight bytes")));
    }
    let mut last = [0; 8];
    last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    mix(u64::from_le_bytes(last));
    mix(K);
    (state >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_equal_names_in_order() {
        let names: Vec<String> = (0..5000).map(|i| format!("name_{}", i % 4000)).collect();
        let index = NameIndex::build(
            names
                .iter()
                .enumerate()
                .map(|(i, n)| (n.as_bytes(), i as u32)),
        );
        for name in &names {
            let found: Vec<u32> = index
                .candidates(name.as_bytes())
                .filter(|&i| names[i as usize] == *name)
                .collect();
            let expected: Vec<u32> = (0..5000).filter(|&i| names[i as usize] == *name).collect();
            assert_eq!(found, expected);
        }
        assert_eq!(index.candidates(b"absent_name").count(), 0);
    }

    #[test]
    fn a_hundred_thousand_equal_names_do_not_hang() {
        let index = NameIndex::build((0..100_000).map(|i| (&b"same"[..], i)));
        assert_eq!(index.candidates(b"same").count(), 100_000);
    }
}
