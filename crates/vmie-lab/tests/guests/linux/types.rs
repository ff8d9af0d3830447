//! Types: against what pahole reads out of the guest's own BTF, against what a compiler makes of the
//! kernel's headers, and against themselves after a journey through an ISF file.

use std::collections::{BTreeMap, BTreeSet};

use vmie::Gva;
use vmie::os::isf::{Isf, export_guest};
use vmie::os::{LayoutKind, Type, TypeId, Types};
use vmie_lab::STANDARD;

use super::pahole::{self, Member, Record};
use super::support::each_raw;

/// Structures that vmie itself, and everybody who looks into a kernel, goes by.
const WELL_KNOWN: [&str; 15] = [
    "cred",
    "dentry",
    "file",
    "inode",
    "list_head",
    "mm_struct",
    "module",
    "mount",
    "net_device",
    "pid",
    "pid_namespace",
    "signal_struct",
    "sk_buff",
    "task_struct",
    "vm_area_struct",
];

/// How vmie says that a record lies in memory.
fn record(types: &Types, id: TypeId) -> Record {
    let layout = types.layout(id, 0).expect("whole");
    assert!(!layout.cut, "{}", layout.title);
    let mut members: Vec<Member> = Vec::new();
    let mut open = Vec::new();
    for row in layout.rows {
        match row.kind {
            LayoutKind::Member { name, .. } => members.push((name, row.bit_offset, row.bits)),
            LayoutKind::Open { .. } => open.push((row.bit_offset, row.bits)),
            LayoutKind::Close { name } => {
                let (start, bits) = open.pop().expect("was opened");
                let name = name.split('[').next().expect("a first part");
                members.push((name.to_owned(), start, bits));
            }
            _ => {}
        }
    }
    members.sort();
    Record {
        title: layout.title,
        size: Some(layout.size),
        members,
    }
}

/// All records with a name, several where there are several of one name.
fn records(types: &Types) -> BTreeMap<String, Vec<Record>> {
    let mut records: BTreeMap<String, Vec<Record>> = BTreeMap::new();
    for id in (0..types.end()).map(TypeId) {
        if let Ok(Type::Record(found)) = types.get(id)
            && !found.name.is_empty()
        {
            let record = record(types, id);
            records
                .entry(record.title.clone())
                .or_default()
                .push(record);
        }
    }
    records
}

/// Compares records with ours of the same name; how many there are, and how many members.
fn compare(
    name: &str,
    ours: &BTreeMap<String, Vec<Record>>,
    theirs: &[Record],
) -> (BTreeSet<String>, usize) {
    let mut compared = BTreeSet::new();
    let mut members = 0;
    let mut differ = Vec::new();
    for theirs in theirs {
        let Some(ours) = ours.get(&theirs.title) else {
            continue;
        };
        let same = |ours: &Record| {
            let size = theirs.size.or(ours.size);
            (ours.size, &ours.members) == (size, &theirs.members)
        };
        if !ours.iter().any(same) {
            differ.push((theirs, ours));
        }
        compared.insert(theirs.title.clone());
        members += theirs.members.len();
    }
    if let Some((theirs, ours)) = differ.first() {
        let count = differ.len();
        panic!("{name}: {count} differ, the first: {theirs:?}\nours: {ours:?}");
    }
    (compared, members)
}

fn well_known() -> BTreeSet<String> {
    WELL_KNOWN.map(|name| format!("struct {name}")).into()
}

#[test]
fn layouts_equal_those_that_pahole_reads_in_the_guests_btf() {
    each_raw(|case| {
        let types = case.guest.types().expect("types");
        let ours = records(&types);
        let theirs = pahole::run("btf", &case.truth.path("guest/btf"));
        let (compared, members) = compare(case.name(), &ours, &theirs);
        let all: BTreeSet<String> = ours.into_keys().collect();
        assert_eq!(all.difference(&compared).next(), None, "{}", case.name());
        let known = theirs.iter().map(|theirs| &theirs.title);
        let unknown: BTreeSet<&String> = known.filter(|title| !compared.contains(*title)).collect();
        assert_eq!(unknown, BTreeSet::new(), "{}", case.name());
        assert!(well_known().is_subset(&compared), "{}", case.name());
        // 5.10 has 6,600 and 45,000; kernels only grow.
        assert!(compared.len() > 5_000 && members > 40_000);
    });
}

#[test]
fn layouts_equal_those_that_a_compiler_makes_of_the_headers() {
    each_raw(|case| {
        let types = case.guest.types().expect("types");
        let file = vmie_lab::compiled_headers(&case.truth.kernel.release);
        if !file.is_file() && !STANDARD.contains(&&*case.truth.variant) {
            // The archive does not have the headers of every old build.
            eprintln!("{}: no {}", case.name(), file.display());
            return;
        }
        let theirs = pahole::run("dwarf", &file);
        let (compared, members) = compare(case.name(), &records(&types), &theirs);
        // Of this one the headers have no more than the name.
        let inner = ["struct mount".to_owned()];
        let missing: Vec<String> = well_known().difference(&compared).cloned().collect();
        assert!(
            missing.iter().all(|name| inner.contains(name)),
            "{}: {missing:?}",
            case.name()
        );
        assert!(
            compared.len() > 1_500 && members > 12_000,
            "{}: {} records, {members} members",
            case.name(),
            compared.len()
        );
    });
}

/// The enums with a name, and their values.
fn enums(types: &Types) -> BTreeMap<String, BTreeSet<Vec<(String, i64)>>> {
    let mut enums: BTreeMap<String, BTreeSet<Vec<(String, i64)>>> = BTreeMap::new();
    for id in (0..types.end()).map(TypeId) {
        if let Ok(Type::Enum { name, values, .. }) = types.get(id)
            && !name.is_empty()
        {
            let mut values: Vec<(String, i64)> =
                values.iter().map(|&(n, v)| (n.to_owned(), v)).collect();
            values.sort();
            enums.entry(name.to_owned()).or_default().insert(values);
        }
    }
    enums
}

/// A record of an exported file that the guest has by another name.
fn named_otherwise(guest: &Types, ours: &BTreeMap<String, Vec<Record>>, record: &Record) {
    let same = |ours: &Record| (ours.size, &ours.members) == (record.size, &record.members);
    let title = &record.title;
    let first = title.rsplit_once("__").and_then(|(name, number)| {
        let _: u32 = number.parse().ok()?;
        ours.get(name)
    });
    match first {
        // Another definition of a name.
        Some(definitions) => assert!(definitions.iter().any(same), "{record:?}"),
        // What has no name but an alias goes by that.
        None => {
            let (_, alias) = title.split_once(' ').expect("a keyword and a name");
            let ours = self::record(guest, guest.find(alias).expect(title));
            assert!(same(&ours), "{ours:?} and {record:?}");
        }
    }
}

#[test]
fn an_exported_file_says_what_the_guest_says() {
    each_raw(|case| {
        let name = case.name();
        let mut file = Vec::new();
        export_guest(&*case.guest, &mut file).expect("memory takes everything");
        let isf = Isf::parse(&file).expect("readable");
        assert_eq!(isf.fits(case.guest.version()), Some(true), "{name}");

        let guest = case.guest.types().expect("types");
        let (ours, theirs) = (records(&guest), records(&isf.types));
        // Structures and unions share their names in it, so that one of `struct irte` and `union irte` has
        // a number behind it.
        let numbered = |title: &str| {
            let rest = |known: &String| Some(known.strip_prefix(title)?.starts_with("__"));
            theirs.keys().filter_map(rest).any(|is| is)
        };
        let missing = ours
            .keys()
            .find(|title| !theirs.contains_key(*title) && !numbered(title));
        assert_eq!(missing, None, "{name}");
        for (title, records) in &theirs {
            // A file has one record of a name.
            let [record] = &records[..] else {
                panic!("{name}: {records:?}");
            };
            match ours.get(title) {
                Some(ours) => assert!(ours.contains(record), "{name}: {record:?}, not {ours:?}"),
                None => named_otherwise(&guest, &ours, record),
            }
        }
        let definitions = |records: &BTreeMap<_, Vec<_>>| records.values().map(Vec::len).sum();
        let (ours, theirs): (usize, usize) = (definitions(&ours), definitions(&theirs));
        assert!(ours <= theirs, "{name}: {ours} and {theirs}");
        let (ours, theirs) = (enums(&guest), enums(&isf.types));
        for (title, values) in &ours {
            let theirs = theirs.get(title).expect(title);
            assert_eq!(theirs.len(), 1, "{name}: {title}");
            assert!(theirs.is_subset(values), "{name}: {title}");
        }

        // Names that several symbols have are in it once.
        let symbols = case.guest.symbols().expect("symbols");
        let extent = symbols.extent().expect("an image");
        let linked = |va: Gva| match extent.contains(va) {
            true => va.0.wrapping_sub(case.guest.slide()),
            false => va.0,
        };
        let mut ours: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for symbol in symbols.iter() {
            ours.entry(symbol.name)
                .or_default()
                .insert(linked(symbol.va));
        }
        let theirs: BTreeMap<&str, u64> = isf.symbols.iter().map(|s| (s.name, s.va.0)).collect();
        assert_eq!(theirs.len(), isf.symbols.len(), "{name}");
        assert!(ours.keys().eq(theirs.keys()), "{name}");
        for (symbol, va) in theirs {
            assert!(ours[symbol].contains(&va), "{name}: {symbol} at {va:#x}");
        }
    });
}
