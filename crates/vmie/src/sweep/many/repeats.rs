//! Whether one space maps its frames so often that looking at each once pays.
//!
//! Ordinary processes hardly do, and kernels see most of what they map in the direct map alone: of a
//! Linux guest's kernel half a tenth is mapped twice. [`sweep_many`](super::sweep_many) of such a space
//! costs about what [`sweep`](crate::sweep()) does, but gives its first result late. Where a program
//! maps a buffer over and over, a sanitizer a page of zeros for all of its shadow memory, or page tables
//! are made to keep tools busy, it is the other way round.

use std::sync::Arc;

use super::SpacePart;
use super::cut::{Met, walk};
use super::frames::{FrameSet, Ram};
use crate::addr::Gva;
use crate::sweep::SweepOptions;

/// One in so many bytes must be in a frame that was met before.
const ONE_IN: u64 = 4;

/// Whether a fourth or more of what a sweep would look at is mapped before, in the same space.
///
/// Costs a walk over the page tables and a bit for each frame.
pub(in crate::sweep) fn repeats_frames(part: SpacePart<'_>, options: &SweepOptions<Gva>) -> bool {
    let Some(ram) = Ram::of(&**part.space.phys()).map(Arc::new) else {
        return false;
    };
    let mut frames = FrameSet::new(&ram);
    let (mut mapped, mut distinct) = (0u64, 0u64);
    for met in walk(part, options) {
        if let Met::Run(run) = met {
            let (gpa, len) = run.frames();
            mapped = mapped.saturating_add(len);
            distinct += frames.insert_new(gpa, len);
            if mapped >= options.max_bytes {
                break;
            }
        }
    }
    mapped.saturating_sub(distinct) > mapped / ONE_IN
}
