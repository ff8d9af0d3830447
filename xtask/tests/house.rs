//! The structure that ARCHITECTURE.md describes, as the imports have it: no two files use each other, by whatever way round (a folder's
//! `mod.rs` and the files in it may), and the engine's parts use only what stands below them.
//!
//! Read as text: `use` declarations outside of tests and paths that begin with what they bring, names followed through `pub use` to the file that
//! defines them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The engine's parts, from the ground up. A part uses only those of lower floors.
const FLOORS: &[&[&str]] = &[
    &["addr", "scratch", "width"],
    &["view"],
    &["memory"],
    &["arch"],
    &["hints"],
    &["filemap", "blocks"],
    &["image", "live", "paging"],
    &["sweep"],
    &["scan"],
    &["signature", "xref", "pointers"],
    &["snapshot", "search"],
    &["os", "dissect"],
    &["candidates", "views"],
    &["session"],
];

type Module = Vec<String>;

/// A crate's files by their modules, and what they import.
struct Crate {
    files: BTreeMap<Module, File>,
}

#[derive(Default)]
struct File {
    path: PathBuf,
    imports: Vec<Module>,
    /// Names that are handed on, and where they come from.
    handed: BTreeMap<String, Module>,
}

impl Crate {
    fn read(src: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut folders = vec![(src.to_owned(), Vec::new())];
        while let Some((folder, module)) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                let stem = path
                    .file_stem()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned();
                let inside = |name: &str| {
                    let mut module: Module = module.clone();
                    module.push(name.to_owned());
                    module
                };
                if path.is_dir() {
                    if stem != "tests" {
                        folders.push((path, inside(&stem)));
                    }
                    continue;
                }
                if path.extension().is_none_or(|ext| ext != "rs") || stem.starts_with("test") {
                    continue;
                }
                let at = match stem.as_str() {
                    "mod" | "lib" | "main" => module.clone(),
                    stem => inside(stem),
                };
                files.insert(at.clone(), File::read(path, &at));
            }
        }
        Self { files }
    }

    /// The file that defines what a path names: the longest module in it, or where that has the next name from.
    fn defines(&self, path: &[String]) -> Option<&Module> {
        self.follow(path, 8)
    }

    fn follow(&self, path: &[String], left: usize) -> Option<&Module> {
        let len = (0..=path.len())
            .rev()
            .find(|&len| self.files.contains_key(&path[..len]))?;
        let (module, file) = self.files.get_key_value(&path[..len])?;
        let Some(from) = path.get(len).and_then(|name| file.handed.get(name)) else {
            return Some(module);
        };
        let mut on = from.clone();
        on.extend(path[len + 1..].iter().cloned());
        match left {
            0 => None,
            _ => self.follow(&on, left - 1),
        }
    }

    fn arrows(&self) -> BTreeMap<&Module, BTreeSet<&Module>> {
        let arrows = self.files.iter().map(|(module, file)| {
            let to = file.imports.iter().filter_map(|path| self.defines(path));
            // What the files of a folder share stands in its face, and the face hands on what they define: of that no
            // circle is made.
            let is_own_face = |to: &Module| module.starts_with(to);
            (module, to.filter(|to| !is_own_face(to)).collect())
        });
        arrows.collect()
    }
}

impl File {
    fn read(path: PathBuf, module: &[String]) -> Self {
        let text = fs::read_to_string(&path).expect("text");
        let text = text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default();
        let is_face = path
            .file_stem()
            .is_some_and(|stem| ["mod", "lib", "main"].iter().any(|face| stem == *face));
        let mut file = Self {
            path,
            ..Self::default()
        };
        let mut named: BTreeMap<String, Module> = BTreeMap::new();
        let mut rest = text;
        while let Some(at) = rest.find("use ") {
            let line = rest[..at].rfind('\n').map_or(0, |newline| newline + 1);
            let before = &rest[line..at];
            let declaration = &rest[at + 4..];
            let visible = before.trim();
            let is_use = visible.is_empty()
                || visible == "pub"
                || visible.starts_with("pub(") && visible.ends_with(')') && !visible.contains(' ');
            let Some(end) = declaration.find(';').filter(|_| is_use) else {
                rest = declaration;
                continue;
            };
            let tree: String = declaration[..end]
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ");
            let mut paths = Vec::new();
            spread(&tree, &[], &mut paths);
            for (path, name) in paths {
                let Some(path) = absolute(&path, module, is_face) else {
                    continue;
                };
                named.insert(name.clone(), path.clone());
                if before.trim().starts_with("pub") {
                    file.handed.insert(name, path);
                } else {
                    file.imports.push(path);
                }
            }
            rest = &declaration[end..];
        }
        let code = text.lines().filter(|line| {
            let line = line.trim_start();
            !line.starts_with("//") && !line.starts_with("use ") && !line.starts_with("pub use ")
        });
        for path in code.flat_map(paths_in) {
            let begun = match named.get(&path[0]) {
                Some(begun) => Some([begun, &path[1..]].concat()),
                None if ["crate", "super", "self"].contains(&path[0].as_str()) => {
                    absolute(&path, module, is_face)
                }
                None => None,
            };
            file.imports.extend(begun);
        }
        file
    }
}

/// The paths of several names in a line of code.
fn paths_in(line: &str) -> Vec<Module> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = line.split(|c: char| !is_part(c));
    let path = |word: &str| -> Option<Module> {
        let parts: Module = word.split("::").map(str::to_owned).collect();
        let whole = parts.len() > 1
            && parts
                .iter()
                .all(|part| !part.is_empty() && !part.contains(':'));
        whole.then_some(parts)
    };
    words.filter_map(path).collect()
}

/// The paths of a tree of imports, each with the name that it has afterwards.
fn spread(tree: &str, before: &[String], paths: &mut Vec<(Module, String)>) {
    let tree = tree.trim();
    if let Some(open) = tree.find('{') {
        let mut prefix = before.to_vec();
        prefix.extend(
            tree[..open]
                .split("::")
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(str::to_owned),
        );
        let inner = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
        let (mut depth, mut start) = (0, 0);
        for (at, c) in inner.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    spread(&inner[start..at], &prefix, paths);
                    start = at + 1;
                }
                _ => {}
            }
        }
        spread(&inner[start..], &prefix, paths);
    } else if !tree.is_empty() {
        let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
        let mut full = before.to_vec();
        full.extend(path.split("::").map(|part| part.trim().to_owned()));
        if full
            .last()
            .is_some_and(|last| last == "self" || last == "*")
        {
            full.pop();
        }
        let name = if alias.is_empty() {
            full.last().cloned().unwrap_or_default()
        } else {
            alias.to_owned()
        };
        paths.push((full, name));
    }
}

/// A path from the root of the crate; `None` for other crates.
fn absolute(path: &[String], module: &[String], is_face: bool) -> Option<Module> {
    let mut at: Module = module.to_vec();
    let mut parts = path.iter();
    let first = parts.clone().next()?;
    match first.as_str() {
        "crate" => {
            at.clear();
            parts.next();
        }
        "self" => {
            parts.next();
        }
        "super" => {
            while parts.clone().next().is_some_and(|part| part == "super") {
                at.pop();
                parts.next();
            }
        }
        // A module of its own, in files that have some.
        _ if is_face => {}
        _ => return None,
    }
    at.extend(parts.cloned());
    Some(at)
}

/// Files that use each other, by whatever way round.
fn circles<'a>(arrows: &BTreeMap<&'a Module, BTreeSet<&'a Module>>) -> Vec<Vec<&'a Module>> {
    let reach = |from: &'a Module| {
        let mut seen = BTreeSet::new();
        let mut next = vec![from];
        while let Some(at) = next.pop() {
            for &to in arrows.get(at).into_iter().flatten() {
                if seen.insert(to) {
                    next.push(to);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<_, _> = arrows.keys().map(|&from| (from, reach(from))).collect();
    let mut found: BTreeSet<Vec<&Module>> = BTreeSet::new();
    for (&from, to) in &reached {
        if to.contains(from) {
            let both = to
                .iter()
                .copied()
                .filter(|other| reached[other].contains(from));
            found.insert(both.collect());
        }
    }
    found.into_iter().collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn no_two_files_use_each_other() {
    let mut sources: Vec<PathBuf> = fs::read_dir(root().join("crates"))
        .expect("the crates")
        .map(|entry| entry.expect("an entry").path().join("src"))
        .collect();
    sources.push(root().join("xtask/src"));
    for src in sources {
        let one = Crate::read(&src);
        assert!(!one.files.is_empty(), "{}", src.display());
        let circles = circles(&one.arrows());
        let shown: Vec<Vec<&Path>> = circles
            .iter()
            .map(|circle| {
                circle
                    .iter()
                    .map(|module| one.files[*module].path.as_path())
                    .collect()
            })
            .collect();
        assert!(shown.is_empty(), "files that use each other: {shown:#?}");
    }
}

#[test]
fn the_engines_parts_use_what_stands_below_them() {
    let engine = Crate::read(&root().join("crates/vmie/src"));
    let floor = |part: &str| FLOORS.iter().position(|floor| floor.contains(&part));
    let mut wrong = BTreeSet::new();
    let mut arrows = 0;
    for (from, all) in engine.arrows() {
        for to in all {
            let (Some(part), Some(below)) = (from.first(), to.first()) else {
                continue;
            };
            let known = (floor(part), floor(below));
            let (Some(high), Some(low)) = known else {
                panic!("{part} or {below} has no floor");
            };
            arrows += 1;
            if part != below && high <= low {
                wrong.insert(format!(
                    "{part} uses {below}: {}",
                    engine.files[from].path.display()
                ));
            }
        }
    }
    assert!(arrows > 300, "{arrows}: imports are not read");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn circles_are_seen() {
    let name = |one: &str| vec![one.to_owned()];
    let (a, b, c, d) = (name("a"), name("b"), name("c"), name("d"));
    let arrows = BTreeMap::from([
        (&a, BTreeSet::from([&b])),
        (&b, BTreeSet::from([&c])),
        (&c, BTreeSet::from([&a])),
        (&d, BTreeSet::from([&a])),
    ]);
    assert_eq!(circles(&arrows), [vec![&a, &b, &c]]);
    let mut paths = Vec::new();
    spread("super::{a::{B, c as d}, e}", &[], &mut paths);
    let shown: Vec<String> = paths
        .iter()
        .map(|(path, name)| format!("{} {name}", path.join("::")))
        .collect();
    assert_eq!(shown, ["super::a::B B", "super::a::c d", "super::e e"]);
    let path = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        absolute(&path("super::super::x::Y"), &path("a::b"), false),
        Some(path("x::Y"))
    );
    assert_eq!(absolute(&path("std::fmt"), &path("a::b"), false), None);
}
