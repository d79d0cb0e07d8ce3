//! The files of a repository, and its crates as their manifests describe them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use toml::Table;

/// Directories that hold no source of ours.
const SKIPPED: [&str; 2] = ["target", "proptest-regressions"];

/// A repository: relative paths with `/`, and the text of each file (binary files are left out).
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

/// A crate of the repository.
pub(crate) struct Member {
    pub(crate) name: String,
    /// Relative directory with a closing `/`; empty for the root package.
    pub(crate) dir: String,
    pub(crate) manifest: Table,
}

impl Tree {
    pub(crate) fn of_this_repository() -> Tree {
        let mut files = BTreeMap::new();
        read_into(&mut files, Path::new(env!("CARGO_MANIFEST_DIR")), "");
        assert!(
            files.contains_key("Cargo.toml"),
            "this is not the repository"
        );
        Tree { files }
    }

    /// A repository in memory, for the checks' own tests.
    pub(crate) fn of(files: &[(&str, &str)]) -> Tree {
        let files = files
            .iter()
            .map(|(path, text)| (path.to_string(), text.to_string()))
            .collect();
        Tree { files }
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(p, t)| (p.as_str(), t.as_str()))
    }

    pub(crate) fn rust_files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(|(path, _)| path.ends_with(".rs"))
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    pub(crate) fn contains(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// Every directory with a manifest of a package.
    pub(crate) fn members(&self) -> Vec<Member> {
        let manifests = self
            .files()
            .filter(|(path, _)| *path == "Cargo.toml" || path.ends_with("/Cargo.toml"));
        manifests
            .filter_map(|(path, text)| {
                let manifest: Table = text.parse().unwrap_or_else(|e| panic!("{path}: {e}"));
                let name = manifest.get("package")?.get("name")?.as_str()?.to_string();
                let dir = path.trim_end_matches("Cargo.toml").to_string();
                Some(Member {
                    name,
                    dir,
                    manifest,
                })
            })
            .collect()
    }
}

fn read_into(files: &mut BTreeMap<String, String>, dir: &Path, prefix: &str) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            if name != ".git" && !SKIPPED.contains(&name.as_str()) {
                read_into(files, &entry.path(), &format!("{path}/"));
            }
        } else if kind.is_file()
            && let Ok(text) = fs::read_to_string(entry.path())
        {
            files.insert(path, text);
        }
    }
}
