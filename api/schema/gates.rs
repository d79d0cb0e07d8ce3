//! Generates the table of feature gates from `gates.txt`.

use std::fmt::Write;

const TEXT: &str = include_str!("gates.txt");

fn gates() -> impl Iterator<Item = (&'static str, bool)> {
    crate::lines(TEXT).map(|(line, text)| match text.split_once(' ') {
        Some((name, "on")) => (name, true),
        Some((name, "off")) => (name, false),
        _ => panic!("gates.txt:{line}: neither on nor off"),
    })
}

/// Whether a gate is on.
///
/// # Panics
///
/// If there is no such gate.
pub(crate) fn is_on(name: &str) -> bool {
    let known = gates().find(|known| known.0 == name);
    known.unwrap_or_else(|| panic!("there is no gate {name}")).1
}

pub(crate) fn generate() -> String {
    let mut sorted: Vec<_> = gates().collect();
    sorted.sort_unstable();
    let mut out = String::new();
    writeln!(out, "static GATES: &[(&str, bool)] = &{sorted:?};").unwrap();
    out
}
