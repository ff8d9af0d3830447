//! What `vmie snap` takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

use crate::addr::parse_len;
use crate::args::{FilterArgs, SourceArgs, SpaceArgs};

/// What to do with snapshots of memory.
#[derive(Subcommand, Debug)]
pub(crate) enum SnapArgs {
    /// Keep what a space maps now in a file
    Take(Box<SnapTakeArgs>),
    /// Compare a snapshot with another, or with now
    Diff(Box<SnapDiffArgs>),
    /// Keep one snapshot after the other in a directory
    Watch(Box<SnapWatchArgs>),
    /// Show what changed when, in the snapshots that `snap watch` kept
    Series(Box<SnapSeriesArgs>),
}

#[derive(Args, Debug)]
pub(crate) struct SnapTakeArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) space: SpaceArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,

    /// Write the snapshot to this file, which appears when it is whole
    #[arg(short = 'O', long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: PathBuf,

    /// How to compress it
    #[arg(long, value_name = "METHOD", default_value = "lz4")]
    pub(crate) compress: Compress,
}

/// How snapshots are compressed, as typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Compress {
    /// Not at all
    None,
    /// Quickly
    Lz4,
    /// Well
    Zstd,
}

#[derive(Args, Debug)]
pub(crate) struct SnapDiffArgs {
    /// What was before: a snapshot, or an image (then the space is the same in both)
    #[arg(value_name = "BEFORE", value_hint = ValueHint::FilePath)]
    pub(crate) before: PathBuf,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) space: SpaceArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,

    /// A row per region or page with changed bytes, instead of one per run of them
    #[arg(long, value_name = "WHAT")]
    pub(crate) group_by: Option<GroupBy>,

    /// Show the bytes of both sides, changes highlighted
    #[arg(long)]
    pub(crate) hexdump: bool,
}

/// What changes are summed up by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum GroupBy {
    /// Regions as they are now
    Region,
    /// Pages of 4 KiB
    Page,
}

#[derive(Args, Debug)]
pub(crate) struct SnapWatchArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) space: SpaceArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,

    /// Keep the snapshots in this directory; those that share a page keep it once
    #[arg(short = 'O', long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,

    /// Begin a snapshot this often: a number and ms, s, m or h
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub(crate) every: Duration,

    /// Stop after so many snapshots [default: at Ctrl-C]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: Option<u32>,

    /// Go on with the series that is in DIR
    #[arg(long)]
    pub(crate) append: bool,

    /// How to compress a new series
    #[arg(long, value_name = "METHOD", default_value = "lz4")]
    pub(crate) compress: Compress,
}

#[derive(Args, Debug)]
pub(crate) struct SnapSeriesArgs {
    /// The directory that `snap watch` wrote to
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,

    /// List the snapshots instead
    #[arg(long = "list", alias = "moments", conflicts_with_all = ["groups", "html", "all", "range", "perm", "block"])]
    pub(crate) list: bool,

    /// Show instead the bytes that are constant within groups of snapshots and different between them: a letter
    /// for each snapshot, such as AAABB; `-` leaves one out
    #[arg(long, value_name = "LETTERS", value_parser = parse_groups)]
    pub(crate) groups: Option<Groups>,

    /// Show regions that did not change, too
    #[arg(long, conflicts_with = "groups")]
    pub(crate) all: bool,

    /// Cut regions into blocks of this size [default: physical memory into some hundred, others not at all]
    #[arg(long, value_name = "LEN", value_parser = parse_len)]
    pub(crate) block: Option<u64>,

    /// Draw a picture of it, region by snapshot, as a page that needs nothing else
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) html: Option<PathBuf>,

    /// Read what is intact of a damaged series
    #[arg(long)]
    pub(crate) salvage: bool,
}

/// Which group each snapshot is in, by the letters that were typed; `None` is left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Groups(pub(crate) Vec<Option<char>>);

fn parse_groups(text: &str) -> Result<Groups, String> {
    let letter = |c: char| match c {
        '-' => Ok(None),
        c if c.is_ascii_alphanumeric() => Ok(Some(c)),
        c => Err(format!("`{c}` is neither a letter nor `-`")),
    };
    let letters: Vec<Option<char>> = text.chars().map(letter).collect::<Result<_, _>>()?;
    let first = letters.iter().flatten().next();
    match first {
        Some(first) if letters.iter().flatten().any(|one| one != first) => Ok(Groups(letters)),
        _ => Err("two different letters at least, or nothing is told apart".to_owned()),
    }
}

/// A number and a unit.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("a number and ms, s, m or h, such as 500ms".to_owned()),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "a whole number and ms, s, m or h, such as 500ms".to_owned())?;
    // A year is longer than anybody watches, and as a number of milliseconds small.
    const MOST: u64 = 366 * 24 * 3_600_000;
    let millis = number.checked_mul(unit).filter(|&millis| millis <= MOST);
    let millis = millis.ok_or_else(|| "at most 8784h".to_owned())?;
    Ok(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_a_number_and_a_unit() {
        let millis = |text| parse_duration(text).map(|time| time.as_millis());
        assert_eq!(millis("500ms"), Ok(500));
        assert_eq!(millis("0s"), Ok(0));
        assert_eq!(millis("2m"), Ok(120_000));
        assert_eq!(millis("8784h"), Ok(31_622_400_000));
        for wrong in [
            "",
            "5",
            "ms",
            "-1s",
            "1.5s",
            "5 s",
            "8785h",
            "99999999999999999999h",
            "5d",
        ] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn groups_are_letters() {
        let groups = parse_groups("Aa-B").unwrap();
        assert_eq!(groups.0, [Some('A'), Some('a'), None, Some('B')]);
        for wrong in ["", "AAA", "A-", "A B", "-", "\u{e4}B"] {
            assert!(parse_groups(wrong).is_err(), "{wrong}");
        }
    }
}
