//! A small kernel: an image with symbol tables, types and a banner, mapped by its own page tables.
//!
//! ```text
//! text      functions
//! rodata    banner, BTF, kallsyms
//! data      init_task, the top page table, functions for boot
//! ```
//!
//! The image is contiguous in physical memory, as a real one is. Text and constants are mapped by
//! pages of 2 MiB and data by pages of 4 KiB.

use super::kallsyms::{Arrangement, Kallsyms, Sym, kallsyms};
use crate::guest::{Flags, Machine, PAGE, PageSize, Paging, Rng, Space};

/// Where a kernel that is not moved starts: its image window, and 16 MiB.
const IMAGE: u64 = 0xffff_ffff_8000_0000;
const TEXT: u64 = IMAGE + (16 << 20);
const LARGE: u64 = 2 << 20;
const RODATA_LEN: u64 = 3 * LARGE;
const DATA_LEN: u64 = LARGE;

/// What a kernel is to be like.
#[derive(Clone, Debug)]
pub struct KernelPlan {
    /// Its release, as `uname -r` would print it.
    pub release: String,
    /// Four or five levels.
    pub paging: Paging,
    /// Where its image is loaded: a multiple of 2 MiB.
    pub load: u64,
    /// How far its virtual addresses are moved: a multiple of 2 MiB.
    pub slide: u64,
    /// How its symbol tables are arranged.
    pub arrangement: Arrangement,
    /// How many functions it has besides those that are always there.
    pub functions: usize,
    /// Whether it lists data symbols, too.
    pub all_symbols: bool,
    /// Its BTF; empty for none.
    pub btf: Vec<u8>,
    /// More data symbols, each so far behind the start of its data: from 0x20000 to 0xf0000.
    pub objects: Vec<(&'static str, u64)>,
}

impl Default for KernelPlan {
    fn default() -> Self {
        Self {
            release: "6.1.0-synthetic".into(),
            paging: Paging::FourLevel,
            load: 8 << 20,
            slide: 0,
            arrangement: Arrangement::V6_1,
            functions: 3000,
            all_symbols: true,
            btf: Vec::new(),
            objects: Vec::new(),
        }
    }
}

/// A kernel in a machine.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Its address space.
    pub space: Space,
    /// What its symbol tables list, by address.
    pub symbols: Vec<Sym>,
    /// Its symbol tables.
    pub kallsyms: Kallsyms,
    /// Where they are.
    pub kallsyms_va: u64,
    /// Where its text starts.
    pub text: u64,
    /// What to add to the offset of an address in the image window to have the physical one.
    pub phys_base: i64,
    /// The banner.
    pub banner: String,
    plan: KernelPlan,
}

impl Kernel {
    /// Loads a kernel into a machine.
    ///
    /// # Panics
    ///
    /// When the machine has no room where the plan wants it, or the plan does not fit together.
    pub fn load(machine: &mut Machine, plan: &KernelPlan) -> Self {
        assert!(plan.load.is_multiple_of(LARGE) && plan.slide.is_multiple_of(LARGE));
        let text = TEXT + plan.slide;
        let text_len = (plan.functions as u64 * 32 + 0x1000).next_multiple_of(LARGE);
        let rodata = text + text_len;
        let data = rodata + RODATA_LEN;
        let end = data + DATA_LEN;
        for gpa in (plan.load..plan.load + (end - text)).step_by(PAGE as usize) {
            assert!(machine.frames.try_take(gpa), "{gpa:#x} is taken");
        }
        let gpa = |va: u64| plan.load + (va - text);

        let init_top_pgt = data + 0x4000;
        let space = Space::at_root(machine, plan.paging, gpa(init_top_pgt));
        for va in (text..data).step_by(LARGE as usize) {
            let flags = if va < rodata {
                Flags::KERNEL_CODE
            } else {
                Flags::KERNEL_CONST
            };
            space.map(machine, va, gpa(va), PageSize::Size2M, flags);
        }
        for va in (data..end).step_by(PAGE as usize) {
            space.map(machine, va, gpa(va), PageSize::Size4K, Flags::KERNEL_DATA);
        }

        let banner = format!(
            "Linux version {} (builder@synthetic) (cc 1.0) #1 SMP PREEMPT_DYNAMIC",
            plan.release
        );
        machine.phys.write(gpa(rodata + 0x100), banner.as_bytes());
        machine
            .phys
            .write(gpa(rodata + 0x100) + banner.len() as u64, b"\n\0");
        let init_task = data + 0x1000;
        machine.phys.write(gpa(init_task + 0x700), b"swapper/0\0");

        let btf = rodata + 0x1000;
        machine.phys.write(gpa(btf), &plan.btf);
        let btf_end = btf + plan.btf.len() as u64;
        let kallsyms_va = (btf_end + 0x1000).next_multiple_of(8);

        let mut symbols = functions(plan, text);
        // What runs at boot only stands behind the constants.
        symbols.push(Sym::new(data + 0x10_0000, 'T', "_sinittext"));
        symbols.push(Sym::new(data + 0x10_0040, 't', "start_kernel"));
        symbols.push(Sym::new(data + 0x10_1000, 'T', "_einittext"));
        if plan.all_symbols {
            let data_symbols = [
                (rodata, 'R', "__start_rodata"),
                (rodata + 0x100, 'D', "linux_banner"),
                (btf, 'D', "__start_BTF"),
                (btf_end, 'D', "__stop_BTF"),
                (data, 'D', "_sdata"),
                (init_task, 'D', "init_task"),
                (init_top_pgt, 'D', "init_top_pgt"),
                (end - 0x1000, 'B', "_end"),
            ];
            let wanted = data_symbols
                .into_iter()
                .filter(|(_, _, name)| !plan.btf.is_empty() || !name.contains("BTF"));
            symbols.extend(wanted.map(|(va, kind, name)| Sym::new(va, kind, name)));
            let objects = plan.objects.iter();
            symbols.extend(objects.map(|&(name, offset)| Sym::new(data + offset, 'D', name)));
        }
        symbols.sort_by_key(|symbol| symbol.va);
        let kallsyms = kallsyms(plan.arrangement, &symbols, kallsyms_va);
        assert!(
            kallsyms_va + (kallsyms.bytes.len() as u64) < data,
            "constants are full"
        );
        machine.phys.write(gpa(kallsyms_va), &kallsyms.bytes);

        Self {
            space,
            symbols,
            kallsyms,
            kallsyms_va,
            text,
            phys_base: (plan.load as i64).wrapping_sub((text - IMAGE) as i64),
            banner,
            plan: plan.clone(),
        }
    }

    /// The physical address of an address of the image.
    pub fn gpa(&self, va: u64) -> u64 {
        self.plan.load + (va - self.text)
    }

    /// The address of a symbol that is there once.
    ///
    /// # Panics
    ///
    /// When it is not.
    pub fn symbol(&self, name: &str) -> u64 {
        let mut found = self.symbols.iter().filter(|symbol| symbol.name == name);
        let va = found.next().expect(name).va;
        assert_eq!(found.next(), None);
        va
    }

    /// What the kernel of this version writes into its note. Before 6.0 notes do not say where the
    /// symbol tables are, and before 4.10 they do not say `phys_base`.
    pub fn note_lines(&self) -> Vec<String> {
        let root = self.text + (self.space.root() - self.plan.load);
        let five = self.plan.paging == Paging::FiveLevel;
        let mut lines = vec![
            format!("OSRELEASE={}", self.plan.release),
            "PAGESIZE=4096".into(),
            format!("SYMBOL(swapper_pg_dir)={root:x}"),
            format!("SYMBOL(_stext)={:x}", self.text),
        ];
        if self.plan.arrangement > Arrangement::V6_0 {
            for (label, offset) in &self.kallsyms.labels {
                if !label.ends_with("markers") && !label.ends_with("seqs_of_names") {
                    let va = self.kallsyms_va + *offset as u64;
                    lines.push(format!("SYMBOL({label})={va:x}"));
                }
            }
        }
        if self.plan.arrangement > Arrangement::V4_5 {
            lines.push(format!("NUMBER(phys_base)={}", self.phys_base));
            lines.push(format!("NUMBER(pgtable_l5_enabled)={}", u8::from(five)));
        }
        lines.push(format!("KERNELOFFSET={:x}", self.plan.slide));
        lines
    }

    /// Writes a note with these lines to a page of its own and answers its address.
    pub fn write_note(&self, machine: &mut Machine, lines: &[String]) -> u64 {
        let gpa = machine.frames.alloc();
        machine.phys.write(gpa, &note(lines));
        gpa
    }
}

/// Functions: some that every kernel has, some that share names or addresses, and many more.
fn functions(plan: &KernelPlan, text: u64) -> Vec<Sym> {
    let mut symbols = Vec::new();
    if plan.arrangement.per_cpu() {
        for (va, name) in [
            (0, "fixed_percpu_data"),
            (0, "__per_cpu_start"),
            (0x6000, "cpu_tss_rw"),
        ] {
            symbols.push(Sym::new(va, 'A', name));
        }
    }
    symbols.push(Sym::new(text, 'T', "_text"));
    symbols.push(Sym::new(text, 'T', "startup_64"));
    symbols.push(Sym::new(text, 'T', "_stext"));
    let mut rng = Rng::new(plan.functions as u64);
    let words = [
        "read", "write", "alloc", "free", "page", "queue", "inode", "x64_sys", "irq", "net",
    ];
    for i in 0..plan.functions {
        let va = text + 0x100 + i as u64 * 32;
        let (first, second) = (rng.pick(&words), rng.pick(&words));
        symbols.push(match i % 50 {
            0 => Sym::new(va, 't', format!("{first}_{second}")),
            1 => Sym::new(va, 't', format!("{first}_{second}.isra.{i}")),
            _ => Sym::new(va, 'T', format!("__{first}_{second}_{i:05}")),
        });
        if i % 97 == 0 {
            symbols.push(Sym::new(va, 'W', format!("alias_{i}")));
        }
    }
    // A name that stays longer than 127 tokens: random letters hardly compress.
    let letters: String = (0..230)
        .map(|_| char::from(b'a' + rng.below(26) as u8))
        .collect();
    let last = text + 0x100 + plan.functions as u64 * 32;
    symbols.push(Sym::new(last, 't', format!("_R{letters}")));
    symbols.push(Sym::new(last + 32, 'T', "_etext"));
    symbols
}

/// A VMCOREINFO note with these lines, as it stands at the start of a page.
pub fn note(lines: &[String]) -> Vec<u8> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let mut bytes = Vec::new();
    for word in [11, text.len() as u32, 0] {
        bytes.extend(u32::to_le_bytes(word));
    }
    bytes.extend(b"VMCOREINFO\0\0");
    bytes.extend(text.as_bytes());
    bytes.extend([0; 16]);
    bytes
}
