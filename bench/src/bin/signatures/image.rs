//! The bytes that are searched: RAM of a lab guest, then libraries of this machine.

use std::fs;
use std::path::PathBuf;

use object::{Object, ObjectSection};
use vmie_lab::{ImageFormat, Snapshot};

const PAGE: usize = 4096;

/// Bytes of libraries.
const LIBRARIES: usize = 160 << 20;

/// Larger ones are left out, so that the image does not consist of one.
const LARGEST: u64 = 24 << 20;

/// Share of zero pages that is kept, in percent. A guest that has just booted has hardly used its
/// memory, and an image that is mostly zeros says nothing about scanners.
const ZEROS: usize = 29;

/// Real pages.
pub(crate) struct Image {
    bytes: Vec<u8>,
    /// Where code lies: offset and length.
    code: Vec<(usize, usize)>,
    zero_pages: usize,
    guest: String,
}

impl Image {
    /// Puts it together.
    pub(crate) fn load() -> Self {
        let snapshots = Snapshot::all().unwrap_or_else(|error| panic!("{error}"));
        let snapshot = &snapshots[0];
        let raw = snapshot
            .image(ImageFormat::Raw)
            .expect("every snapshot has its RAM");
        let ram = fs::read(snapshot.path(&raw.file)).expect("the RAM file can be read");

        let mut bytes = Vec::new();
        let mut code = Vec::new();
        let mut left = LIBRARIES;
        for path in libraries() {
            if let Ok(library) = fs::read(&path)
                && library.len() <= left
            {
                let base = bytes.len();
                code.extend(text(&library).map(|(at, len)| (base + at, len)));
                left -= library.len();
                bytes.extend(library);
                bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
            }
        }
        assert!(!code.is_empty(), "no library of this machine could be read");
        let pages = || ram.chunks_exact(PAGE);
        let is_used = |page: &&[u8]| !is_zero(page);
        let used =
            pages().filter(is_used).count() + bytes.chunks_exact(PAGE).filter(is_used).count();
        // So many zero pages make their share of the whole.
        let mut zeros = used * ZEROS / (100 - ZEROS);
        for page in pages() {
            if is_zero(page) {
                if zeros == 0 {
                    continue;
                }
                zeros -= 1;
            }
            bytes.extend(page);
        }
        let zero_pages = bytes
            .chunks_exact(PAGE)
            .filter(|page| is_zero(page))
            .count();
        Self {
            zero_pages,
            bytes,
            code,
            guest: snapshot.variant.clone(),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Offset and length of the pieces that are code.
    pub(crate) fn code(&self) -> &[(usize, usize)] {
        &self.code
    }

    pub(crate) fn describe(&self) -> String {
        let mega = |bytes: usize| bytes >> 20;
        format!(
            "{} MiB: RAM of guest {} and {} MiB of libraries, {}% zero pages",
            mega(self.bytes.len()),
            self.guest,
            mega(LIBRARIES),
            self.zero_pages * 100 * PAGE / self.bytes.len()
        )
    }

    /// What is not zero pages, with `margin` bytes on both sides, as offset and length.
    pub(crate) fn used(&self, margin: usize) -> Vec<(usize, usize)> {
        let mut pieces: Vec<(usize, usize)> = Vec::new();
        for (i, page) in self.bytes.chunks(PAGE).enumerate() {
            if is_zero(page) {
                continue;
            }
            let start = (i * PAGE).saturating_sub(margin);
            let end = (i * PAGE + page.len() + margin).min(self.bytes.len());
            match pieces.last_mut() {
                Some((at, len)) if *at + *len >= start => *len = end - *at,
                _ => pieces.push((start, end - start)),
            }
        }
        pieces
    }
}

/// The libraries of this machine, each once, in order of their names.
fn libraries() -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"]
        .iter()
        .filter_map(|dir| fs::read_dir(dir).ok())
        .flatten()
        .filter_map(|entry| fs::canonicalize(entry.ok()?.path()).ok())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.contains(".so")
                && fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= LARGEST)
        })
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

/// Where the code of an ELF file lies, without the stubs for calls into other files: signatures taken
/// from those would match tens of thousands of times.
fn text(file: &[u8]) -> Option<(usize, usize)> {
    let elf = object::File::parse(file).ok()?;
    let (at, len) = elf.section_by_name(".text")?.file_range()?;
    (len > PAGE as u64).then_some((at as usize, len as usize))
}

/// Whether a page holds nothing but zeros.
fn is_zero(page: &[u8]) -> bool {
    let (lines, rest) = page.as_chunks::<256>();
    lines
        .iter()
        .all(|line| line.iter().fold(0, |any, &byte| any | byte) == 0)
        && rest.iter().all(|&byte| byte == 0)
}

/// Reads everything.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().fold(0u64, |sum, &word| {
        sum.wrapping_add(u64::from_le_bytes(word))
    })
}
