//! The parts of the ISF schema that are used, for reading and for writing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What stands before the build id in the name of where something was taken from.
pub(super) const BUILD_MARK: &str = "build id ";

/// A whole file.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(super) struct File {
    pub(super) metadata: Metadata,
    pub(super) base_types: BTreeMap<String, Base>,
    pub(super) user_types: BTreeMap<String, User>,
    pub(super) enums: BTreeMap<String, Enum>,
    pub(super) symbols: BTreeMap<String, Symbol>,
}

#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(super) struct Metadata {
    /// Version of the schema.
    pub(super) format: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) producer: Option<Producer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) linux: Option<Linux>,
}

#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(super) struct Producer {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) datetime: Option<String>,
}

/// Where the symbols and types of a Linux kernel were taken from.
#[derive(Clone, PartialEq, Debug, Default, Deserialize, Serialize)]
pub(super) struct Linux {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) symbols: Vec<Origin>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) types: Vec<Origin>,
}

/// One of these sources. The schema has all of them optional.
#[derive(Clone, PartialEq, Debug, Default, Deserialize, Serialize)]
pub(super) struct Origin {
    /// `symtab`, `system-map` or `dwarf`; readers that check find others invalid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// `sha256`, of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hash_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hash_value: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(super) struct Base {
    pub(super) size: u64,
    pub(super) signed: bool,
    /// `int`, `char`, `bool`, `float`, `void`.
    pub(super) kind: String,
    pub(super) endian: String,
}

#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(super) struct User {
    /// `struct`, `union`, `class`.
    pub(super) kind: String,
    pub(super) size: u64,
    pub(super) fields: BTreeMap<String, Field>,
}

#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(super) struct Field {
    #[serde(rename = "type")]
    pub(super) ty: Descriptor,
    pub(super) offset: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) anonymous: bool,
}

#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(super) struct Enum {
    pub(super) size: u64,
    pub(super) base: String,
    pub(super) constants: BTreeMap<String, i128>,
}

#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(super) struct Symbol {
    pub(super) address: u64,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub(super) ty: Option<Descriptor>,
    /// The symbol's bytes in base64, for constants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) constant_data: Option<String>,
}

/// A reference to a type.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum Descriptor {
    Base {
        name: String,
    },
    Struct {
        name: String,
    },
    Union {
        name: String,
    },
    Class {
        name: String,
    },
    Enum {
        name: String,
    },
    Pointer {
        subtype: Box<Descriptor>,
    },
    Array {
        count: u64,
        subtype: Box<Descriptor>,
    },
    Bitfield {
        bit_position: u32,
        bit_length: u32,
        #[serde(rename = "type")]
        ty: Box<Descriptor>,
    },
    Function {},
}
