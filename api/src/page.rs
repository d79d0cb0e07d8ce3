//! Resource versions and continue tokens: where a reader is.

use crate::codec::json;
use crate::doc::{Doc, Node};
use crate::field::FieldError;
use crate::values::base64;

/// The version of tokens that this server writes and reads, as upstream's.
const TOKEN_VERSION: &str = "meta.k8s.io/v1";

/// Parses a resourceVersion; none and `0` are 0.
///
/// # Errors
///
/// If it is no number.
pub fn resource_version(text: &str) -> Result<u64, FieldError> {
    if text.is_empty() {
        return Ok(0);
    }
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).ok_or_else(|| {
        let problem = if is_number {
            "value out of range"
        } else {
            "invalid syntax"
        };
        let detail = format!("strconv.ParseUint: parsing {text:?}: {problem}");
        FieldError::invalid("resourceVersion", text, detail)
    })
}

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continue {
    /// The revision of the list's first page; none goes on without consistency.
    pub resource_version: Option<u64>,
    /// The first key of the next page, relative to the list's prefix.
    pub start: String,
}

impl Continue {
    /// The token that clients send back.
    pub fn encode(&self) -> String {
        let mut doc = Doc::new();
        let top = doc.top();
        doc.set(top, "v", TOKEN_VERSION);
        let version = self
            .resource_version
            .and_then(|version| i64::try_from(version).ok());
        doc.set(top, "rv", version.unwrap_or(-1));
        doc.set(top, "start", &self.start);
        let mut token = String::new();
        base64::encode(doc.to_string().as_bytes(), &mut token);
        let safe = token.trim_end_matches('=').chars().map(|c| match c {
            '+' => '-',
            '/' => '_',
            other => other,
        });
        safe.collect()
    }

    /// Reads a token.
    ///
    /// # Errors
    ///
    /// If it is none of this server's kind, in upstream's words.
    pub fn decode(token: &str) -> Result<Self, String> {
        let invalid = |why: &str| format!("continue key is not valid: {why}");
        let mut plain: String = token
            .chars()
            .map(|c| match c {
                '-' => '+',
                '_' => '/',
                other => other,
            })
            .collect();
        plain.push_str(&"=".repeat((4 - plain.len() % 4) % 4));
        let bytes = base64::decode(&plain).map_err(|error| invalid(&error.to_string()))?;
        let doc = json::parse(bytes).map_err(|error| invalid(&error.to_string()))?;
        let root = doc.root();
        let version = root.text(&["v"]);
        if version != TOKEN_VERSION {
            return Err(invalid(&format!(
                "server does not recognize this encoded version {version:?}"
            )));
        }
        let resource_version = match root.get("rv").and_then(Node::as_i64) {
            None | Some(0) => {
                let why = "incorrect encoded start resourceVersion (version meta.k8s.io/v1)";
                return Err(invalid(why));
            }
            Some(version) => u64::try_from(version).ok(),
        };
        let start = root.text(&["start"]);
        if start.is_empty() {
            return Err(invalid("encoded start key empty (version meta.k8s.io/v1)"));
        }
        // A key must not lead out of the list's prefix.
        if start
            .split('/')
            .any(|segment| matches!(segment, "." | ".."))
            || start.starts_with('/')
            || start.contains("//")
        {
            return Err(invalid(start));
        }
        Ok(Self {
            resource_version,
            start: start.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(text: &str) -> String {
        let mut token = String::new();
        base64::encode(text.as_bytes(), &mut token);
        token
            .trim_end_matches('=')
            .replace('+', "-")
            .replace('/', "_")
    }

    #[test]
    fn resource_versions_are_numbers() {
        assert_eq!(resource_version(""), Ok(0));
        assert_eq!(resource_version("0"), Ok(0));
        assert_eq!(resource_version("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(
            resource_version("x").unwrap_err().to_string(),
            r#"resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax"#
        );
        assert!(
            resource_version("+1").is_err() && resource_version("18446744073709551616").is_err()
        );
    }

    #[test]
    fn tokens_come_back() {
        for version in [Some(7), None] {
            let token = Continue {
                resource_version: version,
                start: "ns/a\u{0}".to_string(),
            };
            assert_eq!(Continue::decode(&token.encode()), Ok(token));
        }
        // As upstream writes it.
        let token = Continue {
            resource_version: Some(1),
            start: "a".to_string(),
        };
        assert_eq!(
            token.encode(),
            encoded(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"a"}"#)
        );
    }

    #[test]
    fn bad_tokens_are_refused() {
        for (text, want) in [
            (
                r#"{"v":"v9","rv":1,"start":"a"}"#,
                r#"server does not recognize this encoded version "v9""#,
            ),
            (
                r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#,
                "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            ),
            (
                r#"{"v":"meta.k8s.io/v1","rv":1}"#,
                "encoded start key empty (version meta.k8s.io/v1)",
            ),
            (r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../a"}"#, "../a"),
        ] {
            let error = Continue::decode(&encoded(text)).unwrap_err();
            assert_eq!(error, format!("continue key is not valid: {want}"));
        }
    }

    proptest! {
        #[test]
        fn anything_is_answered(text in "\\PC{0,40}") {
            let _ = Continue::decode(&text);
            let _ = Continue::decode(&encoded(&text));
        }
    }
}
