//! Snapshots as sources: opening them, and what they say about where they come from.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use vmie::snapshot::{self, Origin};
use vmie::views::Regions;
use vmie::{AddrRange, Gva};
use vmie_rows::Time;

use crate::candidates::{Whose, told};

/// What a snapshot says about itself, as JSON in the file.
#[derive(Serialize, Deserialize)]
pub(crate) struct About {
    /// The image or guest. For messages.
    pub(crate) source: String,
    pub(crate) space: Whose,
    /// What a process has arranged to be mapped, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) regions: Vec<Named>,
}

/// Addresses with a name.
#[derive(Serialize, Deserialize)]
pub(crate) struct Named {
    pub(crate) va: u64,
    pub(crate) len: u64,
    pub(crate) name: String,
}

fn about(origin: &Origin) -> Option<About> {
    serde_json::from_str(&origin.about).ok()
}

/// Whose memory a snapshot is of.
pub(crate) fn whose(origin: &Origin) -> Whose {
    let told = about(origin).map(|about| about.space);
    told.unwrap_or_else(|| match origin.space {
        Some((root, mode)) => Whose::root(root, mode),
        None => Whose::Phys,
    })
}

/// What a snapshot of a process says its regions are called.
pub(crate) fn regions(origin: &Origin) -> Regions {
    let named = about(origin).map_or_else(Vec::new, |about| about.regions);
    // A file can say anything.
    Regions::kept(named.into_iter().filter_map(|one| {
        let range = AddrRange::new(Gva(one.va), one.len)?;
        Some((range, one.name))
    }))
}

/// What a snapshot is of, in words.
pub(crate) fn of(origin: &Origin) -> String {
    match about(origin) {
        Some(about) => format!("{} of {}", told(&about.space), about.source),
        None => whose(origin).to_string(),
    }
}

/// A point in time in words, in universal time.
pub(crate) fn when(time: SystemTime) -> Time {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, second) = (since.as_secs() / 86400, since.as_secs() % 86400);
    let (year, month, day) = date(days);
    Time(format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    ))
}

/// Year, month and day of so many days after 1970-01-01, by the Gregorian calendar.
fn date(days: u64) -> (u64, u64, u64) {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    // 400 years always have the same number of days.
    let (mut year, mut left) = (1970 + days / 146_097 * 400, days % 146_097);
    while left >= 365 + u64::from(is_leap(year)) {
        left -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    for len in [
        31,
        28 + u64::from(is_leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ] {
        if left < len {
            break;
        }
        left -= len;
        month += 1;
    }
    (year, month, left + 1)
}

/// What kind of memory a file is a snapshot of, if it is one.
pub(crate) fn kind(path: &Path) -> Option<&'static str> {
    // What cannot be opened is told when it is opened as an image.
    path.is_file()
        .then(|| snapshot::holds(path).ok().flatten())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_by_the_calendar() {
        let at = |seconds| when(UNIX_EPOCH + Duration::from_secs(seconds)).0;
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(4_107_542_399), "2100-02-28T23:59:59.000Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000Z");
        assert_eq!(at(1_792_540_799), "2026-10-20T23:59:59.000Z");
    }
}
