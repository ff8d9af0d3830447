//! `read --as raw`: the bytes themselves on standard output.
//!
//! Raw bytes cannot say "nothing is here", so a range with a hole is refused, before anything is
//! written, unless the user names a byte to fill holes with.

use std::io::Write as _;
use std::ops::ControlFlow;

use vmie::{AddrRange, Address, Coverage, Memory};

use super::pieces::{self, Piece};
use crate::exit::{Failure, Result, Stop};

/// Writes the range. Nothing is written when not a byte of it can be read.
pub(super) fn write<A: Address>(
    memory: &dyn Memory<Addr = A>,
    range: AddrRange<A>,
    fill: Option<u8>,
) -> Result<Coverage<A>> {
    if fill.is_none() {
        // Reading twice costs little beside writing, and leaves no half-written file behind.
        let coverage = probe(memory, range)?;
        if coverage.read == 0 {
            return Ok(coverage);
        }
        refuse_holes(&coverage, range)?;
    }
    let mut coverage = Coverage::default();
    let mut out = std::io::stdout().lock();
    // Holes before the first byte wait, so that a range without any byte writes nothing.
    let mut waiting = 0_u64;
    let mut started = false;
    let _ = pieces::walk(memory, range, &mut coverage, &mut |piece| {
        match piece {
            Piece::Bytes { bytes, .. } => {
                write_fill(&mut out, fill, std::mem::take(&mut waiting))?;
                started = true;
                out.write_all(bytes)
                    .map_err(|error| Stop::writing(&error))?;
            }
            Piece::Gap { len, .. } if !started => waiting = waiting.saturating_add(len),
            Piece::Gap { len, .. } => write_fill(&mut out, fill, len)?,
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if fill.is_none() {
        // Only a guest that changed between the two passes comes to this.
        refuse_holes(&coverage, range)?;
    }
    out.flush().map_err(|error| Stop::writing(&error))?;
    Ok(coverage)
}

fn probe<A: Address>(memory: &dyn Memory<Addr = A>, range: AddrRange<A>) -> Result<Coverage<A>> {
    let mut coverage = Coverage::default();
    // The first hole after something readable decides; what lies behind it does not matter.
    let mut read = false;
    let mut hole = false;
    let _ = pieces::walk(memory, range, &mut coverage, &mut |piece| {
        match piece {
            Piece::Bytes { .. } => read = true,
            Piece::Gap { .. } => hole = true,
        }
        Ok(if read && hole {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })?;
    Ok(coverage)
}

fn refuse_holes<A: Address>(coverage: &Coverage<A>, range: AddrRange<A>) -> Result<()> {
    let Some(gap) = coverage.gaps.first() else {
        return Ok(());
    };
    Err(
        Failure::new(format!("{range} has holes, which raw bytes cannot show"))
            .found(format!("{}..+{:#x}: {}", gap.start, gap.len, gap.cause))
            .hint("--fill 0, to write a zero for every missing byte")
            .hint("--as hex, which shows holes as holes")
            .into(),
    )
}

fn write_fill(out: &mut impl std::io::Write, fill: Option<u8>, len: u64) -> Result<()> {
    let Some(byte) = fill else {
        return Ok(());
    };
    let block = [byte; 64 << 10];
    let mut left = len;
    while left > 0 {
        let n = left.min(block.len() as u64);
        out.write_all(&block[..n as usize])
            .map_err(|error| Stop::writing(&error))?;
        left -= n;
    }
    Ok(())
}
