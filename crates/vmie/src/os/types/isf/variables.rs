//! Types of kernel variables.
//!
//! BTF tells the types of per-CPU variables only. Of the others these are known here which tools that read
//! ISF start from; they are as the kernel's sources declare them, and have been for long. What the kernel
//! does not have does no harm: there is no symbol of its name.

use crate::os::types::{Record, Type, TypeId, Types};

/// What a variable is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    /// One of the type.
    One,
    /// A pointer to one.
    Pointer,
    /// As many as the variable has room for.
    Array,
    /// A pointer for each that it has room for.
    Pointers,
}

use Shape::{Array, One, Pointer, Pointers};

/// Name, shape and type.
const VARIABLES: [(&str, Shape, &str); 71] = [
    ("__start___tracepoints_ptrs", Array, "int"),
    ("arp_seq_ops", One, "seq_operations"),
    ("bpf_kallsyms", One, "list_head"),
    ("bpf_tree", One, "latch_tree_root"),
    ("cap_last_cap", One, "int"),
    ("ftrace_list_end", One, "ftrace_ops"),
    ("ftrace_mod_maps", One, "list_head"),
    ("ftrace_ops_list", Pointer, "ftrace_ops"),
    ("ftrace_ops_trampoline_list", One, "list_head"),
    ("height_to_maxindex", Array, "long unsigned int"),
    ("height_to_maxnodes", Array, "long unsigned int"),
    ("idt_table", Array, "gate_struct"),
    ("init_cred", One, "cred"),
    ("init_files", One, "files_struct"),
    ("init_mm", One, "mm_struct"),
    ("init_net", One, "net"),
    ("init_pid_ns", One, "pid_namespace"),
    ("init_task", One, "task_struct"),
    ("init_user_ns", One, "user_namespace"),
    ("init_uts_ns", One, "uts_namespace"),
    ("iomem_resource", One, "resource"),
    ("keyboard_notifier_list", One, "atomic_notifier_head"),
    ("link_idr", One, "idr"),
    ("log_buf", Pointer, "char"),
    ("log_buf_len", One, "unsigned int"),
    ("log_first_idx", One, "unsigned int"),
    ("log_next_idx", One, "unsigned int"),
    ("map_idr", One, "idr"),
    ("mem_map", Pointer, "page"),
    ("mod_tree", One, "mod_tree_root"),
    ("module_addr_max", One, "long unsigned int"),
    ("module_addr_min", One, "long unsigned int"),
    ("module_kset", Pointer, "kset"),
    ("modules", One, "list_head"),
    ("net_namespace_list", One, "list_head"),
    ("node_data", Pointers, "pglist_data"),
    ("nr_cpu_ids", One, "unsigned int"),
    ("nr_threads", One, "int"),
    ("num_registered_fb", One, "int"),
    ("packet_seq_ops", One, "seq_operations"),
    ("page_offset_base", One, "long unsigned int"),
    ("phys_base", One, "long unsigned int"),
    ("pid_hash", Pointer, "hlist_head"),
    ("pidhash_shift", One, "unsigned int"),
    ("prb", Pointer, "printk_ringbuffer"),
    ("printk_rb_static", One, "printk_ringbuffer"),
    ("prog_idr", One, "idr"),
    ("raw6_seq_ops", One, "seq_operations"),
    ("raw_seq_ops", One, "seq_operations"),
    ("registered_fb", Pointers, "fb_info"),
    ("saved_command_line", Pointer, "char"),
    ("socket_file_ops", One, "file_operations"),
    ("sockfs_dentry_operations", One, "dentry_operations"),
    ("super_blocks", One, "list_head"),
    ("taint_flags", Array, "taint_flag"),
    ("tcp4_seq_afinfo", One, "tcp_seq_afinfo"),
    ("tcp4_seq_ops", One, "seq_operations"),
    ("tcp6_seq_afinfo", One, "tcp_seq_afinfo"),
    ("tcp6_seq_ops", One, "seq_operations"),
    ("tcp_hashinfo", One, "inet_hashinfo"),
    ("tcp_seq_ops", One, "seq_operations"),
    ("tty_drivers", One, "list_head"),
    ("udp4_seq_afinfo", One, "udp_seq_afinfo"),
    ("udp6_seq_afinfo", One, "udp_seq_afinfo"),
    ("udp6_seq_ops", One, "seq_operations"),
    ("udp_seq_ops", One, "seq_operations"),
    ("udplite4_seq_afinfo", One, "udp_seq_afinfo"),
    ("udplite6_seq_afinfo", One, "udp_seq_afinfo"),
    ("unix_seq_ops", One, "seq_operations"),
    ("vmalloc_base", One, "long unsigned int"),
    ("vmemmap_base", One, "long unsigned int"),
];

/// The clock, whose type has had a name since 6.13 only.
const CLOCK: &str = "tk_core";

/// The type of a variable and its shape, as far as it is known here.
pub(super) fn of(types: &Types, name: &str) -> Option<(Shape, TypeId)> {
    if name == CLOCK {
        let clock = types.find("tk_data").ok();
        return Some((One, clock.or_else(|| nameless_clock(types))?));
    }
    let (_, shape, ty) = VARIABLES.iter().find(|known| known.0 == name)?;
    Some((*shape, types.find(ty).ok()?))
}

fn nameless_clock(types: &Types) -> Option<TypeId> {
    let is_clock = |id: &TypeId| match types.get(*id) {
        Ok(Type::Record(Record {
            name: "", members, ..
        })) => ["seq", "timekeeper"]
            .iter()
            .all(|wanted| members.iter().any(|member| member.name == *wanted)),
        _ => false,
    };
    (0..types.end()).map(TypeId).find(is_clock)
}
