//! Signatures as people make them: a piece of code, with the bytes masked that change from build to
//! build.

use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use vmie::signature::Signature;

use crate::image::Image;

/// A literal has so many bytes.
const LITERAL: (u64, u64) = (8, 24);

/// A masked signature has so many.
const MASKED: (u64, u64) = (12, 32);

/// Fewer known bytes make no signature.
const LEAST_KNOWN: usize = 6;

/// Bytes, each known or not. The first and the last are known, and not all known ones are zero.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Pattern {
    pub(crate) bytes: Vec<Option<u8>>,
}

impl Pattern {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// As a signature of vmie.
    pub(crate) fn signature(&self) -> Signature {
        let text: Vec<String> = self
            .bytes
            .iter()
            .map(|byte| byte.map_or("??".to_owned(), |byte| format!("{byte:02X}")))
            .collect();
        Signature::parse("", &text.join(" ")).expect("well formed")
    }

    /// Whether it stands at the beginning of `bytes`.
    pub(crate) fn matches(&self, bytes: &[u8]) -> bool {
        bytes.len() >= self.len()
            && self
                .bytes
                .iter()
                .zip(bytes)
                .all(|(want, have)| want.is_none_or(|want| want == *have))
    }
}

/// Takes patterns from the code of an image.
pub(crate) struct Sampler<'i> {
    image: &'i Image,
    state: u64,
}

impl<'i> Sampler<'i> {
    pub(crate) fn new(image: &'i Image, seed: u64) -> Self {
        Self { image, state: seed }
    }

    /// So many different ones.
    pub(crate) fn take(mut self, count: usize, masked: bool) -> Vec<Pattern> {
        let mut known = std::collections::HashSet::new();
        let mut patterns = Vec::new();
        while patterns.len() < count {
            if let Some(pattern) = self.one(masked)
                && known.insert(pattern.clone())
            {
                patterns.push(pattern);
            }
        }
        patterns
    }

    fn one(&mut self, masked: bool) -> Option<Pattern> {
        let total: usize = self.image.code().iter().map(|(_, len)| len).sum();
        let mut at = self.below(total as u64) as usize;
        let &(start, len) = self.image.code().iter().find(|(_, len)| {
            let inside = at < *len;
            if !inside {
                at -= len;
            }
            inside
        })?;
        let code = &self.image.bytes()[start..start + len];
        let (least, most) = if masked { MASKED } else { LITERAL };
        let wanted = (least + self.below(most - least + 1)) as usize;
        // From a little before, the decoder has fallen into step when it gets to `at`.
        let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
        decoder.set_position(at.saturating_sub(64)).ok()?;
        while decoder.position() < at {
            let _ = decoder.decode();
        }
        let first = decoder.position();
        let mut bytes: Vec<Option<u8>> = code
            .get(first..first + wanted)?
            .iter()
            .copied()
            .map(Some)
            .collect();
        while decoder.position() < first + wanted {
            let here = decoder.position();
            let instruction = decoder.decode();
            // What stands between functions makes no signature.
            let is_padding = matches!(instruction.mnemonic(), Mnemonic::Nop | Mnemonic::Int3);
            if instruction.is_invalid() || is_padding {
                return None;
            }
            if !masked {
                continue;
            }
            let offsets = decoder.get_constant_offsets(&instruction);
            let fields = [
                (
                    offsets.has_displacement(),
                    offsets.displacement_offset(),
                    offsets.displacement_size(),
                ),
                (
                    offsets.has_immediate(),
                    offsets.immediate_offset(),
                    offsets.immediate_size(),
                ),
            ];
            for (_, at, size) in fields.into_iter().filter(|f| f.0 && f.2 >= 4) {
                for i in 0..size {
                    if let Some(byte) = bytes.get_mut(here - first + at + i) {
                        *byte = None;
                    }
                }
            }
        }
        while bytes.last().is_some_and(Option::is_none) {
            bytes.pop();
        }
        let known = bytes.iter().flatten().count();
        let tells = bytes.iter().flatten().any(|&byte| byte != 0);
        (known >= LEAST_KNOWN && tells).then_some(Pattern { bytes })
    }

    /// A number below `bound`, by splitmix64.
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % bound
    }
}
