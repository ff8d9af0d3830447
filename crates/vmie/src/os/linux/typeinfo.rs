//! Where the types of a kernel come from: its own BTF, or a file for a kernel that has none.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::Linux;
use super::btf::Btf;
use super::hints::window;
use super::scan::each_chunk;
use super::vmcoreinfo::VmCoreInfo;
use crate::addr::{Address, Gva, PAGE_SIZE};
use crate::memory::{Memory, read_around_holes};
use crate::os::types::kept::{Kept, KernelId};
use crate::os::{BuildId, Finding, FindingKind, Guest, OsError, TypeStore, Types};

/// The largest BTF blob that is read. Distribution kernels have about 6 MiB.
const MAX_BTF: u64 = 128 << 20;

/// The most notes that are read. Kernels have some 200 bytes.
const MAX_NOTES: u64 = 64 << 10;

/// What a BTF blob of version 1 starts with, flags left out.
const MAGIC: &[u8; 3] = b"\x9f\xeb\x01";

/// A type that the kernel's BTF has and other BTF has not.
const OWN_TYPE: &str = "task_struct";

/// How many blobs are looked at in a kernel that does not list where its own is.
const MAX_CANDIDATES: usize = 64;

/// Types, and what of them is lost.
#[derive(Clone, Debug)]
pub(super) struct KernelTypes {
    pub(super) types: Arc<Types>,
    pub(super) findings: Vec<Finding>,
}

impl KernelTypes {
    fn whole(types: Arc<Types>) -> Self {
        Self {
            types,
            findings: Vec::new(),
        }
    }
}

/// Types as they are in the kernel's memory.
struct OwnTypes {
    types: KernelTypes,
    /// Where they are, and how many bytes.
    at: (Gva, u64),
}

impl Linux {
    /// The kernel's types: its own, if they are whole; else those from outside that are its; else what is left of its own.
    pub(super) fn read_types(&self) -> Result<KernelTypes, OsError> {
        let own = match (self.symbol("__start_BTF"), self.symbol("__stop_BTF")) {
            (Ok(start), Ok(stop)) => self.listed_btf(start, stop),
            // Kernels may be built with the names of functions only, and BTF all the same.
            _ => self.search_btf(),
        };
        if let Ok(own) = &own
            && own.types.findings.is_empty()
        {
            self.keep_types(own.at);
        } else if let Some(types) = self.types_from_outside() {
            return Ok(KernelTypes::whole(types));
        }
        own.map(|own| own.types).map_err(|error| {
            let Some(supplied) = &self.supplied else {
                return error;
            };
            let why = match error {
                OsError::Unavailable { why, .. } => why,
                error => error.to_string(),
            };
            let (origin, version) = (&supplied.origin, self.version.trim_end());
            unavailable(match supplied.banner.as_deref().map(str::trim_end) {
                Some(banner) if banner == version => {
                    format!("{why}; and {origin} belongs to another build of this kernel")
                }
                Some(banner) => format!(
                    "{why}; and {origin} belongs to another kernel, `{banner}`, while this one is `{version}`",
                ),
                None => {
                    format!("{why}; and {origin} does not say which kernel its types belong to")
                }
            })
        })
    }

    /// Types that are not in the guest, and are its kernel's.
    fn types_from_outside(&self) -> Option<Arc<Types>> {
        let kernel = self.id();
        let supplied = self.supplied.as_ref();
        if let Some(supplied) = supplied.filter(|types| types.fits(kernel.version, kernel.build)) {
            return Some(Arc::clone(&supplied.types));
        }
        self.stores
            .iter()
            .find_map(|store| match store.load(kernel)? {
                Kept::Btf(bytes) => {
                    let btf = Btf::parse(bytes).ok()?;
                    Some(Arc::new(Types::new(Box::new(btf))))
                }
                Kept::Supplied(supplied) => Some(supplied.types),
            })
    }

    /// Keeps types that are whole where that is wanted. What cannot be kept is not: it is only for other images.
    fn keep_types(&self, (start, len): (Gva, u64)) {
        let kernel = self.id();
        let wanting = |store: &&TypeStore| store.wants(kernel);
        for store in self.stores.iter().filter(wanting) {
            let mut bytes = vec![0; len as usize];
            // Once more: the guest may run, and what is kept must be whole.
            if self.space.read(start, &mut bytes).is_ok()
                && let Ok(btf) = Btf::parse(bytes)
            {
                let _ = store.keep(kernel, btf.bytes());
            }
        }
    }

    fn id(&self) -> KernelId<'_> {
        KernelId {
            version: &self.version,
            build: self.build_id(),
        }
    }

    /// The build id, from the kernel's notes, or from what it tells crash dumps.
    pub(super) fn read_build_id(&self) -> Option<BuildId> {
        self.build_id_in_notes().or_else(|| {
            let note = self.symbols.address_of("vmcoreinfo_note")?;
            let note = self.space.read_u64(note).ok()?;
            let gpa = self.space.translate(Gva(note)).ok()?.gpa;
            let info = VmCoreInfo::read(&**self.space.phys(), gpa)?;
            info.value("BUILD-ID")?.parse().ok()
        })
    }

    fn build_id_in_notes(&self) -> Option<BuildId> {
        let start = self.symbols.address_of("__start_notes")?;
        let stop = self.symbols.address_of("__stop_notes")?;
        let len = stop.offset_from(start).filter(|&len| len <= MAX_NOTES)?;
        let mut notes = vec![0; len as usize];
        self.space.read(start, &mut notes).ok()?;
        BuildId::among_notes(&notes)
    }

    fn listed_btf(&self, start: Gva, stop: Gva) -> Result<OwnTypes, OsError> {
        let len = stop
            .offset_from(start)
            .filter(|&len| len <= MAX_BTF)
            .ok_or_else(|| unavailable(format!("BTF from {start} to {stop} is absurd")))?;
        self.btf_at(start, len)
    }

    fn btf_at(&self, start: Gva, len: u64) -> Result<OwnTypes, OsError> {
        let at = (start, len);
        let mut bytes = vec![0; len as usize];
        let mut first = None;
        let mut missing = 0;
        let got = read_around_holes(
            &self.space,
            start,
            &mut bytes,
            PAGE_SIZE,
            |_, len, fault| {
                first.get_or_insert(fault);
                missing += len;
            },
        );
        if let Some(fault) = first
            && got == 0
        {
            return Err(OsError::Unreadable {
                what: format!("BTF at {start}"),
                fault,
            });
        }
        let (why, bytes) = match first {
            None => match Btf::open(bytes) {
                Ok(btf) => {
                    let types = KernelTypes::whole(Arc::new(Types::new(Box::new(btf))));
                    return Ok(OwnTypes { types, at });
                }
                Err(refused) => refused,
            },
            Some(fault) => {
                let why = format!("{missing} bytes of it cannot be read: {fault}");
                (why, bytes)
            }
        };
        let skew = (start.raw() % PAGE_SIZE) as usize;
        let (btf, losses) = Btf::salvage(bytes, skew)
            .map_err(|_| unavailable(format!("BTF at {start} is damaged: {why}")))?;
        let kind = match first {
            Some(_) => FindingKind::Unreadable,
            None => FindingKind::Damaged,
        };
        let finding = |text: String| Finding {
            kind,
            at: Some(start),
            text: format!("the kernel's types (BTF) are damaged: {text}"),
        };
        let types = KernelTypes {
            types: Arc::new(Types::new(Box::new(btf))),
            findings: losses.into_iter().map(finding).collect(),
        };
        Ok(OwnTypes { types, at })
    }

    /// The BTF in the kernel's image that describes the kernel.
    fn search_btf(&self) -> Result<OwnTypes, OsError> {
        let finder = memchr::memmem::Finder::new(MAGIC);
        let mut seen = 0;
        let mut found = None;
        let _ = each_chunk(
            &self.space,
            window(),
            |_| true,
            MAGIC.len() - 1,
            |start, bytes| {
                for at in finder.find_iter(bytes) {
                    let va = Gva(start.raw() + at as u64);
                    let Some(len) = self.btf_len(va) else {
                        continue;
                    };
                    seen += 1;
                    if let Ok(own) = self.btf_at(va, len)
                        && own.types.types.find(OWN_TYPE).is_ok()
                    {
                        found = Some(own);
                    }
                    if found.is_some() || seen == MAX_CANDIDATES {
                        return ControlFlow::Break(());
                    }
                }
                ControlFlow::Continue(())
            },
        );
        found.ok_or_else(|| unavailable("the kernel has no BTF".into()))
    }

    /// The length of the blob at `va`, if its header is one.
    fn btf_len(&self, va: Gva) -> Option<u64> {
        let mut header = [0; 24];
        self.space.read(va, &mut header).ok()?;
        let word = |at: usize| {
            let bytes = header[at..at + 4].try_into().expect("four bytes");
            u64::from(u32::from_le_bytes(bytes))
        };
        let (header_len, type_off, type_len) = (word(4), word(8), word(12));
        let (string_off, string_len) = (word(16), word(20));
        let len = header_len + string_off + string_len;
        let adds_up = type_off == 0 && string_off == type_len && type_len > 0 && string_len > 0;
        (adds_up && header_len >= 24 && len <= MAX_BTF).then_some(len)
    }
}

fn unavailable(why: String) -> OsError {
    OsError::Unavailable { view: "types", why }
}
