//! vmie looks into a virtual machine from outside: a running guest, or a saved image of its memory.
//!
//! Given the guest's physical memory and the root of one address space (CR3), it answers questions about that address space:
//! what is mapped, how an address translates, where byte signatures occur, which code refers to an address, who points
//! there, what changed. An operating-system layer names processes, modules and symbols, without a profile.
//!
//! Begin with [`session`]: it opens a source, finds the operating system and names a space. What is asked of a space are
//! [scanners](Scanner) ([`signature`], [`search`], [`xref`], [`pointers`]), [snapshots](snapshot) and [fields](dissect); all take a
//! [`Memory`], so they take a space, a snapshot or physical memory alike. Every answer comes with its [`Coverage`]: what
//! could not be looked at is never silent.
//!
//! # Find a process and scan it for signatures
//!
//! A set of signatures is compiled once and found in one pass.
//!
//! ```
//! use vmie::scan::Run;
//! use vmie::session::{Session, Who};
//! use vmie::signature::{Set, Signature};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #   let home = tempfile::tempdir()?;
//! #   vmie_synth::linux::example::server(home.path())?;
//! #   std::env::set_current_dir(home.path())?;
//!     let image = std::env::args().nth(1).unwrap_or("before.elf".into());
//!     let session = Session::open(image)?;
//!     let space = session.space(&Who::named("nginx"))?;
//!     let set = Set::compile(vec![Signature::parse("test", "E8 ?? ?? ?? ?? 84 C0")?])?;
//!     let outcome = space.scan(&set, Run::new())?;
//!     for found in &outcome.items {
//!         let name = set.signatures()[found.item.sig].name();
//!         println!("{} {name}", found.start);
//!     }
//!     println!("all of it read: {}", outcome.is_complete());
//! #   let at = vmie::Gva(vmie_synth::linux::example::CODE + 0x123);
//! #   let found: Vec<_> = outcome.items.iter().map(|found| (found.start, found.item.sig)).collect();
//! #   assert_eq!(found, [(at, 0)]);
//! #   assert!(outcome.is_complete());
//!     Ok(())
//! }
//! ```
//!
//! # What changed between two images of a guest
//!
//! The same for a running guest: take a [snapshot](snapshot::take) of the space, and compare with what is there later.
//!
//! ```
//! use vmie::session::{Session, Who};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #   let home = tempfile::tempdir()?;
//! #   vmie_synth::linux::example::server(home.path())?;
//! #   std::env::set_current_dir(home.path())?;
//!     let mut images = std::env::args().skip(1);
//!     let before = Session::open(images.next().unwrap_or("before.elf".into()))?;
//!     let after = Session::open(images.next().unwrap_or("after.elf".into()))?;
//!     let who = Who::named("nginx");
//!     let changes = before.space(&who)?.changes(&after.space(&who)?)?;
//!     for change in &changes.items {
//!         println!("{}+{:#x} {}", change.start, change.len, change.kind.name());
//!     }
//!     println!("all of it compared: {}", changes.is_complete());
//! #   assert_eq!(changes.items.len(), 1);
//! #   assert_eq!(changes.items[0].start, vmie::Gva(vmie_synth::linux::example::REQUESTS));
//! #   assert!(changes.is_complete());
//!     Ok(())
//! }
//! ```
//!
//! A running guest is a source like any other:
//!
//! ```no_run
//! use vmie::session::{Session, Who};
//! use vmie::snapshot::{DiffOptions, TakeOptions, diff, take};
//! use std::ops::ControlFlow::Continue;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let session = Session::open("qemu:/run/guest.qmp")?;
//!     let space = session.space(&Who::named("nginx"))?;
//!     let memory = space.by_virtual().ok_or("no virtual memory")?;
//!     let before = take(memory, &TakeOptions::default(), vmie::scan::Run::new())?;
//!     std::thread::sleep(std::time::Duration::from_secs(1));
//!     let outcome = diff(&before, memory, &DiffOptions::default(), vmie::scan::Run::new(), |change| {
//!         println!("{}+{:#x}", change.start, change.len);
//!         Continue(())
//!     });
//!     println!("all of it compared: {}", outcome.coverage.is_complete());
//!     Ok(())
//! }
//! ```
//!
//! # How an address is reached
//!
//! An index of all pointers answers who points where, and finds the paths that still lead there after the next start.
//!
//! ```
//! use vmie::pointers::PathOptions;
//! use vmie::session::{Session, Who};
//! use vmie::{AddrRange, Gva};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #   let home = tempfile::tempdir()?;
//! #   vmie_synth::linux::example::server(home.path())?;
//! #   std::env::set_current_dir(home.path())?;
//!     let image = std::env::args().nth(1).unwrap_or("before.elf".into());
//!     let session = Session::open(image)?;
//!     let pointers = session.space(&Who::named("nginx"))?.pointers()?;
//!     let statics = AddrRange::new(Gva(0x40_4000), 0x1000).expect("a range");
//!     let options = PathOptions {
//!         ranges: vec![statics],
//!         ..PathOptions::default()
//!     };
//!     for path in pointers.paths(Gva(0x60_2040), &options) {
//!         println!("{path}");
//!     }
//! #   let paths: Vec<String> = pointers.paths(Gva(0x60_2040), &options).iter().map(ToString::to_string).collect();
//! #   assert_eq!(paths, ["[[0x404000]+0x28]"]);
//!     Ok(())
//! }
//! ```
//!
//! See ARCHITECTURE.md for the invariants the crate keeps.

// Test memories are shared with the tests from outside, and see the engine as those do.
#[cfg(test)]
extern crate self as vmie;

mod addr;
pub mod arch;
mod blocks;
#[cfg(feature = "candidates")]
pub mod candidates;
pub mod dissect;
mod filemap;
mod hints;
mod image;
#[cfg(all(feature = "live", target_os = "linux"))]
mod live;
mod memory;
pub mod os;
pub mod paging;
pub mod pointers;
pub mod scan;
mod scratch;
pub mod search;
pub mod session;
pub mod signature;
pub mod snapshot;
mod sweep;
#[cfg(test)]
mod testany;
#[cfg(test)]
mod testguest;
#[cfg(test)]
mod testmem;
mod view;
pub mod views;
mod width;
pub mod xref;

pub use addr::{AddrRange, Address, Gpa, Gva, PAGE_SIZE};
pub use arch::x86::CpuState;
pub use hints::Hints;
pub use image::{
    Advice, Format, Image, ImageInfo, Layout, LayoutPart, OpenError, OpenErrorKind, OpenOptions,
    ParseLayoutError,
};
#[cfg(all(feature = "live", target_os = "linux"))]
pub use live::{LiveError, LiveErrorKind, LiveGuest, LiveInfo, Paused};
pub use memory::{
    Cause, Coverage, Fault, Gap, Memory, Prot, Region, Span, SpanKind, Spans, read_around_holes,
};
pub use paging::{AddressSpace, Mode};
pub use sweep::{
    DEFAULT_MAX_BYTES, DEFAULT_WINDOW, Found, MAX_WINDOW, ManyOutcome, Piece, Scanner, Sighting,
    SpacePart, Stretch, Stretches, SweepOptions, SweepOutcome, Window, quiet, sweep, sweep_many,
};
pub use view::View;
pub use width::ProgramWidth;
