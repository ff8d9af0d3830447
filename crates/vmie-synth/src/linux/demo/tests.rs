//! The demo guest against what is said about it.

use super::*;
use crate::guest::PAGE;

#[test]
fn holds_what_it_promises() {
    let demo = demo();
    let truth = demo.space.truth(&demo.machine);
    assert_eq!(demo.machine.phys.ranges(), [LOW_RAM, HIGH_RAM]);
    let rights = |va| truth.lookup(va).expect("mapped").rights;
    assert!(rights(demo.program.text.va).exec && !rights(demo.program.text.va).write);
    assert!(rights(demo.shared.va).write && !rights(demo.shared_view.va).write);
    assert_eq!(
        truth.translate(demo.shared.va),
        truth.translate(demo.shared_view.va)
    );
    assert_eq!(truth.translate(demo.absent_page), Some(demo.absent_gpa));
    assert!(!demo.machine.phys.contains(demo.absent_gpa, 1));
    assert_eq!(truth.translate(demo.swapped_page), None);
    // Every process has the kernel.
    let text = demo.kernel.text;
    assert_eq!(truth.translate(text), Some(demo.kernel.gpa(text)));
    let border = (demo.program.signature_va + PAGE) & !(PAGE - 1);
    let before = truth.translate(border - 1).expect("code");
    let after = truth.translate(border).expect("code");
    assert!(before.abs_diff(after) > 2 * PAGE);
}

#[test]
fn is_the_same_every_time() {
    let image = |machine: &Machine| {
        let phys = &machine.phys;
        let mut image = Vec::new();
        crate::write::raw(&mut image, phys.ranges(), &mut &*phys).expect("RAM");
        image
    };
    let (one, two) = (demo(), demo());
    assert!(image(&one.machine) == image(&two.machine));
    let later = image(&one.later());
    assert!(later == image(&two.later()));
    let pages = |bytes: &[u8]| bytes.chunks(PAGE as usize).map(<[u8]>::to_vec).collect();
    let (before, after): (Vec<_>, Vec<_>) = (pages(&image(&one.machine)), pages(&later));
    let changed = before.iter().zip(&after).filter(|(a, b)| a != b);
    // The ship and the world are in one page, the clock of the program in another.
    assert_eq!(changed.count(), 2);
}
