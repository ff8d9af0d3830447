//! Every kind of reference in x86 code.

use super::*;
use crate::arch::code::XrefKind;

fn one(at: u64) -> AddrRange<Gva> {
    AddrRange::new(Gva(at), 1).expect("not empty")
}

fn filters() -> impl Iterator<Item = FilterKind> {
    FilterKind::ALL
        .into_iter()
        .filter(|kind| kind.is_available())
}

fn code(bits: CodeBits) -> &'static X86 {
    match bits {
        CodeBits::B32 => &super::B32,
        CodeBits::B64 => &super::B64,
    }
}

/// What is found in bytes that are all there is, in order.
fn find(
    start: u64,
    bytes: &[u8],
    targets: AddrRange<Gva>,
    bits: CodeBits,
    filter: FilterKind,
) -> Vec<Xref> {
    let mut found = Vec::new();
    let window = CodeWindow::alone(Gva(start), bytes);
    code(bits).references(&window, &[targets], filter, &mut |xref| found.push(xref));
    found.sort_unstable();
    found.dedup();
    found
}

/// A name, width, address, code, target, and what refers to it: offset, length, kind, whether linear.
struct Case(
    &'static str,
    CodeBits,
    u64,
    &'static [u8],
    u64,
    &'static [(u64, u8, XrefKind)],
);

use CodeBits::{B32, B64};
use XrefKind::{Address, Branch, Call, CallThrough, Immediate, Jump, JumpThrough, Memory as Mem};

const CASES: &[Case] = &[
    Case(
        "call",
        B64,
        0x1000,
        b"\xe8\xfb\x0f\0\0",
        0x2000,
        &[(0, 5, Call)],
    ),
    Case(
        "call back",
        B64,
        0x1000,
        b"\xe8\xfb\xff\xff\xff",
        0x1000,
        &[(0, 5, Call)],
    ),
    Case(
        "jmp",
        B64,
        0x1000,
        b"\xe9\xfb\x0f\0\0",
        0x2000,
        &[(0, 5, Jump)],
    ),
    Case(
        "jcc",
        B64,
        0x1000,
        b"\x0f\x84\xfa\x0f\0\0",
        0x2000,
        &[(0, 6, Branch)],
    ),
    Case(
        "short jmp",
        B64,
        0x1000,
        b"\xeb\x10",
        0x1012,
        &[(0, 2, Jump)],
    ),
    Case(
        "short jcc back",
        B64,
        0x1000,
        b"\x90\x90\x75\xfc",
        0x1000,
        &[(2, 2, Branch)],
    ),
    Case("loop", B64, 0x1000, b"\xe2\x7f", 0x1081, &[(0, 2, Branch)]),
    Case(
        "furthest back",
        B64,
        0x1000,
        b"\xeb\x80",
        0xf82,
        &[(0, 2, Jump)],
    ),
    Case(
        "jrcxz in 64 bits",
        B64,
        0x1000,
        b"\xe3\x00",
        0x1002,
        &[(0, 2, Branch)],
    ),
    Case(
        "xbegin",
        B64,
        0x1000,
        b"\xc7\xf8\xfa\x0f\0\0",
        0x2000,
        &[(0, 6, Branch)],
    ),
    Case(
        "lea",
        B64,
        0x1000,
        b"\x48\x8d\x05\xf9\x0f\0\0",
        0x2000,
        &[(0, 7, Address)],
    ),
    Case(
        "mov from",
        B64,
        0x1000,
        b"\x8b\x05\xfa\x0f\0\0",
        0x2000,
        &[(0, 6, Mem)],
    ),
    Case(
        "cmp, one byte behind",
        B64,
        0x1000,
        b"\x80\x3d\xf9\x0f\0\0\x07",
        0x2000,
        &[(0, 7, Mem)],
    ),
    Case(
        "two bytes behind",
        B64,
        0x1000,
        b"\x66\xc7\x05\xf7\x0f\0\0\x07\x07",
        0x2000,
        &[(0, 9, Mem)],
    ),
    Case(
        "four bytes behind",
        B64,
        0x1000,
        b"\xc7\x05\xf6\x0f\0\0\x07\0\0\0",
        0x2000,
        &[(0, 10, Mem)],
    ),
    Case(
        "call through",
        B64,
        0x1000,
        b"\xff\x15\xfa\x0f\0\0",
        0x2000,
        &[(0, 6, CallThrough)],
    ),
    Case(
        "jmp through",
        B64,
        0x1000,
        b"\xff\x25\xfa\x0f\0\0",
        0x2000,
        &[(0, 6, JumpThrough)],
    ),
    Case(
        "vex",
        B64,
        0x1000,
        b"\xc5\xf8\x28\x05\xf8\x0f\0\0",
        0x2000,
        &[(0, 8, Mem)],
    ),
    Case(
        "evex",
        B64,
        0x1000,
        b"\x62\xf1\x7c\x48\x28\x05\xf6\x0f\0\0",
        0x2000,
        &[(0, 10, Mem)],
    ),
    Case(
        "eip",
        B64,
        0x1_0000_1000,
        b"\x67\x8b\x05\xf9\x0f\0\0",
        0x2000,
        &[(0, 7, Mem)],
    ),
    Case(
        "imm32",
        B64,
        0x1000,
        b"\xbf\x00\x20\x40\x00",
        0x40_2000,
        &[(0, 5, Immediate)],
    ),
    Case(
        "push",
        B64,
        0x1000,
        b"\x68\x00\x20\x40\x00",
        0x40_2000,
        &[(0, 5, Immediate)],
    ),
    Case(
        "sign extended",
        B64,
        0x1000,
        b"\x48\xc7\xc7\0\x20\0\x81",
        0xffff_ffff_8100_2000,
        &[(0, 7, Immediate)],
    ),
    Case(
        "not sign extended",
        B64,
        0x1000,
        b"\xbf\0\x20\0\x81",
        0xffff_ffff_8100_2000,
        &[],
    ),
    Case(
        "imm64",
        B64,
        0x1000,
        b"\x48\xb8\x00\x20\0\0\x12\x7f\0\0",
        0x7f12_0000_2000,
        &[(0, 10, Immediate)],
    ),
    Case(
        "moffs64",
        B64,
        0x1000,
        b"\x48\xa1\x00\x20\0\0\x12\x7f\0\0",
        0x7f12_0000_2000,
        &[(0, 10, Mem)],
    ),
    Case(
        "disp32",
        B64,
        0x1000,
        b"\x8b\x04\x25\x00\x20\x40\x00",
        0x40_2000,
        &[(0, 7, Mem)],
    ),
    Case(
        "table",
        B64,
        0x1000,
        b"\xff\x24\xc5\x00\x20\x40\x00",
        0x40_2000,
        &[(0, 7, JumpThrough)],
    ),
    Case(
        "high disp32",
        B64,
        0x1000,
        b"\x8b\x04\xc5\0\x20\0\x81",
        0xffff_ffff_8100_2000,
        &[(0, 7, Mem)],
    ),
    Case(
        "thread local",
        B64,
        0x1000,
        b"\x64\x8b\x04\x25\x00\x20\x40\x00",
        0x40_2000,
        &[(1, 7, Mem)],
    ),
    Case(
        "both fields",
        B64,
        0x40_1000,
        b"\xc7\x05\xf6\x0f\0\0\x00\x20\x40\x00",
        0x40_2000,
        &[(0, 10, Mem), (0, 10, Immediate)],
    ),
    Case("cut off", B64, 0x1000, b"\xe8\xfb\x0f\0", 0x2000, &[]),
    Case(
        "32-bit call",
        B32,
        0x1000,
        b"\xe8\xfb\x0f\0\0",
        0x2000,
        &[(0, 5, Call)],
    ),
    Case(
        "32-bit call wraps",
        B32,
        0x1000,
        b"\xe8\xfb\xef\xff\xff",
        0,
        &[(0, 5, Call)],
    ),
    Case(
        "32-bit short wraps",
        B32,
        0xffff_fff0,
        b"\xeb\x7e",
        0x70,
        &[(0, 2, Jump)],
    ),
    Case(
        "32-bit far",
        B32,
        0x1000,
        b"\x9a\x00\x20\0\0\x08\0",
        0x2000,
        &[(0, 7, Call)],
    ),
    Case(
        "32-bit mov",
        B32,
        0x1000,
        b"\xa1\x00\x20\0\0",
        0x2000,
        &[(0, 5, Mem)],
    ),
    Case(
        "32-bit disp32",
        B32,
        0x1000,
        b"\x8b\x0d\x00\x20\0\0",
        0x2000,
        &[(0, 6, Mem)],
    ),
    Case(
        "32-bit imm",
        B32,
        0x1000,
        b"\x68\x00\x20\0\0",
        0x2000,
        &[(0, 5, Immediate)],
    ),
];

#[test]
fn every_kind() {
    for Case(name, bits, start, bytes, target, expected) in CASES {
        for filter in filters() {
            let found = find(*start, bytes, one(*target), *bits, filter);
            assert_eq!(
                found,
                code(*bits).naive(Gva(*start), bytes, one(*target)),
                "{name}"
            );
            let found: Vec<_> = found
                .iter()
                .map(|x| (x.va.0 - start, x.len, x.kind))
                .collect();
            assert_eq!(found, *expected, "{name}, {filter:?}");
        }
    }
}

#[test]
fn a_prefix_belongs_to_the_instruction_and_a_linear_decode_says_so() {
    // nop; mov rax, [rip+...]; then the same field behind a byte that is the end of a number.
    let code = b"\x90\x48\x8b\x05\xf8\x0f\0\0\xb0\x48\x8b\x05\xf0\x0f\0\0\xc3";
    let found = find(0x1000, code, one(0x2000), B64, FilterKind::best());
    let found: Vec<_> = found.iter().map(|x| (x.va.0, x.len, x.linear)).collect();
    assert_eq!(found, [(0x1001, 7, true), (0x100a, 6, true)]);
    // What is found inside of an instruction only does not agree.
    let code = b"\x48\xb8\xe8\xf9\x0f\0\0\0\0\0";
    let found = find(0x1000, code, one(0x2000), B64, FilterKind::best());
    let found: Vec<_> = found.iter().map(|x| (x.va.0, x.kind, x.linear)).collect();
    assert_eq!(found, [(0x1002, Call, false)]);
}
