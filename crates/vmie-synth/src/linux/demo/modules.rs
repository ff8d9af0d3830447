//! The demo kernel's modules, with their symbols.
//!
//! Sources: `include/linux/module.h`, `kernel/module/kallsyms.c`.

use crate::guest::{Flags, PAGE};
use crate::linux::objects::Objects;

/// Where modules may be.
const MODULES: u64 = 0xffff_ffff_c020_0000;

/// A module of the demo: its name, and its functions, 64 bytes each.
pub(super) const PLANS: [(&str, &[&str]); 2] = [
    (
        "virtio_net",
        &[
            "virtnet_open",
            "virtnet_close",
            "virtnet_poll",
            "start_xmit",
        ],
    ),
    ("station_hud", &["hud_init", "hud_draw_frame", "hud_exit"]),
];

/// Maps the modules, and lists them: the first and last address of each.
pub(super) fn write(objects: &mut Objects<'_>) -> Vec<(u64, u64)> {
    let mut nodes = Vec::new();
    let mut in_sysfs = Vec::new();
    let mut ranges = Vec::new();
    for (i, &(name, functions)) in (0..).zip(&PLANS) {
        let text = MODULES + i * 0x10_0000;
        let data = text + PAGE;
        let space = objects.kernel.space;
        for (va, flags) in [(text, Flags::KERNEL_CODE), (data, Flags::KERNEL_DATA)] {
            space.map_new(objects.machine, va, 1, flags);
        }
        for at in (text..).step_by(64).take(functions.len()) {
            // endbr64; push rbp; mov rbp, rsp; xor eax, eax; pop rbp; ret
            let code = b"\xf3\x0f\x1e\xfa\x55\x48\x89\xe5\x31\xc0\x5d\xc3";
            space.write(objects.machine, at, code);
        }
        let module = objects.object("module");
        let kallsyms = symbols(objects, text, functions);
        objects.set_text(module, "module.name", name);
        objects.set(module, "module.kallsyms", kallsyms);
        let memory = module + objects.records.offset_of("module.mem");
        let each = objects.records.size_of("module_memory");
        for (kind, base) in (0..).zip([text, data]) {
            let members = [("base", base), ("size", PAGE)];
            objects.set_all(memory + kind * each, "module_memory", &members);
        }
        let file_name = objects.text(name);
        let members = [("mkobj.kobj.name", file_name), ("mkobj.mod", module)];
        objects.set_all(module, "module", &members);
        nodes.push(module + objects.records.offset_of("module.list"));
        in_sysfs.push(module + objects.records.offset_of("module.mkobj.kobj.entry"));
        ranges.push((text, data + PAGE - 1));
    }
    let head = objects.kernel.symbol("modules");
    objects.ring(head, &nodes);
    let kset = objects.object("kset");
    let list = kset + objects.records.offset_of("kset.list");
    objects.ring(list, &in_sysfs);
    let pointer = objects.kernel.symbol("module_kset");
    objects.put(pointer, kset);
    ranges
}

/// A module's table of symbols: its address.
fn symbols(objects: &mut Objects<'_>, text: u64, functions: &[&str]) -> u64 {
    let each = objects.records.size_of("elf64_sym");
    let count = functions.len() as u64 + 1;
    let table = objects.room(each * count, 8);
    let mut names = String::from("\0");
    for (i, name) in (1..).zip(functions) {
        objects.set_all(
            table + i * each,
            "elf64_sym",
            &[
                ("st_name", names.len() as u64),
                // STB_GLOBAL, STT_FUNC
                ("st_info", 0x12),
                ("st_shndx", 1),
                ("st_value", text + (i - 1) * 64),
                ("st_size", 12),
            ],
        );
        names.push_str(name);
        names.push('\0');
    }
    let names = objects.text(&names);
    let letters = objects.text(&format!("?{}", "t".repeat(functions.len())));
    let kallsyms = objects.object("mod_kallsyms");
    objects.set_all(
        kallsyms,
        "mod_kallsyms",
        &[
            ("symtab", table),
            ("num_symtab", count),
            ("strtab", names),
            ("typetab", letters),
        ],
    );
    kallsyms
}
