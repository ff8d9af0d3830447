//! Finding a kernel again, and not being led astray by what was kept.

use std::path::PathBuf;

use vmie_synth::guest::{Frames, Machine, Phys};
use vmie_synth::linux::{Arrangement, Kernel, KernelPlan};

use crate::addr::{Gpa, Gva};
use crate::hints::Hints;
use crate::os::linux::Linux;
use crate::os::{Cache, FindOptions, Guest, Trail};
use crate::testguest::Synthetic;

const RAM: u64 = 64 << 20;

fn machine(plan: &KernelPlan) -> (Machine, Kernel) {
    let mut phys = Phys::sparse();
    phys.add_ram(0..RAM);
    let mut machine = Machine::with(phys, Frames::sequential(&[1 << 20..RAM]));
    let kernel = Kernel::load(&mut machine, plan);
    (machine, kernel)
}

fn follow(machine: &Machine, trail: &Trail) -> Linux {
    let options = FindOptions {
        trail: Some(trail.clone()),
        ..FindOptions::default()
    };
    Linux::find_with(&Synthetic::of(machine.clone()), &Hints::default(), &options).expect("found")
}

#[test]
fn a_trail_leads_back_whichever_way_it_was_found() {
    for arrangement in [Arrangement::V4_5, Arrangement::V6_14, Arrangement::V7_0] {
        for with_note in [false, true] {
            let (mut machine, kernel) = machine(&KernelPlan {
                arrangement,
                slide: 32 << 20,
                ..KernelPlan::default()
            });
            if with_note {
                kernel.write_note(&mut machine, &kernel.note_lines());
            }
            let first =
                Linux::find(&Synthetic::of(machine.clone()), &Hints::default()).expect("found");
            assert_eq!(first.slide(), 32 << 20);
            let again = follow(&machine, first.trail());
            assert_eq!(again.trail(), first.trail());
            assert_eq!(again.version(), kernel.banner);
            assert!(again.symbols.iter().eq(first.symbols.iter()));
            let names: Vec<&str> = again.steps().iter().map(|step| step.name).collect();
            assert_eq!(names, ["trail", "root", "kallsyms", "banner"]);
        }
    }
}

#[test]
fn a_wrong_trail_is_left() {
    let (machine, kernel) = machine(&KernelPlan::default());
    let right = Linux::find(&Synthetic::of(machine.clone()), &Hints::default()).expect("found");
    let right = right.trail();
    let wrong = [
        Trail {
            root: Gpa(0x1000),
            ..right.clone()
        },
        Trail {
            mode: crate::paging::Mode::FiveLevel,
            ..right.clone()
        },
        Trail {
            marks: vec![right.marks[0], Gva(kernel.text)],
            ..right.clone()
        },
        Trail {
            marks: Vec::new(),
            ..right.clone()
        },
    ];
    for trail in wrong {
        let found = follow(&machine, &trail);
        assert_eq!(found.trail(), right);
        assert_eq!(found.steps()[0].name, "trail");
        assert!(
            found.steps().iter().any(|step| step.name == "VMCOREINFO"),
            "{trail}"
        );
    }
}

/// A folder that goes away again.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vmie-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_cache_is_kept_beside_the_image_and_belongs_to_it() {
    let folder = Folder::new("cache");
    let image = folder.0.join("ram.raw");
    std::fs::write(&image, b"stands for an image").expect("written");
    let (mut machine, kernel) = machine(&KernelPlan::default());
    let phys = Synthetic::of(machine.clone());
    let options = FindOptions::default();

    let cache = Cache::beside(&image, &*phys).expect("a file");
    assert_eq!(cache.path(), folder.0.join("ram.raw.vmie-os"));
    assert_eq!(cache.load(), None);
    let (first, kept) = cache
        .find(&phys, &Hints::default(), &options)
        .expect("found");
    kept.expect("written");
    assert_eq!(cache.load().as_ref(), Some(first.trail()));
    let (again, kept) = cache
        .find(&phys, &Hints::default(), &options)
        .expect("found");
    kept.expect("nothing to write");
    assert_eq!(again.steps()[0].name, "trail");
    assert_eq!(again.version(), kernel.banner);

    // Other memory, another size, another time: not the image that it was.
    machine.phys.write(RAM / 2, b"changed");
    let changed = Cache::beside(&image, &Synthetic::new(machine.phys)).expect("a file");
    assert_eq!(changed.load(), None);
    std::fs::write(&image, b"stands for another image").expect("written");
    assert_eq!(Cache::beside(&image, &*phys).expect("a file").load(), None);

    // Whatever stands in its place is not trusted. A cache is replaced, what is none is left alone.
    for (text, ours) in [
        ("vmie-os 1\n", true),
        ("vmie-os 2\nimage\ntrail\n", true),
        (&format!("vmie-os 1\n{}", "x".repeat(1 << 20)), true),
        ("", false),
        ("vmie-o", false),
        ("Somebody's notes about this image.\n", false),
    ] {
        std::fs::write(cache.path(), text).expect("written");
        assert_eq!(cache.load(), None);
        let (found, kept) = cache
            .find(&phys, &Hints::default(), &options)
            .expect("found");
        assert_eq!(found.version(), kernel.banner);
        assert_eq!(kept.is_ok(), ours, "{text:.20}");
        assert_eq!(cache.load().as_ref(), ours.then(|| first.trail()));
        let left = std::fs::read_to_string(cache.path()).expect("still there");
        assert_eq!(left == text, !ours);
    }
    std::fs::remove_file(cache.path()).expect("it was there");
    std::fs::create_dir(cache.path()).expect("made");
    assert!(cache.save(first.trail()).is_err());
    let (_, kept) = cache
        .find(&phys, &Hints::default(), &options)
        .expect("found");
    assert!(kept.is_err(), "not kept, and found all the same");
    let files = std::fs::read_dir(&folder.0).expect("a folder").count();
    assert_eq!(files, 2, "the image, and what was in the way");
}

#[cfg(unix)]
#[test]
fn a_pipe_in_the_place_of_a_cache_is_not_waited_for() {
    let folder = Folder::new("cache-pipe");
    let image = folder.0.join("ram.raw");
    std::fs::write(&image, b"stands for an image").expect("written");
    let (machine, _) = machine(&KernelPlan::default());
    let phys = Synthetic::of(machine);
    let cache = Cache::beside(&image, &*phys).expect("a file");
    let made = std::process::Command::new("mkfifo")
        .arg(cache.path())
        .status();
    assert!(made.expect("mkfifo").success());
    let (_, kept) = cache
        .find(&phys, &Hints::default(), &FindOptions::default())
        .expect("found");
    assert!(kept.is_err());
}
