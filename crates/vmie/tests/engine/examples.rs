//! The programs in `examples/` are those of the front page of the documentation, and short.

const PAGE: &str = include_str!("../../src/lib.rs");

/// What is shown of a program: all but its own documentation.
fn shown(program: &str) -> Vec<&str> {
    let lines = program.lines();
    let code = lines.skip_while(|line| line.starts_with("//!") || line.is_empty());
    code.collect()
}

#[test]
fn the_front_page_shows_the_examples() {
    let page: Vec<&str> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        // What is hidden sets the scene and checks what came of it.
        .filter(|line| !line.starts_with("# "))
        .collect();
    for (name, program) in [
        ("scan", include_str!("../../examples/scan.rs")),
        ("changes", include_str!("../../examples/changes.rs")),
        ("paths", include_str!("../../examples/paths.rs")),
    ] {
        let shown = shown(program);
        let is_there = page.windows(shown.len()).any(|part| part == shown);
        assert!(
            is_there,
            "{name} is not on the front page as it is in examples/"
        );
        let body = shown.iter().skip_while(|line| !line.starts_with("fn main"));
        let code = body.filter(|line| !line.trim().is_empty()).count();
        assert!(code <= 15, "{name} has {code} lines");
    }
}
