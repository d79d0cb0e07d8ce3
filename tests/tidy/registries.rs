//! Nothing names the host of a package registry: where a build downloads from is the business of
//! the machine's own configuration, so that the repository builds behind any mirror.

use toml::{Table, Value};

use crate::tree::Tree;

/// Hosts that packages come from, in two parts so that this file does not complain about itself.
const HOSTS: [(&str, &str); 10] = [
    ("index.", "crates.io"),
    ("static.", "crates.io"),
    ("pypi.", "org"),
    ("registry.", "npmjs.org"),
    ("proxy.", "golang.org"),
    ("deb.", "debian.org"),
    ("security.", "debian.org"),
    ("archive.", "ubuntu.com"),
    ("repo.maven.", "apache.org"),
    ("rsproxy.", "cn"),
];

/// Parts of host names that give a private registry or a mirror away.
const GIVEAWAYS: [&str; 5] = ["registry.", "artifactory", "nexus.", "mirror.", "proxy."];

/// Keys of cargo's configuration that choose where packages come from.
const CARGO_KEYS: [&str; 3] = ["source", "registries", "registry"];

/// Complains about hosts and cargo settings that tie the repository to a registry.
pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, text) in tree.files() {
        for (a, b) in HOSTS {
            if text.contains(&format!("{a}{b}")) {
                complaints.push(format!("{path} names the registry host {a}{b}"));
            }
        }
        for host in hosts(text) {
            if GIVEAWAYS.iter().any(|part| host.contains(part)) {
                complaints.push(format!(
                    "{path} names the host {host}, which looks like a registry"
                ));
            }
        }
        if path.ends_with(".cargo/config.toml") {
            complaints.extend(cargo_settings(path, text));
        }
        if path == "Cargo.lock" {
            complaints.extend(lock_sources(text));
        }
    }
    complaints
}

/// The host of every URL in a text.
fn hosts(text: &str) -> impl Iterator<Item = &str> {
    text.split("://").skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_alphanumeric() || "-.".contains(c)));
        &rest[..end.unwrap_or(rest.len())]
    })
}

fn cargo_settings(path: &str, text: &str) -> Vec<String> {
    let config: Table = text.parse().unwrap_or_default();
    CARGO_KEYS
        .iter()
        .filter(|key| config.contains_key(**key))
        .map(|key| format!("{path} sets [{key}]"))
        .collect()
}

fn lock_sources(text: &str) -> Vec<String> {
    let lock: Table = text.parse().unwrap_or_default();
    let packages = lock
        .get("package")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    packages
        .filter_map(|package| package.get("source")?.as_str())
        .filter(|source| *source != "registry+https://github.com/rust-lang/crates.io-index")
        .map(|source| format!("Cargo.lock takes a package from {source}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_links_pass() {
        let tree = Tree::of(&[
            (
                "README.md",
                "https://crates.io/crates/openraft and https://127.0.0.1:2379",
            ),
            (".cargo/config.toml", "[build]\nrustflags = []"),
            (
                "Cargo.lock",
                "[[package]]\nname = 'x'\nsource = 'registry+https://github.com/rust-lang/crates.io-index'",
            ),
        ]);
        assert_eq!(check(&tree), Vec::<String>::new());
    }

    #[test]
    fn a_registry_is_found_in_any_file() {
        let known = format!("apt: http://deb.{}/debian", "debian.org");
        let private = ["https:", "//artifactory.example.com/x"].concat();
        for (path, text) in [
            ("deploy/setup.sh", known.as_str()),
            ("Makefile", private.as_str()),
            (
                ".cargo/config.toml",
                "[source.crates-io]\nreplace-with = 'near'",
            ),
            (
                "Cargo.lock",
                "[[package]]\nname = 'x'\nsource = 'git+https://github.com/x/y'",
            ),
        ] {
            assert_eq!(check(&Tree::of(&[(path, text)])).len(), 1, "{path}");
        }
    }
}
