//! `vmie read`: the bytes of a range, and where there are none.
//!
//! [`pieces`] walks the range and knows about holes; [`views`] make rows of what is there. Raw bytes
//! have no rows and go their own way ([`raw`]).

mod args;
mod pieces;
mod raw;
#[cfg(test)]
mod tests;
mod views;

use vmie::paging::Mode;
use vmie::xref::CodeBits;
use vmie::{AddrRange, Address, Coverage, Memory};

use crate::args::BitsArg;
use crate::asm::Bits;
use crate::exit::{Done, Failure, Result};
use crate::options::Options;
use crate::output::totals;
use crate::report::Words;
use crate::source::Source;
use crate::space::{Space, Target};
use crate::unread::nothing_read;
pub(super) use args::ReadArgs;
use args::ReadAs;
use views::{Asm, Hex16, Rows, View, Words64};

/// How much is read where only an address is given.
const USUAL_LEN: u64 = 256;

pub(super) fn run(args: &ReadArgs, options: &Options) -> Result<Done> {
    check(args, options)?;
    let source = Source::open(&args.source, &options.reporter)?;
    let space = Space::select(&source, &args.space, &options.reporter)?;
    let reading = Reading {
        args,
        options,
        source: &source,
        space: &space,
    };
    match &space.of.target {
        Target::Physical(memory) => reading.run(&**memory),
        Target::Virtual(memory) => reading.run(memory),
        Target::Saved(memory) => reading.run(&**memory),
    }
}

/// Refuses combinations that would be ignored.
fn check(args: &ReadArgs, options: &Options) -> Result<()> {
    let failure = if args.bits.is_some() && args.view != ReadAs::Asm {
        Failure::new("--bits is for --as asm")
    } else if args.view != ReadAs::Raw {
        if args.fill.is_none() {
            return Ok(());
        }
        Failure::new("--fill is for --as raw; the other views show holes as holes")
    } else if options.typed.output.is_some() {
        Failure::new("--as raw writes the bytes themselves, which have no --output format")
    } else if options.output.limit.is_some() {
        Failure::new("--as raw has no rows to --limit").hint("a shorter range")
    } else if options.output.terminal {
        Failure::new("--as raw would write binary data to the terminal")
            .hint("redirect it: > FILE, or | xxd")
    } else {
        return Ok(());
    };
    Err(failure.into())
}

struct Reading<'a, 's> {
    args: &'a ReadArgs,
    options: &'a Options,
    source: &'a Source,
    space: &'a Space<'s>,
}

impl Reading<'_, '_> {
    fn run<A: Address>(&self, memory: &dyn Memory<Addr = A>) -> Result<Done> {
        let typed = &self.args.range;
        let meant = typed.resolve_usual(&self.space.names, USUAL_LEN)?;
        // The kernel's part of a process is not what is read on into.
        let own = self.space.of.user_range::<A>();
        let own = own.filter(|own| typed.is_open() && own.contains(meant.range.start()));
        let range = own
            .and_then(|own| own.intersect(meant.range))
            .unwrap_or(meant.range);
        if !meant.has_end && typed.is_moved() && self.args.view != ReadAs::Raw {
            self.options.reporter.note(&format!(
                "{} bytes at {typed}; {typed}..+LEN for another length",
                range.len()
            ));
        }
        let coverage = match self.args.view {
            ReadAs::Hex => self.rows(memory, range, Hex16)?,
            ReadAs::U64 => {
                let names = &self.space.names;
                self.rows(memory, range, Words64 { names })?
            }
            ReadAs::Asm => {
                let asm = Asm::new(self.bits(range), &self.space.names);
                self.rows(memory, range, asm)?
            }
            ReadAs::Raw => raw::write(memory, range, self.args.fill)?,
        };
        if coverage.read == 0 {
            let typed = self.args.range.to_string();
            return Err(nothing_read(&coverage, self.space, self.source, Some(typed), None).into());
        }
        self.options.reporter.coverage(&coverage, Words::READ);
        Ok(Done {
            found: true,
            complete: coverage.is_complete(),
        })
    }

    fn rows<A: Address, V: View>(
        &self,
        memory: &dyn Memory<Addr = A>,
        range: AddrRange<A>,
        view: V,
    ) -> Result<Coverage<A>> {
        let sink = self.options.sink::<V::Row>(self.space.kind());
        let sink = sink.named(self.space.names.shown());
        let mut rows = Rows::new(view, sink, self.space.names.process());
        let mut coverage = Coverage::default();
        let end = pieces::walk(memory, range, &mut coverage, &mut |piece| {
            rows.piece(&piece)
        })?;
        if end.is_continue() {
            rows.end(memory, range)?;
        }
        // Without a single byte the caller explains, and no row has been written.
        if coverage.read > 0 {
            rows.finish(&totals(&coverage))?;
        }
        Ok(coverage)
    }

    /// How wide code is: as asked, else as the program, else by the paging mode.
    fn bits<A: Address>(&self, range: AddrRange<A>) -> Bits {
        match self.args.bits.as_deref() {
            Some("16") => return Bits::B16,
            Some("32") => return Bits::B32,
            Some(_) => return Bits::B64,
            None => {}
        }
        let code = match &self.space.of.target {
            Target::Virtual(_) | Target::Saved(_) => {
                let reporter = &self.options.reporter;
                Some(self.space.code(BitsArg::Auto, Some(range), reporter))
            }
            Target::Physical(_) => {
                let mode = self
                    .source
                    .info()
                    .hints
                    .cpus
                    .iter()
                    .find_map(Mode::from_cpu);
                mode.and_then(|mode| mode.width().code)
            }
        };
        match code {
            Some(CodeBits::B32) => Bits::B32,
            Some(CodeBits::B64) | None => Bits::B64,
        }
    }
}
