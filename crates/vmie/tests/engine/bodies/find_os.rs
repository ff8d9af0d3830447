//! What must hold for *any* bytes in which an operating system is looked for.
//!
//! One body for the tests, which run it on mutated tables of kernels, and for the fuzz target of the
//! same name.

#![allow(unreachable_pub)] // shared by a test and a fuzz target, a library of neither

use std::sync::Arc;

use vmie::{Gpa, Memory, os};

use super::testmem::TestMemory;

/// Looks for an operating system and asks for everything that is found. Answers what the search said.
pub fn find_os(data: &[u8]) -> String {
    let phys: Arc<dyn Memory<Addr = Gpa>> = Arc::new(TestMemory::of(0, data));
    match os::find(&phys, &vmie::Hints::default()) {
        Ok(guest) => {
            let _ = guest.types();
            let _ = guest.processes();
            let _ = guest.modules(None);
            let steps: Vec<String> = guest.steps().iter().map(ToString::to_string).collect();
            steps.join("\n")
        }
        Err(error) => {
            assert!(error.searches.iter().all(|(_, steps)| !steps.is_empty()));
            error.to_string()
        }
    }
}
