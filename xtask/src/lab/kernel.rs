//! Debian's packaged kernels: found with apt, downloaded, unpacked, never installed.
//!
//! Builds come and go in Debian's archive, so no version is written down here: the newest build of a
//! series that can really be downloaded is taken. A kernel that is already unpacked under
//! `target/lab/kernels` is used without asking apt.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Fallible, output, run, tools};

/// Which kernel a variant wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Wanted {
    /// `6.1`, `6.12`.
    pub(crate) series: &'static str,
    /// `cloud-amd64`, `amd64`, `rt-amd64`.
    pub(crate) flavour: &'static str,
    /// A certain release (`6.1.0-53-cloud-amd64`), or the newest.
    pub(crate) release: Option<String>,
}

/// An unpacked kernel package.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// Name of the package.
    pub(crate) package: String,
    /// As `uname -r` says.
    pub(crate) release: String,
    /// The folder it is unpacked in.
    pub(crate) dir: PathBuf,
}

impl Wanted {
    pub(crate) fn newest(series: &'static str, flavour: &'static str) -> Self {
        Self {
            series,
            flavour,
            release: None,
        }
    }

    /// The release that a package name stands for, when it is one of those wanted:
    /// `linux-image-6.1.0-56-cloud-amd64` and `...-unsigned`, but not the metapackages, which have no
    /// build number, and not other flavours.
    fn release_of<'a>(&self, package: &'a str) -> Option<&'a str> {
        let name = package.strip_prefix("linux-image-")?;
        let release = name.strip_suffix("-unsigned").unwrap_or(name);
        let version = release.strip_suffix(self.flavour)?.strip_suffix('-')?;
        let build = version.strip_prefix(self.series)?;
        let is_build = build.starts_with(['.', '-'])
            && build
                .split('-')
                .skip(usize::from(build.starts_with('-')))
                .all(|part| part.contains(|c: char| c.is_ascii_digit()));
        let is_wanted = self.release.as_ref().is_none_or(|wanted| wanted == release);
        (is_build && is_wanted).then_some(release)
    }

    fn describe(&self) -> String {
        match &self.release {
            Some(release) => format!("linux-image-{release}"),
            None => format!("linux-image-{}*-{}", self.series, self.flavour),
        }
    }
}

impl Kernel {
    /// The compressed kernel, for QEMU's `-kernel`.
    pub(crate) fn vmlinuz(&self) -> PathBuf {
        self.dir.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// The folder of its modules.
    pub(crate) fn modules(&self) -> PathBuf {
        let modules = format!("lib/modules/{}", self.release);
        let usr = self.dir.join("usr").join(&modules);
        if usr.is_dir() {
            usr
        } else {
            self.dir.join(modules)
        }
    }
}

/// Finds a kernel: unpacked, else from the archive.
pub(crate) fn fetch(wanted: &Wanted, lab: &Path) -> Fallible<Kernel> {
    let kernels = lab.join("kernels");
    fs::create_dir_all(&kernels)?;
    let present = fs::read_dir(&kernels)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    if let Some(package) = candidates(wanted, present).into_iter().next() {
        return Ok(unpacked(wanted, &package, &kernels));
    }
    let mut failures = Vec::new();
    for archive in archives() {
        let packages = match archive.packages(wanted) {
            Ok(packages) => packages,
            Err(error) => {
                failures.push(error.to_string());
                continue;
            }
        };
        for package in candidates(wanted, packages) {
            match archive.unpack(&package, &kernels) {
                Ok(()) => return Ok(unpacked(wanted, &package, &kernels)),
                Err(error) => failures.push(error.to_string()),
            }
        }
    }
    Err(format!(
        "no kernel {} can be had from the archives that apt is set up for; Debian 12's have it{}{}",
        wanted.describe(),
        if failures.is_empty() { "" } else { ":\n" },
        failures.join("\n")
    )
    .into())
}

/// The releases that apt knows, newest first.
pub(crate) fn releases(wanted: &Wanted) -> Fallible<Vec<String>> {
    let mut failures = Vec::new();
    for archive in archives() {
        match archive.packages(wanted) {
            Ok(packages) => {
                let mut releases: Vec<String> = candidates(wanted, packages)
                    .iter()
                    .filter_map(|package| wanted.release_of(package).map(str::to_owned))
                    .collect();
                releases.dedup();
                if !releases.is_empty() {
                    return Ok(releases);
                }
            }
            Err(error) => failures.push(error.to_string()),
        }
    }
    Err(format!(
        "apt knows no {}\n{}",
        wanted.describe(),
        failures.join("\n")
    )
    .into())
}

fn unpacked(wanted: &Wanted, package: &str, kernels: &Path) -> Kernel {
    Kernel {
        package: package.to_owned(),
        release: wanted
            .release_of(package)
            .expect("candidates are releases")
            .to_owned(),
        dir: kernels.join(package),
    }
}

/// Those of `packages` that are wanted: newest first, of one release the signed package first.
fn candidates(wanted: &Wanted, mut packages: Vec<String>) -> Vec<String> {
    packages.retain(|package| wanted.release_of(package).is_some());
    packages.sort_by(|a, b| {
        let release = |package| wanted.release_of(package).unwrap_or_default();
        natural_order(release(b), release(a)).then(a.len().cmp(&b.len()))
    });
    packages
}

/// Compares names with numbers in them as people do: 6.12.9 comes before 6.12.10.
fn natural_order(a: &str, b: &str) -> Ordering {
    let key = |text: &str| {
        let mut parts: Vec<(u64, String)> = vec![(0, String::new())];
        for c in text.chars() {
            let last = parts.last_mut().expect("never empty");
            match c.to_digit(10) {
                // A number belongs to the text before it.
                Some(digit) => {
                    last.0 = last.0.saturating_mul(10).saturating_add(u64::from(digit));
                }
                None if last.0 == 0 => last.1.push(c),
                None => parts.push((0, c.to_string())),
            }
        }
        parts
            .into_iter()
            .map(|(number, text)| (text, number))
            .collect::<Vec<_>>()
    };
    key(a).cmp(&key(b))
}

/// Where packages come from: the archive that this system's apt is set up for.
struct Archive {
    /// Whether the lists have to be fetched first.
    update: bool,
}

/// Ways to reach the archive, in the order of trying: this system's lists; the same, fetched anew.
fn archives() -> Vec<Archive> {
    let mut archives = vec![Archive { update: false }];
    if tools::is_root() {
        archives.push(Archive { update: true });
    }
    archives
}

impl Archive {
    fn apt(program: &str) -> Command {
        let mut command = Command::new(program);
        // Downloads go into folders of ours, which apt's own user cannot enter.
        command.args(["-o", "APT::Sandbox::User=root"]);
        command
    }

    fn packages(&self, wanted: &Wanted) -> Fallible<Vec<String>> {
        if self.update {
            eprintln!("lab: fetching package lists");
            output(Self::apt("apt-get").args(["update", "-qq"]))?;
        }
        let prefix = format!("linux-image-{}", wanted.series);
        let names = output(Self::apt("apt-cache").args(["pkgnames", &prefix]))?;
        Ok(String::from_utf8(names)?
            .lines()
            .map(str::to_owned)
            .collect())
    }

    /// Downloads a package and unpacks it as `kernels/PACKAGE`; a folder of that name is always whole.
    fn unpack(&self, package: &str, kernels: &Path) -> Fallible<()> {
        let scratch = kernels.join(format!(".{package}"));
        let _ = fs::remove_dir_all(&scratch);
        fs::create_dir_all(&scratch)?;
        eprintln!("lab: fetching {package}");
        output(
            Self::apt("apt-get")
                .args(["download", "-qq", package])
                .current_dir(&scratch),
        )?;
        let deb = fs::read_dir(&scratch)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .ok_or_else(|| format!("apt-get download {package} left no .deb"))?;
        let root = scratch.join("root");
        run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&root))?;
        fs::rename(&root, kernels.join(package))?;
        fs::remove_dir_all(&scratch)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_newest_build_of_the_flavour_comes_first() {
        let packages = names(&[
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.12.9+deb12-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64-unsigned",
            "linux-image-6.12.117+deb12-cloud-amd64-dbg",
            "linux-image-6.12.117+deb12-amd64",
            "linux-image-6.12.117+deb12-rt-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12.100+deb12-cloud-amd64",
        ]);
        assert_eq!(
            candidates(&Wanted::newest("6.12", "cloud-amd64"), packages.clone()),
            names(&[
                "linux-image-6.12.117+deb12-cloud-amd64",
                "linux-image-6.12.117+deb12-cloud-amd64-unsigned",
                "linux-image-6.12.100+deb12-cloud-amd64",
                "linux-image-6.12.9+deb12-cloud-amd64",
            ])
        );
        assert_eq!(
            candidates(&Wanted::newest("6.12", "amd64"), packages.clone()),
            names(&["linux-image-6.12.117+deb12-amd64"])
        );
        assert!(candidates(&Wanted::newest("6.1", "cloud-amd64"), packages).is_empty());
    }

    #[test]
    fn old_style_build_numbers() {
        let packages = names(&[
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-10-cloud-amd64",
            "linux-image-6.1.0-10-rt-amd64",
        ]);
        let mut wanted = Wanted::newest("6.1", "cloud-amd64");
        assert_eq!(
            candidates(&wanted, packages.clone())[0],
            "linux-image-6.1.0-10-cloud-amd64"
        );
        wanted.release = Some("6.1.0-9-cloud-amd64".into());
        assert_eq!(
            candidates(&wanted, packages),
            names(&["linux-image-6.1.0-9-cloud-amd64"])
        );
    }
}
