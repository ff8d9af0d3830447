//! What must hold for *any* file that somebody calls a memory image.
//!
//! One body for the hostile-image tests, which run it on mutated images of every format, and for the
//! fuzz target of the same name.

use vmie::{AddrRange, Cause, Gpa, Image, Memory, OpenError, OpenOptions, SpanKind};

/// Opens `data` as an image and checks that it behaves. Answers the image for closer looks.
///
/// # Panics
///
/// When the image breaks a promise of [`Memory`] or of [`Image`].
pub fn open_image(data: &[u8]) -> Result<Image, OpenError> {
    let size = data.len() as u64;
    let opened = Image::from_bytes(data.to_vec(), &OpenOptions::default());
    let image = match opened {
        Ok(image) => image,
        Err(error) => {
            let text = error.to_string();
            assert!(text.starts_with("cannot open "), "{text}");
            assert!(text.len() < 1000, "an error of {} bytes", text.len());
            return Err(error);
        }
    };
    assert_eq!(image.info().size, size);
    // Snappy's densest code is 64 bytes for 3, and 32 bytes of an AVML header may stand for 16 MiB of zeros.
    let zeros = match image.info().format {
        vmie::Format::Lime | vmie::Format::Avml => (size / 32).saturating_mul(16 << 20),
        _ => 0,
    };
    check(&image, size.saturating_mul(22).saturating_add(zeros));
    Ok(image)
}

/// Checks that an image behaves whose files cannot hold more than so many bytes of memory.
///
/// # Panics
///
/// When the image breaks a promise of [`Memory`] or of [`Image`].
pub fn check(image: &Image, most: u64) {
    let info = image.info();
    assert!(info.notes.iter().all(|n| n.len() < 1000));
    assert!(info.hints.cpus.len() <= 1 << 16);

    let mut ranges = info.ranges.iter();
    let mut range = ranges.next();
    let mut previous: Option<AddrRange<Gpa>> = None;
    let mut readable = 0;
    for span in image.spans(AddrRange::all()) {
        let here = span.range();
        assert!(
            previous.is_none_or(|p| p.last() < here.start()),
            "spans ascend: {previous:?} {here:?}"
        );
        previous = Some(here);
        while range.is_some_and(|r| r.last() < here.start()) {
            range = ranges.next();
        }
        assert!(
            range.is_some_and(|r| r.covers(here)),
            "{here:?} is in a declared range"
        );
        match span.kind {
            SpanKind::Mapped(_) => {
                readable += here.len();
                check_mapped(image, here);
            }
            SpanKind::Away(..) => panic!("physical memory is never away"),
            SpanKind::Lost(cause) => {
                let fault = image.read(here.start(), &mut [0]).expect_err("lost");
                assert_eq!((fault.addr, fault.cause), (here.start(), cause));
                assert!(
                    image.read(here.last(), &mut [0]).is_err(),
                    "lost to the end"
                );
                assert_eq!(image.borrow(here), None);
            }
        }
        // Asked for alone, a span is the same.
        assert!(image.spans(here).eq([span]), "{here:?} alone");
    }
    assert!(readable != 0, "an image without memory is an error");
    assert!(readable <= most, "{readable} bytes and not {most}");

    for gpa in [
        0,
        0xfff,
        1 << 32,
        (1 << 52) - 1,
        1 << 52,
        u64::MAX - 7,
        u64::MAX,
    ] {
        let mut buf = [0; 64];
        if let Err(fault) = image.read(Gpa(gpa), &mut buf) {
            assert!(fault.addr.0.wrapping_sub(gpa) < 64);
        }
    }
}

/// Bytes of a mapped span are there, or are in a damaged frame; and every way to get at them agrees.
fn check_mapped(image: &Image, here: AddrRange<Gpa>) {
    let first = here.start().0;
    // All of a small span; the ends of a large one, which a few bytes can declare by decoding to much.
    let pieces = if here.len() <= 1 << 20 {
        vec![(first, here.len())]
    } else {
        vec![(first, 1 << 16), (here.last().0 - 0xffff, 1 << 16)]
    };
    for (start, len) in pieces {
        let mut at = start;
        let mut buf = [0xee; 4096];
        while at < start + len {
            let n = (start + len - at).min(4096) as usize;
            match image.read(Gpa(at), &mut buf[..n]) {
                Ok(()) => {
                    let range = AddrRange::new(Gpa(at), n as u64).expect("not empty");
                    if let Some(lent) = image.borrow(range) {
                        assert_eq!(lent, &buf[..n], "lent and copied differ at {at:#x}");
                    }
                    let mut byte = [0];
                    image.read(Gpa(at), &mut byte).expect("read before");
                    assert_eq!(byte[0], buf[0]);
                }
                Err(fault) => {
                    assert!(
                        matches!(fault.cause, Cause::Corrupt { gpa, .. } if gpa == fault.addr),
                        "a mapped span faults with {fault}"
                    );
                }
            }
            at += n as u64;
        }
    }
    let behind = here.last().0 + 1;
    let mut two = [0; 2];
    if let Err(fault) = image.read(here.last(), &mut two) {
        assert!(fault.addr.0 == behind || matches!(fault.cause, Cause::Corrupt { .. }));
    }
}
