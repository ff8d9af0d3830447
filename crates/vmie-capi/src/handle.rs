//! `vmie_mem`: a guest that was opened, and the address spaces in it.

use std::collections::HashMap;
use std::ffi::CString;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmie::candidates::SpaceId;
use vmie::scan::Run;
use vmie::session::{LayoutKnown, Root, Session, SessionOptions, System, Who};
use vmie::snapshot::Snapshot;
use vmie::{
    AddrRange, Address, AddressSpace, Gpa, Gva, Layout, LiveGuest, Memory, Mode, Paused,
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
    pub(crate) session: Session,
    pub(crate) format: CString,
    pub(crate) notes: Vec<CString>,
    threads: AtomicUsize,
    spaces: Mutex<Spaces>,
    /// The operating system, once the caller has had it found.
    system: Mutex<Option<Arc<System>>>,
    pub(crate) pause: Option<Pause>,
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
        Ok(Self::of(Session::open(source)?))
    }

    /// Opens a raw image with its layout.
    pub(crate) fn raw(path: &Path, layout: Layout) -> Result<Self, Error> {
        let options = SessionOptions::default().layout(Some(layout));
        Ok(Self::of(Session::open_with(path, &options)?))
    }

    fn of(session: Session) -> Self {
        let info = session.info();
        let pause = session.live().map(|live| Pause {
            guest: Arc::clone(&live.guest),
            held: Mutex::default(),
        });
        Self {
            format: to_c(info.format.clone()),
            notes: {
                let layout = info.layout.as_ref();
                let layout = layout.filter(|layout| {
                    !matches!(layout.known, LayoutKnown::Given | LayoutKnown::Only)
                });
                let layout = layout.map(ToString::to_string);
                let notes = info.notes.iter().cloned().chain(layout);
                notes.map(to_c).collect()
            },
            threads: AtomicUsize::new(0),
            spaces: Mutex::default(),
            system: Mutex::default(),
            pause,
            session,
        }
    }

    /// Physical memory, where the source has it.
    pub(crate) fn phys(&self) -> Result<&Arc<dyn Memory<Addr = Gpa>>, Error> {
        match self.session.saved() {
            None => Ok(self.session.physical()),
            Some(_) => Err(Error::new(
                Code::Unsupported,
                "a snapshot of one address space holds no physical memory",
            )),
        }
    }

    /// The memory that a cr3 names.
    pub(crate) fn space(&self, cr3: usize) -> Result<Space, Error> {
        if let Some(snapshot) = self.session.saved() {
            return self.saved(snapshot, cr3);
        }
        if cr3 == PHYS {
            let phys = Arc::clone(self.session.physical());
            return Ok(Space {
                memory: Arc::new(Phys(phys)),
                tables: None,
                mode: None,
                kept: ProgramWidth::UNKNOWN,
                confirmed: true,
            });
        }
        let tables = self.tables(cr3)?;
        Ok(Space {
            memory: Arc::new(tables.space.clone()),
            mode: Some(tables.space.mode()),
            kept: ProgramWidth::UNKNOWN,
            confirmed: tables.confirmed,
            tables: Some(tables.space),
        })
    }

    /// The space that a snapshot is of: by its own root, or by 0 where none was recorded.
    fn saved(&self, snapshot: &Arc<Snapshot<Gva>>, cr3: usize) -> Result<Space, Error> {
        let origin = snapshot.origin();
        let who = match origin.space {
            _ if cr3 == PHYS => Who::Physical,
            None if cr3 == 0 => Who::Saved,
            _ => Who::root(Gpa(cr3 as u64)),
        };
        if self.session.space(&who).is_err() {
            let root = origin.space.map_or(0, |(root, _)| root.raw());
            return Err(Error::new(
                Code::Unsupported,
                format!("a snapshot of the address space at cr3 {root:#x} holds no other memory"),
            ));
        }
        let memory: Arc<Snapshot<Gva>> = Arc::clone(snapshot);
        Ok(Space {
            memory,
            tables: None,
            mode: origin.space.map(|(_, mode)| mode),
            kept: origin.width,
            confirmed: true,
        })
    }

    fn tables(&self, cr3: usize) -> Result<Tables, Error> {
        let forced = {
            let spaces = lock(&self.spaces);
            if let Some(known) = spaces.known.get(&cr3) {
                return Ok(known.clone());
            }
            spaces.mode
        };
        // Without the lock: this reads from the guest.
        let found = self.session.space(&Who::Root(Root {
            gpa: Gpa(cr3 as u64),
            mode: forced,
        }));
        let found = found.map_err(|error| Error::new(Code::Paging, error.to_string()))?;
        let space = found.tables().expect("a root leads to tables");
        let whole = self.system().and_then(|system| system.with_resident(space));
        // What is known of a process's memory was read at one moment.
        let keeps = !(self.is_live() && whole.is_some());
        let tables = Tables {
            space: whole.unwrap_or_else(|| space.clone()),
            confirmed: found.detection.is_none_or(|found| found.confirmed),
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

    /// Whether it is a guest that runs.
    pub(crate) fn is_live(&self) -> bool {
        self.session.info().live
    }

    /// The operating system as it is now, once the caller has had it found.
    fn system(&self) -> Option<Arc<System>> {
        Some(lock(&self.system).as_ref()?.now())
    }

    /// Finds the operating system, and remembers it: it knows how wide programs are and what it keeps in memory.
    pub(crate) fn find_system(&self) -> Result<Arc<System>, Error> {
        self.phys()?;
        let system = self.session.system_now();
        let system = system.map_err(|error| Error::new(Code::Os, error.to_string()))?;
        *lock(&self.system) = Some(Arc::clone(&system));
        lock(&self.spaces).known.clear();
        Ok(system)
    }

    /// How wide the pointers and the code are that stand from `va` on in a space.
    ///
    /// Those of a process's user-space range are its program's, where the operating system was found and knows; all others
    /// are as the paging mode has them. Unknown in physical memory.
    pub(crate) fn width(&self, space: &Space, va: u64) -> ProgramWidth {
        let Some(mode) = space.mode else {
            return ProgramWidth::UNKNOWN;
        };
        let user = mode.user_range::<Gva>();
        let own = match (
            user.is_some_and(|half| half.contains(Gva(va))),
            &space.tables,
        ) {
            (false, _) => ProgramWidth::UNKNOWN,
            (true, None) => space.kept,
            (true, Some(tables)) => self.system().map_or(ProgramWidth::UNKNOWN, |system| {
                system.width_of_root(tables.root())
            }),
        };
        own.or(mode.width())
    }

    /// Whose memory a space is, in terms that hold at another moment: of whom, once the operating system was found.
    pub(crate) fn id(&self, space: &Space) -> SpaceId {
        let Some(tables) = &space.tables else {
            return match self.session.saved().and_then(|saved| saved.origin().space) {
                Some((root, mode)) => SpaceId::root(root, mode),
                None => SpaceId::Phys,
            };
        };
        let root = tables.root();
        let system = self.system();
        let known = system.as_ref().and_then(|system| {
            if let Some(process) = system.by_root(root) {
                return Some(SpaceId::process(process));
            }
            let guest = system.guest();
            (guest.kernel_space().root() == root).then(|| SpaceId::kernel(guest))
        });
        known.unwrap_or_else(|| SpaceId::root(root, tables.mode()))
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
            .max_bytes(self.session.sweep_bound())
    }
}

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
        .ok_or_else(|| {
            Error::argument(format!(
                "{bits:#x} has other bits than VMIE_PROT_R, W, X and USER"
            ))
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

        m.find_system().expect("a kernel");
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
