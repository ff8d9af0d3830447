//! Where a result of a search is: keys that the rows of all searches have.

use crate::Hex;
use crate::define::record;

record! {
    /// With several sources, which of them a row is of.
    pub struct SourceMark {
        /// With several sources: the one that the row is of, as it was typed. Stands first in every row.
        source: String => left;
    }
}

record! {
    /// Where a result is.
    pub struct Place {
        /// With `--all-processes`: whose space it is in.
        site: Option<Site> => part;
        /// Its address; of physical memory, the physical one.
        va: Hex => right strong;
        /// The name of the address, such as `schedule+0x1c`, in spaces with names, where it has one.
        name: Option<String> => left with_os optional;
    }
}

record! {
    /// Whose a row is, of many.
    pub struct Owner {
        /// With `--all-processes`: the process that it is of; null for the kernel.
        pid: Option<u32> => right with_many;
        /// With `--all-processes`: the name of that process; null for the kernel.
        process: Option<String> => left with_many;
    }
}

record! {
    /// In which of many spaces a result is.
    pub struct Site {
        /// With `--all-processes`: the process whose space it is in; null for the kernel.
        pid: Option<u32> => right with_many;
        /// With `--all-processes`: the name of that process; null for the kernel.
        process: Option<String> => left with_many;
        /// With `--all-processes`: what the process maps there; in the kernel, the image; null where it has no name.
        region: Option<String> => left with_many;
    }
}
