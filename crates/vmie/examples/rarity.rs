//! Counts how often one byte follows another in the files of a system, and which four bytes are the
//! most frequent, and writes what `signature/rarity.rs` is told about memory in general.
//!
//! ```text
//! for package in audacity bind9 blender clamav darktable emacs-nox erlang-base gimp inkscape kicad \
//!         libwireshark16 mariadb-server-core octave php8.2-cli qemu-system-arm r-base-core samba-libs \
//!         scribus stellarium swi-prolog-nox vim-nox vlc-plugin-base; do
//!     apt-get download $package && dpkg-deb -x ${package}_*.deb files/$package
//! done
//! cargo run --release -p vmie --example rarity -- \
//!     crates/vmie/src/signature files/*/usr/lib files/*/usr/bin files/*/usr/sbin
//! ```
//!
//! These are the packages that the committed numbers come from, in the versions of Debian 12 and its
//! updates. Take none that are installed where the benchmark runs: its signatures are cut from the
//! libraries there, and would be known beforehand.
//!
//! Pages that are all zero are left out; so are links, and files that are larger than 256 MiB. Where the list
//! ends (`LISTED`) and its greatest weight (`RAREST`) stand in `signature/rarity.rs` too.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

const PAGE: usize = 4096;
const LARGEST: u64 = 256 << 20;

/// Grams of four bytes that are listed.
const LISTED: usize = 16384;

/// Log2 of the counters that grams share in the first pass, which finds the candidates.
const SHARED: u32 = 26;

fn main() -> io::Result<()> {
    let mut args = env::args_os().skip(1).map(PathBuf::from);
    let Some(output) = args.next() else {
        return Err(io::Error::other("usage: rarity OUTPUT DIRECTORY..."));
    };
    let dirs: Vec<PathBuf> = args.collect();
    let mut pairs = vec![0u64; 1 << 16];
    let mut shared = vec![0u32; 1 << SHARED];
    each_page(&dirs, &mut |page| {
        for pair in page.array_windows::<2>() {
            pairs[usize::from(pair[0]) << 8 | usize::from(pair[1])] += 1;
        }
        for gram in page.array_windows::<4>() {
            let counter = &mut shared[slot(u32::from_le_bytes(*gram))];
            *counter = counter.saturating_add(1);
        }
    });
    let total: u64 = pairs.iter().sum();
    fs::write(output.join("pairs.bin"), pair_weights(&pairs, total))?;

    // No gram occurs more often than its counter says, so few have to be counted one by one.
    let mut by_count = shared.clone();
    by_count.sort_unstable_by(|a, b| b.cmp(a));
    let least = by_count[4 * LISTED];
    let mut counts: HashMap<u32, u64> = HashMap::new();
    each_page(&dirs, &mut |page| {
        for gram in page.array_windows::<4>() {
            let gram = u32::from_le_bytes(*gram);
            if shared[slot(gram)] >= least {
                *counts.entry(gram).or_default() += 1;
            }
        }
    });
    let mut frequent: Vec<(u64, u32)> = counts.into_iter().map(|(gram, n)| (n, gram)).collect();
    frequent.sort_unstable_by(|a, b| b.cmp(a));
    frequent.truncate(LISTED);
    frequent.sort_unstable_by_key(|&(_, gram)| gram);
    let mut bytes: Vec<u8> = frequent.iter().flat_map(|(_, g)| g.to_le_bytes()).collect();
    bytes.extend(
        frequent
            .iter()
            .map(|&(n, _)| weight(n as f64 / total as f64)),
    );
    fs::write(output.join("grams.bin"), bytes)?;
    println!("{total} bytes, the least frequent of {LISTED} grams is at least {least}");
    Ok(())
}

/// The rows: for each byte the next ones; then the bytes by themselves. Every pair is given half an
/// occurrence, so that none is held to be impossible.
fn pair_weights(counts: &[u64], total: u64) -> Vec<u8> {
    let mut weights = Vec::with_capacity((1 << 16) + 256);
    for row in counts.chunks_exact(256) {
        let sum = row.iter().sum::<u64>() as f64 + 128.0;
        weights.extend(row.iter().map(|&count| weight((count as f64 + 0.5) / sum)));
    }
    let single = counts
        .chunks_exact(256)
        .map(|row| weight(row.iter().sum::<u64>() as f64 / total as f64));
    weights.extend(single);
    weights
}

/// -8 log2 of a share: an eighth of a bit is one.
fn weight(share: f64) -> u8 {
    (-8.0 * share.log2()).round().clamp(0.0, 255.0) as u8
}

fn slot(gram: u32) -> usize {
    (gram.wrapping_mul(0x9e37_79b1) >> (32 - SHARED)) as usize
}

fn each_page(dirs: &[PathBuf], visit: &mut impl FnMut(&[u8])) {
    for dir in dirs {
        walk(dir, visit);
    }
}

fn walk(path: &Path, visit: &mut impl FnMut(&[u8])) {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return;
    };
    if meta.is_dir() {
        let mut entries: Vec<PathBuf> = fs::read_dir(path)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        entries.sort();
        for entry in entries {
            walk(&entry, visit);
        }
    } else if meta.is_file() && meta.len() <= LARGEST {
        let bytes = fs::read(path).unwrap_or_default();
        bytes
            .chunks(PAGE)
            .filter(|page| page.iter().any(|&byte| byte != 0))
            .for_each(visit);
    }
}
