//! Tells what changed between two images of one guest: `cargo run --example changes BEFORE AFTER`.

use vmie::session::{Session, Who};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut images = std::env::args().skip(1);
    let before = Session::open(images.next().unwrap_or("before.elf".into()))?;
    let after = Session::open(images.next().unwrap_or("after.elf".into()))?;
    let who = Who::named("nginx");
    let changes = before.space(&who)?.changes(&after.space(&who)?)?;
    for change in &changes.items {
        println!("{}+{:#x} {}", change.start, change.len, change.kind.name());
    }
    println!("all of it compared: {}", changes.is_complete());
    Ok(())
}
