//! Source files: each says what it is for, belongs to a crate, and is short or says why not.

use std::collections::BTreeSet;

use toml::Value;

use crate::tree::{Member, Tree};

/// Lines from which on a file must be listed.
const LONG: usize = 800;

/// Files that are longer, and why they are not split.
pub(crate) const LONG_FILES: &[(&str, &str)] = &[];

/// Directories whose `*.rs` and `*/main.rs` are targets of their own.
const TARGET_DIRS: [&str; 4] = ["src/bin/", "tests/", "benches/", "examples/"];

/// Complains about files that do not open with `//!`.
pub(crate) fn headers(tree: &Tree) -> Vec<String> {
    tree.rust_files()
        .filter(|(_, text)| {
            let words = text
                .lines()
                .next()
                .and_then(|line| line.strip_prefix("//! "));
            words.is_none_or(|words| words.trim().is_empty())
        })
        .map(|(path, _)| format!("{path} does not open with `//! ` and what it is for"))
        .collect()
}

/// Complains about long files without an entry, and about entries without a long file.
pub(crate) fn lengths(tree: &Tree, listed: &[(&str, &str)]) -> Vec<String> {
    let is_listed = |path: &str| listed.iter().any(|(name, _)| *name == path);
    let long: Vec<&str> = tree
        .rust_files()
        .filter(|(_, text)| text.lines().count() > LONG)
        .map(|(path, _)| path)
        .collect();
    let unlisted = long.iter().filter(|path| !is_listed(path)).map(|path| {
        format!("{path} has more than {LONG} lines: split it, or list it in tests/tidy/sources.rs")
    });
    let stale = listed
        .iter()
        .filter(|(path, _)| !long.contains(path))
        .map(|(path, _)| {
            format!("{path} is listed as a long file in tests/tidy/sources.rs and is not one")
        });
    unlisted.chain(stale).collect()
}

/// Complains about Rust files that no `mod` declaration leads to, and about `mod.rs` files.
pub(crate) fn reachable(tree: &Tree) -> Vec<String> {
    let mut reached: BTreeSet<String> = BTreeSet::new();
    for member in tree.members() {
        for root in roots(tree, &member) {
            follow(tree, &root, true, &mut reached);
        }
    }
    let mut complaints = Vec::new();
    for (path, _) in tree.rust_files() {
        if path.ends_with("/mod.rs") && !shared_by_tests(path) {
            complaints.push(format!(
                "{path}: a module with children is NAME.rs beside NAME/"
            ));
        } else if !reached.contains(path) {
            complaints.push(format!("{path} is dead: no `mod` leads to it"));
        }
    }
    complaints
}

/// What several test targets share is `NAME/mod.rs`: as `NAME.rs` it would be a target itself.
fn shared_by_tests(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.contains("/benches/")
}

/// The files that cargo hands to the compiler.
fn roots(tree: &Tree, member: &Member) -> Vec<String> {
    let fixed = ["src/lib.rs", "src/main.rs", "build.rs"];
    let mut roots: Vec<String> = fixed.iter().map(|f| format!("{}{f}", member.dir)).collect();
    for (path, _) in tree.rust_files() {
        let Some(inside) = path.strip_prefix(member.dir.as_str()) else {
            continue;
        };
        let target = TARGET_DIRS.iter().find_map(|dir| inside.strip_prefix(dir));
        if target.is_some_and(|name| {
            !name.contains('/')
                || name
                    .split_once('/')
                    .is_some_and(|(_, file)| file == "main.rs")
        }) {
            roots.push(path.to_string());
        }
    }
    for kind in ["lib", "bin", "test", "bench", "example"] {
        let section = member.manifest.get(kind);
        let tables = match section {
            Some(Value::Array(all)) => all.iter().collect(),
            Some(one) => vec![one],
            None => Vec::new(),
        };
        let named = tables
            .into_iter()
            .filter_map(|table| table.get("path")?.as_str());
        roots.extend(named.map(|path| format!("{}{path}", member.dir)));
    }
    roots.retain(|path| tree.contains(path));
    roots
}

/// Marks a file and every file below it.
fn follow(tree: &Tree, path: &str, is_root: bool, reached: &mut BTreeSet<String>) {
    let Some(text) = tree.text(path) else {
        return;
    };
    if !reached.insert(path.to_string()) {
        return;
    }
    let (dir, file) = path
        .rsplit_once('/')
        .map_or(("", path), |(dir, file)| (dir, file));
    let children = match (dir, is_root) {
        ("", _) => String::new(),
        (_, true) => format!("{dir}/"),
        (_, false) => format!("{dir}/{}/", file.trim_end_matches(".rs")),
    };
    for module in declared(text) {
        match module {
            Declared::Named(name) => {
                follow(tree, &format!("{children}{name}.rs"), false, reached);
                follow(tree, &format!("{children}{name}/mod.rs"), true, reached);
            }
            // Relative to the file's own directory; the file counts as a root for its children.
            Declared::At(place) => {
                let place = if dir.is_empty() {
                    place
                } else {
                    format!("{dir}/{place}")
                };
                follow(tree, &place, true, reached);
            }
        }
    }
}

enum Declared {
    Named(String),
    At(String),
}

/// The `mod name;` declarations of a file, with `#[path]` where given.
fn declared(text: &str) -> Vec<Declared> {
    let mut found = Vec::new();
    let mut path = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[path = \"") {
            path = rest.split('"').next().map(str::to_string);
            continue;
        }
        let declaration = line.strip_suffix(';').and_then(|line| {
            let (before, name) = line
                .rsplit_once("mod ")
                .filter(|_| !line.starts_with("//"))?;
            let visible = before.is_empty() || before.starts_with("pub");
            (visible && name.chars().all(|c| c.is_alphanumeric() || c == '_')).then_some(name)
        });
        if let Some(name) = declaration {
            found.push(match path.take() {
                Some(path) => Declared::At(path),
                None => Declared::Named(name.to_string()),
            });
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            path = None;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRATE: (&str, &str) = ("c/Cargo.toml", "[package]\nname = 'c'");

    #[test]
    fn a_file_must_say_what_it_is_for() {
        let tree = Tree::of(&[
            ("good.rs", "//! Says it.\nfn f() {}"),
            ("bare.rs", "fn f() {}"),
            ("empty.rs", ""),
            ("mute.rs", "//! \nfn f() {}"),
            ("comment.rs", "// Not a doc comment.\n"),
        ]);
        let found = headers(&tree);
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(
            !found
                .iter()
                .any(|complaint| complaint.starts_with("good.rs"))
        );
    }

    #[test]
    fn a_long_file_must_be_listed_and_a_listed_file_must_be_long() {
        let long = "//! Long.\n".repeat(LONG + 1);
        let tree = Tree::of(&[("a.rs", &long), ("b.rs", "//! Short.")]);
        assert_eq!(lengths(&tree, &[]).len(), 1);
        assert_eq!(
            lengths(&tree, &[("a.rs", "a reason")]),
            Vec::<String>::new()
        );
        assert_eq!(
            lengths(&tree, &[("a.rs", "a reason"), ("b.rs", "a reason")]).len(),
            1
        );
    }

    #[test]
    fn files_that_mods_lead_to_are_alive() {
        let tree = Tree::of(&[
            CRATE,
            ("c/build.rs", ""),
            ("c/src/lib.rs", "pub mod a;\n#[cfg(test)]\nmod b;\n"),
            (
                "c/src/a.rs",
                "pub(crate) mod inner;\n#[path = \"elsewhere/odd.rs\"]\nmod odd;",
            ),
            ("c/src/a/inner.rs", ""),
            ("c/src/elsewhere/odd.rs", ""),
            ("c/src/b.rs", ""),
            ("c/src/bin/tool.rs", ""),
            ("c/tests/one.rs", ""),
            ("c/tests/two/main.rs", "mod part;"),
            ("c/tests/two/part.rs", ""),
            ("c/tests/three.rs", "mod support;"),
            ("c/tests/support/mod.rs", "mod inner;"),
            ("c/tests/support/inner.rs", ""),
        ]);
        assert_eq!(reachable(&tree), Vec::<String>::new());
    }

    #[test]
    fn dead_files_are_found() {
        let tree = Tree::of(&[
            CRATE,
            ("c/src/lib.rs", "// mod a;\nmod b { }\nuse crate::c;"),
            ("c/src/a.rs", "mod child;"),
            ("c/src/a/child.rs", ""),
            ("c/tests/two/main.rs", ""),
            ("c/tests/two/part.rs", ""),
            ("outside.rs", ""),
        ]);
        assert_eq!(
            reachable(&tree),
            [
                "c/src/a.rs is dead: no `mod` leads to it",
                "c/src/a/child.rs is dead: no `mod` leads to it",
                "c/tests/two/part.rs is dead: no `mod` leads to it",
                "outside.rs is dead: no `mod` leads to it",
            ]
        );
    }

    #[test]
    fn mod_rs_is_refused() {
        let tree = Tree::of(&[CRATE, ("c/src/lib.rs", "mod a;"), ("c/src/a/mod.rs", "")]);
        assert!(reachable(&tree)[0].contains("NAME.rs beside NAME/"));
    }
}
