//! Which crate may depend on which: the table of ARCHITECTURE.md.

use toml::{Table, Value};

use crate::tree::{Member, Tree};

/// A row: the crate, what it may depend on, and what its tests may use beyond that.
struct Row {
    name: &'static str,
    may: &'static [&'static str],
    tests_may: &'static [&'static str],
}

/// All crates but `seams`, which every crate may use.
const ALL: &[&str] = &[
    "api",
    "apiserver",
    "client",
    "controllers",
    "deploy",
    "node",
    "raft-store",
    "scheduler",
];

const COMPONENT: &[&str] = &["api", "client"];

/// Components meet the real API conventions in their tests.
const SERVER: &[&str] = &["apiserver"];

const TABLE: &[Row] = &[
    Row {
        name: "api",
        may: &[],
        tests_may: &[],
    },
    Row {
        name: "raft-store",
        may: &[],
        tests_may: &[],
    },
    Row {
        name: "seams",
        may: &[],
        tests_may: &[],
    },
    // In the place of a published crate, for openraft alone.
    Row {
        name: "base2histogram",
        may: &[],
        tests_may: &[],
    },
    Row {
        name: "client",
        may: &["api"],
        tests_may: SERVER,
    },
    Row {
        name: "apiserver",
        may: &["api", "raft-store"],
        tests_may: &[],
    },
    Row {
        name: "controllers",
        may: COMPONENT,
        tests_may: SERVER,
    },
    Row {
        name: "scheduler",
        may: COMPONENT,
        tests_may: SERVER,
    },
    Row {
        name: "node",
        may: COMPONENT,
        tests_may: SERVER,
    },
    // Of the components only their `Config` types.
    Row {
        name: "deploy",
        may: &[
            "api",
            "apiserver",
            "client",
            "controllers",
            "node",
            "raft-store",
            "scheduler",
        ],
        tests_may: &[],
    },
    // Of these two, neither ever enters the binary, which ships to users.
    Row {
        name: "chaos",
        may: ALL,
        tests_may: &[],
    },
    Row {
        name: "bench",
        may: ALL,
        tests_may: &[],
    },
    Row {
        name: "trireme",
        may: ALL,
        tests_may: &[],
    },
];

/// Free for every crate.
const FREE: &str = "seams";

/// Complains about dependencies that the table does not allow and about crates without a row.
pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let members = tree.members();
    let ours: Vec<&str> = members.iter().map(|m| m.name.as_str()).collect();
    let mut complaints = Vec::new();
    for member in &members {
        let Some(row) = TABLE.iter().find(|row| row.name == member.name) else {
            complaints.push(format!(
                "{} has no row in the dependency table of tests/tidy/dependencies.rs",
                member.name
            ));
            continue;
        };
        for (dependency, for_tests) in dependencies(member) {
            let allowed = dependency == FREE
                || row.may.contains(&dependency.as_str())
                || (for_tests && row.tests_may.contains(&dependency.as_str()));
            if ours.contains(&dependency.as_str()) && !allowed {
                let scope = if for_tests { "in its tests " } else { "" };
                complaints.push(format!(
                    "{} must not {scope}depend on {dependency}: ARCHITECTURE.md has the table",
                    member.name
                ));
            }
        }
    }
    complaints
}

/// Package names of all dependencies; `true` for those of tests.
fn dependencies(member: &Member) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    collect(&member.manifest, &mut found);
    if let Some(Value::Table(targets)) = member.manifest.get("target") {
        for target in targets.values().filter_map(Value::as_table) {
            collect(target, &mut found);
        }
    }
    found
}

fn collect(table: &Table, found: &mut Vec<(String, bool)>) {
    for section in ["dependencies", "build-dependencies", "dev-dependencies"] {
        let Some(Value::Table(rows)) = table.get(section) else {
            continue;
        };
        for (key, row) in rows {
            let name = row.get("package").and_then(Value::as_str).unwrap_or(key);
            found.push((name.to_string(), section == "dev-dependencies"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(client: &str) -> Vec<String> {
        check(&Tree::of(&[
            ("api/Cargo.toml", "[package]\nname = 'api'"),
            ("seams/Cargo.toml", "[package]\nname = 'seams'"),
            ("apiserver/Cargo.toml", "[package]\nname = 'apiserver'"),
            ("chaos/Cargo.toml", "[package]\nname = 'chaos'"),
            (
                "client/Cargo.toml",
                &format!("[package]\nname = 'client'\n{client}"),
            ),
        ]))
    }

    #[test]
    fn allowed_dependencies_pass() {
        assert_eq!(
            complaints(
                "[dependencies]\napi.workspace = true\nseams.workspace = true\nserde = '1'\n\
                 [dev-dependencies]\napiserver.workspace = true"
            ),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_forbidden_dependency_is_found_wherever_it_hides() {
        for hiding in [
            "[dependencies]\napiserver.workspace = true",
            "[build-dependencies]\napiserver = { path = '../apiserver' }",
            "[dependencies]\nserver = { package = 'apiserver', path = '../apiserver' }",
            "[target.'cfg(unix)'.dependencies]\napiserver.workspace = true",
        ] {
            assert_eq!(complaints(hiding).len(), 1, "{hiding}");
        }
    }

    #[test]
    fn tests_may_not_use_everything_either() {
        let found = complaints("[dev-dependencies]\nchaos.workspace = true");
        assert_eq!(found.len(), 1);
        assert!(
            found[0].contains("in its tests depend on chaos"),
            "{found:?}"
        );
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        let found = check(&Tree::of(&[(
            "extra/Cargo.toml",
            "[package]\nname = 'extra'",
        )]));
        assert!(found[0].contains("extra has no row"), "{found:?}");
    }
}
