//! Where a result of a search is.

use serde::Serialize;

use crate::output::{Cell, Hex};

/// Where a result is, as a part of its row.
#[derive(Serialize)]
pub(crate) struct Place {
    /// Where there are many spaces.
    #[serde(flatten)]
    pub(crate) site: Option<Site>,
    pub(crate) va: Hex,
    /// The name of the address, with a known operating system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
}

/// In which of many spaces a result is.
#[derive(Clone, Serialize)]
pub(crate) struct Site {
    /// Null for the kernel.
    pub(crate) pid: Option<u32>,
    pub(crate) process: Option<String>,
    /// What the process calls the region; in the kernel, the image.
    pub(crate) region: Option<String>,
}

impl Place {
    /// The cells that tables show: process, address, what the row is about, region, name.
    pub(crate) fn cells(&self, about: impl IntoIterator<Item = Cell>) -> Vec<Cell> {
        let site = self.site.as_ref();
        let text = |text: Option<&String>| Cell::new(text.map_or("", |text| text));
        let pid = site.and_then(|site| site.pid);
        let mut cells = vec![
            Cell::new(pid.map_or_else(String::new, |pid| pid.to_string())),
            text(site.and_then(|site| site.process.as_ref())),
            Cell::new(format!("{:#x}", self.va.0)).strong(),
        ];
        cells.extend(about);
        cells.push(text(site.and_then(|site| site.region.as_ref())));
        cells.push(text(self.name.as_ref()));
        cells
    }
}
