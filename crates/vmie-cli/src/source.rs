//! Opens the source of a verb and tells the user what is odd about it. What a source is, and what is known about it, is the
//! engine's business ([`Session`]); here it gets words.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use vmie::os::isf::Isf;
use vmie::os::{FindError, Guest, SuppliedTypes, TypeStore};
use vmie::session::{Session, SessionError, SessionOptions, SourceKind, SourceOption};
use vmie::snapshot::Snapshot;
use vmie::{Gpa, Gva, Memory, OpenError, OpenErrorKind};

pub(crate) use vmie::session::{SourceInfo as Info, live_socket};

use crate::advice;
use crate::args::SourceArgs;
use crate::escape::{self, shell_word};
use crate::exit::Failure;
use crate::guest::{self, Os};
use crate::layout::Told;
use crate::report::Reporter;
use crate::salvage;

/// An open source.
pub(crate) struct Source {
    session: Session,
    /// Whether the first store of types was typed.
    typed_store: bool,
    /// Whether symbols are shown as their sources call them.
    demangles: bool,
    reporter: Reporter,
    os: OnceLock<Os>,
    told: Told,
}

impl Source {
    /// Opens what was typed.
    pub(crate) fn open(args: &SourceArgs, reporter: &Reporter) -> Result<Self, Failure> {
        let (bases, zeros) = args.layers.bases().map_err(Failure::new)?;
        let (types, stores) = match args.types.as_deref() {
            Some(path) if path.is_dir() || TypeStore::is_kept(path) => {
                (None, vec![TypeStore::new(path)])
            }
            Some(path) => (Some(supplied(path)?), Vec::new()),
            None => (None, Vec::new()),
        };
        let typed_store = !stores.is_empty();
        let options = SessionOptions::default()
            .layout(args.layout.clone())
            .state(args.layers.state.clone())
            .bases(bases, zeros)
            .salvage(args.salvage)
            .keep_system(args.os_cache)
            .kernel_at(args.kernel_at.map(Gpa))
            .types(types)
            .type_stores(stores)
            .pause(args.pause);
        let session = open(args, options).map_err(|error| not_opened(args, error))?;
        let name = args.source.display();
        #[cfg(target_os = "linux")]
        if let Some(live) = session.live() {
            crate::live::opened(live, reporter);
        }
        let damage = session.damage().iter().map(|one| format!("{name}: {one}"));
        salvage::tell_damage(damage, reporter);
        let source = Self {
            session,
            typed_store,
            demangles: !args.no_demangle,
            reporter: reporter.clone(),
            os: OnceLock::new(),
            told: Told::default(),
        };
        source
            .told
            .notes(source.info(), &name.to_string(), reporter);
        Ok(source)
    }

    /// Where it tells what is odd about it.
    pub(crate) fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    /// The engine's view of it.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// As it was typed.
    pub(crate) fn path(&self) -> &Path {
        self.session.path()
    }

    /// Says how a raw image is laid out, once it is known or somebody looks at memory without: each thing once.
    pub(crate) fn tell_layout(&self) {
        let name = self.path().display().to_string();
        self.told.notes(self.info(), &name, &self.reporter);
        self.told.layout(self.info(), &name, &self.reporter);
    }

    /// The guest's physical memory.
    pub(crate) fn memory(&self) -> &Arc<dyn Memory<Addr = Gpa>> {
        self.session.physical()
    }

    /// The snapshot of one address space, where the source is that.
    pub(crate) fn saved(&self) -> Option<&Arc<Snapshot<Gva>>> {
        self.session.saved()
    }

    /// Whether the source is a snapshot, of whatever.
    pub(crate) fn is_snapshot(&self) -> bool {
        self.session.kind() == SourceKind::Snapshot
    }

    /// What is known about the source.
    pub(crate) fn info(&self) -> &Info {
        self.session.info()
    }

    /// The guest's operating system, looked for when first asked for.
    pub(crate) fn try_os(&self) -> Result<&Os, &FindError> {
        let system = self.session.system();
        self.tell_layout();
        let system = system?;
        Ok(self.os.get_or_init(|| {
            if let (Some(error), Some(cache)) = (self.session.not_kept(), self.session.cache()) {
                let path = shell_word(cache.path());
                self.reporter
                    .warn(&format!("{path} is not written: {error}"));
            }
            self.tell_unused_types(system.guest());
            Os::new(Arc::clone(system), self.demangles)
        }))
    }

    /// Says so when types were given that are of no use.
    fn tell_unused_types(&self, guest: &dyn Guest) {
        let known = self.session.known();
        if let Some(store) = known.stores.first().filter(|_| self.typed_store)
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
        if let Some(supplied) = &known.types
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
                    ));
                }
                _ => self.reporter.detail(&what),
            }
        }
    }

    /// The guest's operating system, for what cannot do without.
    pub(crate) fn os(&self) -> Result<&Os, Failure> {
        if self.saved().is_some() {
            return Err(no_tables(self, "no operating system can be found"));
        }
        let cpus_known = !self.info().hints.cpus.is_empty();
        self.try_os()
            .map_err(|error| guest::not_found(error, &self.name(), cpus_known))
    }

    /// Bytes of physical memory that there should be.
    pub(crate) fn physical_size(&self) -> u64 {
        self.session.physical_size()
    }

    /// How many bytes one sweep of a guest may look at.
    pub(crate) fn sweep_bound(&self) -> u64 {
        self.session.sweep_bound()
    }

    /// What tells the source from its state at other moments.
    pub(crate) fn stamp(&self) -> Option<(u64, u64)> {
        self.session.stamp()
    }

    /// The path, for messages and command lines.
    pub(crate) fn name(&self) -> String {
        shell_word(self.path())
    }
}

/// A snapshot of one address space has no page tables.
pub(crate) fn no_tables(source: &Source, so: &str) -> Failure {
    Failure::new(format!(
        "{so}: {} is a snapshot of one address space, without page tables and frames",
        source.name()
    ))
    .hint("the image or guest it was taken of, or a snapshot with --phys")
}

/// Opens the session. A guest that is stopped for it runs again whatever ends the command: so it is stopped here, where
/// signals are listened for at once.
fn open(args: &SourceArgs, options: SessionOptions) -> Result<Session, SessionError> {
    #[cfg(target_os = "linux")]
    if let Some(socket) = live_socket(&args.source).filter(|_| args.pause)
        && args.layout.is_none()
        && args.layers.typed().is_none()
    {
        let paused = crate::live::pause(socket).map_err(SessionError::Live)?;
        return Session::open_with(&args.source, &options.held(paused));
    }
    Session::open_with(&args.source, &options)
}

/// What to say when a source is not opened.
fn not_opened(args: &SourceArgs, error: SessionError) -> Failure {
    let source = &args.source;
    match error {
        SessionError::Image(error) => no_image(source, &error),
        SessionError::Snapshot(error) if args.salvage => Failure::new(error.to_string())
            .found("nothing can be read without the tables, which stand at both ends"),
        SessionError::Snapshot(error) => salvage::not_opened(&error),
        #[cfg(target_os = "linux")]
        SessionError::Live(error) => crate::live::failure(&error),
        SessionError::Series => {
            let dir = shell_word(source);
            Failure::new(format!("{dir} is a series of snapshots"))
                .hint(format!("one of them, such as {dir}/000001.moment"))
                .hint(format!(
                    "`vmie snap series {dir}`, to see what changed when"
                ))
        }
        SessionError::Option(option, kind) => misplaced(source, option, kind),
        SessionError::Cache(error) => Failure::new(format!("{}: {error}", source.display()))
            .found("no place to keep a cache beside it"),
        SessionError::NoLive => Failure::new(format!("{}: {error}", source.display()))
            .hint("an image of the guest's memory"),
        error => Failure::new(format!("{}: {error}", source.display())),
    }
}

/// An option that means nothing for this kind of source.
fn misplaced(source: &Path, option: SourceOption, kind: SourceKind) -> Failure {
    let typed = match option {
        SourceOption::Layout => "--layout",
        SourceOption::State => "--state",
        SourceOption::Base => "--base",
        SourceOption::KeepSystem => "--os-cache",
        SourceOption::Pause => "--pause",
        _ => "this option",
    };
    match (kind, option) {
        (SourceKind::Live, SourceOption::Layout) => Failure::new("--layout is for raw images")
            .found("QEMU itself tells the layout of a running guest"),
        (SourceKind::Live, _) => {
            Failure::new(format!("{typed} is for memory files")).found("QEMU's guest is running")
        }
        (SourceKind::Snapshot, _) => {
            let what = format!("{} is a snapshot", shell_word(source));
            Failure::new(what).hint(format!("leave out {typed}"))
        }
        _ => Failure::new(format!("{typed} is for running guests"))
            .found(format!("{} is an image", shell_word(source)))
            .hint("qemu:SOCKET, to look at a running guest"),
    }
}

fn no_image(source: &Path, error: &OpenError) -> Failure {
    let advice = error.kind.advice();
    let failure = Failure::new(advice::worded(error.to_string(), advice.as_slice()));
    match error.kind {
        OpenErrorKind::Io { .. } if !source.exists() => {
            failure.hint("check the path; `vmie demo --keep DIR` makes an image to try")
        }
        OpenErrorKind::LayoutBehindEnd { .. } => failure.hint(
            "each part of a layout is GPA+LEN@OFFSET, the offset counted from the start of the file",
        ),
        _ => failure,
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
    let session = Session::open(path).ok()?;
    let guest = session.guest().ok()?;
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
