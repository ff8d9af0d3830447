//! Files of rules that include one another.
//!
//! The compiler follows includes as deep as they go, and a circle until the stack is used up. So they are
//! followed here first.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use boreal_parser::file::YaraFileComponent;

/// How many files may include one another in a row.
const DEPTH: usize = 32;

/// What is wrong with the includes of a file, in words.
///
/// Says nothing of files that cannot be read or have mistakes: the compiler does.
pub(super) fn circle(file: &Path) -> Option<String> {
    follow(file, &mut Vec::new(), &mut BTreeSet::new())
}

fn follow(file: &Path, way: &mut Vec<PathBuf>, done: &mut BTreeSet<PathBuf>) -> Option<String> {
    let file = file.canonicalize().ok()?;
    if way.contains(&file) || way.len() >= DEPTH {
        let names = way.iter().chain([&file]);
        let names: Vec<String> = names.map(|path| path.display().to_string()).collect();
        let what = if way.contains(&file) {
            "files include one another in a circle"
        } else {
            "includes go too deep"
        };
        return Some(format!("{what}: {}", names.join(" -> ")));
    }
    if done.contains(&file) {
        return None;
    }
    let text = fs::read_to_string(&file).ok()?;
    if text.contains("include") {
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        way.push(file.clone());
        let components = boreal_parser::parse(&text).ok().map(|file| file.components);
        for component in components.unwrap_or_default() {
            if let YaraFileComponent::Include(include) = component {
                let wrong = follow(&folder.join(include.path), way, done);
                if wrong.is_some() {
                    return wrong;
                }
            }
        }
        way.pop();
    }
    done.insert(file);
    None
}
