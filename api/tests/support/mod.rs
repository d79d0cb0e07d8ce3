//! What the test targets share: upstream's fixtures, where they are present.

#![allow(dead_code, reason = "not every target uses everything")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests read fixtures from the disk"
)]

pub(crate) mod generate;

use std::collections::HashMap;
use std::path::PathBuf;

/// A fixture: a kind in three encodings.
pub(crate) struct Fixture {
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
}

impl Fixture {
    /// The file's bytes in an encoding (`json`, `yaml`, `pb`).
    pub(crate) fn read(&self, extension: &str) -> Vec<u8> {
        let path = folder().join(format!("{}.{extension}", self.name));
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Its schema.
    pub(crate) fn schema(&self) -> &'static api::schema::Type {
        api::schema::kind(&self.group, &self.version, &self.kind)
            // The one top-level message without kind and apiVersion.
            .or_else(|| api::schema::type_named(&format!("meta/v1.{}", self.kind)))
            .unwrap_or_else(|| panic!("no schema for {}", self.name))
    }
}

fn folder() -> PathBuf {
    shared("TRIREME_GOLDEN", "golden")
}

/// A folder beside the repository, or the one that a variable names.
fn shared(variable: &str, name: &str) -> PathBuf {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let beside = || {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../../shared")
            .join(name)
    };
    named.unwrap_or_else(beside)
}

/// The rows of a table of facts by column, from the folder that `TRIREME_FACTS` names, else
/// `shared/facts` beside the repository; none if it is absent.
pub(crate) fn facts(table: &str) -> Vec<HashMap<String, String>> {
    let path = shared("TRIREME_FACTS", "facts").join(format!("{table}.csv"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines().map(cells);
    let Some(header) = lines.next() else {
        return Vec::new();
    };
    lines
        .map(|line| header.iter().cloned().zip(line).collect())
        .collect()
}

/// The cells of a line of CSV, whose quoted cells hold no line breaks.
fn cells(line: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut is_quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let cell = found.len() - 1;
        match c {
            '"' if is_quoted && chars.peek() == Some(&'"') => {
                chars.next();
                found[cell].push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => found.push(String::new()),
            c => found[cell].push(c),
        }
    }
    found
}

/// Upstream's fixtures (`GROUP.VERSION.KIND.json` and so on), from the folder that
/// `TRIREME_GOLDEN` names, else `shared/golden` beside the repository; none if it is absent.
pub(crate) fn fixtures() -> Vec<Fixture> {
    let Ok(entries) = std::fs::read_dir(folder()) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut fixtures: Vec<Fixture> = names
        .filter_map(|name| fixture(name.strip_suffix(".json")?))
        .collect();
    fixtures.sort_by(|a, b| a.name.cmp(&b.name));
    fixtures
}

fn fixture(name: &str) -> Option<Fixture> {
    let (rest, kind) = name.rsplit_once('.')?;
    let (group, version) = rest.rsplit_once('.')?;
    let group = if group == "core" { "" } else { group };
    let [group, version, kind] = [group, version, kind].map(str::to_string);
    Some(Fixture {
        name: name.to_string(),
        group,
        version,
        kind,
    })
}
