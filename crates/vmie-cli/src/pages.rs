//! Where a page of a process is that the CPU does not see, in words.

use vmie::os::PageState;
use vmie::views::PageIs;
use vmie_rows::State;

/// In one word.
pub(crate) fn state(is: &PageIs) -> Option<State> {
    Some(match is {
        PageIs::Kept(PageState::Swapped { .. }) => State::Swapped,
        PageIs::Kept(PageState::Hinted { .. }) => State::Hinted,
        PageIs::Kept(PageState::Moving { .. }) => State::Moving,
        PageIs::Kept(PageState::Forbidden { .. }) => State::Forbidden,
        PageIs::Kept(PageState::Special) => State::Special,
        PageIs::Hidden => State::Hidden,
        PageIs::NoArea => State::NoArea,
        PageIs::InFile { .. } => State::InFile,
        PageIs::Untouched => State::Untouched,
        _ => return None,
    })
}

/// In a sentence. Parts of it are the guest's.
pub(crate) fn detail(is: &PageIs) -> Option<String> {
    Some(match is {
        PageIs::Kept(PageState::Swapped {
            area,
            offset,
            compressed: false,
        }) => format!("in swap: page {offset} of area {area}"),
        PageIs::Kept(PageState::Swapped { area, offset, .. }) => format!(
            "in swap: page {offset} of area {area}, which is kept in memory compressed (zram, zswap) \
             and is not read"
        ),
        PageIs::Kept(PageState::Hinted { gpa }) => format!(
            "in memory at {gpa}; the CPU is made to fault on the next access, which the system wants \
             to see (NUMA balancing)"
        ),
        PageIs::Kept(PageState::Moving { gpa }) => {
            format!("in memory at {gpa}, and just being moved to another frame")
        }
        PageIs::Kept(PageState::Forbidden { gpa }) => {
            format!("in memory at {gpa}, but the process may not touch it")
        }
        PageIs::Kept(PageState::Special) => {
            "being moved, broken, or marked by the system".to_owned()
        }
        PageIs::Hidden => {
            "user mode does not see the kernel's memory here (page-table isolation); \
                           --kernel shows it"
                .to_owned()
        }
        PageIs::NoArea => "the process has nothing arranged here".to_owned(),
        PageIs::InFile { path, offset } => format!(
            "of the file {path}, offset {offset:#x}: never read into this process, or dropped"
        ),
        PageIs::Untouched => "never touched".to_owned(),
        _ => return None,
    })
}
