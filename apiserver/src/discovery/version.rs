//! `/version`: which Kubernetes this behaves like.

use api::codec::json;
use api::doc::Doc;

use crate::document::Document;

/// The release of Kubernetes that is served: its number is that of the schema table.
const MAJOR: &str = "1";
const MINOR: &str = "36";
const PATCH: &str = "2";
/// The oldest minor that a member beside this one may have.
const MIN_COMPATIBLE_MINOR: &str = "35";

/// What was built, from what and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Our own version, such as `0.1.0`.
    pub version: &'static str,
    /// The commit; empty if unknown.
    pub commit: &'static str,
    /// Whether there were changes beside it: `clean`, `dirty`, or empty if unknown.
    pub tree_state: &'static str,
    /// When: a day, or a time in RFC 3339; empty if unknown.
    pub date: &'static str,
    /// The compiler with its version.
    pub compiler: &'static str,
}

impl Default for Build {
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            commit: "",
            tree_state: "",
            date: "",
            compiler: "rustc",
        }
    }
}

impl Build {
    /// Such as `v1.36.2+trireme-0.1.0`.
    pub fn git_version(&self) -> String {
        format!("v{MAJOR}.{MINOR}.{PATCH}+trireme-{}", self.version)
    }

    /// The document that `/version` answers with, always indented JSON.
    pub fn document(&self) -> Document {
        let mut doc = Doc::new();
        let top = doc.top();
        let platform = format!("{}/{}", std::env::consts::OS, architecture());
        let git_version = self.git_version();
        let day = |day: &str| format!("{day}T00:00:00Z");
        let date = match self.date {
            date if date.len() == "2026-01-01".len() => day(date),
            date if date.contains('T') => date.to_string(),
            _ => day("1970-01-01"),
        };
        for (key, value) in [
            ("major", MAJOR),
            ("minor", MINOR),
            ("emulationMajor", MAJOR),
            ("emulationMinor", MINOR),
            ("minCompatibilityMajor", MAJOR),
            ("minCompatibilityMinor", MIN_COMPATIBLE_MINOR),
            ("gitVersion", &git_version),
            ("gitCommit", self.commit),
            ("gitTreeState", self.tree_state),
            ("buildDate", &date),
            ("goVersion", "none"),
            ("compiler", self.compiler),
            ("platform", &platform),
        ] {
            doc.set(top, key, value);
        }
        let (mut compact, mut body) = (Vec::new(), Vec::new());
        json::write(doc.root(), &mut compact);
        json::indent(&compact, &mut body);
        Document::ok("application/json", body)
    }
}

/// Go's name of the processor.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectl_can_read_the_version() {
        let document = Build::default().document();
        let doc = json::parse(document.body.to_vec()).unwrap();
        assert_eq!(doc.root().text(&["major"]), "1");
        assert_eq!(doc.root().text(&["minor"]), "36");
        assert_eq!(doc.root().text(&["buildDate"]), "1970-01-01T00:00:00Z");
        let built = Build {
            date: "2026-11-21",
            ..Build::default()
        };
        let built = json::parse(built.document().body.to_vec()).unwrap();
        let date = built.root().text(&["buildDate"]);
        assert_eq!(date, "2026-11-21T00:00:00Z");
        assert!(doc.root().text(&["gitVersion"]).starts_with("v1.36.2+"));
        assert!(document.body.starts_with(b"{\n  \"major\": \"1\",\n"));
    }
}
