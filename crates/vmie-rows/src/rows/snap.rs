//! `vmie snap`.

use std::collections::BTreeMap;

use crate::define::{record, row};
use crate::{Bytes, Hex, Prot, Time};

row! {
    /// A snapshot that was taken.
    pub struct TakenRow: "vmie.snap-take/1" of "vmie snap take" + physical {
        /// Its file.
        file: String => left strong;
        /// How long that is.
        size: u64 [bytes] => right rounded;
        /// When it was begun.
        taken: Time => left;
        /// How long it took.
        took_ms: u64 [milliseconds] => hidden;
        /// How many regions are kept.
        regions: u64 => right;
        /// What was mapped.
        mapped: u64 [bytes] => hidden;
        /// Of that, what was read.
        read: u64 [bytes] => right rounded;
        /// Of that, what could not be read.
        absent: u64 [bytes] => right rounded;
        /// Pages that are kept, those of zeros among them.
        pages: u64 [pages] => right;
        /// Of these, pages of zeros.
        zero: u64 [pages] => right;
        /// How many different others there are.
        distinct: u64 [pages] => right;
    }
}

row! {
    /// What differs between two snapshots: a run of changed bytes; with `--group-by`, a region or page with changes.
    pub struct ChangeRow: "vmie.snap-diff/1" of "vmie snap diff" + physical {
        /// Its first address.
        va: Hex => right strong;
        /// How long it is.
        len: u64 [bytes] => right size;
        /// The protection after; `---` where nothing is mapped any more.
        prot: Prot => left;
        /// What became of it: `modified`, `appeared` or `disappeared`.
        change: &'static str => left;
        /// The protection before; `---` where nothing was mapped.
        was: Prot => left;
        /// With `--group-by`: how much has changed.
        bytes: Option<u64> [bytes] => right if_asked optional;
        /// With `--group-by`: in how many runs.
        runs: Option<u64> => right if_asked optional;
        /// Both sides.
        dump: Option<Dump> => part;
    }
}

record! {
    /// The bytes of both sides of a change, whole lines of 16, 1 KiB at most.
    pub struct Dump {
        /// With `--hexdump`: the bytes before, `??` for one that cannot be read; null where nothing was mapped.
        before: Option<String> => hidden if_asked;
        /// With `--hexdump`: the bytes after, likewise; null where nothing is mapped.
        after: Option<String> => hidden if_asked;
        /// With `--hexdump`: the address of the first byte of both.
        dump_va: Hex;
    }
}

row! {
    /// A snapshot that was added to a series.
    pub struct WatchedRow: "vmie.snap-watch/1" of "vmie snap watch" + physical {
        /// Its number.
        moment: u32 => right strong;
        /// When it was begun.
        taken: Time => left;
        /// How long it took.
        took_ms: u64 [milliseconds] => hidden;
        /// What was read.
        read: u64 [bytes] => right rounded;
        /// What could not be read.
        absent: u64 [bytes] => right rounded;
        /// Pages that are kept, those of zeros among them.
        pages: u64 [pages] => hidden;
        /// Of these, pages of zeros.
        zero: u64 [pages] => hidden;
        /// Pages that are not what they were in the snapshot before.
        changed: u64 [pages] => right;
        /// Of these, different ones that no snapshot had.
        added: u64 [pages] => right;
        /// By how much the files grew.
        size: u64 [bytes] => right rounded;
    }
}

row! {
    /// A region, and what changed in it from each snapshot of a series to the next.
    pub struct HistoryRow: "vmie.snap-series/1" of "vmie snap series" + physical {
        /// Its first address.
        va: Hex => right strong;
        /// How long it is.
        len: u64 [bytes] => right size;
        /// Its protection in the last snapshot that maps it.
        prot: Prot => left;
        /// How much is not what it was, for each step.
        changed: Vec<u64> [bytes] => left;
        /// How much was modified, in all steps.
        modified: u64 [bytes] => right rounded;
        /// How much appeared.
        appeared: u64 [bytes] => right rounded;
        /// How much disappeared.
        disappeared: u64 [bytes] => right rounded;
        /// How much got another protection.
        protection: u64 [bytes] => hidden;
        /// What it is; null where it has no name.
        region: Option<String> => left with_os;
    }
}

row! {
    /// Bytes that are constant within groups of snapshots and different between them.
    pub struct GroupRow: "vmie.snap-series-groups/1" of "vmie snap series --groups" + physical {
        /// The first address.
        va: Hex => right strong;
        /// How many there are.
        len: u64 [bytes] => right size;
        /// Their protection in the last snapshot; `---` where it maps nothing there.
        prot: Prot => left;
        /// The first 16 of them, by the letter of the group.
        values: BTreeMap<char, Bytes> => left;
        /// The region that they are in; null where it has no name.
        region: Option<String> => left with_os;
    }
}

row! {
    /// A snapshot of a series.
    pub struct SeriesMomentRow: "vmie.snap-series-moments/1" of "vmie snap series --list" + physical {
        /// Its number.
        moment: u32 => right strong;
        /// When it was begun.
        taken: Time => left;
        /// How long it took.
        took_ms: u64 [milliseconds] => right;
        /// How many regions are kept.
        regions: u64 => right;
        /// What was read.
        read: u64 [bytes] => right rounded;
        /// What could not be read.
        absent: u64 [bytes] => right rounded;
        /// What it was taken of.
        of: String => left;
    }
}
