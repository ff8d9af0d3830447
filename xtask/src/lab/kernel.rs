//! Debian's packaged kernels: found with apt, downloaded, unpacked, never installed.
//!
//! Builds come and go in Debian's archive, so no version is written down here: the newest build of a
//! series that can really be downloaded is taken. A kernel that is already unpacked under
//! `target/lab/kernels` is used without asking apt.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::{Fallible, output, run, tools};

/// Which kernel a variant wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Wanted {
    /// `6.1`, `6.12`.
    pub(crate) series: String,
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
    pub(crate) fn newest(series: &str, flavour: &'static str) -> Self {
        Self {
            series: series.to_owned(),
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
        let build = version.strip_prefix(&self.series)?;
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
        let boot = self.dir.join(format!("boot/vmlinuz-{}", self.release));
        // Debian 14 has it with the modules.
        let beside = self.modules().join("vmlinuz");
        if beside.is_file() { beside } else { boot }
    }

    /// Its configuration.
    pub(crate) fn config(&self) -> PathBuf {
        let boot = self.dir.join(format!("boot/config-{}", self.release));
        let beside = self.modules().join("config");
        if beside.is_file() { beside } else { boot }
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
    if let Some(package) = candidates(wanted, present(&kernels)?).into_iter().next() {
        return Ok(unpacked(wanted, &package, &kernels));
    }
    let mut failures = Vec::new();
    for archive in archives() {
        let packages = match archive.packages(&wanted.series) {
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

/// The releases of a flavour that there are, unpacked or in the archive: by series, newest first.
pub(crate) fn releases(
    flavour: &'static str,
    lab: &Path,
) -> Fallible<BTreeMap<String, Vec<String>>> {
    let mut packages = present(&lab.join("kernels"))?;
    let mut failures = Vec::new();
    for archive in archives() {
        match archive.packages("[0-9]") {
            Ok(found) if found.is_empty() => failures.push("apt knows no kernels".to_owned()),
            Ok(found) => {
                packages.extend(found);
                return Ok(by_series(flavour, &packages));
            }
            Err(error) => failures.push(error.to_string()),
        }
    }
    Err(format!("cannot list kernels:\n{}", failures.join("\n")).into())
}

fn by_series(flavour: &'static str, packages: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in packages {
        let series = series_of(package);
        let release = series.as_ref().and_then(|series| {
            let wanted = Wanted::newest(series, flavour);
            wanted.release_of(package).map(str::to_owned)
        });
        if let Some((series, release)) = series.zip(release) {
            all.entry(series).or_default().push(release);
        }
    }
    for releases in all.values_mut() {
        releases.sort_by(|a, b| natural_order(b, a));
        releases.dedup();
    }
    all
}

/// The first two numbers of a package's version.
fn series_of(package: &str) -> Option<String> {
    let version = package.strip_prefix("linux-image-")?;
    let mut numbers = version.split(['.', '-']);
    let mut number = || numbers.next()?.parse::<u32>().ok();
    Some(format!("{}.{}", number()?, number()?))
}

/// Those kernels of which the headers can be had too, or all of them if that is none.
fn with_headers(kernels: Vec<String>, headers: &[String]) -> Vec<String> {
    let has_headers = |package: &String| {
        let release = package.strip_prefix("linux-image-").unwrap_or(package);
        let release = release.strip_suffix("-unsigned").unwrap_or(release);
        let name = format!("linux-headers-{release}");
        headers.contains(&name)
    };
    match kernels.iter().any(has_headers) {
        true => kernels.into_iter().filter(has_headers).collect(),
        false => kernels,
    }
}

/// Packages that are unpacked.
fn present(kernels: &Path) -> Fallible<Vec<String>> {
    fs::create_dir_all(kernels)?;
    Ok(fs::read_dir(kernels)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect())
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

/// Ways to reach the archive, in the order of trying: this system's lists, fetched anew; as they are, should that
/// not be possible.
///
/// Old lists are not tried first: they name kernels whose package is still there while the headers of the same
/// build, which belong to another source package, are gone.
fn archives() -> Vec<Archive> {
    let mut archives = vec![Archive { update: false }];
    if tools::is_root() {
        archives.insert(0, Archive { update: true });
    }
    archives
}

/// Fetches apt's lists, once in the life of this program.
fn fetch_lists() -> Fallible<()> {
    static FETCHED: OnceLock<Result<(), String>> = OnceLock::new();
    let fetch = || {
        eprintln!("lab: fetching package lists");
        output(Archive::apt("apt-get").args(["update", "-qq"]))
            .map(drop)
            .map_err(|error| error.to_string())
    };
    FETCHED.get_or_init(fetch).clone().map_err(Into::into)
}

impl Archive {
    fn apt(program: &str) -> Command {
        let mut command = Command::new(program);
        // Downloads go into folders of ours, which apt's own user cannot enter.
        command.args(["-o", "APT::Sandbox::User=root"]);
        command
    }

    /// Packages of kernels whose version starts like this. Only those that there are: apt also knows
    /// names that others refer to.
    fn packages(&self, series: &str) -> Fallible<Vec<String>> {
        if self.update {
            fetch_lists()?;
        }
        let pattern = format!("^linux-image-{series}");
        let kernels = Self::search(&pattern)?;
        let headers = Self::search(&format!("^linux-headers-{series}"))?;
        Ok(with_headers(kernels, &headers))
    }

    fn search(pattern: &str) -> Fallible<Vec<String>> {
        let lines = output(Self::apt("apt-cache").args(["search", "--names-only", pattern]))?;
        let names = String::from_utf8(lines)?;
        let first_word = |line: &str| line.split_whitespace().next().map(str::to_owned);
        Ok(names.lines().filter_map(first_word).collect())
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
    fn a_kernel_without_headers_is_passed_over() {
        let kernels = names(&[
            "linux-image-6.1.0-48-cloud-amd64",
            "linux-image-6.1.0-47-cloud-amd64-unsigned",
        ]);
        let headers = names(&["linux-headers-6.1.0-47-cloud-amd64"]);
        assert_eq!(
            with_headers(kernels.clone(), &headers),
            names(&["linux-image-6.1.0-47-cloud-amd64-unsigned"])
        );
        assert_eq!(with_headers(kernels.clone(), &[]), kernels);
    }

    #[test]
    fn releases_by_series() {
        let packages = names(&[
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.12.9+deb12-cloud-amd64-unsigned",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64-unsigned",
            "linux-image-6.12.117+deb12-cloud-amd64-dbg",
            "linux-image-6.12.117+deb12-rt-amd64",
            "linux-image-5.10.0-9-cloud-amd64",
            "linux-image-cloud-amd64",
        ]);
        let all = by_series("cloud-amd64", &packages);
        assert_eq!(all.keys().collect::<Vec<_>>(), ["5.10", "6.12"]);
        assert_eq!(all["5.10"], ["5.10.0-9-cloud-amd64"]);
        assert_eq!(
            all["6.12"],
            ["6.12.117+deb12-cloud-amd64", "6.12.9+deb12-cloud-amd64"]
        );
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
