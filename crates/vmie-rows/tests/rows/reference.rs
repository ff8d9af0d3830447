//! The committed reference is what the definitions say.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn directory() -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let workspace = crates.and_then(Path::parent).expect("crates/vmie-rows");
    workspace.join(vmie_rows::DIRECTORY)
}

#[test]
fn the_committed_pages_are_as_defined() {
    let mut differing = Vec::new();
    for (path, text) in vmie_rows::pages() {
        let committed = fs::read_to_string(directory().join(&path));
        if !committed.is_ok_and(|committed| committed == text) {
            differing.push(path);
        }
    }
    assert!(
        differing.is_empty(),
        "not as crates/vmie-rows defines them; run `cargo xtask reference`: {differing:?}"
    );
}

#[test]
fn there_are_no_schemas_of_nothing() {
    let folder = fs::read_dir(directory().join("schemas")).expect("a folder of schemas");
    let there: BTreeSet<_> = folder
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    let pages = vmie_rows::pages();
    let schemas = pages
        .iter()
        .filter_map(|(path, _)| path.strip_prefix("schemas/"));
    let defined: BTreeSet<_> = schemas.map(Into::into).collect();
    assert_eq!(there, defined, "run `cargo xtask reference`");
}
