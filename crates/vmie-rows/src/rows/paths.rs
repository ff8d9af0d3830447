//! `vmie paths`.

use crate::Hex;
use crate::define::row;

row! {
    /// A path of pointers from a fixed base.
    pub struct PathRow: "vmie.paths/1" of "vmie paths" + physical {
        /// Where it begins.
        base: Hex => right strong;
        /// What is added to each pointer that is followed, one for each.
        offsets: Vec<i64> [bytes] => left;
        /// The module that the base is in; null outside of modules.
        module: Option<String> => hidden;
        /// Whether the base is the first pointer itself (`--from-value`), and not the place of it.
        pointer: bool => hidden;
        /// The name of the base, in spaces with names, where it has one.
        name: Option<String> => left with_os optional;
        /// With `--also`: where the path leads in the other images, in their order.
        also: Vec<Hex> => left if_asked optional;
    }
    columns ["base" "offsets" "module" "pointer" "also" "name"]
}
