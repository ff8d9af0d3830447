//! From the position of a field to the instruction.

use iced_x86::{Decoder, DecoderOptions, Instruction};

use super::MAX_INSTRUCTION;
use super::field::fields;
use crate::addr::{AddrRange, Gva};
use crate::arch::code::{CodeWindow, Xref};
use crate::width::CodeBits;

/// Linear decodes begin this far before the field, and at the bytes behind it.
const FURTHEST: usize = 64;

/// How many begin.
const DECODES: usize = 5;

/// Bytes before an instruction that its result depends on.
pub(super) const BEFORE: usize = FURTHEST + MAX_INSTRUCTION;

/// Bytes from a field on that the instruction can have: eight of the field, and an instruction that is
/// too long must be seen to be so.
const FROM_FIELD: usize = MAX_INSTRUCTION;

/// The bytes around a field.
const AROUND: usize = FURTHEST + FROM_FIELD;

/// Resolves fields of one window.
pub(super) struct Resolver<'w> {
    window: &'w CodeWindow<'w>,
    bits: CodeBits,
    instruction: Instruction,
}

/// An instruction that has the field.
#[derive(Clone, Copy)]
struct Start {
    xref: Xref,
    /// Where it begins among the bytes around.
    at: usize,
}

impl<'w> Resolver<'w> {
    pub(super) fn new(window: &'w CodeWindow<'w>, bits: CodeBits) -> Self {
        Self {
            window,
            bits,
            instruction: Instruction::default(),
        }
    }

    /// The instruction that has the field at `field`, an offset in the window, if the field stands for one
    /// of the targets.
    pub(super) fn resolve(&mut self, field: usize, targets: AddrRange<Gva>) -> Option<Xref> {
        let mut buffer = [0; AROUND];
        let (len, at) = self.around(field, &mut buffer);
        let bytes = &buffer[..len];
        let start = self.window.start.0.wrapping_add(field as u64);
        let base = start.wrapping_sub(at as u64);
        let mut starts = [None::<Start>; MAX_INSTRUCTION];
        let mut count = 0;
        let first = at.saturating_sub(MAX_INSTRUCTION - 1);
        for begin in first..at {
            let va = base.wrapping_add(begin as u64);
            let code = &bytes[begin..];
            let mut decoder = Decoder::with_ip(self.bits.number(), code, va, DecoderOptions::NONE);
            decoder.decode_out(&mut self.instruction);
            let len = self.instruction.len() as u8;
            fields(&decoder, &self.instruction, |found| {
                if begin + found.at == at && targets.contains(Gva(found.target)) {
                    starts[count.min(MAX_INSTRUCTION - 1)] = Some(Start {
                        xref: Xref {
                            va: Gva(va),
                            field: found.at as u8,
                            len,
                            kind: found.kind,
                            target: Gva(found.target),
                            linear: false,
                        },
                        at: begin,
                    });
                    count += 1;
                }
            });
        }
        let longest = starts[0]?;
        let linear = self.linear(bytes, at);
        let starts = starts.iter().flatten();
        let arrived = starts.copied().find(|start| linear(start.at));
        let chosen = arrived.unwrap_or(longest);
        Some(Xref {
            linear: arrived.is_some(),
            ..chosen.xref
        })
    }

    /// Puts the bytes around a field together; answers how many there are and where the field is.
    fn around(&self, field: usize, buffer: &mut [u8; AROUND]) -> (usize, usize) {
        let CodeWindow { bytes, before, .. } = *self.window;
        let inside = field.min(FURTHEST);
        let outside = (FURTHEST - inside).min(before.len());
        let end = (field + FROM_FIELD).min(bytes.len());
        let tail = &bytes[field - inside..end];
        buffer[..outside].copy_from_slice(&before[before.len() - outside..]);
        buffer[outside..outside + tail.len()].copy_from_slice(tail);
        (outside + tail.len(), outside + inside)
    }

    /// Whether linear decodes arrive at a byte before the field, which is at `at`.
    fn linear(&mut self, bytes: &[u8], at: usize) -> impl Fn(usize) -> bool + use<> {
        // Where the decode goes on from each byte: decodes fall into step, so most bytes are asked for more
        // than once.
        let mut next = [0; FURTHEST];
        let mut votes = [0u8; FURTHEST];
        // Nearer than that, memory begins: a start that is known.
        let begins = if at < FURTHEST { 1 } else { DECODES };
        for begin in 0..begins.min(at) {
            let mut here = begin;
            while here < at {
                votes[here] += 1;
                if next[here] == 0 {
                    next[here] = here + self.step(&bytes[here..]);
                }
                here = next[here];
            }
        }
        move |place| {
            votes
                .get(place)
                .is_some_and(|&votes| usize::from(votes) * 2 > begins)
        }
    }

    /// How long the instruction at the beginning of some bytes is; what is none is one byte long.
    fn step(&mut self, bytes: &[u8]) -> usize {
        let mut decoder = Decoder::new(self.bits.number(), bytes, DecoderOptions::NONE);
        decoder.decode_out(&mut self.instruction);
        if self.instruction.is_invalid() {
            1
        } else {
            self.instruction.len()
        }
    }
}
