//! The architecture, checked: what ARCHITECTURE.md and CONTRIBUTING.md promise about the shape of
//! the source holds for the source as it is. No compiler, no network; it reads files.
//!
//! Each check is a function from a [`Tree`] to complaints, and its unit tests show on small trees
//! in memory that it can fail.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test that reads the repository itself"
)]

mod dependencies;
mod lints;
mod protos;
mod registries;
mod sources;
mod tree;

use tree::Tree;

/// Fails with all complaints of a check about this repository.
fn holds(check: impl Fn(&Tree) -> Vec<String>) {
    let complaints = check(&Tree::of_this_repository());
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn crates_depend_only_on_what_the_table_allows() {
    holds(dependencies::check);
}

#[test]
fn every_crate_is_a_member_and_inherits_the_lints() {
    holds(lints::check);
}

#[test]
fn every_file_opens_by_saying_what_it_is_for() {
    holds(sources::headers);
}

#[test]
fn every_source_file_is_part_of_a_crate() {
    holds(sources::reachable);
}

#[test]
fn long_files_are_listed_with_a_reason() {
    holds(|tree| sources::lengths(tree, sources::LONG_FILES));
}

#[test]
fn every_protocol_definition_is_compiled() {
    holds(protos::check);
}

#[test]
fn nothing_names_a_registry_host() {
    holds(registries::check);
}
