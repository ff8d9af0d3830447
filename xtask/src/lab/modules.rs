//! Kernel modules for a guest: which files, in which order.
//!
//! A package that is only unpacked has no `modules.dep`, so dependencies are read where depmod reads
//! them: in the `depends=` entry of each module.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::kernel::Kernel;
use crate::{Fallible, output};

/// What the guests load, where the kernel has it as a module: a compressed RAM disk to swap to, and
/// two more, so that there are modules with and without others that need them.
const WANTED: [&str; 4] = ["lzo_rle", "zram", "dummy", "vsock_loopback"];

/// A module's name and its ELF file, uncompressed.
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) elf: Vec<u8>,
}

/// The modules for a kernel, those of all guests and some more, each behind those it depends on.
pub(crate) fn collect(kernel: &Kernel, more: &[&str]) -> Fallible<Vec<Module>> {
    let mut files = BTreeMap::new();
    index(&kernel.modules(), &mut files)?;
    let mut modules = Vec::new();
    let mut seen = BTreeSet::new();
    for name in WANTED.iter().chain(more) {
        if files.contains_key(*name) {
            add(name, &files, &mut seen, &mut modules)?;
        }
    }
    Ok(modules)
}

fn index(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Fallible<()> {
    let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            index(&entry.path(), files)?;
        } else if let Some((name, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            files.insert(name.replace('-', "_"), entry.path());
        }
    }
    Ok(())
}

fn add(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    seen: &mut BTreeSet<String>,
    modules: &mut Vec<Module>,
) -> Fallible<()> {
    if !seen.insert(name.to_owned()) {
        return Ok(());
    }
    // What is not a file is built into the kernel.
    let Some(path) = files.get(name) else {
        return Ok(());
    };
    let elf = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => output(Command::new("busybox").args(["unxz", "-c"]).arg(path))?,
        Some("ko") => fs::read(path)?,
        _ => return Err(format!("{}: compression not known", path.display()).into()),
    };
    for dependency in depends(&elf) {
        add(&dependency, files, seen, modules)?;
    }
    modules.push(Module {
        name: name.to_owned(),
        elf,
    });
    Ok(())
}

/// The `depends=` entry of the `.modinfo` section: NUL-terminated `key=value` strings.
fn depends(elf: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = elf.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = elf[at + KEY.len()..].split(|&byte| byte == 0).next();
    String::from_utf8_lossy(value.unwrap_or_default())
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies() {
        assert_eq!(
            depends(b"\x7fELF..license=GPL\0depends=lz4-core,zsmalloc\0name=zram\0"),
            ["lz4_core", "zsmalloc"]
        );
        assert!(depends(b"license=GPL\0depends=\0").is_empty());
        assert!(depends(b"").is_empty());
    }
}
