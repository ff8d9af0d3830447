//! The reference implementation: a decode from every byte.

use std::collections::BTreeMap;

use iced_x86::{Decoder, DecoderOptions};

use super::field::fields;
use crate::addr::{AddrRange, Gva};
use crate::arch::code::Xref;
use crate::width::CodeBits;

/// All references to `targets` in bytes at `start`, by address, then by field.
pub(super) fn find(start: u64, code: &[u8], targets: AddrRange<Gva>, bits: CodeBits) -> Vec<Xref> {
    // All instructions that have a field that stands for a target, by the place of the field.
    let mut by_field: BTreeMap<usize, Vec<(usize, Xref)>> = BTreeMap::new();
    for begin in 0..code.len() {
        let va = start.wrapping_add(begin as u64);
        let mut decoder = Decoder::with_ip(bits.number(), &code[begin..], va, DecoderOptions::NONE);
        let instruction = decoder.decode();
        fields(&decoder, &instruction, |field| {
            if targets.contains(Gva(field.target)) {
                let xref = Xref {
                    va: Gva(va),
                    field: field.at as u8,
                    len: instruction.len() as u8,
                    kind: field.kind,
                    target: Gva(field.target),
                    linear: false,
                };
                by_field
                    .entry(begin + field.at)
                    .or_default()
                    .push((begin, xref));
            }
        });
    }
    let mut all: Vec<Xref> = by_field
        .into_iter()
        .map(|(field, starts)| {
            let arrived = starts
                .iter()
                .find(|(begin, _)| arrives(code, field, *begin, bits));
            match arrived {
                Some((_, xref)) => Xref {
                    linear: true,
                    ..*xref
                },
                None => starts[0].1,
            }
        })
        .collect();
    all.sort_unstable();
    all
}

/// Whether more than half of the decodes that begin before a field come by a place.
fn arrives(code: &[u8], field: usize, place: usize, bits: CodeBits) -> bool {
    let begins = match field.checked_sub(64) {
        Some(first) => (first..first + 5).collect(),
        None => vec![0],
    };
    let comes_by = |&&begin: &&usize| {
        let mut here = begin;
        while here < place {
            let mut decoder = Decoder::new(bits.number(), &code[here..], DecoderOptions::NONE);
            let instruction = decoder.decode();
            here += if instruction.is_invalid() {
                1
            } else {
                instruction.len()
            };
        }
        here == place
    };
    begins.iter().filter(comes_by).count() * 2 > begins.len()
}
