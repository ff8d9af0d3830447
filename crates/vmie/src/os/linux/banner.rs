//! The kernel's banner: a text that starts with its release, and so a check of its symbols.

use std::ops::ControlFlow;

use super::hints::window;
use super::log::Log;
use super::scan::each_chunk;
use crate::addr::{Address, Gva};
use crate::memory::Memory;
use crate::os::SymbolTable;
use crate::paging::AddressSpace;

const START: &str = "Linux version ";

/// Longest banner that is read.
const MAX_BANNER: usize = 512;

/// Reads the banner of the kernel in `space`: where `symbols` put it, or, for a kernel that lists
/// functions only, wherever in its image it is. `None`, with a step that says why, when it contradicts.
///
/// `release` is what the banner has to go on with, where that is known. With `damaged`, what is no banner at
/// all counts as overwritten; another kernel's is a contradiction all the same.
pub(super) fn read(
    space: &AddressSpace,
    symbols: &SymbolTable,
    release: Option<&str>,
    damaged: bool,
    log: &mut Log,
) -> Option<String> {
    let listed = symbols.address_of("linux_banner");
    let Some(va) = listed.or_else(|| search(space, release)) else {
        log.say("banner", "the kernel's image does not contain one");
        return Some(format!("Linux {}", release.unwrap_or("of unknown version")));
    };
    let mut bytes = [0; MAX_BANNER];
    if let Err(fault) = space.read(va, &mut bytes) {
        log.say("banner", format!("linux_banner: {fault}"));
        // That it is missing from the image is no contradiction; that it is not mapped is one.
        let known = release.filter(|_| !fault.cause.is_unmapped())?;
        return Some(format!("Linux {known}"));
    }
    let text = line(&bytes);
    match release_in(&text) {
        Some(told) if release.is_none_or(|release| release == told) => {
            log.say("banner", text.clone());
            Some(text)
        }
        _ => {
            let seen: String = text.chars().take(80).collect();
            let expected = release.unwrap_or("");
            log.say(
                "banner",
                format!("linux_banner at {va} is {seen:?}, not \"{START}{expected}\""),
            );
            let overwritten = damaged && release_in(&text).is_none();
            overwritten.then(|| format!("Linux {}", release.unwrap_or("of unknown version")))
        }
    }
}

/// The text up to its end, or the end of its first line.
fn line(bytes: &[u8]) -> String {
    let len = bytes.iter().position(|&b| b == 0 || b == b'\n');
    String::from_utf8_lossy(&bytes[..len.unwrap_or(bytes.len())]).into_owned()
}

fn release_in(banner: &str) -> Option<&str> {
    let release = banner.strip_prefix(START)?.split(' ').next()?;
    (!release.is_empty()).then_some(release)
}

/// Whether a version is the text of a banner.
pub(super) fn is_one(version: &str) -> bool {
    release_in(version).is_some()
}

/// The first banner in the kernel's image.
pub(super) fn search(space: &AddressSpace, release: Option<&str>) -> Option<Gva> {
    let finder = memchr::memmem::Finder::new(START);
    let mut found = None;
    let _ = each_chunk(
        space,
        window(),
        |_| true,
        MAX_BANNER,
        |start, bytes| {
            for at in finder.find_iter(bytes) {
                let end = bytes.len().min(at + MAX_BANNER);
                let text = line(&bytes[at..end]);
                // Format strings and messages contain the words, too.
                let fits = release_in(&text).is_some_and(|told| match release {
                    Some(release) => told == release,
                    None => told.starts_with(|c: char| c.is_ascii_digit()),
                });
                if fits {
                    found = start.checked_add(at as u64);
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        },
    );
    found
}
