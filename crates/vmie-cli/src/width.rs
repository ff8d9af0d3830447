//! How wide pointers and code are, for verbs that take memory for one or the other.
//!
//! What was typed (`--bits`) decides. Else a process's own half is as wide as its program, which the operating system
//! tells; everything else, and the kernel's half of a process's space, is as wide as the kernel, whose paging mode
//! tells it. What is told about it on standard error is told once for each space.

use vmie::os::{OsError, Process, ProcessWidth};
use vmie::paging::Mode;
use vmie::pointers::Width;
use vmie::xref::CodeBits;
use vmie::{AddrRange, Address, ProgramWidth};

use crate::args::BitsArg;
use crate::escape;
use crate::guest::{Os, tell_findings};
use crate::report::Reporter;
use crate::space::{Space, Target};

impl Space<'_> {
    /// How wide the pointers that stand in `part` are; without a part, those of what the space is of.
    pub(crate) fn pointers<A: Address>(
        &self,
        typed: BitsArg,
        part: Option<AddrRange<A>>,
        reporter: &Reporter,
    ) -> Width {
        match typed {
            BitsArg::B32 => Width::Four,
            BitsArg::B64 => Width::Eight,
            BitsArg::Auto => self.program(part, reporter).pointers.unwrap_or_default(),
        }
    }

    /// How wide the code in `part` is; without a part, that of what the space is of.
    pub(crate) fn code<A: Address>(
        &self,
        typed: BitsArg,
        part: Option<AddrRange<A>>,
        reporter: &Reporter,
    ) -> CodeBits {
        match typed {
            BitsArg::Auto => typed.code(self.program(part, reporter)),
            typed => typed.code(ProgramWidth::UNKNOWN),
        }
    }

    /// What is known of the width of what the space is of, to be kept with it: nothing is assumed.
    pub(crate) fn known_width(&self, reporter: &Reporter) -> ProgramWidth {
        let Some((os, process)) = self.names.process() else {
            return self.mode().map_or(ProgramWidth::UNKNOWN, Mode::width);
        };
        let told = os.guest().width_of(process).unwrap_or_default();
        tell_findings(&told.findings, reporter);
        told.width
    }

    fn program<A: Address>(&self, part: Option<AddrRange<A>>, reporter: &Reporter) -> ProgramWidth {
        let Some(mode) = self.mode() else {
            return ProgramWidth::UNKNOWN;
        };
        let half: Option<AddrRange<A>> = mode.user_range();
        if let Some((half, part)) = half.zip(part)
            && !half.contains(part.start())
        {
            return mode.width();
        }
        let program = *self.width.get_or_init(|| self.find_out(mode, reporter));
        if let Some((half, part)) = half.zip(part)
            && !half.covers(part)
            && program != mode.width()
        {
            reporter.warn(&format!(
                "{part} is memory of the process and of the kernel; all of it is looked at as {program}, and the \
                 kernel has {}: --bits, for a look at its part",
                mode.width()
            ));
        }
        program
    }

    /// What the operating system says of a process's half; of other spaces, what the paging mode says.
    fn find_out(&self, mode: Mode, reporter: &Reporter) -> ProgramWidth {
        if let Target::Saved(snapshot) = &self.target {
            let width = snapshot.origin().width.or(mode.width());
            if width != mode.width() {
                reporter.note(&format!(
                    "a snapshot of a program that has {width}; --bits overrides"
                ));
            }
            return width;
        }
        let Some((os, process)) = self.names.process() else {
            return mode.width();
        };
        let told = os.guest().width_of(process);
        let title = title(process);
        if let Ok(told) = &told {
            tell_findings(&told.findings, reporter);
            let grounds: Vec<&str> = told.grounds().collect();
            if told.width != mode.width() && told.width != ProgramWidth::UNKNOWN {
                reporter.note(&format!(
                    "{title} has {}, by {}; --bits overrides",
                    told.width,
                    grounds.join(", ")
                ));
            }
        }
        let (width, why) = known(told, mode);
        if let Some(why) = why {
            reporter.warn(&format!(
                "how wide {title} is could not be told: {why}; it is taken to have {width}, and --bits overrides"
            ));
        }
        width
    }
}

/// The width of each process, for a look at all of them; `None` stands for the kernel.
pub(crate) fn of_all(
    os: &Os,
    members: &[(Option<&Process>, Mode)],
    reporter: &Reporter,
) -> Vec<ProgramWidth> {
    const SHOWN: usize = 8;
    let mut unknown = Vec::new();
    let mut narrow = Vec::new();
    let mut findings = Vec::new();
    let widths = members.iter().map(|&(process, mode)| {
        let Some(process) = process else {
            return mode.width();
        };
        let told = os.guest().width_of(process);
        if let Ok(told) = &told {
            findings.extend_from_slice(&told.findings);
        }
        let (width, why) = known(told, mode);
        if why.is_some() {
            unknown.push(process);
        }
        if width != mode.width() {
            narrow.push(process);
        }
        width
    });
    let widths = widths.collect();
    tell_findings(&findings, reporter);
    let list = |processes: &[&Process]| {
        let shown = processes.iter().take(SHOWN).map(|process| title(process));
        let mut text = shown.collect::<Vec<_>>().join(", ");
        if processes.len() > SHOWN {
            text.push_str(", ...");
        }
        text
    };
    if !narrow.is_empty() {
        reporter.note(&format!(
            "{} of the spaces are of 32-bit programs, and are looked at as such: {}",
            narrow.len(),
            list(&narrow)
        ));
    }
    if !unknown.is_empty() {
        reporter.warn(&format!(
            "how wide {} processes are could not be told; they are taken to be as wide as the kernel, and --bits \
             overrides: {}",
            unknown.len(),
            list(&unknown)
        ));
    }
    widths
}

/// What is known, completed by what the paging mode says; and why, where it had to be completed.
fn known(told: Result<ProcessWidth, OsError>, mode: Mode) -> (ProgramWidth, Option<String>) {
    match told {
        Ok(told) => {
            let whole = told.width.pointers.is_some() && told.width.code.is_some();
            let why = (!whole).then(|| match told.signs.len() {
                0 => "nothing in memory says so".to_owned(),
                _ => format!("all that is known is {}", told.width),
            });
            (told.width.or(mode.width()), why)
        }
        Err(error) => (mode.width(), Some(error.to_string())),
    }
}

fn title(process: &Process) -> String {
    format!("{} ({})", escape::plain(&process.name), process.pid)
}
