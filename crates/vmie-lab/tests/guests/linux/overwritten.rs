//! Real guests of which pages are overwritten: what is lost is what was overwritten, and it is said.
//!
//! A sample of what `cargo xtask lab damage` tries in full.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;

use vmie::os::find;
use vmie::{AddrRange, Gpa, Gva, Hints};

use super::overlay::{Chance, Outcome, Overlay, PAGE, image_pages, judge, pages_that_are_not_zero};
use super::support::{Case, each_raw};

/// Does `job` for each of `items`, on all CPUs.
fn each_of<T: Sync, R: Send>(items: &[T], job: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for chunk in items.chunks(items.len().div_ceil(workers).max(1)) {
            let (results, job) = (&results, &job);
            scope.spawn(move || {
                for item in chunk {
                    let result = job(item);
                    results.lock().expect("no panic").push(result);
                }
            });
        }
    });
    results.into_inner().expect("no panic")
}

/// Pages of the image: more of its tables than of what nobody looks at.
fn sample(case: &Case) -> Vec<(Gva, Gpa)> {
    let symbols = case.guest.symbols().expect("symbols");
    let part = |from, to| {
        let at = |name| symbols.address_of(name).expect("listed");
        AddrRange::inclusive(at(from), Gva(at(to).0 - 1)).expect("not empty")
    };
    let parts = [
        (part("__start_BTF", "__stop_BTF"), 67),
        (part("__start_rodata", "__end_rodata"), 61),
        (part("_sdata", "_edata"), 211),
        (part("_text", "_end"), 1021),
    ];
    let pages = image_pages(&*case.guest);
    let mut chosen = Vec::new();
    for (part, step) in parts {
        let within = pages.iter().filter(|(va, _)| part.contains(*va));
        chosen.extend(within.step_by(step).copied());
    }
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

#[test]
fn one_page_of_the_image_costs_what_was_on_it() {
    each_raw(|case| {
        let truth = case.guest.processes().expect("lists processes").items;
        let pages = sample(case);
        let outcomes: Vec<(Gva, Outcome)> = each_of(&pages, |&(va, gpa)| {
            let noise = Chance::new(gpa.0).page();
            let memory = Overlay::over(&case.memory, BTreeMap::from([(gpa.0 / PAGE, noise)]));
            (va, judge(&memory, &Hints::default(), &truth))
        });
        let name = case.name();
        let mut fewer = Vec::new();
        for (va, outcome) in &outcomes {
            assert!(outcome.invented.is_empty(), "{name}: {va}: {outcome:?}");
            assert!(!outcome.is_silent(), "{name}: {va}: {outcome:?}");
            if !outcome.lists_all() {
                fewer.push((va, outcome));
            }
        }
        // A few pages are what everything else is found by, and some of what the image has given back is
        // now a process's record.
        assert!(fewer.len() * 20 <= outcomes.len(), "{name}: {fewer:#?}");
    });
}

#[test]
fn a_hundredth_of_all_pages_costs_few_processes() {
    const SEEDS: [u64; 3] = [11, 12, 13];
    each_raw(|case| {
        let truth = case.guest.processes().expect("lists processes").items;
        let full = pages_that_are_not_zero(&*case.memory);
        let outcomes = each_of(&SEEDS, |&seed| {
            let mut chance = Chance::new(seed);
            let mut pages = BTreeMap::new();
            while pages.len() < full.len() / 100 {
                let page = full[chance.below(full.len() as u64) as usize];
                let bytes = match chance.below(2) {
                    0 => chance.page(),
                    _ => vec![0; PAGE as usize],
                };
                pages.insert(page, bytes);
            }
            judge(
                &Overlay::over(&case.memory, pages),
                &Hints::default(),
                &truth,
            )
        });
        let name = case.name();
        let mut most = 0;
        for outcome in &outcomes {
            assert!(outcome.invented.is_empty(), "{name}: {outcome:?}");
            assert!(!outcome.is_silent(), "{name}: {outcome:?}");
            if outcome.refused.is_none() && outcome.missing.len() * 10 <= truth.len() {
                most += 1;
            }
        }
        // One in thirty loses a page table without which no kernel is found.
        assert!(most >= 2, "{name}: {outcomes:#?}");
    });
}

#[test]
fn types_and_symbols_say_what_they_lost() {
    each_raw(|case| {
        let symbols = case.guest.symbols().expect("symbols");
        let at = |name| symbols.address_of(name).expect("listed").0;
        let truth = case.guest.types().expect("types");
        // The middle of the types' records.
        let start = at("__start_BTF");
        let va = (start + (at("__stop_BTF") - start) / 3) & !(PAGE - 1);
        let space = case.guest.kernel_space();
        let gpa = space.translate(Gva(va)).expect("mapped").gpa;
        let noise = Chance::new(7).page();
        let memory = Overlay::over(&case.memory, BTreeMap::from([(gpa.0 / PAGE, noise)]));
        let guest = find(&memory, &Hints::default()).expect("the kernel is whole");
        let types = guest.types().expect("the rest of the types");
        let findings = guest.findings();
        assert!(!findings.is_empty());
        assert!(
            findings.iter().all(|f| f.text.contains("types (BTF)")),
            "{findings:?}"
        );
        // What is left bears the numbers that it had, and says what it said.
        let (mut same, mut lost) = (0, 0);
        for id in 1..truth.end() {
            let id = vmie::os::TypeId(id);
            match (truth.get(id), types.get(id)) {
                (Ok(whole), Ok(left)) if whole == left => same += 1,
                (Ok(vmie::os::Type::Record(whole)), Ok(vmie::os::Type::Record(left))) => {
                    // On the border of the page, members are missing.
                    assert!(
                        left.members.len() < whole.members.len(),
                        "{whole:?} {left:?}"
                    );
                    assert_eq!((whole.name, whole.size), (left.name, left.size));
                    lost += 1;
                }
                (Ok(_), Err(_)) => lost += 1,
                (whole, left) => {
                    // Parts of others (parameters, values) are not looked at one by one.
                    assert_eq!(
                        whole.map(|_| ()).is_ok(),
                        left.map(|_| ()).is_ok(),
                        "{id:?}"
                    );
                    lost += 1;
                }
            }
        }
        assert!(lost > 0 && lost <= 342 && same > 10_000, "{same} {lost}");
    });
}
