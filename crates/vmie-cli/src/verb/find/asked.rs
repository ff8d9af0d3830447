//! What is searched for, as it was typed.

use vmie::search::TextForms;

use super::kind::Kind;
use crate::candidates::Sought;
use crate::exit::{Failure, Result};
use crate::seek::Around;

/// A query as it was typed.
pub(super) struct Asked {
    pub(super) kind: Kind,
    pub(super) typed: String,
    /// Bytes of a value, at most.
    pub(super) len: usize,
    /// What is known of the bytes of a value beforehand.
    pub(super) bytes: Known,
}

/// What is known of the bytes of a value before it is found.
pub(super) enum Known {
    /// They are those of the number that is found.
    Number,
    /// They are always the same.
    All(Vec<u8>),
    /// They are one of the forms that a text has.
    Forms(TextForms),
}

impl Asked {
    /// The value as it stands in memory.
    pub(super) fn bytes(&self, bits: u64, va: u64, around: &dyn Around) -> Vec<u8> {
        match &self.bytes {
            Known::Number => bits.to_le_bytes()[..self.len].to_vec(),
            Known::All(bytes) => bytes.clone(),
            Known::Forms(forms) => {
                let mut bytes = around.read(va, self.len);
                // In a guest that runs something else may stand there by now.
                bytes.truncate(forms.len_in(&bytes).unwrap_or(bytes.len()));
                bytes
            }
        }
    }

    /// For the header of a file.
    pub(super) fn sought(&self) -> Result<Sought> {
        let len = u16::try_from(self.len).map_err(|_| {
            Failure::new(format!("--save: {} bytes are too many to keep", self.len))
                .found("values of up to 65535 bytes are kept")
        })?;
        Ok(Sought {
            kind: self.kind.name().to_owned(),
            typed: self.typed.clone(),
            len,
        })
    }
}
