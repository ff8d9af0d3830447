//! A guest for examples: a kernel that runs a server, at two moments.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use super::programs::{Era, Program, Programs, Sort};
use crate::guest::{Flags, Machine};
use crate::write::{self, Elf};

/// Where the server's code is.
pub const CODE: u64 = 0x40_1000;
/// Where its static data is: the first word leads to its state.
pub const DATA: u64 = 0x40_4000;
/// Where its state is: its word at [`COUNTER`] leads to the counter.
pub const STATE: u64 = 0x60_0000;
/// Offset in the state of the pointer to the counter.
pub const COUNTER: u64 = 0x28;
/// Where the counter is: 100 in the first image, 101 in the second.
pub const REQUESTS: u64 = 0x60_2040;

/// Writes `before.elf` and `after.elf` to a directory: two images of a guest with a kernel, `init` and a server called
/// `nginx`. Between them its counter of requests has gone on.
///
/// # Errors
///
/// When the files cannot be written.
pub fn server(dir: &Path) -> io::Result<()> {
    let mut machine = Machine::new(0..64 << 20);
    let programs = [
        Program::of(1, "init", Sort::X86_64),
        Program::of(42, "nginx", Sort::X86_64),
    ];
    let made = Programs::load(&mut machine, Era::Flags, &programs);
    let (m, space) = (&mut machine, &made.spaces[1]);
    for (va, pages, flags) in [
        (CODE, 1, Flags::CODE),
        (DATA, 1, Flags::DATA),
        (STATE, 4, Flags::DATA),
    ] {
        space.map_new(m, va, pages, flags);
    }
    // call +0x10; test al, al; je: what compilers make of `if (f())`.
    space.write(m, CODE + 0x123, b"\xe8\x10\x00\x00\x00\x84\xc0\x74\x05");
    space.write_u64(m, DATA, STATE);
    space.write_u64(m, STATE + COUNTER, REQUESTS);
    for (name, requests) in [("before.elf", 100), ("after.elf", 101)] {
        space.write_u64(m, REQUESTS, requests);
        let core = Elf {
            cpus: vec![made.kernel.space.cpu()],
            ..Elf::default()
        };
        let mut file = BufWriter::new(File::create(dir.join(name))?);
        let phys = &m.phys;
        write::elf(&mut file, phys.ranges(), &mut &*phys, &core)?;
        file.flush()?;
    }
    Ok(())
}
