//! The same path in another image: from the same module and offset, or the same address.

use vmie::pointers::{Base, Path, Width};
use vmie::{Address, Format, Gva, Image, Memory};

use super::args::PathsArgs;
use crate::addr::AddrExpr;
use crate::args::{LayersArgs, SourceArgs, SpaceArgs};
use crate::exit::Result;
use crate::report::Reporter;
use crate::source::{Source, live_socket};
use crate::space::{Space, Target};

/// The space in another image.
pub(super) struct Also<'s> {
    space: Space<'s>,
    /// Where paths must lead.
    target: Option<u64>,
    /// How wide pointers are there.
    width: Width,
}

impl<'s> Also<'s> {
    /// Opens the other images. `--layout` is for those of them that are raw.
    pub(super) fn open(args: &PathsArgs, reporter: &Reporter) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        for path in &args.also {
            let mut other = SourceArgs {
                source: path.clone(),
                // Which state and which files are under it, nobody has said.
                layers: LayersArgs::default(),
                ..args.source.clone()
            };
            let told =
                |path| Image::open(path).is_ok_and(|image| image.info().format != Format::Raw);
            if live_socket(path).is_some() {
                other.layout = None;
            } else {
                // One that does not change need not stand still.
                other.pause = false;
            }
            if told(path) {
                other.layout = None;
            }
            sources.push(Source::open(&other, reporter)?);
        }
        Ok(sources)
    }

    /// Chooses the space: as in the first image, unless something else was typed for this one.
    pub(super) fn select(
        args: &PathsArgs,
        index: usize,
        source: &'s Source,
        reporter: &Reporter,
    ) -> Result<Self> {
        let mut typed: SpaceArgs = args.space.clone();
        if let Some(&pid) = args.also_pid.get(index) {
            typed.owner.pid = Some(pid);
            typed.owner.process = None;
            typed.cr3 = None;
        }
        if let Some(&root) = args.also_cr3.get(index) {
            typed.owner.pid = None;
            typed.owner.process = None;
            typed.cr3 = Some(root);
        }
        let space = Space::select(source, &typed, reporter)?;
        let target = args.also_to.get(index);
        let target = target
            .map(|target| target.resolve(&space.names))
            .transpose()?;
        let width = space.pointers::<Gva>(args.pointer.bits, None, reporter);
        Ok(Self {
            space,
            target,
            width,
        })
    }

    /// Where a path of `from` leads in this space; `None` when it cannot be followed or leads elsewhere
    /// than it must.
    pub(super) fn follow<A: Address>(&self, path: &Path<A>, from: &Space<'_>) -> Option<u64> {
        let width = self.width;
        let base = self.base(path.base.addr().raw(), from)?;
        let led = match &self.space.of.target {
            Target::Physical(memory) => follow(path, base, &**memory, width)?,
            Target::Virtual(space) => follow(path, base, space, width)?,
            Target::Saved(memory) => follow(path, base, &**memory, width)?,
        };
        self.target
            .is_none_or(|target| target == led)
            .then_some(led)
    }

    /// The base here: at the same offset in the same module; outside of modules, at the same address.
    fn base(&self, addr: u64, from: &Space<'_>) -> Option<u64> {
        let place = from
            .names
            .resolver()
            .and_then(|resolver| resolver.name(Gva(addr)));
        match place {
            Some(place) => {
                let name: AddrExpr = place.to_string().parse().ok()?;
                name.resolve(&self.space.names).ok()
            }
            None => Some(addr),
        }
    }
}

fn follow<A: Address, B: Address>(
    path: &Path<A>,
    base: u64,
    memory: &dyn Memory<Addr = B>,
    width: Width,
) -> Option<u64> {
    let base = B::new(base);
    let path = Path {
        base: match path.base {
            Base::Place(_) => Base::Place(base),
            Base::Value(_) => Base::Value(base),
        },
        offsets: path.offsets.clone(),
    };
    let led = path.follow(memory, width).ok()?;
    // A path that leads to what is not there is none.
    memory.read(led, &mut [0]).ok()?;
    Some(led.raw())
}
