//! `vmie scan`.

use serde_json::{Map, Value as Json};

use super::{Place, Site};
use crate::define::{record, row};
use crate::{Bytes, Hex, SigName};

row! {
    /// A match of a signature.
    pub struct MatchRow<'a>: "vmie.scan/1" of "vmie scan" + physical {
        /// Where it begins.
        place: Place => part;
        /// The signature: its name in the file, or its number on the command line.
        sig: &'a SigName => left;
        /// With `--context`: the bytes around its first one.
        context: Option<Context> => left if_asked optional;
    }
    columns ["pid" "process" "va" "sig" "context" "region" "name"]
}

row! {
    /// A match of a string of a rule, or a rule that holds without a string.
    pub struct RuleRow<'a>: "vmie.scan-yara/1" of "vmie scan --yara" + physical {
        /// Whose space it is in.
        site: Option<Site> => part;
        /// Where it begins; of physical memory, the physical address; null for a rule that holds without a string.
        va: Option<Hex> => right strong;
        /// The name of the address, such as `schedule+0x1c`, in spaces with names, where it has one.
        name: Option<String> => left with_os optional;
        /// The string, such as `$a`; null for a rule that holds without one.
        sig: Option<String> => left;
        /// The rule.
        rule: &'a str => left;
        /// Its namespace: its file.
        namespace: &'a str => hidden;
        /// Its tags.
        tags: &'a [&'a str] => left;
        /// Its metadata.
        meta: &'a Map<String, Json> => hidden;
        /// How long the match is; null for a rule that holds without a string.
        len: Option<usize> [bytes] => hidden;
        /// With `--context`: the bytes around the first one.
        context: Option<Context> => left if_asked optional;
    }
    columns [
        "pid" "process" "va" "sig" "rule" "namespace" "tags" "meta" "len" "context" "region" "name"
    ]
}

record! {
    /// The bytes around a match.
    pub struct Context {
        /// The address of the first of them.
        va: Hex;
        /// The bytes, as far as they can be read.
        bytes: Bytes;
    }
}
