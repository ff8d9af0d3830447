//! The fields as a structure in C.
//!
//! Packed, so that the members lie where the fields are whatever a compiler thinks of their alignment.

use std::fmt::Write as _;

use vmie::dissect::{Common, Field, Kind};
use vmie::pointers::Width;

use super::target;
use crate::names::Names;

/// The declaration. Compiles after `<stdint.h>` and `<uchar.h>`; pointers are numbers where they do not have
/// the width of the guest's.
pub(super) fn structure(fields: &[Common], at: u64, width: Width, names: &Names<'_>) -> String {
    let total: u64 = fields.iter().map(|one| one.field.len).sum();
    let mut text =
        format!("#pragma pack(push, 1)\nstruct object_{at:x} {{ /* {total:#x} bytes */\n");
    for one in fields {
        let field = &one.field;
        let value = one.values.first().unwrap_or(&field.value);
        let mut comment = format!("+{:#x} {}", field.offset, field.kind.label());
        if !matches!(field.kind, Kind::Zero) {
            let _ = write!(comment, " {value}");
        }
        if !field.detail.is_empty() {
            let _ = write!(comment, ", {}", field.detail);
        }
        if let Some(name) = target(value, field.kind).and_then(|target| names.pointee(target)) {
            let _ = write!(comment, " <{name}>");
        }
        if field.confidence > 0 {
            let _ = write!(comment, " ({}%)", field.confidence);
        }
        // Text of the guest must not end the comment.
        let comment = comment.replace("*/", "* /").replace(['\n', '\r'], " ");
        let _ = writeln!(text, "    {:<40} /* {comment} */", member(field, width));
    }
    text.push_str("};\n#pragma pack(pop)\n");
    text
}

fn member(field: &Field, width: Width) -> String {
    let (offset, len) = (field.offset, field.len);
    let pointer = |type_: &str, name: &str| match width {
        Width::Eight => format!("{type_}{name}_{offset:x};"),
        Width::Four => format!("uint32_t {name}_{offset:x};"),
    };
    let word = match width {
        Width::Eight => "uint64_t",
        Width::Four => "uint32_t",
    };
    match field.kind {
        Kind::Vtable => pointer("const void *", "vtable"),
        Kind::Function => match width {
            Width::Eight => format!("void (*function_{offset:x})(void);"),
            Width::Four => format!("uint32_t function_{offset:x};"),
        },
        Kind::Object => pointer("void *", "object"),
        Kind::String => pointer("const void *", "text"),
        Kind::Pointer => pointer("void *", "pointer"),
        Kind::Float => format!("float float_{offset:x};"),
        Kind::Double => format!("double double_{offset:x};"),
        Kind::Integer if matches!(len, 1 | 2) => format!("uint{}_t number_{offset:x};", len * 8),
        Kind::Integer if matches!(len, 4 | 8) => format!("int{}_t number_{offset:x};", len * 8),
        Kind::Flags if len == 4 => format!("uint32_t flags_{offset:x};"),
        Kind::Unknown if matches!(len, 4 | 8) => format!("uint{}_t unknown_{offset:x};", len * 8),
        Kind::Utf8 => format!("char text_{offset:x}[{len}];"),
        Kind::Utf16 if len.is_multiple_of(2) => format!("char16_t text_{offset:x}[{}];", len / 2),
        Kind::StdString => {
            format!("struct {{ {word} data, size; char local[16]; }} string_{offset:x};")
        }
        Kind::LibcxxString | Kind::LibcxxAltString => {
            format!(
                "union {{ char local[{len}]; struct {{ {word} word[3]; }} remote; }} string_{offset:x};"
            )
        }
        Kind::MsvcString => format!(
            "struct {{ union {{ char local[16]; {word} data; }}; {word} size, capacity; }} string_{offset:x};"
        ),
        Kind::MsvcWstring => format!(
            "struct {{ union {{ char16_t local[8]; {word} data; }}; {word} size, capacity; }} string_{offset:x};"
        ),
        Kind::StdVector => {
            format!("struct {{ {word} begin, end, capacity; }} vector_{offset:x};")
        }
        Kind::Zero => format!("uint8_t padding_{offset:x}[{len}];"),
        _ => format!("uint8_t unknown_{offset:x}[{len}];"),
    }
}
