//! Opens the source of a verb and tells the user what is odd about it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use vmie::os::isf::Isf;
use vmie::os::{self, Cache, FindError, FindOptions, Guest, Moment, SuppliedTypes, TypeStore};
use vmie::snapshot::{Snapshot, series};
use vmie::{
    AddrRange, Address as _, CpuState, Gpa, Gva, Image, ImageInfo, Memory, OpenErrorKind,
    OpenOptions,
};

use crate::args::SourceArgs;
use crate::escape::{self, shell_word};
use crate::exit::Failure;
use crate::guest::{self, Os};
use crate::report::Reporter;
use crate::saved;

/// An open source.
pub(crate) struct Source {
    /// As it was typed.
    pub(crate) path: PathBuf,
    /// The guest's physical memory.
    pub(crate) memory: Arc<dyn Memory<Addr = Gpa>>,
    /// Instead, where the source is a moment of one address space.
    saved: Option<Arc<Snapshot<Gva>>>,
    info: Info,
    /// What is known beforehand about the operating system.
    pub(crate) known: FindOptions,
    /// Where the operating system was found is kept here.
    pub(crate) cache: Option<Cache>,
    /// Whether the first store of types was typed.
    typed_store: bool,
    reporter: Reporter,
    os: OnceLock<Result<Os, FindError>>,
}

/// What is known about a source, whatever its kind.
pub(crate) struct Info {
    /// In one word.
    pub(crate) format: String,
    /// Bytes of the file, or of memory where there is no file.
    pub(crate) size: u64,
    /// Physical memory that there should be, ascending.
    pub(crate) ranges: Vec<AddrRange<Gpa>>,
    /// The CPUs, where they are known.
    pub(crate) cpus: Vec<CpuState>,
    /// Whether the memory may change while it is read.
    pub(crate) live: bool,
    /// Oddities met while opening.
    pub(crate) notes: Vec<String>,
}

impl From<&ImageInfo> for Info {
    fn from(info: &ImageInfo) -> Self {
        Self {
            format: info.format.to_string(),
            size: info.size,
            ranges: info.ranges.clone(),
            cpus: info.cpus.clone(),
            live: info.live,
            notes: info.notes.clone(),
        }
    }
}

impl Source {
    /// Opens what was typed.
    pub(crate) fn open(args: &SourceArgs, reporter: &Reporter) -> Result<Self, Failure> {
        let Origin {
            memory,
            saved,
            info,
            cache,
        } = match (live_socket(&args.source), saved::kind(&args.source)) {
            (Some(socket), _) => live(args, socket, reporter)?,
            (None, Some(space)) => snapshot(args, space, reporter)?,
            (None, None) => image(args)?,
        };
        for note in &info.notes {
            reporter.warn(&format!("{}: {note}", args.source.display()));
        }
        let (types, mut stores) = match args.types.as_deref() {
            Some(path) if path.is_dir() || TypeStore::is_kept(path) => {
                (None, vec![TypeStore::new(path)])
            }
            Some(path) => (Some(supplied(path)?), Vec::new()),
            None => (None, Vec::new()),
        };
        let typed_store = !stores.is_empty();
        stores.extend(cache.as_ref().map(Cache::types));
        let moment = moment(args, &info);
        Ok(Self {
            path: args.source.clone(),
            memory,
            saved,
            info,
            known: FindOptions {
                types,
                stores,
                moment,
                kernel_at: args.kernel_at.map(Gpa),
                ..FindOptions::default()
            },
            cache,
            typed_store,
            reporter: reporter.clone(),
            os: OnceLock::new(),
        })
    }

    /// The moment of one address space, where the source is that.
    pub(crate) fn saved(&self) -> Option<&Arc<Snapshot<Gva>>> {
        self.saved.as_ref()
    }

    /// Whether the source is a snapshot, of whatever.
    pub(crate) fn is_snapshot(&self) -> bool {
        self.info.format == saved::FORMAT
    }

    /// What is known about the source.
    pub(crate) fn info(&self) -> &Info {
        &self.info
    }

    /// The guest's operating system, looked for when first asked for.
    pub(crate) fn try_os(&self) -> Result<&Os, &FindError> {
        self.os.get_or_init(|| self.find_os()).as_ref()
    }

    fn find_os(&self) -> Result<Os, FindError> {
        let phys = &self.memory;
        let cpus = &self.info().cpus;
        let guest = match &self.cache {
            Some(cache) => {
                let (guest, kept) = cache.find(phys, cpus, &self.known)?;
                if let Err(error) = kept {
                    let path = shell_word(cache.path());
                    self.reporter
                        .warn(&format!("{path} is not written: {error}"));
                }
                guest
            }
            None => os::find_with(phys, cpus, &self.known)?,
        };
        self.tell_unused_types(&*guest);
        Ok(Os::new(guest))
    }

    /// Says so when types were given that are of no use.
    fn tell_unused_types(&self, guest: &dyn Guest) {
        if let Some(store) = self.known.stores.first().filter(|_| self.typed_store)
            && guest.types().is_err()
        {
            let build = match guest.build_id() {
                Some(build) => format!(", build {build}"),
                None => String::new(),
            };
            self.reporter.warn(&format!(
                "{} has no types of this kernel: {}{build}",
                shell_word(store.folder()),
                escape::plain(guest.version().trim_end())
            ));
        }
        if let Some(supplied) = &self.known.types
            && let Ok(types) = guest.types()
            && !Arc::ptr_eq(&types, &supplied.types)
        {
            let what = format!(
                "the kernel has types of its own; {} is not used",
                supplied.origin
            );
            match &supplied.banner {
                Some(banner) if !supplied.fits(guest.version(), guest.build_id()) => {
                    self.reporter.warn(&format!(
                        "{what}, nor would it fit: it belongs to {}",
                        escape::plain(banner)
                    ))
                }
                _ => self.reporter.detail(&what),
            }
        }
    }

    /// The guest's operating system, for what cannot do without.
    pub(crate) fn os(&self) -> Result<&Os, Failure> {
        if self.saved.is_some() {
            return Err(saved::no_tables(self, "no operating system can be found"));
        }
        let cpus_known = !self.info().cpus.is_empty();
        self.try_os()
            .map_err(|error| guest::not_found(error, &self.name(), cpus_known))
    }

    /// Bytes of physical memory that there should be.
    pub(crate) fn physical_size(&self) -> u64 {
        self.info()
            .ranges
            .iter()
            .fold(0, |sum, range| range.len().saturating_add(sum))
    }

    /// How many bytes one sweep of a guest may look at.
    ///
    /// Frames are mapped more than once, but a space that maps each sixty times over was made to keep
    /// us busy.
    pub(crate) fn sweep_bound(&self) -> u64 {
        self.physical_size().saturating_mul(64).max(64 << 30)
    }

    /// What tells the source from its state at other moments: for a file its length, and when it was changed
    /// last, in nanoseconds since 1970. A live guest is never what it was: for it, now.
    pub(crate) fn stamp(&self) -> Option<(u64, u64)> {
        let (len, changed) = if live_socket(&self.path).is_some() {
            (self.info.size, SystemTime::now())
        } else {
            let metadata = std::fs::metadata(&self.path).ok()?;
            (metadata.len(), metadata.modified().ok()?)
        };
        let since = changed.duration_since(UNIX_EPOCH).ok()?;
        Some((len, u64::try_from(since.as_nanos()).ok()?))
    }

    /// The path, for messages and command lines.
    pub(crate) fn name(&self) -> String {
        shell_word(&self.path)
    }
}

/// Whether the guest stood still while its memory was taken, as far as is known.
fn moment(args: &SourceArgs, info: &Info) -> Moment {
    match info.live {
        true if args.pause => Moment::Stopped,
        true => Moment::Running,
        // Who can write down the state of CPUs holds them.
        false if !info.cpus.is_empty() => Moment::Stopped,
        false => Moment::Unknown,
    }
}

/// The types in an ISF file, or of the kernel in an image.
fn supplied(path: &Path) -> Result<SuppliedTypes, Failure> {
    let origin = path.display().to_string();
    match Isf::open(path) {
        Ok(isf) => Ok(isf.supply(origin)),
        Err(error) => types_of_image(path, &origin).ok_or_else(|| {
            Failure::new(format!("{origin}: {error}"))
                .found("nor is it an image of a kernel that has types of its own, all of them whole")
                .hint(
                    "an ISF file as Volatility 3 or `vmie symbols export --isf` writes it, plain or xz",
                )
                .hint("another image of the same kernel")
        }),
    }
}

/// The types of the kernel in an image, if they are whole.
fn types_of_image(path: &Path, origin: &str) -> Option<SuppliedTypes> {
    let image = Image::open_with(path, &OpenOptions::default()).ok()?;
    let cpus = image.info().cpus.clone();
    let memory: Arc<dyn Memory<Addr = Gpa>> = Arc::new(image);
    let guest = os::find(&memory, &cpus).ok()?;
    let types = guest.types().ok()?;
    guest.findings().is_empty().then(|| {
        SuppliedTypes::new(types, origin)
            .of_version(guest.version())
            .of_build(guest.build_id().cloned())
    })
}

/// Fails when a source has gone while it was looked at: to be asked before a file is finished that claims to
/// be whole.
pub(crate) fn still_there() -> Result<(), Failure> {
    #[cfg(target_os = "linux")]
    crate::live::still_there()?;
    Ok(())
}

/// What a kind of source comes to.
struct Origin {
    memory: Arc<dyn Memory<Addr = Gpa>>,
    saved: Option<Arc<Snapshot<Gva>>>,
    info: Info,
    cache: Option<Cache>,
}

/// The socket, when a live guest is meant. A file of such a name is `./qemu:...`.
pub(crate) fn live_socket(source: &Path) -> Option<&Path> {
    use std::ffi::OsStr;
    let bytes = source.as_os_str().as_encoded_bytes();
    let socket = bytes.strip_prefix(b"qemu:")?;
    // What stands behind ASCII text is whole.
    std::str::from_utf8(socket)
        .ok()
        .map(|socket| Path::new(OsStr::new(socket)))
}

/// A live guest.
#[cfg(target_os = "linux")]
fn live(args: &SourceArgs, socket: &Path, reporter: &Reporter) -> Result<Origin, Failure> {
    use crate::live;

    if args.layout.is_some() {
        return Err(Failure::new("--layout is for raw images")
            .found("QEMU itself tells the layout of a running guest"));
    }
    if let Some(option) = args.layers.typed() {
        return Err(
            Failure::new(format!("{option} is for memory files")).found("QEMU's guest is running")
        );
    }
    let guest = live::open(socket, args.pause, reporter)?;
    let cache = args.os_cache.then(|| live::cache(&guest));
    let known = guest.info();
    let info = Info {
        format: "qemu".to_owned(),
        size: known
            .ranges
            .iter()
            .fold(0, |sum, range| range.len().saturating_add(sum)),
        ranges: known.ranges.clone(),
        cpus: known.cpus.clone(),
        live: true,
        notes: Vec::new(),
    };
    Ok(Origin {
        memory: guest,
        saved: None,
        info,
        cache,
    })
}

/// A live guest, on systems where there is no way to look at one.
#[cfg(not(target_os = "linux"))]
fn live(_args: &SourceArgs, socket: &Path, _reporter: &Reporter) -> Result<Origin, Failure> {
    Err(Failure::new(format!(
        "{}: running guests can be looked at on Linux only",
        socket.display()
    ))
    .hint("an image of the guest's memory"))
}

/// A snapshot: of physical memory, which is as good as an image, or of one address space.
fn snapshot(args: &SourceArgs, space: &str, reporter: &Reporter) -> Result<Origin, Failure> {
    let typed = [
        ("--layout", args.layout.is_some()),
        ("--state", args.layers.state.is_some()),
        ("--base", !args.layers.base.is_empty()),
        ("--os-cache", args.os_cache),
        ("--pause", args.pause),
    ];
    if let Some((option, _)) = typed.iter().find(|(_, typed)| *typed) {
        let what = format!("{} is a snapshot", shell_word(&args.source));
        return Err(Failure::new(what).hint(format!("leave out {option}")));
    }
    if space == Gpa::SPACE {
        let snapshot = saved::open::<Gpa>(args, reporter)?;
        return Ok(Origin {
            info: saved::info(&snapshot, &args.source),
            memory: Arc::new(snapshot),
            saved: None,
            cache: None,
        });
    }
    let snapshot = saved::open::<Gva>(args, reporter)?;
    Ok(Origin {
        info: saved::info(&snapshot, &args.source),
        memory: Arc::new(saved::Nothing),
        saved: Some(Arc::new(snapshot)),
        cache: None,
    })
}

/// A memory image.
fn image(args: &SourceArgs) -> Result<Origin, Failure> {
    if args.pause {
        return Err(Failure::new("--pause is for running guests")
            .found(format!("{} is an image", shell_word(&args.source)))
            .hint("qemu:SOCKET, to look at a running guest"));
    }
    if series::is_series(&args.source) {
        let dir = shell_word(&args.source);
        return Err(Failure::new(format!("{dir} is a series of moments"))
            .hint(format!("one of them, such as {dir}/000001.moment"))
            .hint(format!(
                "`vmie snap series {dir}`, to see what changed when"
            )));
    }
    let image = open_image(args)?;
    let info = Info::from(image.info());
    let cache = args
        .os_cache
        .then(|| Cache::beside(&args.source, &image))
        .transpose()
        .map_err(|error| {
            Failure::new(format!("{}: {error}", args.source.display()))
                .found("no place to keep a cache beside it")
        })?;
    Ok(Origin {
        memory: Arc::new(image),
        saved: None,
        info,
        cache,
    })
}

/// Opens a memory image.
fn open_image(args: &SourceArgs) -> Result<Image, Failure> {
    let (bases, holes_are_zeros) = args.layers.bases().map_err(Failure::new)?;
    let options = OpenOptions {
        layout: args.layout.clone(),
        state: args.layers.state.clone(),
        bases,
        holes_are_zeros,
    };
    Image::open_with(&args.source, &options).map_err(|error| {
            let failure = Failure::new(error.to_string());
            match error.kind {
                OpenErrorKind::Io { .. } if !args.source.exists() => {
                    failure.hint("check the path; `vmie demo --keep DIR` makes an image to try")
                }
                OpenErrorKind::LayoutBehindEnd { .. } => failure.hint(
                    "each part of a layout is GPA+LEN@OFFSET, the offset counted from the start of the file",
                ),
                _ => failure,
            }
        })
}
