//! The rows of a search on their way out, until they cannot be written or are enough.

use std::ops::ControlFlow::{self, Break, Continue};

use crate::exit::{Result, Stop};
use crate::output::{Row, Sink};

/// Takes the rows of a search.
pub(crate) struct Rows<'a> {
    sink: Sink<'a>,
    /// Whether the search goes on when no more rows are wanted.
    goes_on: bool,
    full: bool,
    failed: Option<Stop>,
}

impl<'a> Rows<'a> {
    /// Rows for `sink`. With `goes_on` the search is for something else too, so neither `--limit` nor a
    /// reader that has seen enough ends it.
    pub(crate) fn new(sink: Sink<'a>, goes_on: bool) -> Self {
        Self {
            sink,
            goes_on,
            full: false,
            failed: None,
        }
    }

    /// Whether no more rows are wanted.
    pub(crate) fn are_full(&self) -> bool {
        self.full
    }

    /// Whether nothing went wrong that ends more than the rows.
    pub(crate) fn may_go_on(&self) -> bool {
        matches!(self.failed, None | Some(Stop::ClosedPipe))
    }

    /// Ends the search with this.
    pub(crate) fn fail(&mut self, stop: Stop) {
        self.failed = Some(stop);
    }

    /// Takes a row, if there is one, and says whether the search goes on.
    pub(crate) fn add<R: Row>(&mut self, row: Option<R>) -> ControlFlow<()> {
        let Some(row) = row.filter(|_| !self.full) else {
            return Continue(());
        };
        let flow = self.sink.row(&row).unwrap_or_else(|stop| {
            self.failed = Some(stop);
            Break(())
        });
        if flow.is_break() && self.goes_on && self.may_go_on() {
            self.full = true;
            return Continue(());
        }
        flow
    }

    /// Ends the rows.
    ///
    /// # Errors
    ///
    /// What has ended the search.
    pub(crate) fn end(self) -> Result<Sink<'a>> {
        match self.failed {
            Some(stop) => Err(stop),
            None => Ok(self.sink),
        }
    }
}
