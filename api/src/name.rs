//! Names: what objects, labels, ports and keys may be called, with upstream's complaints.
//!
//! Each function returns what is wrong, nothing if the name is right.

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const LABEL_1035: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// A DNS label of RFC 1123, such as a namespace's name.
pub fn dns_1123_label(name: &str) -> Vec<String> {
    let mut errors = too_long(name, 63, "characters");
    if !is_label(name) {
        errors.push(match is_subdomain(name) {
            true => "must not contain dots".to_string(),
            false => mismatch(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or \
                 '-', and must start and end with an alphanumeric character",
                LABEL,
                &["my-name", "123-abc"],
            ),
        });
    }
    errors
}

/// A DNS subdomain of RFC 1123, such as most objects' names.
pub fn dns_1123_subdomain(name: &str) -> Vec<String> {
    let mut errors = too_long(name, 253, "characters");
    if !is_subdomain(name) {
        errors.push(mismatch(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' \
             or '.', and must start and end with an alphanumeric character",
            SUBDOMAIN,
            &["example.com"],
        ));
    }
    errors
}

/// A DNS label of RFC 1035, such as a Service's name.
pub fn dns_1035_label(name: &str) -> Vec<String> {
    let mut errors = too_long(name, 63, "characters");
    if !is_label(name) || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        errors.push(mismatch(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with \
             an alphabetic character, and end with an alphanumeric character",
            LABEL_1035,
            &["my-name", "abc-123"],
        ));
    }
    errors
}

/// `*.` and a DNS subdomain.
pub fn wildcard_subdomain(name: &str) -> Vec<String> {
    let mut errors = too_long(name, 253, "characters");
    if !name.strip_prefix("*.").is_some_and(is_subdomain) {
        errors.push(mismatch(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, \
             which must consist of lower case alphanumeric characters, '-' or '.' and end with an \
             alphanumeric character",
            &format!(r"\*\.{SUBDOMAIN}"),
            &["*.example.com"],
        ));
    }
    errors
}

/// The key of a label or annotation: a name, perhaps with a DNS subdomain before a slash.
pub fn label_key(name: &str) -> Vec<String> {
    const COMPLAINT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start \
                             and end with an alphanumeric character";
    const EXAMPLES: [&str; 3] = ["MyName", "my.name", "123-abc"];
    let mut errors = Vec::new();
    let last = match name.split('/').collect::<Vec<_>>()[..] {
        [last] => last,
        [prefix, last] => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_string());
            } else {
                let mut complaints = too_long(prefix, 253, "bytes");
                complaints.extend(
                    dns_1123_subdomain(prefix)
                        .into_iter()
                        .filter(|e| !e.starts_with("must be no more")),
                );
                errors.extend(
                    complaints
                        .into_iter()
                        .map(|error| format!("prefix part {error}")),
                );
            }
            last
        }
        _ => {
            return vec![format!(
                "a valid label key {} with an optional DNS subdomain prefix and '/' (e.g. \
                 'example.com/MyName')",
                mismatch(COMPLAINT, QUALIFIED, &EXAMPLES),
            )];
        }
    };
    if last.is_empty() {
        errors.push("name part must be non-empty".to_string());
    }
    errors.extend(
        too_long(last, 63, "bytes")
            .into_iter()
            .map(|error| format!("name part {error}")),
    );
    if !is_qualified(last) {
        errors.push(format!(
            "name part {}",
            mismatch(COMPLAINT, QUALIFIED, &EXAMPLES)
        ));
    }
    errors
}

/// The value of a label.
pub fn label_value(value: &str) -> Vec<String> {
    let mut errors = too_long(value, 63, "bytes");
    if !value.is_empty() && !is_qualified(value) {
        errors.push(mismatch(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
             '.', and must start and end with an alphanumeric character",
            &format!("({QUALIFIED})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    errors
}

/// A key of a ConfigMap or Secret.
pub fn config_key(key: &str) -> Vec<String> {
    let mut errors = too_long(key, 253, "characters");
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if key.is_empty() || !key.bytes().all(is_good) {
        errors.push(mismatch(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    errors.extend(directories(key));
    errors
}

/// The name of an environment variable, as far as they may contain anything but `=`.
pub fn env_var(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push("environment variable name must be non-empty".to_string());
    }
    if !name
        .bytes()
        .all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=')
    {
        errors.push(
            "a valid environment variable name must consist only of printable ASCII characters other \
             than '='"
                .to_string(),
        );
    }
    errors
}

/// The name of a container's port.
pub fn port_name(name: &str) -> Vec<String> {
    let mut errors = too_long(name, 15, "characters");
    let is_good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || !name.bytes().all(is_good) {
        let message = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)";
        errors.push(message.to_string());
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_string());
    }
    if name.contains("--") {
        errors.push("must not contain consecutive hyphens".to_string());
    }
    if name.starts_with('-') || name.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_string());
    }
    errors
}

/// A port's number.
pub fn port_number(port: i64) -> Vec<String> {
    in_range(port, 1, 65_535)
}

/// A number between two bounds.
pub fn in_range(value: i64, least: i64, most: i64) -> Vec<String> {
    if (least..=most).contains(&value) {
        return Vec::new();
    }
    vec![format!("must be between {least} and {most}, inclusive")]
}

/// `25%`.
pub fn percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Vec::new();
    }
    vec![mismatch(
        "a valid percent string must be a numeric string followed by an ending '%'",
        "[0-9]+%",
        &["1%", "93%"],
    )]
}

/// A name of an HTTP header.
pub fn http_header(name: &str) -> Vec<String> {
    if !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        return Vec::new();
    }
    vec![mismatch(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// A name that is a segment of a path, such as those of RBAC's objects.
pub fn path_segment(name: &str) -> Vec<String> {
    if matches!(name, "." | "..") {
        return vec![format!("may not be '{name}'")];
    }
    let bad = ["/", "%"].iter().filter(|bad| name.contains(**bad));
    bad.map(|bad| format!("may not contain '{bad}'")).collect()
}

fn is_label(name: &str) -> bool {
    let is_edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    is_edge(*first) && is_edge(*last) && bytes.iter().all(|byte| is_edge(*byte) || *byte == b'-')
}

fn is_subdomain(name: &str) -> bool {
    name.split('.').all(is_label)
}

fn is_qualified(name: &str) -> bool {
    let bytes = name.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() && bytes.iter().all(is_inner)
}

fn too_long(name: &str, most: usize, unit: &str) -> Vec<String> {
    let is_long = name.len() > most;
    is_long
        .then(|| format!("must be no more than {most} {unit}"))
        .into_iter()
        .collect()
}

fn directories(name: &str) -> Option<String> {
    match name {
        "." | ".." => Some(format!("must not be '{name}'")),
        name if name.starts_with("..") => Some("must not start with '..'".to_string()),
        _ => None,
    }
}

fn mismatch(complaint: &str, pattern: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples
        .iter()
        .map(|example| format!("'{example}', "))
        .collect();
    let examples = examples.join("or ");
    format!("{complaint} (e.g. {examples}regex used for validation is '{pattern}')")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_are_good() {
        for name in ["a", "a-b", "1", "a1", &"a".repeat(63)] {
            assert_eq!(dns_1123_label(name), Vec::<String>::new(), "{name}");
        }
        for name in ["a.b", "a-1.2", "a.".repeat(126).trim_end_matches('.')] {
            assert_eq!(dns_1123_subdomain(name), Vec::<String>::new(), "{name}");
        }
        for key in ["a", "A_b.c-d", "example.com/a", "a.b/C"] {
            assert_eq!(label_key(key), Vec::<String>::new(), "{key}");
        }
        assert!(label_value("").is_empty() && label_value("1_A.b").is_empty());
        assert!(port_name("http-2").is_empty() && percent("25%").is_empty());
        assert!(config_key("..a").len() == 1 && config_key(".a").is_empty());
        assert!(env_var("A B").is_empty() && wildcard_subdomain("*.a.b").is_empty());
    }

    #[test]
    fn complaints_are_upstreams() {
        let label = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name', or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
        for name in ["", "A", "-a", "a-", "a_b"] {
            assert_eq!(dns_1123_label(name), [label], "{name}");
        }
        assert_eq!(dns_1123_label("a.b"), ["must not contain dots"]);
        assert_eq!(
            dns_1123_label(&"a".repeat(64)),
            ["must be no more than 63 characters"]
        );
        assert!(dns_1035_label("1a")[0].starts_with("a DNS-1035 label"));
        assert_eq!(
            dns_1123_subdomain("foo_bar"),
            [
                r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(label_key("/a"), ["prefix part must be non-empty"]);
        assert_eq!(label_key("").len(), 2);
        assert!(label_key("a/b/c")[0].starts_with("a valid label key must consist"));
        assert_eq!(
            label_value(&"a".repeat(64)),
            ["must be no more than 63 bytes"]
        );
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
        assert_eq!(path_segment("a/b"), ["may not contain '/'"]);
        assert_eq!(port_name("a--b-").len(), 2);
    }
}
