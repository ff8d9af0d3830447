//! The rows as everybody sees them.

mod definitions;
mod reference;
