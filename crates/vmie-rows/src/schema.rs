//! JSON Schemas (draft 2020-12) of rows and of the documents that they come in.

use serde_json::{Map, Value as Json, json};

use crate::rows::Coverage;
use crate::shape::{Field, Shape, Type, joined, leaves};

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The schema of the document that `-o json` writes; `$defs` has that of a row, which is a line of `-o jsonl`.
///
/// Other keys than those that are described are allowed everywhere: later versions may add some.
pub fn document(shape: &Shape) -> Json {
    json!({
        "$schema": DRAFT,
        "$id": format!("urn:vmie:{}", shape.name_and_version()),
        "title": shape.id,
        "description": format!("`{} -o json`; each line of `-o jsonl` is a #/$defs/row.", shape.command),
        "type": "object",
        "properties": {
            "schema": { "const": shape.id },
            "results": { "type": "array", "items": { "$ref": "#/$defs/row" } },
            "coverage": { "anyOf": [{ "$ref": "#/$defs/coverage" }, { "type": "null" }] },
        },
        "required": ["schema", "results", "coverage"],
        "$defs": {
            "row": row_schema(shape),
            "coverage": object(&joined(Coverage::ABOUT), Coverage::FIELDS),
        },
    })
}

/// The schema of a row.
pub fn row_schema(shape: &Shape) -> Json {
    let mut schema = object(&joined(shape.about), shape.fields);
    if shape.physical {
        schema["properties"]["space"] = json!({
            "description": "There where the row is about physical memory.",
            "const": "phys",
        });
    }
    schema
}

impl Shape {
    /// `snap-diff:1` of `vmie.snap-diff/1`.
    fn name_and_version(&self) -> String {
        let version = self.id.rsplit_once('/').map_or("1", |(_, version)| version);
        format!("{}:{version}", self.name())
    }
}

fn object(about: &str, fields: &'static [Field]) -> Json {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for leaf in leaves(fields) {
        let field = leaf.field;
        if !field.is_in_json() {
            continue;
        }
        if !leaf.sometimes {
            required.push(field.key);
        }
        let ty = match field.is_optional {
            true => field.ty.not_null(),
            false => field.ty,
        };
        let mut schema = Map::new();
        schema.insert("description".into(), field.meaning().into());
        if let Json::Object(of_type) = of_type(&ty) {
            // What a record is in general is said by the field in particular.
            let more = of_type.into_iter().filter(|(key, _)| key != "description");
            schema.extend(more);
        }
        if let Some(unit) = field.unit {
            schema.insert("x-unit".into(), unit.name().into());
        }
        properties.insert(field.key.into(), schema.into());
    }
    json!({
        "description": about,
        "type": "object",
        "properties": properties,
        "required": required,
    })
}

fn of_type(ty: &Type) -> Json {
    match ty {
        Type::Hex => json!({ "type": "string", "pattern": "^0x(0|[1-9a-f][0-9a-f]{0,15})$" }),
        // JSON numbers have no width, so the bounds say it.
        Type::Unsigned(bits @ ..64) => {
            json!({ "type": "integer", "minimum": 0, "maximum": (1_u64 << bits) - 1 })
        }
        Type::Unsigned(_) => json!({ "type": "integer", "minimum": 0 }),
        Type::Signed(_) => json!({ "type": "integer" }),
        Type::Float => json!({ "type": "number" }),
        Type::Bool => json!({ "type": "boolean" }),
        Type::Text => json!({ "type": "string" }),
        Type::Letter => json!({ "type": "string", "minLength": 1, "maxLength": 1 }),
        Type::Bytes => json!({ "type": "string", "pattern": "^([0-9a-f]{2})*$" }),
        Type::Prot => json!({ "type": "string", "pattern": "^[r-][w-][x-]$" }),
        Type::Time => json!({ "type": "string", "format": "date-time" }),
        Type::NumberOrText => json!({ "type": ["integer", "string"] }),
        Type::Any => json!({}),
        Type::Nullable(ty @ Type::Record(_)) => {
            json!({ "anyOf": [of_type(ty), { "type": "null" }] })
        }
        Type::Nullable(ty) => {
            let mut schema = of_type(ty);
            if let Some(one @ Json::String(_)) = schema.get("type").cloned() {
                schema["type"] = json!([one, "null"]);
            }
            schema
        }
        Type::List(ty) => json!({ "type": "array", "items": of_type(ty) }),
        Type::Map(ty) => json!({ "type": "object", "additionalProperties": of_type(ty) }),
        Type::Record(record) => object(&joined(record.about), record.fields),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hex, Value};

    #[test]
    fn types() {
        let list = json!({ "type": "array", "items": { "type": ["integer", "null"] } });
        let of = [
            (
                u8::TYPE,
                json!({ "type": "integer", "minimum": 0, "maximum": 255 }),
            ),
            (u64::TYPE, json!({ "type": "integer", "minimum": 0 })),
            (<Vec<Option<i64>>>::TYPE, list),
            (
                <Option<char>>::TYPE,
                json!({ "type": ["string", "null"], "minLength": 1, "maxLength": 1 }),
            ),
            (Json::TYPE, json!({})),
        ];
        for (ty, schema) in of {
            assert_eq!(of_type(&ty), schema, "{ty:?}");
        }
        let hex = of_type(&Hex::TYPE);
        assert_eq!(hex["type"], "string");
        let gap = of_type(&<Option<crate::Gap>>::TYPE);
        assert_eq!(gap["anyOf"][1], json!({ "type": "null" }));
        assert_eq!(gap["anyOf"][0]["required"], json!(["va", "len", "cause"]));
        assert_eq!(gap["anyOf"][0]["properties"]["len"]["x-unit"], "bytes");
    }
}
