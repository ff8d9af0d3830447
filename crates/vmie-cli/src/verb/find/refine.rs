//! `vmie find --refine`: looks again at what was found before.

use std::ops::ControlFlow::Continue;
use std::path::Path;

use vmie::candidates::{Again, Narrowed};
use vmie::scan::Run;
use vmie::search::Relation;
use vmie::{Address, Coverage, Gva, Memory};
use vmie_rows::{FoundRow, Hex, Place};

use super::args::FindArgs;
use super::kind::Kind;
use super::relations::relations;
use super::save;
use crate::candidates::{Header, Likeness, Saved, Scope, Sought, Whose, Writer, told};
use crate::escape::{self, shell_word};
use crate::exit::{Done, Failure, Result, Stop};
use crate::interrupt;
use crate::options::Options;
use crate::output::{SpaceKind, totals};
use crate::report::Words;
use crate::rows::Rows;
use crate::seek::{go_on, said_if_stopped};
use crate::source::Source;
use crate::space::{Space, Target};
use crate::spaces::{Looked, Spaces};

const VERB: &str = "find";
/// Spaces told one by one that are not what they were.
const ODD_SHOWN: usize = 8;

pub(super) fn run(args: &FindArgs, file: &Path, options: &Options) -> Result<Done> {
    interrupt::listen();
    let saved = Saved::open(file)?;
    let kinds = kinds(&saved.header, file)?;
    let relations = relations(&args.again, &kinds, &options.reporter)?;
    let search = &args.search;
    let source = Source::open(&search.source, &options.reporter)?;
    let refine = Refine {
        args,
        file,
        options,
        source: &source,
        kinds,
        relations,
    };
    if search.everywhere.all_processes {
        return refine.everywhere(saved);
    }
    let space = Space::select(&source, &search.space, &options.reporter)?;
    match &space.of.target {
        Target::Physical(memory) => refine.one(saved, &space, &**memory),
        Target::Virtual(memory) => refine.one(saved, &space, memory),
        Target::Saved(memory) => refine.one(saved, &space, &**memory),
    }
}

/// What the queries of a file look for.
fn kinds(header: &Header, file: &Path) -> Result<Vec<Kind>> {
    let kind = |sought: &Sought| {
        let kind = Kind::of_name(&sought.kind).filter(|kind| match kind {
            Kind::Number(ty) => usize::from(sought.len) == ty.size(),
            _ => true,
        });
        kind.ok_or_else(|| {
            let found = format!("values of type {}, {} bytes", sought.kind, sought.len);
            Failure::new(format!("{} cannot be read", shell_word(file)))
                .found(found)
                .into()
        })
    };
    header.queries.iter().map(kind).collect()
}

/// A second look while it goes on.
struct Refine<'a> {
    args: &'a FindArgs,
    file: &'a Path,
    options: &'a Options,
    source: &'a Source,
    kinds: Vec<Kind>,
    relations: Vec<Vec<Relation>>,
}

impl Refine<'_> {
    fn one<A: Address>(
        &self,
        saved: Saved,
        space: &Space<'_>,
        memory: &dyn Memory<Addr = A>,
    ) -> Result<Done> {
        let reporter = &self.options.reporter;
        let now = space.whose();
        let [was] = &saved.header.spaces[..] else {
            return Err(self.other_space(&saved.header, &told(&now)).into());
        };
        if saved.header.scope != Scope::One || was.likeness(&now) == Likeness::Different {
            return Err(self.other_space(&saved.header, &told(&now)).into());
        }
        let odd = Odd::of(was, Some(&now));
        let count = saved.count;
        let sink = self.options.sink::<FoundRow>(space.kind());
        let sink = sink.named(space.names.shown()).asked(true);
        let mut rows = Rows::new(sink, self.args.again.save.is_some());
        let looked = self.look(saved, vec![now], &[Some(memory)], &mut rows, |_, va| {
            Place {
                site: None,
                va: Hex(va.raw()),
                name: space.names.name(va.raw()),
            }
        })?;
        let sink = rows.end()?;
        let found = sink.rows() > 0;
        said_if_stopped(looked.stopped, found, reporter)?;
        reporter.nothing(found, "no place is left");
        let coverage = &looked.coverage[0];
        self.tell_odd(&[odd], &looked.candidates);
        self.check_read(coverage, count)?;
        sink.finish(Some(&totals(coverage)))?;
        self.tell_unread(looked.unread);
        reporter.coverage(coverage, Words::READ);
        let complete = coverage.is_complete() && !interrupt::asked();
        Ok(Done { found, complete })
    }

    fn everywhere(&self, saved: Saved) -> Result<Done> {
        let reporter = &self.options.reporter;
        let kernel = self.args.search.space.owner.kernel;
        if saved.header.scope != (Scope::All { kernel }) {
            let given = scope_text(Scope::All { kernel });
            return Err(self.other_space(&saved.header, given).into());
        }
        let spaces = Spaces::select(self.source, &self.args.search.space, reporter)?;
        let now = spaces.whose();
        let parts = spaces.parts();
        // Of each space in the file, where it is now.
        let members: Vec<Option<usize>> = saved
            .header
            .spaces
            .iter()
            .map(|was| was.find_in(&now))
            .collect();
        let spaces_then = saved.header.spaces.iter().zip(&members);
        let odd = spaces_then.map(|(was, member)| Odd::of(was, member.map(|index| &now[index])));
        let odd: Vec<Option<Odd>> = odd.collect();
        let memories: Vec<_> = members
            .iter()
            .map(|member| member.map(|index| parts[index].space as &dyn Memory<Addr = Gva>))
            .collect();
        let again = |(was, member): (&Whose, &Option<usize>)| match member {
            Some(index) => now[*index].clone(),
            None => was.clone(),
        };
        let whose: Vec<Whose> = saved
            .header
            .spaces
            .iter()
            .zip(&members)
            .map(again)
            .collect();
        let count = saved.count;
        let sink = self.options.sink::<FoundRow>(SpaceKind::Virtual);
        let sink = sink.named(true).many(true).asked(true);
        let mut rows = Rows::new(sink, self.args.again.save.is_some());
        let mut places = spaces.places(reporter);
        let looked = self.look(saved, whose, &memories, &mut rows, |space, va| {
            // Only what was looked at has a place.
            places.name(members[space].unwrap_or(0), va)
        })?;
        let sink = rows.end()?;
        let found = sink.rows() > 0;
        said_if_stopped(looked.stopped, found, reporter)?;
        reporter.nothing(found, "no place is left");
        let mut outcome = Looked {
            coverage: vec![Coverage::default(); now.len()],
            ..Looked::default()
        };
        for (one, member) in looked.coverage.iter().zip(&members) {
            match member {
                Some(index) => outcome.coverage[*index].merge(one),
                None => outcome.coverage.push(one.clone()),
            }
        }
        self.tell_odd(&odd, &looked.candidates);
        self.check_read(&outcome.total(), count)?;
        self.tell_unread(looked.unread);
        let (totals, complete) = match count {
            0 => (totals(&outcome.total()), true),
            _ => spaces.cover(&outcome, Words::READ, self.source, reporter)?,
        };
        sink.finish(Some(&totals))?;
        let complete = complete && !interrupt::asked();
        Ok(Done { found, complete })
    }

    /// Says of which spaces with candidates something else is there now, or nothing.
    fn tell_odd(&self, odd: &[Option<Odd>], candidates: &[u64]) {
        let told = odd.iter().zip(candidates).filter(|&(_, &count)| count > 0);
        let told: Vec<&Odd> = told.filter_map(|(odd, _)| odd.as_ref()).collect();
        let reporter = &self.options.reporter;
        for odd in told.iter().take(ODD_SHOWN) {
            reporter.warn(&match odd {
                Odd::Gone { was } => format!("{was} is not there now"),
                Odd::OtherRun { was, now } => format!(
                    "{was} was saved, and this is {now}\n\
                     another run: what is at an address may be something else"
                ),
            });
        }
        if let Some(more) = told.len().checked_sub(ODD_SHOWN + 1) {
            let more = more + 1;
            reporter.warn(&format!(
                "{more} more spaces are not there, or are other runs"
            ));
        }
    }

    fn other_space(&self, header: &Header, given: &str) -> Failure {
        let saved = match (header.scope, &header.spaces[..]) {
            (Scope::One, [one, ..]) => told(one),
            (scope, _) => scope_text(scope).to_owned(),
        };
        Failure::new(format!(
            "{} holds candidates of another space",
            shell_word(self.file)
        ))
        .found(format!(
            "saved: {}, of {}",
            escape::plain(&saved),
            escape::plain(&header.source)
        ))
        .found(format!("given: {}", escape::plain(given)))
        .hint("the space that was searched first, or a new search with --save")
    }

    /// Looks at all candidates; `whose` and `memories` are of the spaces in the file, a space without memory
    /// being gone.
    fn look<A: Address>(
        &self,
        mut saved: Saved,
        whose: Vec<Whose>,
        memories: &[Option<&dyn Memory<Addr = A>>],
        rows: &mut Rows<'_>,
        mut place: impl FnMut(usize, A) -> Place,
    ) -> Result<Narrowed<A>> {
        let save = self.args.again.save.as_deref();
        let header = Header {
            source: self.source.path().display().to_string(),
            spaces: whose,
            ..saved.header.clone()
        };
        let mut writer = match save {
            Some(path) => Some(Writer::begin(path, &header)?),
            None => None,
        };
        let total = saved.count;
        let bar = self.options.reporter.progress_begin(VERB, saved.bytes());
        let run = Run::new()
            .progress(|at| bar.set_position(at))
            .cancel(interrupt::flag());
        let looked = saved.narrow(
            memories,
            &self.relations,
            writer.as_mut(),
            run,
            |again: Again<'_, A>| {
                go_on()?;
                let Some(new) = again.new.filter(|_| !rows.are_full()) else {
                    return Continue(());
                };
                let kind = self.kinds[again.query];
                rows.add(Some(FoundRow {
                    place: place(again.space, again.addr),
                    r#type: kind.name(),
                    value: kind.show(new),
                    old: Some(kind.show(again.old)),
                }))
            },
        );
        self.options.reporter.progress_end();
        let looked = looked?;
        // The file may be the one that is written.
        drop(saved);
        if let (Some(writer), Some(path)) = (writer, save) {
            let read = total == 0 || looked.coverage.iter().any(|one| one.read > 0);
            if !looked.stopped && read {
                save::finish(writer, path, &self.options.reporter)?;
            } else {
                save::not_written(path, &self.options.reporter);
            }
        }
        Ok(looked)
    }

    fn tell_unread(&self, unread: u64) {
        if unread == 0 {
            return;
        }
        let kept = match self.args.again.save {
            Some(_) => "kept as they were",
            None => "not shown",
        };
        self.options.reporter.warn(&format!(
            "{unread} candidates could not be looked at: neither changed nor unchanged, {kept}"
        ));
    }

    /// That no candidate could be read is an error, not an answer.
    fn check_read<A: Address>(&self, coverage: &Coverage<A>, count: u64) -> Result<()> {
        if count == 0 {
            let name = shell_word(self.file);
            self.options
                .reporter
                .note(&format!("{name} holds no candidates"));
            return Ok(());
        }
        if coverage.read > 0 {
            return Ok(());
        }
        let mut failure = Failure::new(format!("none of the {count} candidates could be read"));
        if let Some(gap) = coverage.gaps.first() {
            failure = failure.found(format!("{}..+{:#x}: {}", gap.start, gap.len, gap.cause));
        }
        Err(Stop::from(failure.hint(
            "`vmie maps` with the same space, to see what is mapped and what is absent",
        )))
    }
}

/// Something about a space that a user must know.
enum Odd {
    Gone { was: String },
    OtherRun { was: String, now: String },
}

impl Odd {
    fn of(was: &Whose, now: Option<&Whose>) -> Option<Self> {
        let name = |whose: &Whose| escape::plain(&told(whose)).into_owned();
        match now {
            None => Some(Self::Gone { was: name(was) }),
            Some(now) if was.likeness(now) == Likeness::Same => None,
            Some(now) => Some(Self::OtherRun {
                was: name(was),
                now: name(now),
            }),
        }
    }
}

fn scope_text(scope: Scope) -> &'static str {
    match scope {
        Scope::One => "one space",
        Scope::All { kernel: false } => "--all-processes",
        Scope::All { kernel: true } => "--all-processes --kernel",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, name: &str, started: u64) -> Whose {
        Whose::Process {
            pid,
            name: name.to_owned(),
            started: Some(started),
        }
    }

    #[test]
    fn processes_are_found_again_by_their_numbers() {
        let now = [
            process(3, "sh", 30),
            process(4, "sh", 40),
            process(5, "game", 50),
        ];
        for (was, place, odd) in [
            (process(4, "sh", 40), Some(1), None),
            (process(5, "renamed", 50), Some(2), None),
            (process(3, "sh", 7), Some(0), Some("other run")),
            // Another one of the same name is another process.
            (process(9, "sh", 90), None, Some("gone")),
            // So is another one of the same number.
            (process(5, "sh", 7), None, Some("gone")),
        ] {
            let found = was.find_in(&now);
            assert_eq!(found, place, "{was}");
            let told = Odd::of(&was, found.map(|index| &now[index])).map(|odd| match odd {
                Odd::Gone { .. } => "gone",
                Odd::OtherRun { .. } => "other run",
            });
            assert_eq!(told, odd, "{was}");
        }
    }
}
