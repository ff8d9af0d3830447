//! The host's side of `guest/witness.cpp`: what the guest says about itself, and since when it holds.

use std::collections::BTreeMap;

use crate::Fallible;

/// One look of the guest at itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Round {
    /// Its number, from 1.
    pub(crate) number: u64,
    /// Stands for everything that is stable while processes merely run.
    pub(crate) digest: u64,
}

/// Decodes the stream of frames.
#[derive(Default)]
pub(crate) struct Witness {
    /// Bytes that are not a whole frame yet.
    pending: Vec<u8>,
    /// Files of frames that no round has confirmed yet, and their generation.
    draft: BTreeMap<String, Vec<u8>>,
    /// Files by name, as of the last round.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// The generation of `files`.
    generation: u64,
    /// The last round.
    pub(crate) last: Option<Round>,
    /// What went wrong in the guest.
    pub(crate) errors: Vec<String>,
}

/// A header line longer than this means that bytes were lost.
const MAX_HEADER: usize = 1024;

impl Witness {
    /// Takes in what has arrived.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Fallible<()> {
        self.pending.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            let rest = &self.pending[at..];
            let Some(len) = rest.iter().take(MAX_HEADER).position(|&byte| byte == b'\n') else {
                if rest.len() >= MAX_HEADER {
                    return Err("the guest's report is garbled: no header".into());
                }
                break;
            };
            let header = String::from_utf8_lossy(&rest[..len]).into_owned();
            let garbled = || format!("the guest's report is garbled: header {header:?}");
            let body = at + len + 1;
            let words: Vec<&str> = header.split(' ').collect();
            match words.as_slice() {
                ["F", _generation, name, size] => {
                    let size: usize = size.parse().map_err(|_| garbled())?;
                    let Some(content) = self.pending.get(body..body + size) else {
                        break;
                    };
                    self.draft.insert((*name).to_owned(), content.to_vec());
                    at = body + size;
                }
                ["R", number, digest, generation] => {
                    let round = Round {
                        number: number.parse().map_err(|_| garbled())?,
                        digest: u64::from_str_radix(digest, 16).map_err(|_| garbled())?,
                    };
                    let generation = generation.parse().map_err(|_| garbled())?;
                    self.confirm(round, generation);
                    at = body;
                }
                ["E", ..] => {
                    self.errors.push(header[2..].to_owned());
                    at = body;
                }
                _ => return Err(garbled().into()),
            }
        }
        self.pending.drain(..at);
        Ok(())
    }

    fn confirm(&mut self, round: Round, generation: u64) {
        if generation != self.generation {
            // A new generation replaces the processes: some may be gone.
            self.files.retain(|name, _| !name.starts_with("proc/"));
            self.files.append(&mut self.draft);
            self.generation = generation;
        }
        self.last = Some(round);
    }

    pub(crate) fn text(&self, name: &str) -> Fallible<&str> {
        let bytes = self
            .files
            .get(name)
            .ok_or_else(|| format!("the guest has not sent {name}"))?;
        Ok(std::str::from_utf8(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"F 1 version 3\nabcF 1 proc/7/maps 2\nx\nR 1 00ff 1\n\
        E something\nR 2 00ff 1\nF 2 proc/8/maps 1\nyR 3 0100 2\n";

    #[test]
    fn any_split_gives_the_same() {
        for step in [1, 2, 7, STREAM.len()] {
            let mut witness = Witness::default();
            for piece in STREAM.chunks(step) {
                witness.feed(piece).expect("well formed");
            }
            let names: Vec<&String> = witness.files.keys().collect();
            assert_eq!(names, ["proc/8/maps", "version"]);
            assert_eq!(witness.text("version").expect("sent"), "abc");
            assert_eq!(
                witness.last,
                Some(Round {
                    number: 3,
                    digest: 0x100
                })
            );
            assert_eq!(witness.errors, ["something"]);
        }
    }

    #[test]
    fn lost_bytes_are_noticed() {
        assert!(Witness::default().feed(b"abc\n").is_err());
        assert!(Witness::default().feed(&[b'F'; 2000]).is_err());
    }
}
