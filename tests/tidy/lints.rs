//! Every crate is in the workspace and takes its lints and its edition from it.

use toml::{Table, Value};

use crate::tree::Tree;

/// Keys of `[package]` that the workspace sets for all.
const INHERITED: [&str; 5] = ["version", "edition", "rust-version", "license", "publish"];

/// Complains about crates outside the workspace and about keys that are not inherited.
pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let root: Table = tree
        .text("Cargo.toml")
        .unwrap_or_default()
        .parse()
        .unwrap_or_default();
    let listed = workspace_members(&root);
    let patched = root.get("patch").and_then(|p| p.get("crates-io"));
    let mut complaints = Vec::new();
    for member in tree.members() {
        let place = if member.dir.is_empty() {
            "."
        } else {
            member.dir.trim_end_matches('/')
        };
        if !listed.iter().any(|dir| dir == place) {
            complaints.push(format!(
                "{place} is not in the members of the root Cargo.toml"
            ));
        }
        if !from_workspace(member.manifest.get("lints")) {
            complaints.push(format!("{place}/Cargo.toml lacks [lints] workspace = true"));
        }
        let package = member.manifest.get("package").and_then(Value::as_table);
        // Who stands in for a published crate has its version.
        let stands_in = patched.is_some_and(|patched| patched.get(&member.name).is_some());
        let inherited = INHERITED
            .iter()
            .filter(|key| !stands_in || **key != "version");
        for key in inherited {
            if !from_workspace(package.and_then(|p: &Table| p.get(*key))) {
                complaints.push(format!("{place}/Cargo.toml lacks {key}.workspace = true"));
            }
        }
    }
    complaints
}

fn from_workspace(value: Option<&Value>) -> bool {
    value
        .and_then(|v| v.get("workspace"))
        .and_then(Value::as_bool)
        == Some(true)
}

fn workspace_members(root: &Table) -> Vec<String> {
    let members = root
        .get("workspace")
        .and_then(|w| w.get("members"))
        .and_then(Value::as_array);
    let names = members.into_iter().flatten().filter_map(Value::as_str);
    names.map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "[workspace]\nmembers = ['a']";
    const GOOD: &str = "[package]\nname = 'a'\nversion.workspace = true\nedition.workspace = true\n\
        rust-version.workspace = true\nlicense.workspace = true\npublish.workspace = true\n\
        [lints]\nworkspace = true\n";

    #[test]
    fn a_crate_that_inherits_passes() {
        let tree = Tree::of(&[("Cargo.toml", ROOT), ("a/Cargo.toml", GOOD)]);
        assert_eq!(check(&tree), Vec::<String>::new());
    }

    #[test]
    fn lints_of_its_own_are_found() {
        let own = GOOD.replace(
            "[lints]\nworkspace = true",
            "[lints.rust]\nunsafe_code = 'allow'",
        );
        let found = check(&Tree::of(&[("Cargo.toml", ROOT), ("a/Cargo.toml", &own)]));
        assert_eq!(found, ["a/Cargo.toml lacks [lints] workspace = true"]);
    }

    #[test]
    fn an_edition_of_its_own_is_found() {
        let own = GOOD.replace("edition.workspace = true", "edition = '2021'");
        let found = check(&Tree::of(&[("Cargo.toml", ROOT), ("a/Cargo.toml", &own)]));
        assert_eq!(found, ["a/Cargo.toml lacks edition.workspace = true"]);
    }

    #[test]
    fn a_crate_outside_the_workspace_is_found() {
        let found = check(&Tree::of(&[("Cargo.toml", ROOT), ("b/Cargo.toml", GOOD)]));
        assert_eq!(found, ["b is not in the members of the root Cargo.toml"]);
    }
}
