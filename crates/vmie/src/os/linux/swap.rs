//! Where swapped-out pages are kept: on a device, or in memory after all.
//!
//! Two parts of the kernel keep swapped-out pages in memory, compressed: zram, a device that is one swap area, and
//! zswap, a cache in front of any area. What they hold is not read, but it is there, and a search that passed over
//! it did not look at all of memory.
//!
//! ```text
//! swap_info[area] -> bdev -> bd_disk -> disk_name            zram0
//! zswap_trees[area][offset >> 14] xarray: [offset]           since 6.9; before 6.8 one rb-tree an area
//! ```

use crate::addr::{Address, Gva};
use crate::memory::Memory;
use crate::os::SymbolTable;
use crate::os::object::{Part, Plan, Planner, Slot, XarrayPlan, link};
use crate::os::types::{TypeError, Types};

/// How many swap areas there can be at most, should the kernel not say how many there are
/// (`MAX_SWAPFILES` is 32 less those numbers that stand for something else, at most 9).
const MAX_AREAS: u32 = 23;

/// Pages of an area in one tree of zswap's (`SWAP_ADDRESS_SPACE_PAGES`), in kernels that have several an area.
const TREE_PAGES: u64 = 1 << 14;

/// No rb-tree of pages is deeper than this.
const MAX_DEPTH: u32 = 128;

/// The swap areas of a guest.
#[derive(Clone, Debug)]
pub(super) struct Swap {
    areas: u32,
    /// Bit `n`: area `n` is a zram device.
    zram: u32,
    zswap: Option<Zswap>,
}

impl Swap {
    pub(super) fn new(
        types: Option<&Types>,
        symbols: &SymbolTable,
        kernel: &dyn Memory<Addr = Gva>,
    ) -> Self {
        let told = symbols
            .address_of("nr_swapfiles")
            .and_then(|at| kernel.read_u32(at).ok());
        let areas = told.unwrap_or(MAX_AREAS).min(MAX_AREAS);
        let plan = types.and_then(|types| AreaPlan::new(types).ok());
        let info = symbols.address_of("swap_info");
        let is_zram = |area: u32| {
            let (plan, info) = (plan?, info?);
            let at = info.checked_add(u64::from(area) * 8)?;
            let name = plan.device(kernel, kernel.read_u64(at).ok()?)?;
            name.starts_with("zram").then_some(())
        };
        let zram = (0..areas)
            .filter(|&area| is_zram(area).is_some())
            .fold(0, |set, area| set | 1 << area);
        let zswap = types.and_then(|types| Zswap::new(types, symbols, kernel).ok().flatten());
        Self { areas, zram, zswap }
    }

    /// How many numbers of areas there are; those above mean something else.
    pub(super) fn areas(&self) -> u32 {
        self.areas
    }

    /// Whether a swapped-out page is in memory, compressed.
    pub(super) fn is_compressed(
        &self,
        kernel: &dyn Memory<Addr = Gva>,
        area: u32,
        offset: u64,
    ) -> bool {
        let in_zram = 1_u32
            .checked_shl(area)
            .is_some_and(|bit| self.zram & bit != 0);
        in_zram
            || self
                .zswap
                .as_ref()
                .is_some_and(|zswap| zswap.has(kernel, area, offset))
    }
}

/// What leads from a swap area to the name of its device.
#[derive(Clone, Copy, Debug)]
struct AreaPlan {
    info: Plan,
    bdev: Slot,
    device: Plan,
    disk: Slot,
    gendisk: Plan,
    name: Slot,
}

impl AreaPlan {
    fn new(types: &Types) -> Result<Self, TypeError> {
        let mut info = Planner::new(types, "swap_info_struct")?;
        let mut device = Planner::new(types, "block_device")?;
        let mut gendisk = Planner::new(types, "gendisk")?;
        Ok(Self {
            bdev: info.need("bdev")?,
            info: info.plan(),
            disk: device.need("bd_disk")?,
            device: device.plan(),
            name: gendisk.need("disk_name")?,
            gendisk: gendisk.plan(),
        })
    }

    fn device(self, kernel: &dyn Memory<Addr = Gva>, info: u64) -> Option<String> {
        let info = self.info.follow(kernel, info).ok()?;
        let device = self.device.follow(kernel, info.number(self.bdev)).ok()?;
        let disk = self.gendisk.follow(kernel, device.number(self.disk)).ok()?;
        Some(disk.text(self.name))
    }
}

/// The pages that zswap holds.
#[derive(Clone, Debug)]
struct Zswap {
    /// `zswap_trees`.
    trees: Gva,
    tree: Tree,
    /// Whether an area has a tree for each 64 MiB.
    many: bool,
}

#[derive(Clone, Debug)]
enum Tree {
    /// An array of XArrays.
    Xarray {
        nodes: XarrayPlan,
        head: u64,
        size: u64,
    },
    /// rb-trees of `struct zswap_entry`.
    Rb {
        /// Of the tree's root.
        root: u64,
        size: u64,
        entry: Plan,
        node: u64,
        offset: Slot,
        left: Slot,
        right: Slot,
    },
}

impl Zswap {
    /// `None` when the kernel has none.
    fn new(
        types: &Types,
        symbols: &SymbolTable,
        kernel: &dyn Memory<Addr = Gva>,
    ) -> Result<Option<Self>, TypeError> {
        let Some(trees) = symbols.address_of("zswap_trees") else {
            return Ok(None);
        };
        // A kernel that has it and does not use it has no trees.
        if (0..MAX_AREAS).all(|area| pointer(kernel, trees, area).is_none()) {
            return Ok(None);
        }
        // Several an area since 6.8; it is those kernels that count them.
        let many = symbols.address_of("nr_zswap_trees").is_some();
        let tree = match Planner::new(types, "zswap_tree") {
            Ok(mut tree) => {
                let mut entry = Planner::new(types, "zswap_entry")?;
                let node = entry.need("rbnode")?;
                let inner = |path: &str| types.offset_of("struct rb_node", path);
                let slot = |offset: u64| Slot {
                    offset: node.offset + offset,
                    size: 8,
                };
                Tree::Rb {
                    root: tree.need("rbroot")?.offset,
                    size: types.size_of(types.find("struct zswap_tree")?)?,
                    offset: match entry.want(&["offset", "swpentry"]) {
                        Some(offset) => offset,
                        None => entry.need("offset")?,
                    },
                    left: slot(inner("rb_left")?),
                    right: slot(inner("rb_right")?),
                    node: node.offset,
                    entry: entry.plan(),
                }
            }
            Err(_) => Tree::Xarray {
                nodes: XarrayPlan::new(types)?,
                head: types.offset_of("struct xarray", "xa_head")?,
                size: types.size_of(types.find("struct xarray")?)?,
            },
        };
        Ok(Some(Self { trees, tree, many }))
    }

    fn has(&self, kernel: &dyn Memory<Addr = Gva>, area: u32, offset: u64) -> bool {
        self.find(kernel, area, offset).unwrap_or(false)
    }

    fn find(&self, kernel: &dyn Memory<Addr = Gva>, area: u32, offset: u64) -> Option<bool> {
        let first = pointer(kernel, self.trees, area)?;
        let number = if self.many { offset / TREE_PAGES } else { 0 };
        match &self.tree {
            Tree::Xarray { nodes, head, size } => {
                let tree = first.checked_add(number.checked_mul(*size)?)?;
                let top = kernel.read_u64(tree.checked_add(*head)?).ok()?;
                Some(nodes.get(kernel, top, offset).ok()? != 0)
            }
            Tree::Rb {
                root,
                size,
                entry,
                node,
                offset: at,
                left,
                right,
            } => {
                let tree = first.checked_add(number.checked_mul(*size)?)?;
                let mut next = kernel.read_u64(tree.checked_add(*root)?).ok()?;
                for _ in 0..MAX_DEPTH {
                    if next == 0 {
                        return Some(false);
                    }
                    let object: Part = entry.follow(kernel, next.wrapping_sub(*node)).ok()?;
                    // `swp_entry_t` has the area above the place.
                    let here = object.number(*at) & ((1 << 58) - 1);
                    next = match offset.cmp(&here) {
                        std::cmp::Ordering::Equal => return Some(true),
                        std::cmp::Ordering::Less => object.number(*left),
                        std::cmp::Ordering::Greater => object.number(*right),
                    };
                }
                None
            }
        }
    }
}

fn pointer(kernel: &dyn Memory<Addr = Gva>, array: Gva, index: u32) -> Option<Gva> {
    let at = array.checked_add(u64::from(index) * 8)?;
    link(kernel.read_u64(at).ok()?).ok()
}
