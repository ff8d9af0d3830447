//! Lists, trees and tables, from the object that holds them to the objects in them.
//!
//! Each walk takes what it may cost from a [`Walk`] and leaves there what did not add up, so what it yields is what could
//! be reached, never a failure that looks like an end.

use super::array::Words;
use super::chain::Chain;
use super::error::{ObjectError, Why};
use super::findings::Walk;
use super::list::ring;
use super::maple::Entry;
use super::reader::Objects;
use super::tree::Tree;
use super::typed::Object;
use super::xarray::XarrayEntry;
use crate::addr::{Address, Gva};
use crate::os::FindingKind;
use crate::os::types::{Type, TypeId};

/// How many tables one hash table may have while it grows.
const MAX_TABLES: usize = 8;

impl<'o> Object<'o> {
    /// The objects of type `ty` in the circular list with this head, linked by their member `member`: two links in each,
    /// forward and backward (`struct list_head`, `LIST_ENTRY`). What a damaged link cuts off is reached from the end.
    ///
    /// # Errors
    ///
    /// [`Why::Missing`]; when the head cannot be read.
    pub fn list(
        &self,
        ty: &str,
        member: &str,
        walk: &Walk,
    ) -> Result<impl Iterator<Item = Object<'o>> + use<'o>, ObjectError> {
        let (memory, what) = (self.objects().memory(), plural(ty));
        let nodes =
            walk.with(|budget, findings| ring(memory, self.address(), &what, budget, findings));
        let nodes = nodes.map_err(|bad| self.fail("", Why::Pointer(bad)))?;
        self.containers(nodes, ty, member)
    }

    /// The objects of type `ty` in the chain of the hash list with this head, or in the stack without locks, linked by
    /// their member `member`. The type of the head says which it is: `hlist_head`, `hlist_nulls_head`, `llist_head`.
    ///
    /// # Errors
    ///
    /// As [`Object::list`].
    pub fn hlist(
        &self,
        ty: &str,
        member: &str,
        walk: &Walk,
    ) -> Result<impl Iterator<Item = Object<'o>> + use<'o>, ObjectError> {
        let chain = self.chain_of_head()?;
        let first = self.u64("first")?;
        let nodes = self.nodes(chain, self.address(), first, ty, walk);
        self.containers(nodes, ty, member)
    }

    /// The objects of type `ty` in all chains of a hash table, an array of `count` elements that this is, points to or begins. Each
    /// element has a head at `head`, which is empty where elements are heads and nothing else.
    ///
    /// Cost: a read for each page of heads and for each object.
    ///
    /// # Errors
    ///
    /// As [`Object::list`].
    pub fn hash_table(
        &self,
        count: u64,
        head: &str,
        ty: &str,
        member: &str,
        walk: &Walk,
    ) -> Result<impl Iterator<Item = Object<'o>> + use<'o>, ObjectError> {
        let start = self.element(0)?;
        let place = start.place(head)?;
        let (words, at) = (start.words(count, &place)?, start.address());
        let chain = place.chain_of_head()?;
        let memory = self.objects().memory();
        let what = format!("chains of {}", plural(ty));
        let heads = walk.with(|budget, findings| words.read(memory, at, &what, budget, findings));
        let mut nodes = Vec::new();
        for (index, first) in heads {
            let distance = words.stride.wrapping_mul(index).wrapping_add(words.offset);
            let head = Gva(at.raw().wrapping_add(distance));
            nodes.extend(self.nodes(chain, head, first, ty, walk));
        }
        self.containers(nodes, ty, member)
    }

    /// This object's next one by a pointer of its own, and so on: the objects behind it, of its own type, without itself.
    ///
    /// # Errors
    ///
    /// [`Why::Missing`]; when the first link cannot be read.
    pub fn chain(
        &self,
        next: &str,
        walk: &Walk,
    ) -> Result<impl Iterator<Item = Object<'o>> + use<'o>, ObjectError> {
        let (objects, ty) = (self.objects(), self.type_id());
        let place = self.place(next)?;
        let chain = Chain {
            next: place.address().raw().wrapping_sub(self.address().raw()),
            back: None,
            odd_ends: false,
        };
        let first = place.u64("")?;
        let name = self.type_name();
        let nodes = self.nodes(chain, place.address(), first, &name, walk);
        Ok(nodes.into_iter().map(move |at| objects.typed(at, ty)))
    }

    /// The objects of type `ty` in the red-black tree with this root, in order, by their member `member`. The root is a
    /// `rb_root`, or a `rb_root_cached`.
    ///
    /// # Errors
    ///
    /// As [`Object::list`].
    pub fn rb_tree(
        &self,
        ty: &str,
        member: &str,
        walk: &Walk,
    ) -> Result<impl Iterator<Item = Object<'o>> + use<'o>, ObjectError> {
        let (objects, root) = (self.objects(), self.place("rb_node | rb_root.rb_node")?);
        let offset = |path| Ok::<_, ObjectError>(objects.container("rb_node", path)?.1);
        let tree = Tree {
            left: offset("rb_left")?,
            right: offset("rb_right")?,
            // The lowest bit is the colour.
            parent: Some((offset("__rb_parent_color | rb_parent_color")?, 3)),
        };
        let (memory, what, first) = (objects.memory(), plural(ty), root.u64("")?);
        let nodes = walk.with(|budget, findings| {
            tree.nodes(memory, root.address(), first, &what, budget, findings)
        });
        self.containers(nodes, ty, member)
    }

    /// What an XArray or radix tree holds, by ascending number. This is its top: an `xarray`, a `radix_tree_root`, or an
    /// `idr`, whose numbers then are the tree's own (`idr_base` is to be added).
    ///
    /// # Errors
    ///
    /// [`Why::Missing`]; when the top cannot be read.
    pub fn xarray(&self, walk: &Walk) -> Result<Vec<XarrayEntry>, ObjectError> {
        const TOP: &str = "xa_head | rnode | idr_rt.xa_head | idr_rt.rnode";
        let plan = self.objects().xarray_plan();
        let plan = plan.map_err(|error| self.fail("", Why::Missing(error)))?;
        let top = self.place(TOP)?;
        let (memory, entry) = (self.objects().memory(), top.u64("")?);
        let what = format!("the {} at {}", self.type_name(), self.address());
        Ok(walk.with(|budget, findings| {
            plan.entries(memory, top.address(), entry, &what, budget, findings)
        }))
    }

    /// The same for arrays of pointers to objects of type `ty`: these, with their numbers. What is no pointer is passed
    /// over.
    ///
    /// # Errors
    ///
    /// As [`Object::xarray`].
    pub fn xarray_of(
        &self,
        ty: &str,
        walk: &Walk,
    ) -> Result<impl Iterator<Item = (u64, Object<'o>)> + use<'o>, ObjectError> {
        let (ty, _) = self.objects().container(ty, "")?;
        let objects = self.objects();
        let entries = self.xarray(walk)?.into_iter();
        Ok(entries.filter_map(move |entry| {
            let at = entry.pointer()?;
            Some((entry.index, objects.typed(at, ty)))
        }))
    }

    /// What a maple tree holds, by ascending range. This is a `maple_tree`.
    ///
    /// # Errors
    ///
    /// As [`Object::xarray`].
    pub fn maple_tree(&self, walk: &Walk) -> Result<Vec<Entry>, ObjectError> {
        let plan = self.objects().maple_plan();
        let plan = plan.map_err(|error| self.fail("", Why::Missing(error)))?;
        let root = self.place("ma_root")?;
        let (memory, entry) = (self.objects().memory(), root.u64("")?);
        let what = format!("the tree at {}", self.address());
        Ok(walk.with(|budget, findings| {
            plan.entries(memory, root.address(), entry, &what, budget, findings)
        }))
    }

    /// The objects of type `ty` in a hash table that can be resized (`rhashtable`), by their member `member`, which is a
    /// `rhash_head`. While a table grows, what has moved to the next one is there.
    ///
    /// # Errors
    ///
    /// As [`Object::list`].
    pub fn rhashtable(
        &self,
        ty: &str,
        member: &str,
        walk: &Walk,
    ) -> Result<impl Iterator<Item = Object<'o>> + use<'o>, ObjectError> {
        let (objects, memory) = (self.objects(), self.objects().memory());
        let chain = Chain {
            next: objects.container("rhash_head", "next")?.1,
            back: None,
            odd_ends: true,
        };
        let mut nodes = Vec::new();
        let mut table = Some(self.at("tbl")?);
        let mut seen = Vec::new();
        while let Some(here) = table.take() {
            if seen.contains(&here.address()) || seen.len() == MAX_TABLES {
                let text = format!("the tables of {} do not end", plural(ty));
                walk.note(FindingKind::Damaged, Some(here.address()), text);
                break;
            }
            seen.push(here.address());
            if here.has("nest") && here.u32("nest")? != 0 {
                let text = format!("the table of {} is nested, which is not read", plural(ty));
                walk.note(FindingKind::Limit, Some(here.address()), text);
            } else {
                let words = Words {
                    count: here.u64("size")?,
                    stride: 8,
                    offset: 0,
                };
                let buckets = here.place("buckets")?.address();
                let what = format!("chains of {}", plural(ty));
                let heads = walk
                    .with(|budget, findings| words.read(memory, buckets, &what, budget, findings));
                for (index, first) in heads {
                    // The lowest bit is a lock, or marks the end of an empty chain: its own place, or a number.
                    let head = Gva(buckets.raw().wrapping_add(index * 8));
                    let first = match first & 1 {
                        1 if first & !1 == head.raw() || first >> 63 == 0 => continue,
                        _ => first & !1,
                    };
                    nodes.extend(self.nodes(chain, head, first, ty, walk));
                }
            }
            let next = here.pointer("future_tbl")?;
            if next != Gva(0) {
                table = walk.keep(
                    here.at("future_tbl"),
                    "the table that another one grows into",
                );
            }
        }
        self.containers(nodes, ty, member)
    }

    /// The objects that the first `count` pointers of an array lead to, with their numbers, null ones left out. This is the
    /// array, or a pointer to its first element.
    ///
    /// Cost: a read for each page of pointers.
    ///
    /// # Errors
    ///
    /// As [`Object::element`]; [`Why::Mistyped`] when its elements are no pointers.
    pub fn pointers(
        &self,
        count: u64,
        walk: &Walk,
    ) -> Result<impl Iterator<Item = (u64, Object<'o>)> + use<'o>, ObjectError> {
        let (objects, memory) = (self.objects(), self.objects().memory());
        let start = self.element(0)?;
        let Ok((_, Type::Pointer { target, .. })) = objects.types().resolve(start.type_id()) else {
            return Err(self.fail("", Why::Mistyped("no array of pointers".into())));
        };
        let words = start.words(count, &start)?;
        let what = format!("pointers to {}", plural(&objects.types().describe(target)));
        let found = walk.with(|budget, findings| {
            words.pointers(memory, start.address(), &what, budget, findings)
        });
        let found = found.into_iter();
        Ok(found.map(move |(index, at)| (index, objects.typed(at, target))))
    }

    /// Elements like this one in a row, of which the word at `place` counts.
    fn words(&self, count: u64, place: &Object<'o>) -> Result<Words, ObjectError> {
        let size = self.size();
        Ok(Words {
            count,
            stride: size.map_err(|error| self.fail("", Why::Missing(error)))?,
            offset: place.address().raw().wrapping_sub(self.address().raw()),
        })
    }

    /// How the chain looks of which this is the head.
    fn chain_of_head(&self) -> Result<Chain, ObjectError> {
        let (objects, name) = (self.objects(), self.type_name());
        let node = match name.trim_start_matches("struct ") {
            "hlist_nulls_head" => "hlist_nulls_node",
            "llist_head" => "llist_node",
            "hlist_head" => "hlist_node",
            _ => return Err(self.fail("", Why::Mistyped("no head of a list".into()))),
        };
        let back = objects.container(node, "pprev");
        Ok(Chain {
            next: objects.container(node, "next")?.1,
            back: back.ok().map(|(_, offset)| offset),
            odd_ends: node == "hlist_nulls_node",
        })
    }

    fn nodes(&self, chain: Chain, head: Gva, first: u64, ty: &str, walk: &Walk) -> Vec<Gva> {
        let (memory, what) = (self.objects().memory(), plural(ty));
        walk.with(|budget, findings| chain.nodes(memory, head, first, &what, budget, findings))
    }

    /// The objects that nodes are in.
    fn containers(
        &self,
        nodes: Vec<Gva>,
        ty: &str,
        member: &str,
    ) -> Result<impl Iterator<Item = Object<'o>> + use<'o>, ObjectError> {
        let objects = self.objects();
        let (ty, offset): (TypeId, u64) = objects.container(ty, member)?;
        let within = move |node: Gva| Gva(node.raw().wrapping_sub(offset));
        Ok(nodes
            .into_iter()
            .map(move |node| objects.typed(within(node), ty)))
    }
}

impl Objects<'_> {
    /// The objects of type `ty` that the `count` pointers from an address on lead to, with their numbers, null ones left
    /// out: an array that a symbol names.
    ///
    /// # Errors
    ///
    /// [`Why::Missing`].
    pub fn pointers_at(
        &self,
        at: Gva,
        count: u64,
        ty: &str,
        walk: &Walk,
    ) -> Result<impl Iterator<Item = (u64, Object<'_>)> + use<'_>, ObjectError> {
        let (target, _) = self.container(ty, "")?;
        let words = Words {
            count,
            stride: 8,
            offset: 0,
        };
        let what = format!("pointers to {}", plural(ty));
        let found = walk
            .with(|budget, findings| words.pointers(self.memory(), at, &what, budget, findings));
        let found = found.into_iter();
        Ok(found.map(move |(index, at)| (index, self.typed(at, target))))
    }
}

/// How findings call objects of a type.
fn plural(ty: &str) -> String {
    format!("{} objects", ty.trim_start_matches("struct "))
}
