//! Finds a process and scans it for signatures: `cargo run --example scan IMAGE`.

use vmie::scan::Run;
use vmie::session::{Session, Who};
use vmie::signature::{Set, Signature};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let image = std::env::args().nth(1).unwrap_or("before.elf".into());
    let session = Session::open(image)?;
    let space = session.space(&Who::named("nginx"))?;
    let set = Set::compile(vec![Signature::parse("test", "E8 ?? ?? ?? ?? 84 C0")?])?;
    let outcome = space.scan(&set, Run::new())?;
    for found in &outcome.items {
        let name = set.signatures()[found.item.sig].name();
        println!("{} {name}", found.start);
    }
    println!("all of it read: {}", outcome.is_complete());
    Ok(())
}
