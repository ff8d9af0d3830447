//! How rows are defined: `row!` and `record!`.
//!
//! ```text
//! row! {
//!     /// What a row is about.
//!     pub struct ModuleRow<'a>: "vmie.modules/1" of "vmie modules" {
//!         /// What the field means.
//!         va: Hex => right strong;
//!         /// Bytes that it takes.
//!         len: u64 [bytes] => right size;
//!         ...
//!     }
//!     columns [va len ...]
//! }
//! ```
//!
//! A field has a doc comment, a key, a type, a [`Unit`] where one applies, and behind `=>` in words what
//! becomes of it. The struct, its JSON, its columns, its schema and its page in the reference are all made of that,
//! so they cannot disagree.
//!
//! | word | meaning |
//! |---|---|
//! | `left`, `right` | a column of tables and CSV, and where it stands |
//! | `hidden` | a column of CSV only |
//! | `table` | a column of tables only, which JSON does not have |
//! | none of these | in JSON only |
//! | `titled("...")` | tables head the column so, and not with the key |
//! | `with_os`, `with_many`, `if_asked` | the column is there [only then](When) |
//! | `size`, `rounded` | tables show the number as an exact or rounded size |
//! | `strong` | tables set it off |
//! | `optional` | the key is left out where there is nothing (`None`, false, empty), and is never null |
//! | `part` | a record whose keys stand in its place |
//!
//! `+ physical` behind the command says that rows may be about physical memory. `columns [...]` gives tables and CSV
//! an order that is not that of JSON; a key that is missing or too much does not compile.
//!
//! Rows are made by the programs that print them, with all their fields named, so a field that is added is an
//! error wherever it is forgotten: that is why they are not `non_exhaustive`.
//!
//! A `macro_rules` and not a derive: it needs no crate of its own, and the words are checked by the compiler as
//! methods of [`Field`].

use serde::Serialize;

use crate::shape::{Field, Shape};
use crate::value::{Show, Value};
#[cfg(doc)]
use crate::{Unit, When};

/// A row: its `Serialize` form is the JSON row.
pub trait Row: Serialize {
    /// Its definition.
    const SHAPE: &'static Shape;

    /// The value of a key, for a cell. `None` for a key that the row does not have.
    fn value(&self, key: &str) -> Option<&dyn Show>;
}

/// Defines a record: an object within rows, or a group of keys that several rows have.
macro_rules! record {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident $(<$life:lifetime>)? {
            $(
                $(#[doc = $doc:literal])+
                $field:ident : $ty:ty $([$unit:ident])? $(=> $($word:ident $(($arg:literal))?)+)? ;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, PartialEq, Debug)]
        pub struct $name $(<$life>)? {
            $(
                $(#[doc = $doc])+
                pub $field: $ty,
            )+
        }

        impl $(<$life>)? $name $(<$life>)? {
            /// What it is, as the lines of its doc comment.
            pub const ABOUT: &'static [&'static str] = &[$($about),+];

            /// Its fields, in the order of JSON.
            pub const FIELDS: &'static [$crate::Field] = &[
                $(
                    $crate::Field::new(
                        stringify!($field),
                        &[$($doc),+],
                        <$ty as $crate::Value>::TYPE,
                    )
                    $(.unit($crate::Unit::$unit))?
                    $($(.$word($($arg)?))+)?,
                )+
            ];
        }

        impl $(<$life>)? $crate::Show for $name $(<$life>)? {
            /// As JSON: no table has a column for a record.
            fn text(&self) -> ::std::borrow::Cow<'_, str> {
                ::serde_json::to_string(self).unwrap_or_default().into()
            }
        }

        impl $(<$life>)? $crate::Value for $name $(<$life>)? {
            const TYPE: $crate::Type = $crate::Type::Record(&$crate::Record {
                about: Self::ABOUT,
                fields: Self::FIELDS,
            });

            fn put<M: ::serde::ser::SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                let mut fields = Self::FIELDS.iter();
                $(
                    if let Some(field) = fields.next() {
                        $crate::define::put(field, &self.$field, map)?;
                    }
                )+
                Ok(())
            }

            fn get(&self, key: &str) -> Option<&dyn $crate::Show> {
                let mut fields = Self::FIELDS.iter();
                $(
                    if let Some(field) = fields.next()
                        && let Some(value) = $crate::define::get(field, &self.$field, key)
                    {
                        return Some(value);
                    }
                )+
                None
            }
        }

        impl $(<$life>)? ::serde::Serialize for $name $(<$life>)? {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use ::serde::ser::SerializeMap as _;
                let mut map = serializer.serialize_map(None)?;
                $crate::Value::put(self, &mut map)?;
                map.end()
            }
        }
    };
}

/// Defines a row.
macro_rules! row {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident $(<$life:lifetime>)?
            : $id:literal of $command:literal $(+ $physical:ident)?
        { $($fields:tt)* }
        $(columns [$($order:literal)+])?
    ) => {
        $crate::define::record! {
            $(#[doc = $about])+
            pub struct $name $(<$life>)? { $($fields)* }
        }

        impl $(<$life>)? $crate::Row for $name $(<$life>)? {
            const SHAPE: &'static $crate::Shape = {
                const SHAPE: &$crate::Shape = &$crate::Shape {
                    id: $id,
                    command: $command,
                    about: $name::ABOUT,
                    physical: $crate::define::row!(@is $($physical)?),
                    fields: $name::FIELDS,
                    order: &[$($($order),+)?],
                };
                $crate::shape::check_order(SHAPE);
                SHAPE
            };

            fn value(&self, key: &str) -> Option<&dyn $crate::Show> {
                $crate::Value::get(self, key)
            }
        }
    };
    (@is) => { false };
    (@is physical) => { true };
}

pub(crate) use {record, row};

/// Writes a field, or the keys of a part.
pub(crate) fn put<V: Value, M: serde::ser::SerializeMap>(
    field: &'static Field,
    value: &V,
    map: &mut M,
) -> Result<(), M::Error> {
    if field.is_part {
        value.put(map)
    } else if !field.is_in_json() || field.is_optional && value.is_nothing() {
        Ok(())
    } else {
        map.serialize_entry(field.key, value)
    }
}

/// The value of a key, where it is that of the field or of one of its part.
pub(crate) fn get<'v, V: Value>(
    field: &'static Field,
    value: &'v V,
    key: &str,
) -> Option<&'v dyn Show> {
    if field.is_part {
        value.get(key)
    } else {
        (field.key == key).then_some(value as &dyn Show)
    }
}
