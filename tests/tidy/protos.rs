//! Every protocol definition is compiled by its crate's build script, itself or by an import.

use std::collections::BTreeSet;

use crate::tree::Tree;

/// Complains about `.proto` files that no build script reaches.
pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for member in tree.members() {
        let root = format!("{}proto/", member.dir);
        let all: Vec<(&str, &str)> = tree
            .files()
            .filter(|(path, _)| path.ends_with(".proto"))
            .filter_map(|(path, text)| Some((path.strip_prefix(root.as_str())?, text)))
            .collect();
        let script = tree
            .text(&format!("{}build.rs", member.dir))
            .unwrap_or_default();
        let used = reached(script, &all);
        for (name, _) in all.iter().filter(|(name, _)| !used.contains(name)) {
            complaints.push(format!(
                "{root}{name} is neither compiled by build.rs nor imported"
            ));
        }
    }
    complaints
}

fn reached<'a>(script: &str, all: &[(&'a str, &str)]) -> BTreeSet<&'a str> {
    let mut used: BTreeSet<&str> = BTreeSet::new();
    loop {
        let quoted_in = |text: &str, name: &str| text.contains(&format!("\"{name}\""));
        let next: Vec<&str> = all
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| !used.contains(name))
            .filter(|name| {
                let mut importers = all.iter().filter(|(other, _)| used.contains(other));
                quoted_in(script, name) || importers.any(|(_, text)| quoted_in(text, name))
            })
            .collect();
        if next.is_empty() {
            return used;
        }
        used.extend(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unused_definition_is_found() {
        let found = check(&Tree::of(&[
            ("s/Cargo.toml", "[package]\nname = 's'"),
            ("s/build.rs", "compile([\"x/a.proto\"])"),
            ("s/proto/x/a.proto", "import \"x/b.proto\";"),
            ("s/proto/x/b.proto", ""),
            ("s/proto/x/dead.proto", "import \"x/deader.proto\";"),
            ("s/proto/x/deader.proto", ""),
        ]));
        assert_eq!(
            found,
            [
                "s/proto/x/dead.proto is neither compiled by build.rs nor imported",
                "s/proto/x/deader.proto is neither compiled by build.rs nor imported",
            ]
        );
    }
}
