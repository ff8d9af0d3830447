//! `vmie find`: numbers, texts and bytes.

use serde::Serialize;
use serde_json::Value;
use vmie::Piece;
use vmie::search::{Encoding, Finder, Query, TextQuery, ValueQuery, ValueType};
use vmie::signature::Signature;

use crate::args::FindArgs;
use crate::exit::{Done, Failure, Result};
use crate::options::Options;
use crate::output::{Cell, Column, Row, View, digits};
use crate::place::Place;
use crate::seek::{Around, Seek};

pub(super) fn run(args: &FindArgs, options: &Options) -> Result<Done> {
    let (queries, kinds): (Vec<Query>, Vec<Kind>) = queries(args)?.into_iter().unzip();
    let align = args.align.min(Piece::ALIGN);
    let finder = Finder::new(queries, align);
    let finder = finder.map_err(|error| Failure::new(error.to_string()))?;
    let seek = Seek {
        verb: "find",
        args: &args.search,
        options,
        asked: false,
    };
    seek.run(&finder, |place, sought, around| {
        // The engine knows addresses modulo a cache line only.
        place.va.0.is_multiple_of(args.align).then(|| {
            let kind = &kinds[sought.query];
            FindRow {
                kind: kind.name(),
                value: kind.value(sought.bits, &place, around),
                place,
            }
        })
    })
}

/// What a query is called, and what its value is.
enum Kind {
    Number(ValueType),
    Text(TextQuery),
    Bytes(usize),
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Number(ty) => ty.name(),
            Self::Text(query) if query.encoding == Encoding::Utf16 => "utf16",
            Self::Text(_) => "str",
            Self::Bytes(_) => "bytes",
        }
    }

    /// The value as it stands in memory.
    fn value(&self, bits: u64, place: &Place, around: &dyn Around) -> Value {
        match self {
            Self::Number(ty) => number(*ty, bits),
            Self::Text(query) if query.ignore_case => {
                let len = match query.encoding {
                    Encoding::Utf16 => query.text.encode_utf16().count() * 2,
                    _ => query.text.len(),
                };
                let bytes = around.read(place.va.0, len);
                Value::from(query.encoding.decode(&bytes))
            }
            Self::Text(query) => Value::from(query.text.clone()),
            Self::Bytes(len) => {
                let bytes = around.read(place.va.0, *len);
                Value::from(digits(&bytes))
            }
        }
    }
}

/// A number for JSON: those of 64 bits, infinities and what is not a number as text.
fn number(ty: ValueType, bits: u64) -> Value {
    let text = ty.show(bits);
    let wide = matches!(ty, ValueType::U64 | ValueType::I64);
    match serde_json::from_str::<Value>(&text) {
        Ok(value) if !wide && value.is_number() => value,
        _ => Value::from(text),
    }
}

/// What was typed, by type and not in the order of the command line.
fn queries(args: &FindArgs) -> Result<Vec<(Query, Kind)>> {
    let numbers: [(ValueType, &[String]); 10] = [
        (ValueType::U8, &args.u8),
        (ValueType::I8, &args.i8),
        (ValueType::U16, &args.u16),
        (ValueType::I16, &args.i16),
        (ValueType::U32, &args.u32),
        (ValueType::I32, &args.i32),
        (ValueType::U64, &args.u64),
        (ValueType::I64, &args.i64),
        (ValueType::F32, &args.f32),
        (ValueType::F64, &args.f64),
    ];
    let mut all = Vec::new();
    for (ty, texts) in numbers {
        for text in texts {
            let query = ValueQuery::parse(ty, text).map_err(|error| {
                Failure::new(format!("--{ty}: `{}` cannot be searched for", error.text))
                    .found(error.reason)
                    .hint("V, A..B (B excluded) or A..=B; of f32 and f64 also V~T")
            })?;
            all.push((Query::Value(query), Kind::Number(ty)));
        }
    }
    for (encoding, texts) in [(Encoding::Utf8, &args.str), (Encoding::Utf16, &args.utf16)] {
        for text in texts {
            let query = TextQuery {
                text: text.clone(),
                encoding,
                ignore_case: args.ignore_case,
            };
            let signature = query
                .signature()
                .map_err(|error| Failure::new(error.to_string()))?;
            all.push((Query::Pattern(signature), Kind::Text(query)));
        }
    }
    for text in &args.bytes {
        let plain = text
            .chars()
            .all(|c| c.is_ascii_hexdigit() || c.is_whitespace());
        let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
        if !plain || digits.is_empty() || !digits.len().is_multiple_of(2) {
            return Err(Failure::new(format!("--bytes: `{text}` is not bytes"))
                .found("pairs of hexadecimal digits were expected, such as 4d 5a 90")
                .hint("`vmie scan -s`, for bytes with wildcards")
                .into());
        }
        let pairs: Vec<String> = digits.chunks(2).map(String::from_iter).collect();
        let signature = Signature::parse("", &pairs.join(" "));
        let signature = signature.map_err(|error| Failure::new(error.to_string()))?;
        all.push((Query::Pattern(signature), Kind::Bytes(pairs.len())));
    }
    Ok(all)
}

#[derive(Serialize)]
struct FindRow {
    #[serde(flatten)]
    place: Place,
    #[serde(rename = "type")]
    kind: &'static str,
    value: Value,
}

impl Row for FindRow {
    const COLUMNS: &'static [Column] = &[
        Column::right("pid").with_many(),
        Column::left("process").with_many(),
        Column::right("va"),
        Column::left("type"),
        Column::left("value"),
        Column::left("region").with_many(),
        Column::left("name").with_os(),
    ];

    fn view(&self) -> View {
        let value = match &self.value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let about = [Cell::new(self.kind), Cell::new(value)];
        View::Cells(self.place.cells(about))
    }
}
