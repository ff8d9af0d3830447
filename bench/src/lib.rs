//! What the benches measure: one synthetic guest of scattered frames, seen through vmie, through a
//! plain copy of the same frames, and through the `memflow` crate.
//!
//! All three read the same mapped file, so they meet the same page size and the same caches. Work is
//! given as closures that do one unit of it; the callers time them.

use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use memflow::architecture::x86::x64;
use memflow::connector::MappedPhysicalMemory;
use memflow::mem::{MemoryMap, MemoryView, VirtualDma, VirtualTranslate};
use memflow::types::Address as FlowAddress;
use vmie::{AddrRange, Address, AddressSpace, Gpa, Gva, Image, Memory, Mode};

type FlowMap = MemoryMap<&'static [u8]>;
type FlowPhys = MappedPhysicalMemory<&'static [u8], FlowMap>;
type FlowSpace = VirtualDma<
    FlowPhys,
    memflow::mem::DirectTranslate,
    memflow::architecture::x86::X86VirtualTranslate,
>;

/// The guest, opened by everyone who reads it.
pub struct Bench {
    space: AddressSpace,
    flow: FlowSpace,
    phys: &'static [u8],
    frames: Vec<u64>,
    start: u64,
    len: u64,
    buf: Vec<u8>,
    rng: u64,
}

/// Bytes of the guest's physical memory.
pub const PHYS: u64 = 512 << 20;

impl Bench {
    /// Builds the guest as a raw image in `dir` and opens it.
    ///
    /// # Panics
    ///
    /// When the image cannot be written or opened.
    pub fn new(dir: &Path) -> Self {
        let guest = vmie_synth::guest::scattered(PHYS, 1);
        std::fs::create_dir_all(dir).expect("the bench directory can be made");
        let path = dir.join("scattered.raw");
        let mut file = std::fs::File::create(&path).expect("the image can be created");
        file.write_all(&guest.phys)
            .expect("the image can be written");
        file.sync_all().expect("the image can be written");
        drop(file);

        // Leaked: the peer wants memory that lives for ever.
        let image: &'static Image = Box::leak(Box::new(Image::open(&path).expect("opens")));
        let all = AddrRange::new(Gpa(0), guest.phys.len() as u64).expect("not empty");
        let phys = image
            .borrow(all)
            .expect("a file that nobody writes to can be borrowed");
        let mut map = FlowMap::new();
        map.push(FlowAddress::null(), phys);
        let flow = VirtualDma::new(
            FlowPhys::with_info(map),
            x64::ARCH,
            x64::new_translator(FlowAddress::from(guest.root)),
        );
        let frames = guest.frames;
        Self {
            space: AddressSpace::new(Arc::new(image), Gpa(guest.root), Mode::FourLevel),
            flow,
            phys,
            frames,
            start: guest.va,
            len: guest.len,
            buf: vec![0; 4 << 20],
            rng: 88_172_645_463_325_252,
        }
    }

    /// Number of pages mapped.
    pub fn pages(&self) -> u64 {
        self.len / 4096
    }

    fn range(&self) -> AddrRange<Gva> {
        AddrRange::new(Gva(self.start), self.len).expect("not empty")
    }

    fn random_offset(&mut self, size: u64) -> u64 {
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 7;
        self.rng ^= self.rng << 17;
        (self.rng % (self.len / size)) * size
    }

    /// Lists all regions; answers how many.
    pub fn walk_regions(&mut self) -> u64 {
        self.space.spans(self.range()).count() as u64
    }

    /// Lists all extents; answers how many.
    pub fn walk_extents(&mut self) -> u64 {
        self.space.extents(self.range()).count() as u64
    }

    /// The peer's page map; answers how many ranges.
    pub fn walk_peer(&mut self) -> u64 {
        let (start, end) = (self.start, self.start + self.len);
        let map =
            self.flow
                .virt_page_map_range_vec(0, FlowAddress::from(start), FlowAddress::from(end));
        map.len() as u64
    }

    /// `count` reads of eight bytes at random.
    pub fn random_reads(&mut self, count: u64) -> u64 {
        let mut sum = 0_u64;
        for _ in 0..count {
            let va = Gva(self.start + self.random_offset(8));
            sum = sum.wrapping_add(self.space.read_u64(va).expect("mapped"));
        }
        sum
    }

    /// The same addresses through the list of frames: no page tables at all, what memory itself gives.
    pub fn random_reads_listed(&mut self, count: u64) -> u64 {
        let mut sum = 0_u64;
        for _ in 0..count {
            let offset = self.random_offset(8);
            let at = (self.frames[(offset / 4096) as usize] + offset % 4096) as usize;
            let bytes = self.phys[at..at + 8].try_into().expect("eight bytes");
            sum = sum.wrapping_add(u64::from_le_bytes(bytes));
        }
        sum
    }

    /// The same by the peer.
    pub fn random_reads_peer(&mut self, count: u64) -> u64 {
        let mut sum = 0_u64;
        for _ in 0..count {
            let va = FlowAddress::from(self.start + self.random_offset(8));
            let value: u64 = self.flow.read(va).expect("mapped");
            sum = sum.wrapping_add(value);
        }
        sum
    }

    /// Reads everything in virtual order in pieces of `piece` bytes.
    pub fn sequential(&mut self, piece: usize) {
        let mut at = 0;
        while at < self.len {
            let buf = &mut self.buf[..piece];
            self.space.read(Gva(self.start + at), buf).expect("mapped");
            black_box(&buf);
            at += piece as u64;
        }
    }

    /// The same by the peer.
    pub fn sequential_peer(&mut self, piece: usize) {
        let mut at = 0;
        while at < self.len {
            let buf = &mut self.buf[..piece];
            let va = FlowAddress::from(self.start + at);
            self.flow.read_raw_into(va, buf).expect("mapped");
            black_box(&buf);
            at += piece as u64;
        }
    }

    /// A plain copy of the same frames in the same order into the same pieces.
    pub fn gather(&mut self, piece: usize) {
        for frames in self.frames.chunks(piece / 4096) {
            let buf = &mut self.buf[..frames.len() * 4096];
            for (page, &frame) in buf.as_chunks_mut::<4096>().0.iter_mut().zip(frames) {
                let at = frame as usize;
                page.copy_from_slice(&self.phys[at..at + 4096]);
            }
            black_box(&buf);
        }
    }

    /// A copy of all of physical memory in address order: what memory itself gives.
    pub fn memcpy(&mut self, piece: usize) {
        for source in self.phys.chunks_exact(piece) {
            let buf = &mut self.buf[..piece];
            buf.copy_from_slice(source);
            black_box(&buf);
        }
    }

    /// Checks that vmie, the peer and the frame list agree, so that the figures compare like work.
    ///
    /// # Panics
    ///
    /// When they do not.
    pub fn verify(&mut self) {
        let mut pages = 0;
        for item in self.space.extents(self.range()) {
            let vmie::paging::ExtentItem::Extent(extent) = item else {
                panic!("everything is mapped: {item:?}")
            };
            for page in 0..extent.len / 4096 {
                let index = (extent.va.raw() - self.start) / 4096 + page;
                assert_eq!(self.frames[index as usize], extent.gpa.raw() + page * 4096);
                pages += 1;
            }
        }
        assert_eq!(pages, self.pages());
        for _ in 0..1000 {
            let va = self.start + self.random_offset(8);
            let peer: u64 = self.flow.read(FlowAddress::from(va)).expect("mapped");
            assert_eq!(self.space.read_u64(Gva(va)), Ok(peer));
        }
        assert!(self.walk_peer() > 0);
    }
}
