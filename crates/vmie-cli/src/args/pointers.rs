//! What counts as a pointer.

use clap::Args;

use super::BitsArg;
use crate::addr::parse_u64;
use crate::exit::Failure;

/// Heading in the help of what is about an index of pointers.
pub(crate) const INDEX: &str = "Index";

/// What counts as a pointer.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct PointerArgs {
    /// How wide pointers are
    #[arg(long, value_name = "BITS", default_value = "auto")]
    pub(crate) bits: BitsArg,

    /// Pointers stand at multiples of N: 1, 2, 4 or 8 [default: their width]
    #[arg(long, value_name = "N", value_parser = parse_align)]
    pub(crate) align: Option<u64>,
}

/// An alignment: a power of two.
pub(crate) fn parse_align(text: &str) -> Result<u64, Failure> {
    let align = parse_u64(text)?;
    if align.is_power_of_two() {
        Ok(align)
    } else {
        Err(Failure::new(format!("`{text}` is not a power of two")))
    }
}
