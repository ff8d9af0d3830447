//! A definition as data: what a row is made of, for whoever prints, describes or checks rows.
//!
//! `row!` and `record!` ([`define`](crate::define)) make these values, all of them constants.

/// A kind of row, with an id of its own.
#[derive(Debug)]
pub struct Shape {
    /// What the `json` format writes as `schema`: `vmie.NAME/VERSION`.
    pub id: &'static str,
    /// The command that prints it, without its source: `vmie snap diff`.
    pub command: &'static str,
    /// What one row is about, as the lines of its doc comment.
    pub about: &'static [&'static str],
    /// Whether rows may be about physical memory, and then say so with `"space": "phys"`.
    pub physical: bool,
    /// What a row is made of, in the order of JSON.
    pub fields: &'static [Field],
    /// The keys that have a column, in the order of tables and CSV; empty where that is the order of
    /// [`Shape::fields`].
    pub order: &'static [&'static str],
}

impl Shape {
    /// The name in the id: `snap-diff` of `vmie.snap-diff/1`.
    pub fn name(&self) -> &'static str {
        let name = self.id.strip_prefix("vmie.").unwrap_or(self.id);
        name.split_once('/').map_or(name, |(name, _)| name)
    }

    /// The keys of the JSON row, groups opened up. Allocates.
    pub fn keys(&self) -> Vec<Leaf> {
        leaves(self.fields)
            .into_iter()
            .filter(|leaf| leaf.field.is_in_json())
            .collect()
    }

    /// The fields that have a column, in the order of tables and CSV. Allocates; its time is quadratic in
    /// the number of columns, so it is for the start of an output and not for each row.
    pub fn columns(&self) -> Vec<&'static Field> {
        let leaves = leaves(self.fields).into_iter();
        let mut columns: Vec<_> = leaves
            .map(|leaf| leaf.field)
            .filter(|field| field.column.is_some())
            .collect();
        if !self.order.is_empty() {
            columns.sort_by_key(|field| self.order.iter().position(|key| *key == field.key));
        }
        columns
    }
}

/// A key of a JSON row.
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    /// Its definition.
    pub field: &'static Field,
    /// Whether rows may be without it.
    pub sometimes: bool,
}

/// The fields with those of their groups in place of the groups. Allocates.
pub fn leaves(fields: &'static [Field]) -> Vec<Leaf> {
    let mut all = Vec::new();
    for field in fields {
        match field.ty.record().filter(|_| field.is_part) {
            Some(part) => {
                let sometimes = field.is_optional || matches!(field.ty, Type::Nullable(_));
                all.extend(leaves(part).into_iter().map(|leaf| Leaf {
                    sometimes: leaf.sometimes || sometimes,
                    ..leaf
                }));
            }
            None => all.push(Leaf {
                field,
                sometimes: field.is_optional,
            }),
        }
    }
    all
}

/// A field of a row or record.
#[derive(Debug)]
pub struct Field {
    /// The JSON key, which heads the CSV column too.
    pub key: &'static str,
    /// What it means, as the lines of its doc comment.
    pub about: &'static [&'static str],
    /// What values it has.
    pub ty: Type,
    /// What numbers count.
    pub unit: Option<Unit>,
    /// Its column; `None` for what is in JSON only.
    pub column: Option<Column>,
    /// Whether the key is left out where there is nothing to say, instead of being null.
    pub is_optional: bool,
    /// Whether the keys of its record stand in its place.
    pub is_part: bool,
}

impl Field {
    /// A field without a column.
    pub(crate) const fn new(key: &'static str, about: &'static [&'static str], ty: Type) -> Self {
        Self {
            key: plain(key),
            about,
            ty,
            unit: None,
            column: None,
            is_optional: false,
            is_part: false,
        }
    }

    /// Whether the JSON row has the key: all but what only tables show.
    pub fn is_in_json(&self) -> bool {
        !matches!(
            self.column,
            Some(Column {
                shown: Shown::Tables,
                ..
            })
        )
    }

    /// What it means, in one line.
    pub fn meaning(&self) -> String {
        joined(self.about)
    }

    pub(crate) const fn unit(self, unit: Unit) -> Self {
        Self {
            unit: Some(unit),
            ..self
        }
    }

    const fn with_column(self, align: Align, shown: Shown) -> Self {
        let column = Column {
            heading: self.key,
            align,
            shown,
            when: When::Always,
            look: Look::Plain,
            is_strong: false,
        };
        Self {
            column: Some(column),
            ..self
        }
    }

    const fn changed(self, change: Change) -> Self {
        let Some(mut column) = self.column else {
            panic!("a column first: left, right, hidden or table");
        };
        match change {
            Change::Heading(heading) => column.heading = heading,
            Change::When(when) => column.when = when,
            Change::Look(look) => column.look = look,
            Change::Strong => column.is_strong = true,
        }
        Self {
            column: Some(column),
            ..self
        }
    }

    pub(crate) const fn left(self) -> Self {
        self.with_column(Align::Left, Shown::Everywhere)
    }

    pub(crate) const fn right(self) -> Self {
        self.with_column(Align::Right, Shown::Everywhere)
    }

    pub(crate) const fn hidden(self) -> Self {
        self.with_column(Align::Left, Shown::Csv)
    }

    pub(crate) const fn table(self) -> Self {
        self.with_column(Align::Left, Shown::Tables)
    }

    pub(crate) const fn titled(self, heading: &'static str) -> Self {
        self.changed(Change::Heading(heading))
    }

    pub(crate) const fn with_os(self) -> Self {
        self.changed(Change::When(When::Named))
    }

    pub(crate) const fn with_many(self) -> Self {
        self.changed(Change::When(When::Many))
    }

    pub(crate) const fn if_asked(self) -> Self {
        self.changed(Change::When(When::Asked))
    }

    pub(crate) const fn size(self) -> Self {
        self.changed(Change::Look(Look::Size))
    }

    pub(crate) const fn rounded(self) -> Self {
        self.changed(Change::Look(Look::Rounded))
    }

    pub(crate) const fn strong(self) -> Self {
        self.changed(Change::Strong)
    }

    pub(crate) const fn optional(self) -> Self {
        Self {
            is_optional: true,
            ..self
        }
    }

    pub(crate) const fn part(self) -> Self {
        assert!(self.ty.record().is_some(), "a part is a record");
        Self {
            is_part: true,
            ..self
        }
    }
}

enum Change {
    Heading(&'static str),
    When(When),
    Look(Look),
    Strong,
}

/// What a value is.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Type {
    /// An address or a 64-bit value: `"0x1f"`.
    Hex,
    /// A whole number that is not below zero, of so many bits.
    Unsigned(u32),
    /// A whole number, of so many bits.
    Signed(u32),
    /// A number.
    Float,
    /// True or false.
    Bool,
    /// Text.
    Text,
    /// A letter.
    Letter,
    /// Bytes, two digits each.
    Bytes,
    /// A protection: `"rwx"`, with `-` for what is absent.
    Prot,
    /// A point in time, by RFC 3339 in UTC.
    Time,
    /// A number or text.
    NumberOrText,
    /// What JSON can say.
    Any,
    /// That, or null.
    Nullable(&'static Type),
    /// Any number of these.
    List(&'static Type),
    /// These by name.
    Map(&'static Type),
    /// An object.
    Record(&'static Record),
}

/// What an object within a row is.
#[derive(PartialEq, Debug)]
pub struct Record {
    /// What it is, as the lines of its doc comment.
    pub about: &'static [&'static str],
    /// What it is made of, in the order of JSON.
    pub fields: &'static [Field],
}

// Records are told apart by what their fields hold, not by how they are shown.
impl PartialEq for Field {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.ty == other.ty && self.unit == other.unit
    }
}

impl Type {
    /// The fields of a record, also where it may be null.
    pub const fn record(&self) -> Option<&'static [Field]> {
        match self {
            Self::Record(record) | Self::Nullable(Self::Record(record)) => Some(record.fields),
            _ => None,
        }
    }

    /// The same without null.
    pub const fn not_null(self) -> Self {
        match self {
            Self::Nullable(ty) => *ty,
            ty => ty,
        }
    }
}

/// What a number counts, or measures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[expect(non_camel_case_types, reason = "as a definition spells them")]
pub enum Unit {
    /// Bytes.
    bytes,
    /// Bits.
    bits,
    /// Pages of 4 KiB.
    pages,
    /// Seconds.
    seconds,
    /// Milliseconds.
    milliseconds,
    /// Of a hundred.
    percent,
}

impl Unit {
    /// Its name: `bytes`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::bytes => "bytes",
            Self::bits => "bits",
            Self::pages => "pages",
            Self::seconds => "seconds",
            Self::milliseconds => "milliseconds",
            Self::percent => "percent",
        }
    }
}

/// The column of a field.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// What heads it in tables.
    pub heading: &'static str,
    /// Where its cells stand in tables.
    pub align: Align,
    /// Which formats have it.
    pub shown: Shown,
    /// In which outputs it is there.
    pub when: When,
    /// How tables show a number.
    pub look: Look,
    /// Whether tables set it off.
    pub is_strong: bool,
}

impl Column {
    /// Whether tables have it.
    pub fn is_in_tables(&self) -> bool {
        self.shown != Shown::Csv
    }

    /// Whether CSV has it.
    pub fn is_in_csv(&self) -> bool {
        self.shown != Shown::Tables
    }
}

/// Where the cells of a column stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    /// To the left.
    Left,
    /// To the right.
    Right,
}

/// Which formats have a column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    /// Tables and CSV.
    Everywhere,
    /// CSV only.
    Csv,
    /// Tables only: JSON does not have the key either.
    Tables,
}

/// In which outputs a column is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// In all.
    Always,
    /// Where the operating system of the space is known.
    Named,
    /// Where rows are about many spaces or objects.
    Many,
    /// Where an option asks for what it shows.
    Asked,
}

/// How a table shows a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// As it is.
    Plain,
    /// As an exact size: `2052 KiB`.
    Size,
    /// As a rounded size: `2.1 MiB`.
    Rounded,
}

/// Lines of a doc comment, as one.
pub fn joined(lines: &[&str]) -> String {
    let lines: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    lines.join(" ")
}

/// A key without the `r#` that makes an identifier of a keyword.
const fn plain(key: &'static str) -> &'static str {
    match key.as_bytes() {
        [b'r', b'#', ..] => key.split_at(2).1,
        _ => key,
    }
}

/// Panics, and so fails to compile, unless `order` has each field with a column once and nothing else.
pub(crate) const fn check_order(shape: &Shape) {
    if shape.order.is_empty() {
        return;
    }
    let mut index = 0;
    while index < shape.order.len() {
        let key = shape.order[index];
        assert!(
            columns_of(shape.fields, Some(key)) == 1,
            "a key of `columns` that is no field with a column, or one of two"
        );
        let mut next = index + 1;
        while next < shape.order.len() {
            assert!(!same(key, shape.order[next]), "a key twice in `columns`");
            next += 1;
        }
        index += 1;
    }
    assert!(
        columns_of(shape.fields, None) == shape.order.len(),
        "a field with a column that is not in `columns`"
    );
}

/// How many fields have a column, or how many of this key.
const fn columns_of(fields: &[Field], key: Option<&str>) -> usize {
    let (mut count, mut index) = (0, 0);
    while index < fields.len() {
        let field = &fields[index];
        if let (true, Some(part)) = (field.is_part, field.ty.record()) {
            count += columns_of(part, key);
        } else if field.column.is_some()
            && match key {
                Some(key) => same(key, field.key),
                None => true,
            }
        {
            count += 1;
        }
        index += 1;
    }
    count
}

const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut index = 0;
    while index < one.len() {
        if one[index] != other[index] {
            return false;
        }
        index += 1;
    }
    true
}
