//! One of several sources that are asked the same: its rows go to where those of all are put together.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use vmie_rows::{Field, Shape};

use super::{Cell, SpaceKind, Totals};
use crate::exit::Result;

/// What a source says.
pub(crate) enum Piece {
    /// A row, as its format has it.
    Row(Vec<u8>),
    /// A row of a table.
    Cells(Vec<Cell>),
    /// Text in place of a row, for people.
    Text(String),
    /// Lines for standard error.
    Said(Vec<u8>),
    /// What was looked at.
    Totals(Box<Totals>),
}

impl Piece {
    /// About how many bytes it takes while it waits.
    pub(crate) fn size(&self) -> usize {
        const ROW: usize = 64;
        match self {
            Self::Row(bytes) | Self::Said(bytes) => bytes.len() + ROW,
            Self::Cells(cells) => cells.iter().map(Cell::size).sum::<usize>() + ROW,
            Self::Text(text) => text.len() + ROW,
            Self::Totals(_) => ROW,
        }
    }
}

/// Whoever puts together what several sources say.
pub(crate) trait Gather: Send + Sync {
    /// Learns with which columns the rows of a source of this name will come, before the first.
    fn begin(
        &self,
        name: &str,
        shape: &'static Shape,
        columns: &[&'static Field],
        space: SpaceKind,
    ) -> Result<()>;

    /// Takes a piece of source `index`. Breaks where no more are wanted.
    fn push(&self, index: usize, piece: Piece) -> Result<ControlFlow<()>>;
}

/// One of several sources.
#[derive(Clone)]
pub(crate) struct Member {
    gather: Arc<dyn Gather>,
    index: usize,
    name: Arc<str>,
}

impl Member {
    /// Source `index`.
    pub(crate) fn new(gather: Arc<dyn Gather>, index: usize, source: &Path) -> Self {
        Self {
            gather,
            index,
            name: source.display().to_string().into(),
        }
    }

    /// As it was typed.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Says with which columns rows will come, before the first.
    pub(super) fn begin(
        &self,
        shape: &'static Shape,
        columns: &[&'static Field],
        space: SpaceKind,
    ) -> Result<()> {
        self.gather.begin(&self.name, shape, columns, space)
    }

    /// Passes a piece on. Breaks where no more are wanted.
    pub(crate) fn push(&self, piece: Piece) -> Result<ControlFlow<()>> {
        self.gather.push(self.index, piece)
    }
}
