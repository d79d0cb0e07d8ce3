//! Turns `schema/*.txt` into static tables (`schema/README.md` explains the format, `src/schema.rs`
//! the types). Whatever the tables cannot hold stops the build with the line's number.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a build script; it reads what is compiled in and writes to OUT_DIR"
)]

#[path = "schema/gates.rs"]
mod gates;
#[path = "schema/resources.rs"]
mod resources;
#[path = "schema/rules.rs"]
mod rules;
#[path = "schema/types.rs"]
mod types;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=schema");
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR").unwrap());
    let types = types::generate(include_str!("schema/types.txt"));
    std::fs::write(out.join("types.rs"), types).unwrap();
    let resources = resources::generate(include_str!("schema/resources.txt"));
    std::fs::write(out.join("resources.rs"), resources).unwrap();
    std::fs::write(out.join("gates.rs"), gates::generate()).unwrap();
}

/// The lines of a table with their numbers, without comments and empty lines.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    numbered.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
}

/// `["a", "b"]` of `a,b`.
fn list(words: &str) -> String {
    let words: Vec<&str> = words.split(',').filter(|word| !word.is_empty()).collect();
    format!("&{words:?}")
}
