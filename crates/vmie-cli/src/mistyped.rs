//! Command lines that mean nothing: what to say of them.
//!
//! clap finds the mistake and prints it well, except where more is known here than there: of an address or a length, what
//! it may have meant; of a word that another tool has for the same thing, what it is called here.

use std::process::ExitCode;

use anstream::AutoStream;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::exit::{ERROR, Failure};
use crate::report::{Level, Reporter};

/// Verbs of other tools, and what does the same here.
const VERBS: &[(&[&str], &str)] = &[
    (
        &[
            "pslist",
            "psscan",
            "psaux",
            "tasklist",
            "processes",
            "top",
            "process-list",
            "linux_pslist",
            "linux_psaux",
        ],
        "ps",
    ),
    (&["pstree", "linux_pstree"], "ps --tree"),
    (
        &["bash", "linux_bash", "bash_history", "cmdscan"],
        "history",
    ),
    (
        &[
            "netstat",
            "ss",
            "sockstat",
            "linux_sockstat",
            "linux_netstat",
            "netscan",
            "sockets",
            "connections",
        ],
        "net, with --pid N for one process",
    ),
    (
        &["ifconfig", "ip", "interfaces", "linux_ifconfig"],
        "net --interfaces",
    ),
    (
        &["kmsg", "linux_kmsg", "linux_dmesg", "log", "syslog"],
        "dmesg",
    ),
    (
        &[
            "linux_lsof",
            "handles",
            "openfiles",
            "open-files",
            "files",
            "fds",
            "fd",
        ],
        "lsof, with --pid N for one process",
    ),
    (
        &[
            "envars",
            "environ",
            "environment",
            "linux_envars",
            "printenv",
        ],
        "env, with --pid N for one process",
    ),
    (
        &[
            "getsids",
            "privs",
            "privileges",
            "capabilities",
            "linux_capabilities",
            "credentials",
            "id",
        ],
        "creds, with --pid N for one process",
    ),
    (
        &["lsns", "namespaces", "cgroups", "containers"],
        "ns, with --apart for those that are not the host's",
    ),
    (
        &["thrdscan", "thread", "linux_threads", "pthreads"],
        "threads, with --pid N for one process",
    ),
    (
        &["lsmod", "linux_lsmod", "drivers", "modlist"],
        "modules --kernel",
    ),
    (
        &[
            "dlllist",
            "ldrmodules",
            "library_list",
            "linux_library_list",
            "libraries",
            "ldd",
        ],
        "modules --pid N",
    ),
    (
        &[
            "vadinfo",
            "vadwalk",
            "vmmap",
            "proc_maps",
            "linux_proc_maps",
            "memmap",
            "regions",
            "vmas",
            "map",
        ],
        "maps --pid N, with --vmas as in /proc/PID/maps",
    ),
    (
        &[
            "dump",
            "memdump",
            "linux_dump_map",
            "procdump",
            "vaddump",
            "extract",
        ],
        "read RANGE --as raw > FILE, or `vmie snap take`, for all of a space",
    ),
    (
        &[
            "hexdump",
            "hd",
            "xxd",
            "db",
            "dd",
            "dq",
            "x",
            "peek",
            "volshell",
            "linux_volshell",
            "cat",
        ],
        "read RANGE, with --as u64, asm or raw for other views",
    ),
    (
        &["disas", "disassemble", "disasm", "dis", "u"],
        "read RANGE --as asm",
    ),
    (
        &[
            "yarascan",
            "yara",
            "linux_yarascan",
            "vadyarascan",
            "yara-scan",
        ],
        "scan --yara FILE",
    ),
    (
        &["sigscan", "signatures", "pattern", "aob", "match"],
        "scan -s SIG",
    ),
    (
        &["grep", "search", "seek", "bulk"],
        "find --str TEXT, `vmie scan -s SIG` or `vmie strings`",
    ),
    (
        &[
            "banners",
            "banner",
            "imageinfo",
            "kdbgscan",
            "version",
            "identify",
        ],
        "info",
    ),
    (
        &["translate", "virt2phys", "v2p", "vtophys", "pte", "ptov"],
        "vtop ADDR",
    ),
    (&["xrefs", "axt", "callers"], "xref --to ADDR"),
    (
        &["pointers", "referrers", "references", "ptrs"],
        "refs ADDR",
    ),
    (
        &["pointerscan", "pointermap", "path", "chains"],
        "paths ADDR --from MODULE",
    ),
    (&["dt", "struct", "ptype", "pahole"], "type TYPE"),
    (&["object", "cast"], "show TYPE ADDR"),
    (
        &[
            "kallsyms",
            "nm",
            "sym",
            "symbol",
            "linux_kallsyms",
            "isfinfo",
        ],
        "symbols [PATTERN]",
    ),
    (
        &["snapshot", "save", "capture", "acquire"],
        "snap take -O FILE",
    ),
    (&["diff", "compare"], "snap diff BEFORE AFTER"),
    (&["watch", "record"], "snap watch -O DIR --every 1s"),
    (&["tour", "example", "tutorial"], "demo"),
];

/// Options of other tools, and what does the same here.
const OPTIONS: &[(&[&str], &str)] = &[
    (
        &["--hex", "--hexdump", "--bytes"],
        "`--as hex` of `vmie read`, which is what it shows without",
    ),
    (
        &["--raw", "--binary", "--dump"],
        "`--as raw` of `vmie read`, redirected to a file",
    ),
    (
        &["--asm", "--disasm", "--disassemble", "--code"],
        "`--as asm` of `vmie read`",
    ),
    (&["--json"], "-o json, or -o jsonl, an object a line"),
    (&["--jsonl", "--ndjson"], "-o jsonl"),
    (&["--csv"], "-o csv"),
    (&["--format", "--renderer", "--output-format"], "-o FORMAT"),
    (
        &["--dtb", "--dirbase", "--pgd", "--ttbr0", "--ttbr", "--root"],
        "--cr3 GPA",
    ),
    (&["--name", "--proc", "--comm", "--image"], "--process NAME"),
    (&["--pids"], "--pid N, or --all-processes"),
    (&["--physical", "--physmem", "--pa"], "--phys"),
    (
        &["--profile", "--symbols", "--isf", "--symbol-dirs"],
        "nothing: no profile is needed; --types FILE, for a kernel without type information",
    ),
    (
        &["--length", "--size", "--count", "--bytes-count"],
        "A..+LEN as the range",
    ),
    (
        &["--address", "--addr", "--base", "--offset", "--start"],
        "the address by itself, or --range A..B",
    ),
    (&["--end", "--stop"], "--range A..B"),
    (&["--permissions", "--prot", "--protection"], "--perm PERM"),
    (&["--sig", "--pattern"], "-s SIG of `vmie scan`"),
    (
        &["--yara-file", "--yara-rules", "--rules", "--yara-string"],
        "--yara FILE of `vmie scan`",
    ),
    (&["--file", "-f"], "the source by itself: vmie VERB SOURCE"),
    (&["--jobs", "--parallel"], "-j N"),
    (&["--max", "--max-rows", "--head"], "--limit N"),
    (&["--no-color", "--no-colour", "--plain"], "--color never"),
    (
        &["--all", "--everything"],
        "--all-processes, where it is about processes",
    ),
];

/// Says what is wrong with a command line, or shows the help that it asked for; how the program ends.
pub(crate) fn tell(error: &clap::Error) -> ExitCode {
    let Some(failure) = known(error) else {
        // Help and versions, too. Nobody is left to tell when it cannot be written.
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(ERROR));
    };
    tell_failure(&failure)
}

/// Says what is wrong before it is known how that is to be said.
pub(crate) fn tell_failure(failure: &Failure) -> ExitCode {
    let color = AutoStream::choice(&std::io::stderr());
    Reporter::new(Level::Normal, color).failure(failure);
    ExitCode::from(ERROR)
}

/// What is wrong, where more is known of it than clap says.
fn known(error: &clap::Error) -> Option<Failure> {
    let text = |kind| match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    };
    match error.kind() {
        ErrorKind::ValueValidation => {
            let own =
                std::error::Error::source(error).and_then(|own| own.downcast_ref::<Failure>());
            let Some(own) = own else {
                return process_name(
                    &text(ContextKind::InvalidArg)?,
                    &text(ContextKind::InvalidValue)?,
                );
            };
            let mut failure = own.clone();
            if let Some(argument) = text(ContextKind::InvalidArg) {
                // `--cr3 <GPA>` and `<RANGE>`, as the help has them.
                let name = argument.split(' ').next().unwrap_or_default();
                let name = name
                    .trim_start_matches(['<', '['])
                    .trim_end_matches(['>', ']', '.']);
                failure.what = format!("{name}: {}", failure.what);
            }
            Some(failure)
        }
        ErrorKind::InvalidSubcommand => {
            let typed = text(ContextKind::InvalidSubcommand)?;
            // Plugins of Volatility bear the name of the system.
            let word = typed.to_lowercase();
            let word = ["linux.", "windows.", "mac."]
                .iter()
                .find_map(|system| word.strip_prefix(system))
                .map_or(word.as_str(), |rest| rest.split('.').next().unwrap_or(rest));
            let here = of(VERBS, word).or_else(|| is_verb(word).then_some(word))?;
            Some(
                Failure::new(format!("there is no verb `{typed}`"))
                    .hint(format!("`vmie {here}`"))
                    .hint("`vmie --help`, for all verbs"),
            )
        }
        ErrorKind::UnknownArgument => {
            let typed = text(ContextKind::InvalidArg)?;
            let word = typed.split('=').next()?.trim();
            let here = of(OPTIONS, word)?;
            Some(
                Failure::new(format!("there is no option `{word}` here"))
                    .hint(here)
                    .hint("--help behind the verb, for its options"),
            )
        }
        _ => None,
    }
}

/// A name where the number of a process is asked for.
fn process_name(argument: &str, typed: &str) -> Option<Failure> {
    (argument.starts_with("--pid") && !typed.starts_with(|c: char| c.is_ascii_digit())).then(|| {
        Failure::new(format!("--pid: `{typed}` is not the number of a process"))
            .hint(format!("--process {typed}, by its name"))
    })
}

fn of(table: &'static [(&[&str], &str)], word: &str) -> Option<&'static str> {
    let row = table.iter().find(|(words, _)| words.contains(&word))?;
    Some(row.1)
}

/// Whether it is a verb here, without what stood before it.
fn is_verb(word: &str) -> bool {
    <crate::cli::Cli as clap::CommandFactory>::command()
        .find_subcommand(word)
        .is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;

    fn mistake(words: &[&str]) -> clap::Error {
        Cli::typed([&["vmie"], words].concat().iter().map(Into::into)).expect_err("a mistake")
    }

    #[test]
    fn words_of_other_tools_are_no_words_of_this_one() {
        for (words, _) in VERBS {
            for word in *words {
                assert!(!is_verb(word), "{word}");
                let failure = known(&mistake(&[word])).expect(word);
                assert!(failure.hints[0].starts_with("`vmie "), "{failure:?}");
            }
        }
        for words in [
            ["linux.pslist", "x"],
            ["linux.pslist.PsList", "x"],
            ["windows.info", "x"],
        ] {
            assert!(known(&mistake(&words)).is_some(), "{words:?}");
        }
    }

    #[test]
    fn what_other_tools_verbs_are_called_here_is_a_verb() {
        for (_, here) in VERBS {
            let verb = here.split([' ', ',']).next().unwrap_or_default();
            assert!(is_verb(verb), "{here}");
        }
    }

    #[test]
    fn mistakes_in_values_say_what_to_try() {
        let failure = known(&mistake(&["vtop", "x", "--cr3", "12ab", "0"])).expect("known");
        assert!(failure.what.starts_with("--cr3: "), "{failure:?}");
        assert_eq!(failure.hints, ["0x12ab"]);
        let failure = known(&mistake(&["read", "x", "--phys", "0x1000+64"])).expect("known");
        assert!(failure.hints[0].starts_with("0x1000..+64"), "{failure:?}");
        let failure = known(&mistake(&["read", "x", "--hex"])).expect("known");
        assert!(failure.hints[0].contains("--as hex"), "{failure:?}");
    }
}
