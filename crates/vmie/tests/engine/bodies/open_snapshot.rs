//! What must hold for *any* file that somebody calls a snapshot.
//!
//! One body for the hostile-snapshot tests, which run it on mutated files, and for the fuzz target of the same
//! name.

use vmie::snapshot::{FileErrorKind, Snapshot};
use vmie::{AddrRange, Gva, Memory, SpanKind};

/// Bytes that are read of one snapshot: made-up tables may claim far more.
const MOST: u64 = 1 << 20;

/// Opens `data` as far as it is intact, and checks that it behaves.
///
/// # Panics
///
/// When the snapshot breaks a promise of [`Memory`] or of [`Snapshot`].
pub fn open_snapshot(data: &[u8]) -> Result<(Snapshot<Gva>, Vec<FileErrorKind>), FileErrorKind> {
    let opened = Snapshot::<Gva>::from_bytes(data.to_vec());
    let (snapshot, problems) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < 1000, "an error of {} bytes", text.len());
            return Err(error);
        }
    };
    let coverage = snapshot.coverage();
    assert_eq!(coverage.mapped, coverage.read + coverage.absent);
    let mut previous: Option<AddrRange<Gva>> = None;
    let mut left = MOST;
    let mut page = [0; 4096];
    for span in snapshot.spans(snapshot.range()) {
        let here = span.range();
        assert!(previous.is_none_or(|previous| previous.last() < here.start()));
        assert!(snapshot.range().covers(here));
        previous = Some(here);
        if let SpanKind::Lost(cause) = span.kind {
            let fault = snapshot.read(here.start(), &mut [0]).expect_err("lost");
            assert_eq!((fault.addr, fault.cause), (here.start(), cause));
        }
        let mut at = here.start();
        while left > 0 && here.contains(at) {
            let len = here.last().0 - at.0;
            let len = len.saturating_add(1).min(page.len() as u64) as usize;
            left = left.saturating_sub(len as u64);
            let bytes = &mut page[..len];
            match snapshot.read(at, bytes) {
                Ok(()) => {
                    let range = AddrRange::new(at, len as u64).expect("not empty");
                    assert!(snapshot.borrow(range).is_none_or(|lent| lent == bytes));
                }
                Err(fault) => assert!(here.contains(fault.addr)),
            }
            let Some(next) = at.0.checked_add(len as u64) else {
                break;
            };
            at = Gva(next);
        }
    }
    Ok((snapshot, problems))
}
