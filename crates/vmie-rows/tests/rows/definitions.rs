//! What holds of every definition.

use std::collections::BTreeSet;

use serde_json::Value as Json;
use vmie_rows::{
    Bytes, Hex, MatchRow, Place, ProcessRow, Row, SHAPES, SigName, Site, State, StringRow, Type,
    leaves,
};

#[test]
fn ids_are_distinct_and_well_formed() {
    let ids: BTreeSet<_> = SHAPES.iter().map(|shape| shape.id).collect();
    assert_eq!(ids.len(), SHAPES.len());
    for shape in SHAPES {
        let name = shape.name();
        assert_eq!(shape.id, format!("vmie.{name}/1"));
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(name.chars().all(plain), "{name}");
        // A verb's own shape is called as the verb, and the others after it.
        let verb = name.split('-').next().unwrap();
        assert!(shape.command.starts_with(&format!("vmie {verb}")), "{name}");
    }
}

#[test]
fn keys_are_distinct_and_said_in_words() {
    for shape in SHAPES {
        let keys = shape.keys();
        let distinct: BTreeSet<_> = keys.iter().map(|leaf| leaf.field.key).collect();
        assert_eq!(distinct.len(), keys.len(), "{}", shape.id);
        // The mark of physical memory.
        assert!(!distinct.contains("space"), "{}", shape.id);
        said(shape.fields, shape.id);
    }
}

fn said(fields: &'static [vmie_rows::Field], of: &str) {
    for leaf in leaves(fields) {
        let (key, meaning) = (leaf.field.key, leaf.field.meaning());
        assert!(meaning.ends_with(['.', ':']), "{of}: {key}: {meaning}");
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(key.chars().all(plain), "{of}: {key}");
        if let Some(within) = inner(&leaf.field.ty) {
            said(within, of);
        }
    }
}

fn inner(ty: &Type) -> Option<&'static [vmie_rows::Field]> {
    match ty {
        Type::List(ty) | Type::Map(ty) | Type::Nullable(ty) => inner(ty),
        Type::Record(record) => Some(record.fields),
        _ => None,
    }
}

#[test]
fn states_are_distinct_words() {
    let words: BTreeSet<_> = State::ALL.iter().map(|state| state.word()).collect();
    assert_eq!(words.len(), State::ALL.len());
    let json = serde_json::to_value(State::ALL).unwrap();
    for (state, json) in State::ALL.iter().zip(json.as_array().unwrap()) {
        assert_eq!(json, state.word());
        assert!(state.meaning().ends_with('.'));
    }
}

#[test]
fn columns_are_in_the_order_that_is_said() {
    let order = |keys: &[&'static str], shape: &vmie_rows::Shape| {
        let columns: Vec<_> = shape.columns().iter().map(|field| field.key).collect();
        assert_eq!(columns, keys);
    };
    order(
        &["pid", "process", "va", "encoding", "text", "region", "name"],
        StringRow::SHAPE,
    );
    let ps = ProcessRow::SHAPE.columns();
    assert_eq!(ps.first().map(|field| field.key), Some("pid"));
    assert_eq!(ps.len(), ProcessRow::SHAPE.keys().len());
}

#[test]
fn parts_stand_in_their_row_and_optional_keys_come_and_go() {
    let sig = SigName::Number(2);
    let mut row = MatchRow {
        place: Place {
            site: None,
            va: Hex(0x10),
            name: None,
        },
        sig: &sig,
        context: None,
    };
    let json = |row: &MatchRow<'_>| serde_json::to_string(row).unwrap();
    assert_eq!(json(&row), r#"{"va":"0x10","sig":2}"#);
    row.place.site = Some(Site {
        pid: None,
        process: None,
        region: Some("[heap]".into()),
    });
    row.context = Some(vmie_rows::Context {
        va: Hex(0xf),
        bytes: Bytes::of(&[1, 2]),
    });
    assert_eq!(
        json(&row),
        r#"{"pid":null,"process":null,"region":"[heap]","va":"0x10","sig":2,"context":{"va":"0xf","bytes":"0102"}}"#
    );
    let text = |key: &str| row.value(key).map(|value| value.text().into_owned());
    assert_eq!(text("region").as_deref(), Some("[heap]"));
    assert_eq!(text("pid").as_deref(), Some(""));
    assert_eq!(text("sig").as_deref(), Some("2"));
    assert_eq!(text("nothing"), None);
}

#[test]
fn schemas_have_the_keys_of_the_rows() {
    for shape in SHAPES {
        let schema = vmie_rows::row_schema(shape);
        let properties = schema["properties"].as_object().unwrap();
        let expected: Vec<_> = shape.keys().iter().map(|leaf| leaf.field.key).collect();
        let keys = properties.keys().map(String::as_str);
        let keys: Vec<_> = keys.filter(|key| *key != "space").collect();
        assert_eq!(keys, expected);
        assert_eq!(properties.contains_key("space"), shape.physical);
        for leaf in shape.keys() {
            let required = schema["required"].as_array().unwrap();
            let is_required = required.contains(&Json::from(leaf.field.key));
            assert_eq!(is_required, !leaf.sometimes, "{}", leaf.field.key);
        }
        assert_eq!(
            vmie_rows::document(shape)["properties"]["schema"]["const"],
            shape.id
        );
    }
}
