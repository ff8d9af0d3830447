//! Guests that were made to keep vmie busy.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use vmie_synth::guest::{Flags, Machine, Paging, Space};
use vmie_synth::write;

use crate::support::{rows, vmie};

/// A few tables that describe 512 GiB of pages over and over: every verb comes to an end.
#[test]
fn tables_that_explode() {
    let mut machine = Machine::new(0..1 << 20);
    let space = Space::new(&mut machine, Paging::FourLevel);
    space.map_new(&mut machine, 0x40_0000, 3, Flags::DATA);
    space.explode(&mut machine, 4, 0x6000_0000_0000, Flags::DATA);
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("explode.lime");
    let mut file = BufWriter::new(File::create(&path).expect("a file"));
    let phys = &machine.phys;
    write::lime(&mut file, phys.ranges(), &mut &*phys).expect("writes");
    drop(file);

    let path = path.display().to_string();
    let cr3 = format!("{:#x}", space.root());
    for args in [
        vec!["maps"],
        vec!["maps", "--extents", "--limit", "100000"],
        vec!["vtop", "0x600012345678"],
        vec!["read", "0x600000000000..0x608000000000", "--limit", "10000"],
        vec![
            "scan",
            "-s",
            "11 22 33 44 55",
            "--range",
            "0x600000000000..+4GiB",
        ],
    ] {
        let began = Instant::now();
        let mut all = vec![args[0], &path, "--cr3", &cr3, "--paging", "4level"];
        all.extend(&args[1..]);
        let run = vmie(&all);
        let took = began.elapsed();
        assert!(run.status < 2, "{args:?}: {}", run.err);
        assert!(took < Duration::from_secs(120), "{args:?} took {took:?}");
    }
    // What was not followed is not claimed to be known.
    let run = vmie(&["maps", &path, "--cr3", &cr3, "--paging", "4level"]);
    let rows = rows(&run);
    assert_eq!(rows[0]["absent"], 0);
    assert_eq!(rows[1]["len"], 512_u64 << 30);
    assert_eq!(rows[1]["absent"], serde_json::Value::Null);
    assert!(run.err.contains("unknown"), "{}", run.err);
}
