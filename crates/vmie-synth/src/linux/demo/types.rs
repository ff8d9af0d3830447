//! The demo kernel's types: what of a kernel of 2024 an observer needs, by the kernel's own names.

use crate::linux::records::{Definition, Records};

const ULONG: &str = "long unsigned int";
const UINT: &str = "unsigned int";

/// Each record after those that it embeds.
const TYPES: &[Definition<'static>] = &[
    (
        "list_head",
        &[("next", "list_head *"), ("prev", "list_head *")],
    ),
    ("hlist_head", &[("first", "hlist_node *")]),
    (
        "hlist_node",
        &[("next", "hlist_node *"), ("pprev", "hlist_node * *")],
    ),
    (
        "hlist_bl_node",
        &[("next", "hlist_bl_node *"), ("pprev", "hlist_bl_node * *")],
    ),
    (
        "rb_node",
        &[
            ("__rb_parent_color", ULONG),
            ("rb_right", "rb_node *"),
            ("rb_left", "rb_node *"),
        ],
    ),
    ("kuid_t", &[("val", UINT)]),
    ("kgid_t", &[("val", UINT)]),
    (
        "xarray",
        &[("xa_lock", UINT), ("xa_flags", UINT), ("xa_head", "void *")],
    ),
    (
        "xa_node",
        &[
            ("shift", "unsigned char"),
            ("offset", "unsigned char"),
            ("count", "unsigned char"),
            ("nr_values", "unsigned char"),
            ("parent", "xa_node *"),
            ("array", "xarray *"),
            ("private_list", "list_head"),
            ("slots", "void *[64]"),
        ],
    ),
    (
        "idr",
        &[("idr_rt", "xarray"), ("idr_base", UINT), ("idr_next", UINT)],
    ),
    (
        "pid_namespace",
        &[("idr", "idr"), ("pid_allocated", UINT), ("level", UINT)],
    ),
    ("upid", &[("nr", "int"), ("ns", "pid_namespace *")]),
    (
        "pid",
        &[
            ("count", UINT),
            ("level", UINT),
            ("tasks", "hlist_head[4]"),
            ("numbers", "upid[1]"),
        ],
    ),
    (
        "cred",
        &[
            ("usage", ULONG),
            ("uid", "kuid_t"),
            ("gid", "kgid_t"),
            ("suid", "kuid_t"),
            ("sgid", "kgid_t"),
            ("euid", "kuid_t"),
            ("egid", "kgid_t"),
        ],
    ),
    (
        "signal_struct",
        &[
            ("live", "int"),
            ("nr_threads", "int"),
            ("thread_head", "list_head"),
        ],
    ),
    (
        "maple_tree",
        &[("ma_lock", UINT), ("ma_flags", UINT), ("ma_root", "void *")],
    ),
    (
        "maple_range_64",
        &[
            ("parent", "void *"),
            ("pivot", "long unsigned int[15]"),
            ("slot", "void *[16]"),
        ],
    ),
    (
        "maple_arange_64",
        &[
            ("parent", "void *"),
            ("pivot", "long unsigned int[9]"),
            ("slot", "void *[10]"),
            ("gap", "long unsigned int[10]"),
            ("meta", "long unsigned int[2]"),
        ],
    ),
    ("super_block", &[("s_list", "list_head"), ("s_dev", UINT)]),
    (
        "inode",
        &[
            ("i_mode", "short unsigned int"),
            ("i_uid", "kuid_t"),
            ("i_sb", "super_block *"),
            ("i_ino", ULONG),
        ],
    ),
    ("qstr", &[("hash", UINT), ("len", UINT), ("name", "char *")]),
    (
        "dentry_operations",
        &[("d_revalidate", "void *"), ("d_dname", "void *")],
    ),
    (
        "dentry",
        &[
            ("d_flags", UINT),
            ("d_hash", "hlist_bl_node"),
            ("d_parent", "dentry *"),
            ("d_name", "qstr"),
            ("d_inode", "inode *"),
            ("d_op", "dentry_operations *"),
            ("d_sb", "super_block *"),
        ],
    ),
    (
        "vfsmount",
        &[
            ("mnt_root", "dentry *"),
            ("mnt_sb", "super_block *"),
            ("mnt_flags", "int"),
        ],
    ),
    (
        "mount",
        &[
            ("mnt_hash", "hlist_node"),
            ("mnt_parent", "mount *"),
            ("mnt_mountpoint", "dentry *"),
            ("mnt", "vfsmount"),
        ],
    ),
    ("path", &[("mnt", "vfsmount *"), ("dentry", "dentry *")]),
    (
        "file",
        &[
            ("f_mode", UINT),
            ("f_flags", UINT),
            ("f_inode", "inode *"),
            ("f_path", "path"),
            ("f_pos", "long int"),
        ],
    ),
    (
        "vm_operations_struct",
        &[("open", "void *"), ("close", "void *"), ("name", "void *")],
    ),
    (
        "vm_special_mapping",
        &[("name", "char *"), ("pages", "void *")],
    ),
    ("anon_vma_name", &[("kref", UINT), ("name", "char[80]")]),
    ("mm_context_t", &[("ctx_id", ULONG), ("flags", ULONG)]),
    (
        "mm_struct",
        &[
            ("mm_count", "int"),
            ("mm_mt", "maple_tree"),
            ("pgd", "void *"),
            ("mm_users", "int"),
            ("map_count", "int"),
            ("total_vm", ULONG),
            ("start_code", ULONG),
            ("end_code", ULONG),
            ("start_data", ULONG),
            ("end_data", ULONG),
            ("start_brk", ULONG),
            ("brk", ULONG),
            ("start_stack", ULONG),
            ("arg_start", ULONG),
            ("arg_end", ULONG),
            ("env_start", ULONG),
            ("env_end", ULONG),
            ("context", "mm_context_t"),
            ("owner", "task_struct *"),
            ("exe_file", "file *"),
        ],
    ),
    (
        "vm_area_struct",
        &[
            ("vm_start", ULONG),
            ("vm_end", ULONG),
            ("vm_mm", "mm_struct *"),
            ("vm_page_prot", ULONG),
            ("vm_flags", ULONG),
            ("shared", "rb_node"),
            ("anon_vma_chain", "list_head"),
            ("vm_ops", "vm_operations_struct *"),
            ("vm_pgoff", ULONG),
            ("vm_file", "file *"),
            ("vm_private_data", "void *"),
            ("anon_name", "anon_vma_name *"),
        ],
    ),
    (
        "thread_info",
        &[
            ("flags", ULONG),
            ("syscall_work", ULONG),
            ("status", UINT),
            ("cpu", UINT),
        ],
    ),
    (
        "task_struct",
        &[
            ("thread_info", "thread_info"),
            ("__state", UINT),
            ("stack", "void *"),
            ("flags", UINT),
            ("prio", "int"),
            ("tasks", "list_head"),
            ("mm", "mm_struct *"),
            ("active_mm", "mm_struct *"),
            ("exit_state", "int"),
            ("exit_code", "int"),
            ("pid", "int"),
            ("tgid", "int"),
            ("real_parent", "task_struct *"),
            ("parent", "task_struct *"),
            ("children", "list_head"),
            ("sibling", "list_head"),
            ("group_leader", "task_struct *"),
            ("thread_pid", "pid *"),
            ("pid_links", "hlist_node[4]"),
            ("thread_node", "list_head"),
            ("start_time", "long long unsigned int"),
            ("start_boottime", "long long unsigned int"),
            ("real_cred", "cred *"),
            ("cred", "cred *"),
            ("comm", "char[16]"),
            ("signal", "signal_struct *"),
        ],
    ),
    (
        "kobject",
        &[
            ("name", "char *"),
            ("entry", "list_head"),
            ("parent", "kobject *"),
        ],
    ),
    ("kset", &[("list", "list_head"), ("kobj", "kobject")]),
    (
        "module_kobject",
        &[("kobj", "kobject"), ("mod", "module *")],
    ),
    ("module_memory", &[("base", "void *"), ("size", UINT)]),
    (
        "elf64_sym",
        &[
            ("st_name", UINT),
            ("st_info", "unsigned char"),
            ("st_other", "unsigned char"),
            ("st_shndx", "short unsigned int"),
            ("st_value", ULONG),
            ("st_size", ULONG),
        ],
    ),
    (
        "mod_kallsyms",
        &[
            ("symtab", "elf64_sym *"),
            ("num_symtab", UINT),
            ("strtab", "char *"),
            ("typetab", "char *"),
        ],
    ),
    (
        "kernel_symbol",
        &[
            ("value_offset", "int"),
            ("name_offset", "int"),
            ("namespace_offset", "int"),
        ],
    ),
    (
        "module",
        &[
            ("state", UINT),
            ("list", "list_head"),
            ("name", "char[56]"),
            ("mkobj", "module_kobject"),
            ("syms", "kernel_symbol *"),
            ("num_syms", UINT),
            ("mem", "module_memory[7]"),
            ("kallsyms", "mod_kallsyms *"),
        ],
    ),
];

/// `enum maple_type`.
const MAPLE: &[(&str, i32)] = &[
    ("maple_dense", 0),
    ("maple_leaf_64", 1),
    ("maple_range_64", 2),
    ("maple_arange_64", 3),
];

/// The types.
pub(super) fn types() -> Records {
    Records::new(TYPES, &[("maple_type", MAPLE)])
}
