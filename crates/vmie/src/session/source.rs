//! Opening sources of each kind.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::info::{LayoutInfo, SourceInfo};
use super::laying::Laying;
use super::options::SessionOptions;
use crate::addr::{AddrRange, Address, Gpa, Gva};
use crate::hints::Hints;
use crate::image::{Advice, Format, Image, OpenError, OpenOptions};
#[cfg(all(feature = "live", target_os = "linux"))]
use crate::live::{LiveError, LiveErrorKind, LiveGuest, Paused};
use crate::memory::{Cause, Fault, Memory, Region, Spans};
#[cfg(all(feature = "live", target_os = "linux"))]
use crate::os::Identity;
use crate::os::{Acquisition, Cache};
use crate::snapshot::{self, FileError, Snapshot, series};

/// What snapshots are called where formats are named.
const SNAPSHOT: &str = "snapshot";

/// The kinds of sources.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SourceKind {
    /// A memory image.
    Image,
    /// A snapshot that vmie took.
    Snapshot,
    /// A running guest.
    Live,
}

/// An option that means something for some kinds of sources only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SourceOption {
    /// [`SessionOptions::layout`].
    Layout,
    /// [`SessionOptions::state`].
    State,
    /// [`SessionOptions::bases`].
    Base,
    /// [`SessionOptions::keep_system`].
    KeepSystem,
    /// [`SessionOptions::pause`].
    Pause,
}

/// Why a source was not opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionError {
    /// It is no image that can be read.
    Image(OpenError),
    /// It is a snapshot that cannot be read, as a whole or, where that was asked for, at all.
    Snapshot(FileError),
    /// The running guest cannot be looked at.
    #[cfg(all(feature = "live", target_os = "linux"))]
    Live(LiveError),
    /// Running guests can be looked at on Linux only, with the feature `live`.
    NoLive,
    /// It is a series of snapshots, of which one has to be named.
    Series,
    /// An option that means nothing for a source of this kind.
    Option(SourceOption, SourceKind),
    /// There is no place beside it to keep where the operating system was found.
    Cache(std::io::Error),
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(error) => error.fmt(f),
            Self::Snapshot(error) => error.fmt(f),
            #[cfg(all(feature = "live", target_os = "linux"))]
            Self::Live(error) => error.fmt(f),
            Self::NoLive => f.write_str("running guests can be looked at on Linux only"),
            Self::Series => f.write_str("a series of snapshots, not one of them"),
            Self::Option(option, kind) => {
                let kind = match kind {
                    SourceKind::Image => "a memory image",
                    SourceKind::Snapshot => "a snapshot",
                    SourceKind::Live => "a running guest",
                };
                write!(f, "{option:?} means nothing for {kind}")
            }
            Self::Cache(error) => write!(f, "no cache can be kept beside the source: {error}"),
        }
    }
}

impl std::error::Error for SessionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Image(error) => Some(error),
            Self::Snapshot(error) => Some(error),
            #[cfg(all(feature = "live", target_os = "linux"))]
            Self::Live(error) => Some(error),
            Self::Cache(error) => Some(error),
            Self::NoLive | Self::Series | Self::Option(..) => None,
        }
    }
}

/// A running guest, and what keeps it still.
#[cfg(all(feature = "live", target_os = "linux"))]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LiveSource {
    /// The guest.
    pub guest: Arc<LiveGuest>,
    /// What keeps it still: it runs on when the last of these is dropped.
    pub paused: Option<Arc<Paused>>,
}

/// Whether what was looked at was one guest from beginning to end: see [`LiveSource::check`].
#[cfg(all(feature = "live", target_os = "linux"))]
#[derive(Debug)]
#[non_exhaustive]
pub enum Still {
    /// It was.
    Same,
    /// QEMU has ended: what was read is not all there was.
    Gone,
    /// Memory was plugged in or out: what was read may not have been the guest's.
    Rearranged,
    /// It could not be asked, for instance since another client came in between.
    Unknown(LiveError),
}

#[cfg(all(feature = "live", target_os = "linux"))]
impl LiveSource {
    /// Asks whether the guest is still the one that was opened, and its memory laid out as it was. To be asked when all
    /// was read.
    ///
    /// Cost: as [`LiveGuest::recheck`].
    pub fn check(&self) -> Still {
        if !self.guest.is_alive() {
            return Still::Gone;
        }
        // Nothing changes in one that stands still, and QEMU would not answer.
        if self.paused.is_some() {
            return Still::Same;
        }
        match self.guest.recheck() {
            Ok(true) => Still::Same,
            Ok(false) => Still::Rearranged,
            Err(error) if matches!(error.kind, LiveErrorKind::Gone { .. }) => Still::Gone,
            Err(_) if !self.guest.is_alive() => Still::Gone,
            Err(error) => Still::Unknown(error),
        }
    }
}

/// A source that was opened.
pub(super) struct Opened {
    pub(super) kind: SourceKind,
    pub(super) memory: Arc<dyn Memory<Addr = Gpa>>,
    pub(super) saved: Option<Arc<Snapshot<Gva>>>,
    pub(super) info: SourceInfo,
    pub(super) cache: Option<Cache>,
    pub(super) damage: Vec<String>,
    /// A raw image of which nobody told how it is laid out.
    pub(super) laying: Option<Laying>,
    #[cfg(all(feature = "live", target_os = "linux"))]
    pub(super) live: Option<LiveSource>,
}

/// The socket of `qemu:SOCKET`, a running guest. A file of such a name is `./qemu:...`.
pub fn live_socket(source: &Path) -> Option<&Path> {
    let socket = source.as_os_str().as_encoded_bytes();
    let socket = socket.strip_prefix(b"qemu:")?;
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt as _;
        Some(Path::new(std::ffi::OsStr::from_bytes(socket)))
    }
    #[cfg(not(unix))]
    std::str::from_utf8(socket).ok().map(Path::new)
}

impl Opened {
    fn new(kind: SourceKind, memory: Arc<dyn Memory<Addr = Gpa>>, info: SourceInfo) -> Self {
        Self {
            kind,
            memory,
            saved: None,
            info,
            cache: None,
            damage: Vec::new(),
            laying: None,
            #[cfg(all(feature = "live", target_os = "linux"))]
            live: None,
        }
    }

    pub(super) fn open(path: &Path, options: &SessionOptions) -> Result<Self, SessionError> {
        if let Some(socket) = live_socket(path) {
            refuse(options, SourceKind::Live)?;
            return Self::live(socket, options);
        }
        // What cannot be looked into is told by opening it as an image.
        let held = path.is_file().then(|| snapshot::holds(path).ok().flatten());
        match held.flatten() {
            Some(space) => {
                refuse(options, SourceKind::Snapshot)?;
                Self::snapshot(path, space, options)
            }
            None => {
                refuse(options, SourceKind::Image)?;
                Self::image(path, options)
            }
        }
    }

    fn image(path: &Path, options: &SessionOptions) -> Result<Self, SessionError> {
        if series::is_series(path) {
            return Err(SessionError::Series);
        }
        let open = OpenOptions {
            layout: options.layout.clone(),
            state: options.state.clone(),
            bases: options.bases.clone(),
            holes_are_zeros: options.holes_are_zeros,
        };
        let image = Image::open_with(path, &open).map_err(SessionError::Image)?;
        let mut info = SourceInfo::from(image.info());
        let cache = options.keeps.then(|| Cache::beside(path, &image));
        let cache = cache.transpose().map_err(SessionError::Cache)?;
        let mut memory: Arc<dyn Memory<Addr = Gpa>> = Arc::new(image);
        let mut laying = None;
        match &options.layout {
            Some(layout) => info.layout = Some(LayoutInfo::given(layout.clone())),
            None if info.format == Format::Raw.to_string() && !open.has_companions() => {
                let open = Laying::new(path, info.size);
                // What the image says of it is a guess, and this is where it is found out.
                let guess = Advice::SayMachine.to_string();
                info.notes.retain(|note| !note.contains(&guess));
                info.advice.retain(|&advice| advice != Advice::SayMachine);
                info.layout = Some(open.begin());
                if let Some(laid) = open.glance(&info.hints) {
                    (memory, info) = (laid.memory, laid.info);
                }
                laying = Some(open);
            }
            None => {}
        }
        Ok(Self {
            cache,
            laying,
            ..Self::new(SourceKind::Image, memory, info)
        })
    }

    /// Of physical memory, which is as good as an image, or of one address space.
    fn snapshot(path: &Path, space: &str, options: &SessionOptions) -> Result<Self, SessionError> {
        if space == Gpa::SPACE {
            let (snapshot, damage) = open::<Gpa>(path, options)?;
            let info = about(&snapshot, path, kept(&snapshot));
            return Ok(Self {
                damage,
                ..Self::new(SourceKind::Snapshot, Arc::new(snapshot), info)
            });
        }
        let (snapshot, damage) = open::<Gva>(path, options)?;
        let info = about(&snapshot, path, Vec::new());
        Ok(Self {
            damage,
            saved: Some(Arc::new(snapshot)),
            ..Self::new(SourceKind::Snapshot, Arc::new(Nothing), info)
        })
    }

    #[cfg(all(feature = "live", target_os = "linux"))]
    fn live(socket: &Path, options: &SessionOptions) -> Result<Self, SessionError> {
        let paused = match &options.held {
            Some(held) => Some(Arc::clone(held)),
            None if options.pause => {
                let paused = Paused::new(socket).map_err(SessionError::Live)?;
                Some(Arc::new(paused))
            }
            None => None,
        };
        let guest = match &paused {
            Some(paused) => paused.open(),
            None => LiveGuest::open(socket),
        };
        let guest = Arc::new(guest.map_err(SessionError::Live)?);
        let known = guest.info();
        let size = known.ranges.iter();
        let size = size.fold(0, |sum, range| range.len().saturating_add(sum));
        let info = SourceInfo {
            format: "qemu".to_owned(),
            size,
            ranges: known.ranges.clone(),
            hints: Hints::of_cpus(known.cpus.clone()),
            live: true,
            notes: Vec::new(),
            advice: Vec::new(),
            layout: None,
        };
        // The bytes of a guest that runs identify nothing: the process does. Whatever a cache says is verified.
        let identity = Identity {
            size,
            modified: (u64::from(known.pid), 0),
            sample: 0,
        };
        let cache = options.keeps.then(|| {
            let mut path = guest.socket().as_os_str().to_owned();
            path.push(".vmie-os");
            Cache::new(path.into(), identity)
        });
        Ok(Self {
            cache,
            live: Some(LiveSource {
                guest: Arc::clone(&guest),
                paused,
            }),
            ..Self::new(SourceKind::Live, guest, info)
        })
    }

    #[cfg(not(all(feature = "live", target_os = "linux")))]
    fn live(_socket: &Path, _options: &SessionOptions) -> Result<Self, SessionError> {
        Err(SessionError::NoLive)
    }

    /// Whether the guest stood still while its memory was taken, as far as is known.
    pub(super) fn acquisition(&self, options: &SessionOptions) -> Acquisition {
        match self.info.live {
            true if options.pause => Acquisition::Stopped,
            true => Acquisition::Running,
            // Who can write down the state of CPUs holds them.
            false if !self.info.hints.cpus.is_empty() => Acquisition::Stopped,
            false => Acquisition::Unknown,
        }
    }
}

/// Refuses what means nothing for this kind of source.
fn refuse(options: &SessionOptions, kind: SourceKind) -> Result<(), SessionError> {
    use SourceKind::{Image, Live};
    let given = [
        (
            SourceOption::Layout,
            options.layout.is_some(),
            kind == Image,
        ),
        (SourceOption::State, options.state.is_some(), kind == Image),
        (
            SourceOption::Base,
            !options.bases.is_empty() || options.holes_are_zeros,
            kind == Image,
        ),
        (
            SourceOption::KeepSystem,
            options.keeps,
            kind == Image || kind == Live,
        ),
        (SourceOption::Pause, options.pause, kind == Live),
    ];
    match given.into_iter().find(|(_, given, fits)| *given && !*fits) {
        Some((option, ..)) => Err(SessionError::Option(option, kind)),
        None => Ok(()),
    }
}

fn open<A: Address>(
    path: &Path,
    options: &SessionOptions,
) -> Result<(Snapshot<A>, Vec<String>), SessionError> {
    if !options.salvage {
        let snapshot = Snapshot::open(path).map_err(SessionError::Snapshot)?;
        return Ok((snapshot, Vec::new()));
    }
    let (snapshot, damage) = Snapshot::salvage(path).map_err(SessionError::Snapshot)?;
    let damage = damage.iter().map(ToString::to_string).collect();
    Ok((snapshot, damage))
}

fn about<A: Address>(
    snapshot: &Snapshot<A>,
    path: &Path,
    ranges: Vec<AddrRange<Gpa>>,
) -> SourceInfo {
    SourceInfo {
        format: SNAPSHOT.to_owned(),
        size: std::fs::metadata(path).map_or(0, |metadata| metadata.len()),
        ranges,
        hints: Hints::of_cpus(snapshot.origin().cpus.clone()),
        live: false,
        notes: Vec::new(),
        advice: Vec::new(),
        layout: None,
    }
}

fn kept(snapshot: &Snapshot<Gpa>) -> Vec<AddrRange<Gpa>> {
    snapshot.kept().map(Region::range).collect()
}

/// The physical memory of a snapshot of one address space.
struct Nothing;

impl Memory for Nothing {
    type Addr = Gpa;

    fn spans(&self, _range: AddrRange<Gpa>) -> Spans<'_, Gpa> {
        Box::new(std::iter::empty())
    }

    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        if buf.is_empty() {
            return Ok(());
        }
        Err(Fault {
            addr,
            cause: Cause::Absent { gpa: addr },
        })
    }
}
