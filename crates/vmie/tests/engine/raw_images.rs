//! Raw images through the public interface: layouts, holes, live files, foreign files.

use std::fs::{self, OpenOptions as FsOpen};
use std::io::Write;
use std::path::PathBuf;

use vmie::{
    AddrRange, Advice, Cause, Fault, Format, Gpa, Image, Memory, OpenErrorKind, OpenOptions, Prot,
};

/// A file that is deleted when the test is over.
struct Temp(PathBuf);

impl Temp {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("vmie-raw-{}-{name}", std::process::id()));
        fs::write(&path, bytes).expect("temporary file");
        Self(path)
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Pages whose every byte is the page's number.
fn pages(n: u8) -> Vec<u8> {
    (0..n).flat_map(|page| [page; 4096]).collect()
}

fn with_layout(layout: &str) -> OpenOptions {
    OpenOptions {
        layout: Some(layout.parse().expect("valid layout")),
        ..OpenOptions::default()
    }
}

fn range(start: u64, len: u64) -> AddrRange<Gpa> {
    AddrRange::new(Gpa(start), len).expect("valid range")
}

#[test]
fn without_a_layout_a_raw_file_is_flat() {
    let file = Temp::new("flat", &pages(4));
    let image = Image::open(&file.0).expect("opens");
    assert_eq!(image.info().format, Format::Raw);
    assert_eq!(image.info().format.to_string(), "raw");
    assert_eq!(image.info().size, 0x4000);
    assert_eq!(image.info().ranges, [range(0, 0x4000)]);
    assert!(image.info().notes.is_empty(), "{:?}", image.info().notes);

    let mut buf = [0; 4];
    image.read(Gpa(0x1ffe), &mut buf).expect("within the image");
    assert_eq!(buf, [1, 1, 2, 2]);
    assert_eq!(
        image.read(Gpa(0x3ffe), &mut buf),
        Err(Fault {
            addr: Gpa(0x4000),
            cause: Cause::Absent { gpa: Gpa(0x4000) }
        })
    );
    assert_eq!(buf[..2], [3, 3], "the bytes before the fault are there");
    assert!(image.read(Gpa(u64::MAX), &mut buf).is_err());
    assert!(image.read(Gpa(u64::MAX), &mut []).is_ok());
    assert_eq!(image.read_u64(Gpa(0x2ffc)), Ok(0x0303_0303_0202_0202));
}

#[test]
fn an_explicit_layout_moves_swaps_and_joins_parts() {
    let file = Temp::new("explicit", &pages(4));
    // Pages 2 and 3 at 0x10000, page 0 right behind them, page 1 nowhere.
    let options = with_layout("0x10000+8KiB@8KiB,0x12000+4KiB@0");
    let image = Image::open_with(&file.0, &options).expect("opens");
    assert_eq!(image.info().ranges, [range(0x10000, 0x3000)]);

    let mut all = vec![0xff; 0x3000];
    image.read(Gpa(0x10000), &mut all).expect("one run");
    assert_eq!((all[0], all[0x1000], all[0x2000]), (2, 3, 0));

    let spans: Vec<_> = image.spans(range(0x11800, 0x10000)).collect();
    assert_eq!(spans.len(), 1, "adjacent parts are one span");
    assert_eq!((spans[0].start, spans[0].len), (Gpa(0x11800), 0x1800));
    assert_eq!(spans[0].region().map(|r| r.prot), Some(Prot::RWX));
    assert_eq!(image.spans(range(0, 0x10000)).count(), 0);
}

#[test]
fn a_layout_beyond_the_file_declares_what_is_missing() {
    let file = Temp::new("beyond", &pages(2));
    let image = Image::open_with(&file.0, &with_layout("0+16KiB@0")).expect("opens");
    assert_eq!(image.info().ranges, [range(0, 0x4000)]);
    assert!(!image.info().notes.is_empty());
    let mut buf = [0; 0x3000];
    assert_eq!(
        image.read(Gpa(0x1000), &mut buf),
        Err(Fault {
            addr: Gpa(0x2000),
            cause: Cause::Truncated {
                gpa: Gpa(0x2000),
                offset: 0x2000
            }
        })
    );
    let spans: Vec<_> = image.spans(range(0x1000, 0x2800)).collect();
    assert_eq!(spans.len(), 2);
    assert_eq!((spans[1].start, spans[1].len), (Gpa(0x2000), 0x1800));
    assert_eq!(spans[1].region(), None);

    let error = Image::open_with(&file.0, &with_layout("0+4KiB@1GiB")).expect_err("nothing there");
    assert!(
        matches!(error.kind, OpenErrorKind::LayoutBehindEnd { .. }),
        "{error}"
    );
}

#[test]
fn large_flat_files_come_with_a_hint_and_machines_with_a_split() {
    let file = Temp::new("large", &[]);
    let handle = FsOpen::new().write(true).open(&file.0).expect("opens");
    handle.set_len(4 << 30).expect("a sparse file");
    drop(handle);

    let image = Image::open(&file.0).expect("opens");
    let says = "say which machine it was, or its layout";
    assert!(
        image.info().notes.iter().any(|n| n.contains(says)),
        "{:?}",
        image.info().notes
    );
    assert_eq!(image.info().advice, [Advice::SayMachine]);
    let image = Image::open_with(&file.0, &with_layout("pc")).expect("opens");
    assert_eq!(
        image.info().ranges,
        [range(0, 3 << 30), range(4 << 30, 1 << 30)]
    );
    assert_eq!(image.read_u64(Gpa((5 << 30) - 8)), Ok(0));
    assert!(image.read_u64(Gpa(3 << 30)).is_err());
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_is_open_for_writing_is_live_and_never_lent() {
    let file = Temp::new("live", &pages(2));
    let mut writer = FsOpen::new().write(true).open(&file.0).expect("opens");
    let image = Image::open(&file.0).expect("opens");
    assert!(image.info().live);
    assert!(image.info().notes.iter().any(|n| n.contains("live")));
    assert_eq!(image.borrow(range(0, 0x1000)), None);
    writer.write_all(&[7; 16]).expect("writes");
    assert_eq!(image.read_u64(Gpa(8)), Ok(0x0707_0707_0707_0707));

    drop(writer);
    let image = Image::open(&file.0).expect("opens");
    // A file system without leases answers "unknown", which counts as live without a note.
    if image.info().live {
        assert!(image.info().notes.is_empty());
    } else {
        assert_eq!(image.borrow(range(0xff8, 16)).map(|b| b[15]), Some(1));
        assert_eq!(image.borrow(range(0x1ff8, 16)), None, "beyond the end");
    }
}

#[test]
fn what_is_not_a_memory_image_is_named() {
    let kind = |path: &std::path::Path| Image::open(path).expect_err("no image").kind;
    let empty = Temp::new("empty", &[]);
    assert!(matches!(
        kind(&empty.0),
        OpenErrorKind::TooShort { size: 0 }
    ));
    let short = Temp::new("short", &[0; 4095]);
    assert!(matches!(
        kind(&short.0),
        OpenErrorKind::TooShort { size: 4095 }
    ));
    assert!(matches!(
        kind(&std::env::temp_dir()),
        OpenErrorKind::NotAFile {
            found: "a directory"
        }
    ));
    assert!(matches!(
        kind("/nonexistent/image".as_ref()),
        OpenErrorKind::Io { .. }
    ));

    let mut packed = pages(1);
    packed[..4].copy_from_slice(b"\x28\xb5\x2f\xfd");
    let packed = Temp::new("packed", &packed);
    let error = Image::open(&packed.0).expect_err("compressed");
    assert!(error.to_string().contains("zstd"), "{error}");
    let forced = Image::open_with(&packed.0, &with_layout("pc")).expect("raw by request");
    assert_eq!(forced.info().format, Format::Raw);
    assert_eq!(forced.info().notes.len(), 1);
}
