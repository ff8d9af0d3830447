//! `cargo xtask bench xref`: references to one address, and to all, beside reading the same bytes and beside a
//! full linear decode with `iced-x86`.
//!
//! The code is that of this machine's libraries, as it lies in their files, one after another; one
//! thread, CPU time, the least of several rounds in turns. References found are counted, and what a linear decode has of
//! them must be among them.

use std::time::Duration;

use iced_x86::{Decoder, DecoderOptions, Instruction, OpKind};
use object::{Object, ObjectSection};
use rustix::time::{ClockId, clock_gettime};
use vmie::scan::{Run, Selection, scan};
use vmie::xref::{CodeBits, FilterKind, Xref, XrefIndex, Xrefs};
use vmie::{AddrRange, Address, Fault, Gva, Memory, Prot, Span, SpanKind, Spans};

const ROUNDS: usize = 7;

/// Bytes of code.
const MOST: usize = 64 << 20;

/// How many references the usual target has.
const USUAL: usize = 100;

/// Where the code is said to be.
const BASE: u64 = 0x7f00_0000_0000;

/// Code in one piece.
struct Code(Vec<u8>);

impl Memory for Code {
    type Addr = Gva;

    fn spans(&self, range: AddrRange<Gva>) -> Spans<'_, Gva> {
        let all = AddrRange::new(Gva(BASE), self.0.len() as u64);
        let cut = all.and_then(|all| all.intersect(range));
        Box::new(cut.into_iter().map(|cut| Span {
            start: cut.start(),
            len: cut.len(),
            kind: SpanKind::Mapped(Prot::RWX),
        }))
    }

    fn read(&self, addr: Gva, buf: &mut [u8]) -> Result<(), Fault<Gva>> {
        let at = (addr.raw() - BASE) as usize;
        buf.copy_from_slice(&self.0[at..at + buf.len()]);
        Ok(())
    }

    fn borrow(&self, range: AddrRange<Gva>) -> Option<&[u8]> {
        let at = (range.start().raw() - BASE) as usize;
        self.0.get(at..at + range.len() as usize)
    }
}

fn main() {
    let code = Code(code());
    let all = |xrefs: &Xrefs| -> Vec<Xref> {
        let code: &dyn Memory<Addr = Gva> = &code;
        let outcome = scan(code, xrefs, &Selection::all(), Run::new().threads(1));
        outcome.items.into_iter().map(|found| found.item).collect()
    };
    let index = || {
        XrefIndex::build(
            &code,
            CodeBits::B64,
            &Selection::all(),
            Run::new().threads(1),
        )
        .0
    };
    // The address that most calls go to.
    let direct = decode(&code.0);
    let mut targets: Vec<u64> = direct.iter().map(|&(_, target)| target).collect();
    targets.sort_unstable();
    let inside = |target: &u64| (BASE..BASE + code.0.len() as u64).contains(target);
    let (mut target, mut most) = (BASE, 0);
    let mut usual = BASE;
    for run in targets
        .chunk_by(|a, b| a == b)
        .filter(|run| inside(&run[0]))
    {
        if run.len() > most {
            (target, most) = (run[0], run.len());
        }
        // One of the first that is referred to as a function of a library is.
        if run.len() == USUAL && usual == BASE {
            usual = run[0];
        }
    }
    let one = AddrRange::new(Gva(target), 1).expect("not empty");
    let usual = AddrRange::new(Gva(usual), 1).expect("not empty");
    let by_decode = direct.iter().filter(|&&(_, to)| to == target).count();
    let find = |to: AddrRange<Gva>, filter: FilterKind| {
        let xrefs = Xrefs::to(to, CodeBits::B64)
            .with_filter(filter)
            .expect("available");
        all(&xrefs)
    };
    let found = find(one, FilterKind::Portable);
    let linear = found.iter().filter(|xref| xref.linear).count();
    for &(va, to) in &direct {
        assert!(
            to != target || found.iter().any(|xref| xref.va.0 == va),
            "{va:#x} is missing"
        );
    }

    let filters: Vec<FilterKind> = FilterKind::ALL
        .into_iter()
        .filter(|kind| kind.is_available())
        .collect();
    let none = AddrRange::new(Gva(0x1234_5678_9abc), 1).expect("not empty");
    let mut rows: Vec<(String, Box<dyn Fn() + '_>)> = vec![
        (
            "read".into(),
            Box::new(|| {
                std::hint::black_box(sum(&code.0));
            }),
        ),
        (
            "full linear decode, iced-x86".into(),
            Box::new(|| {
                std::hint::black_box(lengths(&code.0));
            }),
        ),
    ];
    for &filter in &filters {
        let name = format!("one target, {USUAL} references, {filter:?}");
        rows.push((name, Box::new(move || drop(find(usual, filter)))));
        let name = format!("one target, {} references, {filter:?}", found.len());
        rows.push((name, Box::new(move || drop(find(one, filter)))));
    }
    rows.push((
        "a target without references".into(),
        Box::new(|| {
            let xrefs = Xrefs::to(none, CodeBits::B64);
            drop(all(&xrefs));
        }),
    ));
    rows.push((
        "all targets: the index".into(),
        Box::new(|| {
            std::hint::black_box(index().len());
        }),
    ));
    let built = index();
    assert_eq!(built.to(&code, one), found, "the index answers as the scan");

    // Words of rows to leave out the others; what all are compared with stays.
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if !wanted.is_empty() {
        let mut number = 0..;
        rows.retain(|(name, _)| {
            number.next() < Some(2) || wanted.iter().any(|word| name.contains(word.as_str()))
        });
    }
    let mut best = vec![Duration::MAX; rows.len()];
    for _ in 0..ROUNDS {
        for (best, (_, work)) in best.iter_mut().zip(&rows) {
            let start = cpu_time();
            work();
            *best = (*best).min(cpu_time().saturating_sub(start));
        }
    }
    let rate = |time: Duration| code.0.len() as f64 / time.as_secs_f64() / 1e9;
    println!(
        "{} MiB of code, {} instructions with targets; {} references to the most used target: {linear} that a \
         linear decode near by arrives at, {by_decode} in a decode from the start; {} candidates in the index\n",
        code.0.len() >> 20,
        direct.len(),
        found.len(),
        built.len()
    );
    println!("| | GB/s | of read | times a full decode |");
    println!("|---|---|---|---|");
    for ((name, _), &time) in rows.iter().zip(&best) {
        println!(
            "| {name} | {:.2} | {:.2} | {:.1} |",
            rate(time),
            rate(time) / rate(best[0]),
            rate(time) / rate(best[1])
        );
    }
    println!(
        "\naims: one target 0.5 of read and 40 times a full decode; all targets 8 times a full decode"
    );
}

fn cpu_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime)
        .try_into()
        .expect("it does not run backwards")
}

fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.as_chunks::<8>().0.iter();
    words.fold(0, |sum, &word| sum.wrapping_add(u64::from_le_bytes(word)))
}

/// Decodes everything once, in a row.
fn lengths(code: &[u8]) -> usize {
    let mut decoder = Decoder::with_ip(64, code, BASE, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    let mut count = 0;
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        count += usize::from(!instruction.is_invalid());
    }
    count
}

/// Calls, jumps and operands relative to the instruction pointer, in a decode from the start: where, and to
/// where.
fn decode(code: &[u8]) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    for instruction in &mut Decoder::with_ip(64, code, BASE, DecoderOptions::NONE) {
        if instruction.is_ip_rel_memory_operand() {
            found.push((instruction.ip(), instruction.ip_rel_memory_address()));
        } else if instruction.op0_kind() == OpKind::NearBranch64 {
            found.push((instruction.ip(), instruction.near_branch_target()));
        }
    }
    found
}

/// The code of this machine's libraries.
fn code() -> Vec<u8> {
    let mut paths: Vec<_> = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"]
        .iter()
        .filter_map(|dir| std::fs::read_dir(dir).ok())
        .flatten()
        .filter_map(|entry| std::fs::canonicalize(entry.ok()?.path()).ok())
        .filter(|path| path.is_file() && path.to_string_lossy().contains(".so"))
        .collect();
    paths.sort();
    paths.dedup();
    let mut code = Vec::new();
    for path in paths {
        let Ok(file) = std::fs::read(&path) else {
            continue;
        };
        if let Ok(elf) = object::File::parse(&*file)
            && let Some(text) = elf
                .section_by_name(".text")
                .and_then(|text| text.data().ok())
            && code.len() + text.len() <= MOST
        {
            code.extend(text);
        }
    }
    assert!(
        code.len() > 1 << 20,
        "no library of this machine could be read"
    );
    code
}
