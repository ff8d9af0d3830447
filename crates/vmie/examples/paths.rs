//! Indexes all pointers of a process and finds paths to an address: `cargo run --example paths IMAGE`.

use vmie::pointers::PathOptions;
use vmie::session::{Session, Who};
use vmie::{AddrRange, Gva};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let image = std::env::args().nth(1).unwrap_or("before.elf".into());
    let session = Session::open(image)?;
    let pointers = session.space(&Who::named("nginx"))?.pointers()?;
    let statics = AddrRange::new(Gva(0x40_4000), 0x1000).expect("a range");
    let options = PathOptions {
        ranges: vec![statics],
        ..PathOptions::default()
    };
    for path in pointers.paths(Gva(0x60_2040), &options) {
        println!("{path}");
    }
    Ok(())
}
