//! Records as a C compiler lays them out, and BTF that says so: one definition, so that what is written by
//! member names is what the guest's own types describe.

use std::collections::HashMap;

use super::btf::Btf;

/// The integers that members may have, as BTF names them: name, bytes, encoding.
const INTEGERS: [(&str, u32, u32); 8] = [
    ("char", 1, 2),
    ("unsigned char", 1, 0),
    ("short unsigned int", 2, 0),
    ("int", 4, 1),
    ("unsigned int", 4, 0),
    ("long int", 8, 1),
    ("long unsigned int", 8, 0),
    ("long long unsigned int", 8, 0),
];

/// Name, and members by name and type, in order.
///
/// A type is an integer, the name of a record defined before, an array of either as in `char[16]`, or a pointer,
/// as in `task_struct *`, to a record defined anywhere. `void *` is a pointer to nothing in particular.
pub type Definition<'d> = (&'d str, &'d [(&'d str, &'d str)]);

/// Laid-out records.
#[derive(Clone, Debug)]
pub struct Records {
    records: Vec<Record>,
    by_name: HashMap<String, usize>,
    enums: Vec<(String, Vec<(String, i32)>)>,
}

#[derive(Clone, Debug)]
struct Record {
    name: String,
    size: u64,
    align: u64,
    members: Vec<(String, String, u64)>,
}

impl Records {
    /// Lays out these records. Each member is aligned to its own size, a record to its largest member.
    ///
    /// # Panics
    ///
    /// When a member's type is unknown, or a record embeds one that is defined after it.
    pub fn new(definitions: &[Definition<'_>], enums: &[(&str, &[(&str, i32)])]) -> Self {
        let mut records = Self {
            records: Vec::new(),
            by_name: HashMap::new(),
            enums: enums
                .iter()
                .map(|&(name, values)| {
                    let values = values.iter().map(|&(name, value)| (name.to_owned(), value));
                    (name.to_owned(), values.collect())
                })
                .collect(),
        };
        for &(name, members) in definitions {
            let mut record = Record {
                name: name.to_owned(),
                size: 0,
                align: 1,
                members: Vec::new(),
            };
            for &(member, ty) in members {
                let (size, align) = records.extent(ty);
                let at = record.size.next_multiple_of(align);
                record.members.push((member.to_owned(), ty.to_owned(), at));
                record.size = at + size;
                record.align = record.align.max(align);
            }
            record.size = record.size.next_multiple_of(record.align);
            let before = records
                .by_name
                .insert(name.to_owned(), records.records.len());
            assert_eq!(before, None, "{name} is defined twice");
            records.records.push(record);
        }
        records
    }

    /// Size and alignment of a type, in bytes.
    fn extent(&self, ty: &str) -> (u64, u64) {
        if ty.ends_with('*') {
            return (8, 8);
        }
        if let Some((element, count)) = array(ty) {
            let (size, align) = self.extent(element);
            return (size * u64::from(count), align);
        }
        if let Some((_, size, _)) = INTEGERS.iter().find(|(name, ..)| *name == ty) {
            return (u64::from(*size), u64::from(*size));
        }
        let record = self.record(ty);
        (record.size, record.align)
    }

    fn record(&self, name: &str) -> &Record {
        let index = self.by_name.get(name);
        &self.records[*index.unwrap_or_else(|| panic!("no record {name}"))]
    }

    /// Bytes of a record.
    ///
    /// # Panics
    ///
    /// When there is none of this name.
    pub fn size_of(&self, record: &str) -> u64 {
        self.record(record).size
    }

    /// Offset and size of a member, in bytes. `path` begins with the record and may go through embedded records:
    /// `mm_struct.mm_mt.ma_root`. A member that is an array is as large as all of it.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn member(&self, path: &str) -> (u64, u64) {
        let mut parts = path.split('.');
        let mut ty = parts.next().unwrap_or_default();
        let mut offset = 0;
        for part in parts {
            let members = &self.record(ty).members;
            let found = members.iter().find(|(name, ..)| name == part);
            let (_, next, at) = found.unwrap_or_else(|| panic!("no member {path}"));
            offset += at;
            ty = next;
        }
        (offset, self.extent(ty).0)
    }

    /// Offset of a member, in bytes: [`Records::member`].
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn offset_of(&self, path: &str) -> u64 {
        self.member(path).0
    }

    /// BTF that describes them.
    pub fn btf(&self) -> Vec<u8> {
        let mut out = Btf::default();
        let mut ids = Ids {
            records: &self.by_name,
            derived: Vec::new(),
            known: HashMap::new(),
        };
        // Records come first, so that their numbers are known before what they lead to has one.
        for record in &self.records {
            let members: Vec<(&str, u32, u32)> = record
                .members
                .iter()
                .map(|(name, ty, at)| (name.as_str(), ids.of(ty), *at as u32 * 8))
                .collect();
            out.structure(&record.name, record.size as u32, &members);
        }
        let mut done = 0;
        while let Some(ty) = ids.derived.get(done).cloned() {
            done += 1;
            if let Some(target) = ty.strip_suffix('*') {
                let target = ids.of(target.trim_end());
                out.pointer(target);
            } else if let Some((element, count)) = array(&ty) {
                let (element, index) = (ids.of(element), ids.of("unsigned int"));
                out.array(element, index, count);
            } else {
                let known = INTEGERS.iter().find(|(name, ..)| *name == ty);
                let (name, size, encoding) = known.unwrap_or_else(|| panic!("no type {ty}"));
                out.int(name, *size, *encoding);
            }
        }
        for (name, values) in &self.enums {
            let values: Vec<(&str, i32)> = values
                .iter()
                .map(|(name, value)| (name.as_str(), *value))
                .collect();
            out.enumeration(name, false, &values);
        }
        out.bytes()
    }
}

/// Element and count of an array's type.
fn array(ty: &str) -> Option<(&str, u32)> {
    let (element, count) = ty.strip_suffix(']')?.rsplit_once('[')?;
    Some((element, count.parse().expect("a number of elements")))
}

/// Hands out numbers of types: those of the records, then what is asked for, in order.
struct Ids<'r> {
    records: &'r HashMap<String, usize>,
    derived: Vec<String>,
    known: HashMap<String, u32>,
}

impl Ids<'_> {
    fn of(&mut self, ty: &str) -> u32 {
        if ty == "void" {
            return 0;
        }
        if let Some(&index) = self.records.get(ty) {
            return index as u32 + 1;
        }
        if let Some(&id) = self.known.get(ty) {
            return id;
        }
        self.derived.push(ty.to_owned());
        let id = (self.records.len() + self.derived.len()) as u32;
        self.known.insert(ty.to_owned(), id);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_laid_out_as_in_c() {
        let records = Records::new(
            &[
                ("link", &[("next", "link *"), ("prev", "link *")]),
                (
                    "item",
                    &[
                        ("kind", "unsigned char"),
                        ("number", "int"),
                        ("name", "char[5]"),
                        ("links", "link[2]"),
                        ("last", "short unsigned int"),
                    ],
                ),
            ],
            &[],
        );
        assert_eq!(records.member("item.number"), (4, 4));
        assert_eq!(records.member("item.name"), (8, 5));
        assert_eq!(records.member("item.links"), (16, 32));
        assert_eq!(records.member("item.last"), (48, 2));
        assert_eq!(records.size_of("item"), 56);
        assert_eq!(records.offset_of("link.prev"), 8);
    }
}
