//! `vmie creds`.

use crate::Hex;
use crate::define::row;

row! {
    /// What a process may do. Users and groups are the kernel's own numbers, those of the first user namespace.
    pub struct CredsRow<'a>: "vmie.creds/1" of "vmie creds" {
        /// The process.
        pid: u32 => right strong;
        /// Its short name.
        process: &'a str => left;
        /// Its real user.
        uid: u32 => right;
        /// Its effective user.
        euid: u32 => right;
        /// Its saved user.
        suid: u32 => hidden;
        /// The user whose rights it has to files.
        fsuid: u32 => hidden;
        /// Its real group.
        gid: u32 => right;
        /// Its effective group.
        egid: u32 => hidden;
        /// Its saved group.
        sgid: u32 => hidden;
        /// The group whose rights it has to files.
        fsgid: u32 => hidden;
        /// Its supplementary groups.
        groups: Vec<u32> => hidden;
        /// The capabilities that it has, without `CAP_`.
        effective: Vec<String> => left;
        /// Those that it may take.
        permitted: Vec<String> => hidden;
        /// Those that it hands on to programs that want them.
        inheritable: Vec<String> => hidden;
        /// Those that programs it runs can have at most.
        bounding: Vec<String> => hidden;
        /// Those that it hands on to all programs.
        ambient: Vec<String> => hidden;
        /// What is done about its system calls: disabled, strict, filter or a number; null when the kernel cannot.
        seccomp: Option<String> => left;
        /// How many programs decide about them; null when not known.
        seccomp_filters: Option<u32> => hidden;
        /// Whether no program that it runs can have more rights than it; null when not known.
        no_new_privs: Option<bool> => left;
        /// `SECBIT_*` flags.
        securebits: u32 => hidden;
        /// Its label in AppArmor; null when there is none.
        label: Option<&'a str> => left;
        /// The number of its user namespace.
        user_ns: u32 => right;
        /// Whether it acts with other rights than its own at present.
        overridden: bool => hidden;
        /// Other processes that have the very same record of rights, which unrelated processes never do.
        shared_with: &'a [u32] => left;
        /// Where the record of its rights is (`struct cred`).
        cred: Hex => hidden;
    }
}
