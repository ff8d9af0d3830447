//! How wide pointers and code are, for verbs that take memory for one or the other.
//!
//! What was typed (`--bits`) decides. Else a process's own half is as wide as its program, which the operating system
//! tells; everything else, and the kernel's half of a process's space, is as wide as the kernel, whose paging mode
//! tells it. What is told about it on standard error is told once for each space.

use vmie::os::Process;
use vmie::paging::Mode;
use vmie::pointers::Width;
use vmie::session::{self, PartWidth, SpaceWidth};
use vmie::xref::{CodeBits, InstructionSet};
use vmie::{AddrRange, Address, ProgramWidth};

use crate::args::BitsArg;
use crate::escape;
use crate::guest::tell_findings;
use crate::report::Reporter;
use crate::space::Space;

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

    /// What code of a width is written in there; x86's where nothing says which architecture it is.
    pub(crate) fn instructions(&self, bits: CodeBits) -> InstructionSet {
        let architecture = self.mode().map(Mode::architecture);
        architecture.map_or(bits.into(), |architecture| architecture.code(bits))
    }

    /// What is known of the width of what the space is of, to be kept with it: nothing is assumed.
    pub(crate) fn known_width(&self, reporter: &Reporter) -> ProgramWidth {
        match self.of.program_width() {
            SpaceWidth {
                told: Some(Ok(told)),
                ..
            } => {
                tell_findings(&told.findings, reporter);
                told.width
            }
            SpaceWidth { told: Some(_), .. } => ProgramWidth::UNKNOWN,
            is => is.width,
        }
    }

    fn program<A: Address>(&self, part: Option<AddrRange<A>>, reporter: &Reporter) -> ProgramWidth {
        if self.mode().is_none() {
            return ProgramWidth::UNKNOWN;
        }
        let Some(part) = part else {
            return self.own(reporter).width;
        };
        // What is the kernel's alone is not a matter of the program: it is not asked for.
        if let Some(kernel) = self.mode().and_then(Mode::kernel_range::<A>)
            && kernel.covers(part)
        {
            return self.mode().map_or(ProgramWidth::UNKNOWN, Mode::width);
        }
        let PartWidth { width, kernel, .. } = self.own(reporter).of_part(part);
        if let Some(kernel) = kernel {
            reporter.warn(&format!(
                "{part} is memory of the process and of the kernel; all of it is looked at as {width}, and the \
                 kernel has {kernel}: --bits, for a look at its part"
            ));
        }
        width
    }

    /// How wide the space is, told once.
    fn own(&self, reporter: &Reporter) -> &SpaceWidth {
        self.width.get_or_init(|| {
            let is = self.of.program_width();
            tell(&self.of, &is, reporter);
            is
        })
    }
}

/// Says what the width of a space was taken from, where that is not its kernel's.
fn tell(space: &session::Space<'_>, is: &SpaceWidth, reporter: &Reporter) {
    let Some(process) = space.process() else {
        if is.width != is.kernel() {
            reporter.note(&format!(
                "a snapshot of a program that has {}; --bits overrides",
                is.width
            ));
        }
        return;
    };
    let title = title(process);
    if let Some(Ok(told)) = &is.told {
        tell_findings(&told.findings, reporter);
        let grounds: Vec<&str> = told.grounds().collect();
        if told.width != is.kernel() && told.width != ProgramWidth::UNKNOWN {
            reporter.note(&format!(
                "{title} has {}, by {}; --bits overrides",
                told.width,
                grounds.join(", ")
            ));
        }
    }
    if is.is_assumed() {
        reporter.warn(&format!(
            "how wide {title} is could not be told: {}; it is taken to have {}, and --bits overrides",
            why(is),
            is.width
        ));
    }
}

/// Why the width of a process had to be assumed.
fn why(is: &SpaceWidth) -> String {
    match &is.told {
        Some(Err(error)) => error.to_string(),
        Some(Ok(told)) if !told.signs.is_empty() => format!("all that is known is {}", told.width),
        _ => "nothing in memory says so".to_owned(),
    }
}

/// The width of each space, for a look at all of them.
pub(crate) fn of_all(members: &[session::Space<'_>], reporter: &Reporter) -> Vec<ProgramWidth> {
    const SHOWN: usize = 8;
    let mut unknown = Vec::new();
    let mut narrow = Vec::new();
    let mut findings = Vec::new();
    let widths = members.iter().map(|member| {
        let is = member.program_width();
        let Some(process) = member.process() else {
            return is.width;
        };
        if let Some(Ok(told)) = &is.told {
            findings.extend_from_slice(&told.findings);
        }
        if is.is_assumed() {
            unknown.push(process);
        }
        if is.width != is.kernel() {
            narrow.push(process);
        }
        is.width
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

fn title(process: &Process) -> String {
    format!("{} ({})", escape::plain(&process.name), process.pid)
}
