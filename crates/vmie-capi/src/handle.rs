//! `vmie_mem`: a guest that was opened, and the address spaces in it.

use std::collections::HashMap;
use std::ffi::CString;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmie::os::Guest;
use vmie::paging::detect;
use vmie::scan::Run;
use vmie::session::{Session, SessionOptions, with_resident};
use vmie::snapshot::Snapshot;
use vmie::{
    AddrRange, Address, AddressSpace, Gpa, Gva, Hints, Layout, LiveGuest, Memory, Mode, Paused,
    ProgramWidth,
};

use crate::error::{Code, Error, to_c};
use crate::phys::Phys;

/// `VMIE_PHYS` of memmodel.h.
const PHYS: usize = usize::MAX;

/// How many spaces of one handle are remembered. Guests have as many roots as processes.
const MAX_KNOWN: usize = 4096;

/// The memory of one guest: `vmie_mem`.
pub struct Mem {
    source: Source,
    pub(crate) format: CString,
    pub(crate) ranges: Vec<AddrRange<Gpa>>,
    pub(crate) hints: Hints,
    pub(crate) notes: Vec<CString>,
    pub(crate) live: bool,
    threads: AtomicUsize,
    sweep_bound: u64,
    spaces: Mutex<Spaces>,
    programs: Mutex<Programs>,
    pub(crate) pause: Option<Pause>,
}

/// Where the bytes come from.
enum Source {
    /// Physical memory.
    Physical(Arc<dyn Memory<Addr = Gpa>>),
    /// A moment of one address space.
    Saved(Arc<Snapshot<Gva>>),
}

/// A running guest, and what keeps it still.
pub(crate) struct Pause {
    guest: Arc<LiveGuest>,
    held: Mutex<Option<Paused>>,
}

/// What is known about the spaces of a guest.
#[derive(Default)]
struct Spaces {
    /// What the caller says about all of them.
    mode: Option<Mode>,
    /// By cr3 as it was given.
    known: HashMap<usize, Tables>,
}

/// What is known about the programs whose spaces the roots are.
#[derive(Default)]
struct Programs {
    /// The operating system, once the caller has had it found.
    guest: Option<Arc<dyn Guest>>,
    /// By root; of guests that do not change.
    known: HashMap<u64, ProgramWidth>,
}

/// An address space behind page tables.
#[derive(Clone)]
struct Tables {
    space: AddressSpace,
    /// Whether its paging mode is more than a guess.
    confirmed: bool,
}

/// The memory that a cr3 names.
pub(crate) struct Space {
    /// The memory, by virtual addresses.
    pub(crate) memory: Arc<dyn Memory<Addr = Gva>>,
    /// The same, where there are page tables.
    pub(crate) tables: Option<AddressSpace>,
    /// The paging mode, unless it is physical memory.
    pub(crate) mode: Option<Mode>,
    /// How wide the program was of which this is a snapshot, as far as it says so.
    kept: ProgramWidth,
    /// Whether the mode is more than a guess.
    pub(crate) confirmed: bool,
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Mem>();
};

impl Mem {
    /// Opens what the caller names: see `vmie_open` in memmodel.h.
    pub(crate) fn open(source: &Path) -> Result<Self, Error> {
        Ok(Self::of(&Session::open(source)?))
    }

    /// Opens a raw image with its layout.
    pub(crate) fn raw(path: &Path, layout: Layout) -> Result<Self, Error> {
        let options = SessionOptions::default().layout(Some(layout));
        Ok(Self::of(&Session::open_with(path, &options)?))
    }

    fn of(session: &Session) -> Self {
        let info = session.info();
        let pause = session.live().map(|live| Pause {
            guest: Arc::clone(&live.guest),
            held: Mutex::default(),
        });
        Self {
            source: match session.saved() {
                Some(snapshot) => Source::Saved(Arc::clone(snapshot)),
                None => Source::Physical(Arc::clone(session.physical())),
            },
            format: to_c(info.format.clone()),
            ranges: info.ranges.clone(),
            hints: info.hints.clone(),
            notes: info.notes.iter().cloned().map(to_c).collect(),
            live: info.live,
            threads: AtomicUsize::new(0),
            sweep_bound: session.sweep_bound(),
            spaces: Mutex::default(),
            programs: Mutex::default(),
            pause,
        }
    }

    /// Physical memory, where the source has it.
    pub(crate) fn phys(&self) -> Result<&Arc<dyn Memory<Addr = Gpa>>, Error> {
        match &self.source {
            Source::Physical(memory) => Ok(memory),
            Source::Saved(_) => Err(Error::new(
                Code::Unsupported,
                "a snapshot of one address space holds no physical memory",
            )),
        }
    }

    /// The memory that a cr3 names.
    pub(crate) fn space(&self, cr3: usize) -> Result<Space, Error> {
        if let Source::Saved(snapshot) = &self.source {
            return saved_space(snapshot, cr3);
        }
        let phys = self.phys()?;
        if cr3 == PHYS {
            return Ok(Space {
                memory: Arc::new(Phys(Arc::clone(phys))),
                tables: None,
                mode: None,
                kept: ProgramWidth::UNKNOWN,
                confirmed: true,
            });
        }
        let tables = self.tables(phys, cr3)?;
        Ok(Space {
            memory: Arc::new(tables.space.clone()),
            mode: Some(tables.space.mode()),
            kept: ProgramWidth::UNKNOWN,
            confirmed: tables.confirmed,
            tables: Some(tables.space),
        })
    }

    fn tables(&self, phys: &Arc<dyn Memory<Addr = Gpa>>, cr3: usize) -> Result<Tables, Error> {
        let forced = {
            let spaces = lock(&self.spaces);
            if let Some(known) = spaces.known.get(&cr3) {
                return Ok(known.clone());
            }
            spaces.mode
        };
        let root = Gpa(cr3 as u64);
        if let Err(fault) = phys.read_u32(Gpa(root.raw() & ROOT_PAGE)) {
            return Err(Error::new(
                Code::Paging,
                format!("no page table can be read at cr3 {root}: {}", fault.cause),
            ));
        }
        // Without the lock: this reads from the guest.
        let (mode, confirmed) = match forced {
            Some(mode) => (mode, true),
            None => {
                let found = detect(&**phys, root, &self.hints.cpus);
                let found = found.map_err(|error| Error::new(Code::Paging, error.to_string()))?;
                (found.mode, found.confirmed)
            }
        };
        let space = AddressSpace::new(Arc::clone(phys), root, mode);
        let whole = self.with_resident(&space);
        // What is known of a process's memory was read at one moment.
        let keeps = !(self.live && whole.is_some());
        let tables = Tables {
            space: whole.unwrap_or(space),
            confirmed,
        };
        let mut spaces = lock(&self.spaces);
        if spaces.mode == forced && keeps {
            if spaces.known.len() >= MAX_KNOWN {
                spaces.known.clear();
            }
            spaces.known.insert(cr3, tables.clone());
        }
        Ok(tables)
    }

    /// The same space with the pages in memory that the CPU faults on, when it is that of a process of the operating
    /// system that was found.
    fn with_resident(&self, space: &AddressSpace) -> Option<AddressSpace> {
        let guest = lock(&self.programs).guest.clone()?;
        let root = space.root();
        let mut processes = guest.processes().ok()?.items.into_iter();
        let owner = processes.find(|one| one.has_root(root))?;
        with_resident(&*guest, &owner, space)
    }

    /// Remembers the operating system that was found, which knows how wide programs are and what it keeps in memory.
    pub(crate) fn set_guest(&self, guest: Arc<dyn Guest>) {
        let mut programs = lock(&self.programs);
        programs.guest = Some(guest);
        programs.known.clear();
        drop(programs);
        lock(&self.spaces).known.clear();
    }

    /// How wide the pointers and the code are that stand from `va` on in a space.
    ///
    /// Those of a process's own half are its program's, where the operating system was found and knows; all others
    /// are as the paging mode has them. Unknown in physical memory.
    pub(crate) fn width(&self, space: &Space, va: u64) -> ProgramWidth {
        let Some(mode) = space.mode else {
            return ProgramWidth::UNKNOWN;
        };
        let own = match mode {
            Mode::FourLevel | Mode::FiveLevel if va >> 63 == 0 => match &space.tables {
                Some(tables) => self.program(tables.root()),
                None => space.kept,
            },
            _ => ProgramWidth::UNKNOWN,
        };
        own.or(mode.width())
    }

    /// How wide the program is whose space has this root.
    fn program(&self, root: Gpa) -> ProgramWidth {
        let guest = {
            let programs = lock(&self.programs);
            if let Some(&known) = programs.known.get(&root.raw()) {
                return known;
            }
            programs.guest.clone()
        };
        let Some(guest) = guest else {
            return ProgramWidth::UNKNOWN;
        };
        // Without the lock: this reads from the guest.
        let width = guest.processes().ok().and_then(|listing| {
            let mut processes = listing.items.into_iter();
            let owner = processes.find(|one| one.has_root(root));
            Some(guest.width_of(&owner?).ok()?.width)
        });
        let width = width.unwrap_or_default();
        // The next process with this root may be of another sort where the guest runs on.
        if !self.live {
            let mut programs = lock(&self.programs);
            if programs.known.len() >= MAX_KNOWN {
                programs.known.clear();
            }
            programs.known.insert(root.raw(), width);
        }
        width
    }

    /// Says which paging mode all spaces have; `None` lets it be found out.
    pub(crate) fn set_mode(&self, mode: Option<Mode>) {
        let mut spaces = lock(&self.spaces);
        spaces.mode = mode;
        spaces.known.clear();
    }

    pub(crate) fn set_threads(&self, threads: usize) {
        self.threads.store(threads, Ordering::Relaxed);
    }

    /// How many threads a search uses; 0 as many as there are.
    pub(crate) fn threads(&self) -> usize {
        self.threads.load(Ordering::Relaxed)
    }

    /// How a scan runs.
    pub(crate) fn run(&self) -> Run<'static> {
        Run::new()
            .threads(self.threads())
            .max_bytes(self.sweep_bound())
    }

    /// How many bytes one sweep may look at.
    pub(crate) fn sweep_bound(&self) -> u64 {
        self.sweep_bound
    }
}

/// Roots are on a page of their own, or within one.
const ROOT_PAGE: u64 = 0x000f_ffff_ffff_f000;

impl Pause {
    /// Stops the guest, unless it is stopped by us already.
    pub(crate) fn pause(&self) -> Result<(), Error> {
        let mut held = lock(&self.held);
        if held.is_none() {
            *held = Some(Paused::new(self.guest.socket())?);
        }
        Ok(())
    }

    /// Lets it run on.
    pub(crate) fn resume(&self) -> Result<(), Error> {
        match lock(&self.held).take() {
            Some(paused) => Ok(paused.resume()?),
            None => Ok(()),
        }
    }
}

/// What was locked is whole also where a panic struck meanwhile.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `[lo, hi]`.
///
/// # Errors
///
/// When `lo` lies behind `hi`.
pub(crate) fn range(lo: u64, hi: u64) -> Result<AddrRange<Gva>, Error> {
    AddrRange::inclusive(Gva(lo), Gva(hi))
        .ok_or_else(|| Error::argument(format!("lo {lo:#x} lies behind hi {hi:#x}")))
}

/// What was asked for by address: of the whole space nobody expects all to be mapped.
pub(crate) fn asked(range: AddrRange<Gva>) -> Option<AddrRange<Gva>> {
    (range != AddrRange::all()).then_some(range)
}

/// Protection bits of the caller's.
///
/// # Errors
///
/// When there are others among them.
pub(crate) fn prot(bits: u32) -> Result<vmie::Prot, Error> {
    u8::try_from(bits)
        .ok()
        .and_then(vmie::Prot::from_bits)
        .filter(|prot| vmie::Prot::ALL.contains(*prot))
        .ok_or_else(|| Error::argument(format!("{bits:#x} has other bits than VMIE_PROT_")))
}

/// The space that a snapshot is of: by its own root, or by 0 where none was recorded.
fn saved_space(snapshot: &Arc<Snapshot<Gva>>, cr3: usize) -> Result<Space, Error> {
    let recorded = snapshot.origin().space;
    let (root, mask) = match recorded {
        Some((root, mode)) => (root.raw(), mode.spec().root_mask),
        None => (0, !0),
    };
    if cr3 == PHYS || cr3 as u64 & mask != root & mask {
        return Err(Error::new(
            Code::Unsupported,
            format!("a snapshot of the address space at cr3 {root:#x} holds no other memory"),
        ));
    }
    let memory: Arc<Snapshot<Gva>> = Arc::clone(snapshot);
    Ok(Space {
        memory,
        tables: None,
        mode: recorded.map(|(_, mode)| mode),
        kept: snapshot.origin().width,
        confirmed: true,
    })
}

#[cfg(test)]
mod tests {
    use vmie_synth::guest::Machine;
    use vmie_synth::linux::{Era, Program, Programs, Sort};
    use vmie_synth::write;

    use super::*;

    #[test]
    fn widths_are_those_of_programs_once_their_system_is_known() {
        let mut machine = Machine::new(0..32 << 20);
        let sorts = [Sort::X86_64, Sort::I386, Sort::X32];
        let programs: Vec<Program> = (1..)
            .zip(sorts)
            .map(|(pid, sort)| Program::of(pid, "program", sort))
            .collect();
        let made = Programs::load(&mut machine, Era::Flags, &programs);
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("guest.raw");
        let ranges = machine.phys.ranges().to_vec();
        let mut source =
            |gpa: u64, buf: &mut [u8]| machine.phys.read(gpa, buf).map_err(std::io::Error::other);
        let mut file = std::fs::File::create(&path).expect("a file");
        write::raw(&mut file, &ranges, &mut source).expect("writes");
        drop(file);

        let m = Mem::open(&path).expect("an image");
        m.set_mode(Some(Mode::FourLevel));
        let width = |root: u64, va| {
            let space = m.space(root as usize).expect("a space");
            m.width(&space, va)
        };
        let widths = |va| {
            made.spaces
                .iter()
                .map(|space| width(space.root(), va))
                .collect()
        };
        let all = vec![ProgramWidth::X86_64; 3];
        // By the paging mode, for nobody knows better.
        let before: Vec<ProgramWidth> = widths(0x1000);
        assert_eq!(before, all);

        let phys = m.phys().expect("physical memory");
        m.set_guest(vmie::os::find(phys, &m.hints).expect("a kernel").into());
        let expected = [ProgramWidth::X86_64, ProgramWidth::I386, ProgramWidth::X32];
        for _ in 0..2 {
            let own: Vec<ProgramWidth> = widths(0x1000);
            assert_eq!(own, expected);
            // The kernel's half, seen from a process, and the kernel's own space.
            let upper: Vec<ProgramWidth> = widths(1 << 63);
            assert_eq!(upper, all);
            assert_eq!(
                width(made.kernel.space.root(), 0x1000),
                ProgramWidth::X86_64
            );
        }
        assert_eq!(
            width(made.spaces[1].root() | 0xfff, 0x1000),
            ProgramWidth::I386
        );
        let physical = m.space(PHYS).expect("physical memory");
        assert_eq!(m.width(&physical, 0), ProgramWidth::UNKNOWN);
        // What users say of pointers decides.
        assert_eq!(
            crate::pmap::width(4).ok(),
            Some(Some(vmie::pointers::Width::Four))
        );
    }
}
