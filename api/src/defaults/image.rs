//! The tag in the name of an image, which decides when the image is pulled.

/// Names of 64 hexadecimal digits are identifiers of images, not names.
const IDENTIFIER: usize = 64;
const LONGEST_PATH: usize = 255;
const LONGEST_TAG: usize = 128;
/// Names without a registry that have one part only are below this path.
const OFFICIAL: &str = "library/";

/// The tag of an image, `latest` if it has neither tag nor digest; none if that is no valid name.
pub(super) fn tag(image: &str) -> Option<&str> {
    if image.len() == IDENTIFIER && image.bytes().all(is_lower_hex) {
        return None;
    }
    let (registry, rest) = split_registry(image);
    if !registry.is_none_or(is_host_and_port) {
        return None;
    }
    let (named, digest) = match rest.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (rest, None),
    };
    let (path, tag) = match named.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (named, None),
    };
    let is_official = registry.is_none() && !path.contains('/');
    let length = path.len() + if is_official { OFFICIAL.len() } else { 0 };
    let is_valid = path.split('/').all(is_component)
        && length <= LONGEST_PATH
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest);
    let implied = if digest.is_none() { "latest" } else { "" };
    is_valid.then(|| tag.unwrap_or(implied))
}

/// The registry, where the first part of a name is one, and the rest.
fn split_registry(image: &str) -> (Option<&str>, &str) {
    match image.split_once('/') {
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.to_lowercase() != first =>
        {
            (Some(first), rest)
        }
        _ => (None, image),
    }
}

fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

fn is_host_and_port(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        let is_address = |byte: u8| byte.is_ascii_hexdigit() || byte == b':';
        return !address.is_empty()
            && address.bytes().all(is_address)
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_number));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    host.split('.').all(is_label) && port.is_none_or(is_number)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !text.is_empty() && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// Lower-case letters and digits, with single separators between: `.`, `_`, `__` or dashes.
fn is_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_separator =
        |text: &str| matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    let separators = text.split(|c: char| c.is_ascii() && is_word(c as u8));
    let ends_in_words =
        text.bytes().next().is_some_and(is_word) && text.bytes().next_back().is_some_and(is_word);
    ends_in_words && separators.filter(|part| !part.is_empty()).all(is_separator)
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= LONGEST_TAG
        && text.bytes().next().is_some_and(is_word)
        && text
            .bytes()
            .all(|byte| is_word(byte) || b".-".contains(&byte))
}

/// Only digests of known algorithms count.
fn is_digest(text: &str) -> bool {
    let length = match text.split_once(':') {
        Some(("sha256", hex)) => (hex, 64),
        Some(("sha384", hex)) => (hex, 96),
        Some(("sha512", hex)) => (hex, 128),
        _ => return false,
    };
    length.0.len() == length.1 && length.0.bytes().all(is_lower_hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_in_valid_names() {
        let digest = format!("sha256:{}", "0f".repeat(32));
        for (image, want) in [
            ("nginx", Some("latest")),
            ("nginx:latest", Some("latest")),
            ("nginx:1.27", Some("1.27")),
            ("a/b/c", Some("latest")),
            ("a__b/c-d.e_f", Some("latest")),
            ("localhost/x:v1", Some("v1")),
            ("registry.example:5000/x", Some("latest")),
            ("registry.example:5000/x:v1", Some("v1")),
            ("[::1]:5000/x:v1", Some("v1")),
            ("Registry/x", Some("latest")),
            (&format!("nginx@{digest}"), Some("")),
            (&format!("nginx:latest@{digest}"), Some("latest")),
            (&format!("nginx:v1@{digest}"), Some("v1")),
            ("nginx:latest@sha256:0f", None),
            ("nginx:latest@md5:00000000000000000000000000000000", None),
            ("", None),
            ("Nginx", None),
            ("nginx:", None),
            ("nginx:-x", None),
            ("a//b", None),
            ("a___b", None),
            ("a..b", None),
            ("-a", None),
            ("a.example:port/x", None),
            (&"0f".repeat(32), None),
            (&"a".repeat(248), None),
            (&"a".repeat(247), Some("latest")),
            ("x y", None),
        ] {
            assert_eq!(tag(image), want, "{image}");
        }
    }
}
