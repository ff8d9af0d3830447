//! Keeps what a search finds in a file.

use std::path::Path;

use vmie::search::Sought as Found;

use super::asked::{Asked, Known};
use crate::candidates::{Header, Scope, Sought, Whose, Writer};
use crate::escape::shell_word;
use crate::exit::{Failure, Result, Stop};
use crate::report::Reporter;
use crate::seek::{Around, Keep};
use crate::size;
use crate::source::{Source, still_there};

/// From so many candidates on, somebody may want to know what they have asked for.
const MANY: u64 = 100_000_000;

/// The results of a search on their way to a file.
pub(super) struct Save<'a> {
    path: &'a Path,
    asked: &'a [Asked],
    sought: Vec<Sought>,
    aligned: &'a dyn Fn(u64) -> bool,
    reporter: &'a Reporter,
    writer: Option<Writer>,
}

impl<'a> Save<'a> {
    /// Keeps what is found of `asked`, where it is `aligned`.
    pub(super) fn new(
        path: &'a Path,
        asked: &'a [Asked],
        aligned: &'a dyn Fn(u64) -> bool,
        reporter: &'a Reporter,
    ) -> Result<Self> {
        if asked.len() > usize::from(u16::MAX) {
            return Err(
                Failure::new(format!("--save: {} values are too many", asked.len()))
                    .found("up to 65535 are kept")
                    .into(),
            );
        }
        Ok(Self {
            path,
            asked,
            sought: asked.iter().map(Asked::sought).collect::<Result<_>>()?,
            aligned,
            reporter,
            writer: None,
        })
    }
}

impl Keep<Found> for Save<'_> {
    fn begin(&mut self, source: &Source, scope: Scope, spaces: Vec<Whose>) -> Result<()> {
        let longest = self.sought.iter().map(|sought| sought.len).max();
        let header = Header {
            source: source.path().display().to_string(),
            scope,
            spaces,
            queries: self.sought.clone(),
            value_len: longest.unwrap_or(0),
        };
        self.writer = Some(Writer::begin(self.path, &header)?);
        Ok(())
    }

    fn keep(&mut self, space: usize, va: u64, found: &Found, around: &dyn Around) -> Result<()> {
        let Some(writer) = self.writer.as_mut().filter(|_| (self.aligned)(va)) else {
            return Ok(());
        };
        let asked = &self.asked[found.query];
        let (space, query) = (space as u32, found.query as u16);
        match &asked.bytes {
            // Without making anything: there are tens of millions of these.
            Known::Number => {
                writer.push(va, space, query, &found.bits.to_le_bytes()[..asked.len])?;
            }
            Known::All(bytes) => writer.push(va, space, query, bytes)?,
            Known::Forms(_) => {
                writer.push(va, space, query, &asked.bytes(found.bits, va, around))?;
            }
        }
        if writer.count() == MANY {
            self.reporter.warn(&format!(
                "{MANY} candidates so far, {} on the disk; --align, --range and --perm make fewer",
                size::approx(writer.bytes())
            ));
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        match self.writer.take() {
            Some(writer) => finish(writer, self.path, self.reporter),
            None => Ok(()),
        }
    }
}

impl Drop for Save<'_> {
    fn drop(&mut self) {
        if self.writer.is_some() {
            not_written(self.path, self.reporter);
        }
    }
}

/// Puts the file in its place, and says so.
pub(super) fn finish(writer: Writer, path: &Path, reporter: &Reporter) -> Result<()> {
    let count = writer.count();
    still_there()?;
    writer.finish().map_err(Stop::from)?;
    let s = if count == 1 { "" } else { "s" };
    reporter.note(&format!("{count} candidate{s} in {}", shell_word(path)));
    Ok(())
}

/// Says that a part of the candidates is of no use.
pub(super) fn not_written(path: &Path, reporter: &Reporter) {
    reporter.warn(&format!(
        "{} was not written: there is no whole answer",
        shell_word(path)
    ));
}
