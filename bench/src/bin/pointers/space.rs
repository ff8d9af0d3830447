//! The space that is measured: 512 MiB of words, one in twenty of which leads into it.

use vmie::{AddrRange, Address, Cause, Fault, Gva, Memory, Prot, Span, SpanKind, Spans, View};

/// Bytes of the space.
pub(crate) const LEN: usize = 512 << 20;

/// Its first address.
pub(crate) const BASE: u64 = 0x7f00_0000_0000;

/// Words in so many that lead into the space.
const ONE_IN: u64 = 20;

/// Memory in one piece that nobody changes.
pub(crate) struct Flat(pub(crate) Vec<u8>);

impl Flat {
    /// Words as they stand in memory: zeros, small numbers, text, numbers of all bits; and pointers.
    pub(crate) fn new() -> Self {
        let mut bytes = vec![0; LEN];
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for word in bytes.as_chunks_mut::<8>().0 {
            let roll = random();
            let value = match roll % ONE_IN {
                0 => BASE + random() % LEN as u64 / 8 * 8,
                1..6 => 0,
                6..10 => roll >> 48,
                10..14 => random() & 0x7f7f_7f7f_7f7f_7f7f | 0x2020_2020_2020_2020,
                _ => random(),
            };
            *word = value.to_le_bytes();
        }
        Self(bytes)
    }

    fn all() -> AddrRange<Gva> {
        AddrRange::new(Gva(BASE), LEN as u64).expect("not empty")
    }

    fn slice(&self, range: AddrRange<Gva>) -> Option<&[u8]> {
        let at = range.start().offset_from(Gva(BASE))? as usize;
        self.0.get(at..at.checked_add(range.len() as usize)?)
    }
}

impl Memory for Flat {
    type Addr = Gva;

    fn spans(&self, range: AddrRange<Gva>) -> Spans<'_, Gva> {
        let span = Self::all().intersect(range).map(|range| Span {
            start: range.start(),
            len: range.len(),
            kind: SpanKind::Mapped(Prot::RWX),
        });
        Box::new(span.into_iter())
    }

    fn read(&self, addr: Gva, buf: &mut [u8]) -> Result<(), Fault<Gva>> {
        let Some(range) = AddrRange::new(addr, buf.len() as u64) else {
            return Ok(());
        };
        let bytes = self.slice(range).ok_or(Fault {
            addr,
            cause: Cause::NonCanonical,
        })?;
        buf.copy_from_slice(bytes);
        Ok(())
    }

    fn borrow(&self, range: AddrRange<Gva>) -> Option<&[u8]> {
        self.slice(range)
    }

    fn view(&self, _: Gva) -> Option<View<'_, Gva>> {
        Some(View::of_slice(Gva(BASE), &self.0))
    }
}
