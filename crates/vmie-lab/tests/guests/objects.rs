//! Objects in the guest's programs: what is read at the printed addresses is what was printed.

use vmie::{Gva, Memory};
use vmie_lab::{Program, Type};

use crate::entries::hidden_pages;
use crate::support::{each_image, space};

#[test]
fn values_are_where_the_programs_say_in_every_format() {
    each_image(|snapshot, image, name| {
        let mut checked = 0;
        for program in snapshot.programs().expect("readable") {
            let root = snapshot.root_of(program.pid);
            let root = root.unwrap_or_else(|| panic!("{name}: no root of {}", program.name));
            let space = space(snapshot, image.clone(), root);
            // Where the kernel samples who uses a page, the CPU would not find it now.
            let hidden = hidden_pages(snapshot, root);
            let values = program.values.iter();
            for value in values.filter(|value| !hidden.contains_key(&(value.va & !0xfff))) {
                let mut bytes = vec![0; value.bytes.len()];
                space
                    .read(Gva(value.va), &mut bytes)
                    .unwrap_or_else(|fault| {
                        panic!("{name}: {} {}: {fault}", program.name, value.name)
                    });
                assert_eq!(
                    bytes, value.bytes,
                    "{name}: {} {}",
                    program.name, value.name
                );
                checked += 1;
            }
            // What leads through pages that the CPU does not see is followed elsewhere.
            let paths = program.paths.iter();
            for path in paths.filter(|_| program.name.starts_with("objects-")) {
                let mut at = path.base;
                for offset in &path.offsets {
                    at = space.read_u64(Gva(at)).expect("a pointer") + offset;
                }
                assert_eq!(at, path.target, "{name}: {} {}", program.name, path.name);
            }
        }
        assert!(checked > 900, "{name}: only {checked} values");
    });
}

#[test]
fn values_that_tick_have_ticked() {
    each_image(|snapshot, image, name| {
        for program in snapshot.programs().expect("readable") {
            // Counting begins at `ready`, and only in the process that said so.
            if !program.busy.contains(&program.pid) {
                continue;
            }
            let root = snapshot
                .root_of(program.pid)
                .expect("busy programs have roots");
            let space = space(snapshot, image.clone(), root);
            let hidden = hidden_pages(snapshot, root);
            let ticks = program.ticks.iter();
            for tick in ticks.filter(|tick| !hidden.contains_key(&(tick.va & !0xfff))) {
                let value = match tick.ty {
                    Type::U32 => f64::from(space.read_u32(Gva(tick.va)).expect("mapped")),
                    Type::F32 => f64::from(f32::from_bits(
                        space.read_u32(Gva(tick.va)).expect("mapped"),
                    )),
                    Type::F64 => f64::from_bits(space.read_u64(Gva(tick.va)).expect("mapped")),
                    _ => space.read_u64(Gva(tick.va)).expect("mapped") as f64,
                };
                assert!(value > 0.0, "{name}: {} {}", program.name, tick.name);
            }
        }
    });
}

#[test]
fn banners_differ_by_program() {
    each_image(|snapshot, image, name| {
        let programs = snapshot.programs().expect("readable");
        let mut banners: Vec<Vec<u8>> = programs
            .iter()
            .filter_map(|program| {
                let banner = program.value("banner")?;
                let root = snapshot.root_of(program.pid)?;
                let mut bytes = vec![0; banner.bytes.len()];
                space(snapshot, image.clone(), root)
                    .read(Gva(banner.va), &mut bytes)
                    .ok()?;
                Some(bytes)
            })
            .collect();
        banners.sort();
        banners.dedup();
        assert_eq!(banners.len(), objects(&programs).count(), "{name}");
        assert!(banners.len() >= 3, "{name}");
    });
}

/// The builds of `objects.cpp`.
pub(crate) fn objects(programs: &[Program]) -> impl Iterator<Item = &Program> {
    programs
        .iter()
        .filter(|program| program.name.starts_with("objects-"))
}
