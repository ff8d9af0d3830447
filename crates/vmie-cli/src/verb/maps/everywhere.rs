//! `vmie maps --all-processes`: one process after the other.

use vmie::{AddrRange, Coverage, Prot};
use vmie_rows::{ExtentRow, RegionRow, VmaRow};

use super::{List, MapsArgs, nothing_shown, vmas};
use crate::exit::{Done, Result};
use crate::options::Options;
use crate::output::SpaceKind;
use crate::regions;
use crate::report::Words;
use crate::source::Source;
use crate::space::Target;
use crate::spaces::{Looked, Spaces};

pub(super) fn run(args: &MapsArgs, source: &Source, options: &Options) -> Result<Done> {
    let reporter = &options.reporter;
    let spaces = Spaces::select(source, &args.space, reporter)?;
    let typed = spaces.range(args.filter.range.as_ref())?;
    let sink = match (args.extents, args.vmas) {
        (true, _) => options.sink::<ExtentRow>(SpaceKind::Virtual),
        (_, true) => options.sink::<VmaRow<'_>>(SpaceKind::Virtual),
        _ => options.sink::<RegionRow>(SpaceKind::Virtual),
    };
    let mut list = List {
        owner: None,
        range: AddrRange::all(),
        filtered: true,
        perm: args.filter.perm.unwrap_or(Prot::NONE),
        options,
        sink: sink.named(true).many(true),
        coverage: Coverage::default(),
        any_mapped: false,
    };
    let mut looked = Looked::default();
    let mut complete = true;
    for index in 0..spaces.len() {
        let own = spaces.own(index);
        let range = typed.map_or(Some(own), |typed| typed.intersect(own));
        if let Some(range) = range
            && options
                .output
                .limit
                .is_none_or(|limit| list.sink.rows() < limit)
        {
            let space = spaces.space(index);
            let Target::Virtual(memory) = &space.of.target else {
                continue;
            };
            list.owner = Some(spaces.owner(index));
            list.range = range;
            let title = || spaces.title(index);
            let listed = match (args.extents, args.vmas) {
                (true, _) => list.extents(memory),
                // The kernel has arranged nothing of the kind.
                (_, true) if space.names.process().is_none() => Ok(true),
                (_, true) => vmas::list(&mut list, &space, memory),
                _ => match regions::of(&space.names, reporter) {
                    Ok(named) => list.regions(memory, &named, space.names.resolver()),
                    Err(failure) => Err(failure.into()),
                },
            };
            match listed {
                Ok(known) => complete &= known,
                // One that cannot be listed is named, and the others are listed.
                Err(crate::exit::Stop::Failed(failure)) => {
                    complete = false;
                    reporter.warn(&format!("{} was not listed: {}", title(), failure.what));
                }
                Err(stop) => return Err(stop),
            }
        }
        looked.coverage.push(std::mem::take(&mut list.coverage));
    }
    let found = list.sink.rows() > 0;
    if !found {
        reporter.note(&nothing_shown(list.perm));
        list.sink.finish(None)?;
        return Ok(Done { found, complete });
    }
    let (totals, whole) = spaces.cover(&looked, Words::LIST, source, reporter)?;
    list.sink.finish(Some(&totals))?;
    Ok(Done {
        found,
        complete: complete && whole,
    })
}
