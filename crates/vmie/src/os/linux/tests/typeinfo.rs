//! Where a kernel's types come from.

use std::sync::Arc;

use vmie_synth::guest::Machine;
use vmie_synth::linux::{Btf as Writer, Kernel, KernelPlan};

use crate::hints::Hints;
use crate::os::linux::Linux;
use crate::os::linux::btf::Btf;
use crate::os::{FindOptions, Guest, SuppliedTypes, TypeStore, Types};
use crate::testguest::Synthetic;

fn btf(pid_offset: u32) -> Vec<u8> {
    let mut w = Writer::default();
    let int = w.int("int", 4, 1);
    w.structure("task_struct", 64, &[("pid", int, pid_offset * 8)]);
    w.bytes()
}

fn kernel(plan: &KernelPlan) -> (Machine, Kernel) {
    let mut machine = Machine::new(0..64 << 20);
    let kernel = Kernel::load(&mut machine, plan);
    (machine, kernel)
}

fn pid_offset(types: &Types) -> u64 {
    types.offset_of("task_struct", "pid").expect("a member")
}

#[test]
fn the_kernels_own_btf_is_read() {
    for all_symbols in [true, false] {
        let (mut machine, kernel) = kernel(&KernelPlan {
            btf: btf(12),
            all_symbols,
            ..KernelPlan::default()
        });
        // BTF of something else comes first in the image; nothing but its content tells.
        let mut other = Writer::default();
        other.int("int", 4, 1);
        machine
            .phys
            .write(kernel.gpa(kernel.text + 0x80), &other.bytes());
        let found = Linux::find(&Synthetic::of(machine), &Hints::default()).expect("found");
        assert_eq!(pid_offset(&found.types().expect("types")), 12);
    }
}

#[test]
fn a_kernel_without_btf_says_so() {
    let (machine, _) = kernel(&KernelPlan::default());
    let found = Linux::find(&Synthetic::of(machine), &Hints::default()).expect("found");
    assert_eq!(
        found.types().expect_err("none").to_string(),
        "types cannot be had from this guest: the kernel has no BTF"
    );
}

#[test]
fn types_from_outside_are_used_when_they_are_the_kernels() {
    let supplied = |banner: Option<&str>| FindOptions {
        types: Some({
            let btf = Btf::parse(btf(20)).expect("well-formed");
            let types = Arc::new(Types::new(Box::new(btf)));
            let supplied = SuppliedTypes::new(types, "kernel.json");
            match banner {
                Some(banner) => supplied.of_version(banner),
                None => supplied,
            }
        }),
        ..FindOptions::default()
    };
    let types = |machine: Machine, options: &FindOptions| {
        let found =
            Linux::find_with(&Synthetic::of(machine), &Hints::default(), options).expect("found");
        found.types().map_err(|error| error.to_string())
    };
    let (without, kernel_without) = kernel(&KernelPlan::default());
    let fitting = supplied(Some(&kernel_without.banner));
    assert_eq!(
        pid_offset(&types(without.clone(), &fitting).expect("types")),
        20
    );

    let said = types(without.clone(), &supplied(Some("Linux version 4"))).expect_err("refused");
    let both = format!(
        "kernel.json belongs to another kernel, `Linux version 4`, while this one is `{}`",
        kernel_without.banner
    );
    assert!(said.ends_with(&both), "{said}");
    let said = types(without, &supplied(None)).expect_err("refused");
    assert!(
        said.ends_with("does not say which kernel its types belong to"),
        "{said}"
    );

    // The kernel's own types come first.
    let (with, _) = kernel(&KernelPlan {
        btf: btf(12),
        ..KernelPlan::default()
    });
    assert_eq!(pid_offset(&types(with, &fitting).expect("types")), 12);
}

#[test]
fn types_that_were_kept_stand_for_damaged_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = |store: TypeStore| FindOptions {
        stores: vec![store],
        ..FindOptions::default()
    };
    let with = |btf: Vec<u8>, store: TypeStore| {
        let (machine, _) = kernel(&KernelPlan {
            btf,
            ..KernelPlan::default()
        });
        let found = Linux::find_with(&Synthetic::of(machine), &Hints::default(), &options(store))
            .expect("found");
        found.types().map(|types| pid_offset(&types))
    };
    let mut damaged = btf(12);
    damaged[2] = 9;
    // Nothing is kept yet, and damaged types are not kept.
    let keeping = || TypeStore::keeping(folder.path());
    assert!(with(damaged.clone(), keeping()).is_err());
    assert_eq!(with(btf(12), TypeStore::new(folder.path())), Ok(12));
    assert!(with(damaged.clone(), keeping()).is_err());
    // Whole ones are, and are used by whoever looks there.
    assert_eq!(with(btf(12), keeping()), Ok(12));
    assert_eq!(with(damaged.clone(), TypeStore::new(folder.path())), Ok(12));
    assert_eq!(with(Vec::new(), TypeStore::new(folder.path())), Ok(12));
    let nowhere = TypeStore::new(folder.path().join("nowhere"));
    assert!(with(damaged.clone(), nowhere).is_err());
    // The kernel's own come first.
    assert_eq!(with(btf(16), TypeStore::new(folder.path())), Ok(16));
    // Those of another kernel are not its.
    let (machine, other) = kernel(&KernelPlan {
        btf: damaged,
        release: "6.6.6-other".into(),
        ..KernelPlan::default()
    });
    assert!(other.banner.contains("6.6.6-other"));
    let options = options(TypeStore::new(folder.path()));
    let found =
        Linux::find_with(&Synthetic::of(machine), &Hints::default(), &options).expect("found");
    assert!(found.types().is_err());
}

#[test]
fn damaged_btf_says_what_is_wrong() {
    let mut bytes = btf(12);
    bytes[2] = 9;
    let (machine, _) = kernel(&KernelPlan {
        btf: bytes,
        ..KernelPlan::default()
    });
    let found = Linux::find(&Synthetic::of(machine), &Hints::default()).expect("found");
    let said = found.types().expect_err("damaged").to_string();
    assert!(
        said.contains("is damaged: version 9 is not known"),
        "{said}"
    );
}
