#![doc = include_str!("../README.md")]

mod define;
mod reference;
mod rows;
mod schema;
mod shape;
mod value;

pub use define::Row;
pub use reference::{DIRECTORY, pages};
pub use rows::*;
pub use schema::{document, row_schema};
pub use shape::{
    Align, Column, Field, Leaf, Look, Record, Shape, Shown, Type, Unit, When, joined, leaves,
};
pub use value::{Bytes, Hex, Prot, Show, SigName, Time, Value, guest_text};
