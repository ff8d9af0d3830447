//! What is said of how a raw image is laid out: by what it was told, or that it is not known.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use vmie::Layout;
use vmie::session::{LayoutInfo, LayoutKnown, SourceInfo};

use crate::advice;
use crate::report::Reporter;

/// What was said of a source, to say it once.
#[derive(Default)]
pub(crate) struct Told(Mutex<HashSet<String>>);

impl Told {
    /// Whether a text is said for the first time.
    fn is_new(&self, text: &str) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(text.to_owned())
    }

    /// Warns of what is odd about a source.
    pub(crate) fn notes(&self, info: &SourceInfo, name: &str, reporter: &Reporter) {
        for note in &info.notes {
            let note = advice::worded(note.clone(), &info.advice);
            if self.is_new(&note) {
                reporter.warn(&format!("{name}: {note}"));
            }
        }
    }

    /// Says how a raw image is laid out, where that is not a matter of course.
    pub(crate) fn layout(&self, info: &SourceInfo, name: &str, reporter: &Reporter) {
        let Some(layout) = &info.layout else {
            return;
        };
        let text = match layout.known {
            LayoutKnown::Given | LayoutKnown::Only => return,
            LayoutKnown::Open => unknown(layout),
            known => format!("laid out as {}: {known}", shape(&layout.layout)),
        };
        match self.is_new(&text) {
            true if layout.is_known() => reporter.note(&format!("{name}: {text}")),
            true => reporter.warn(&format!("{name}: {text}")),
            false => {}
        }
    }
}

/// That a layout is not known, and what to try.
fn unknown(layout: &LayoutInfo) -> String {
    let others: Vec<String> = layout
        .others
        .iter()
        .map(|other| format!("--layout {other}"))
        .collect();
    format!(
        "how RAM lies in the file is not known, {}: taken as {}. If addresses look wrong, try {}",
        layout.known,
        shape(&layout.layout),
        others.join(", ")
    )
}

/// A layout in words and as `--layout` takes it.
pub(crate) fn shape(layout: &Layout) -> String {
    match layout {
        Layout::Explicit(parts) => match &parts[..] {
            [one] if one.gpa.0 == 0 && one.offset == 0 => {
                format!("one piece from physical address 0 ({layout})")
            }
            _ => layout.to_string(),
        },
        machine => machine.to_string(),
    }
}
