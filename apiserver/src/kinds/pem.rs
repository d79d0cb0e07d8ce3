//! PEM: bytes in base64 between lines that tell what they are.

use api::values::base64;

/// A block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Such as `CERTIFICATE`.
    pub kind: String,
    /// It has headers before the bytes.
    pub has_headers: bool,
    /// The bytes, of DER mostly.
    pub bytes: Vec<u8>,
}

/// The well-formed blocks of a text; what stands around them is left out.
pub fn blocks(text: &[u8]) -> Vec<Block> {
    let text = String::from_utf8_lossy(text);
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = marker(line, "BEGIN") else {
            continue;
        };
        let mut inner = lines.clone();
        if let Some(block) = block(kind, &mut inner) {
            found.push(block);
            lines = inner;
        }
    }
    found
}

fn marker<'l>(line: &'l str, word: &str) -> Option<&'l str> {
    let rest = line.trim_end().strip_prefix("-----")?.strip_prefix(word)?;
    rest.strip_prefix(' ')?.strip_suffix("-----")
}

fn block(kind: &str, lines: &mut std::str::Lines<'_>) -> Option<Block> {
    let mut body = String::new();
    let mut has_headers = false;
    for line in lines {
        if let Some(end) = marker(line, "END") {
            let bytes = base64::decode(&body).ok()?;
            return (end == kind).then(|| Block {
                kind: kind.to_string(),
                has_headers,
                bytes,
            });
        }
        match line.contains(':') {
            true => has_headers = true,
            false => body.extend(line.chars().filter(|letter| !letter.is_whitespace())),
        }
    }
    None
}

/// Why a certificate and a key cannot make a pair, as far as their PEM tells.
pub fn key_pair_complaint(certificate: &[u8], key: &[u8]) -> Option<String> {
    let kinds = |text: &[u8]| {
        let kinds = blocks(text).into_iter().map(|block| block.kind);
        kinds.collect::<Vec<String>>()
    };
    let found = kinds(certificate);
    if found.is_empty() {
        return Some("tls: failed to find any PEM data in certificate input".to_string());
    }
    if !found.iter().any(|kind| kind == "CERTIFICATE") {
        return Some(format!(
            "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM \
             blocks of the following types: [{}]",
            found.join(" ")
        ));
    }
    let found = kinds(key);
    if found.is_empty() {
        return Some("tls: failed to find any PEM data in key input".to_string());
    }
    let is_key = |kind: &String| kind == "PRIVATE KEY" || kind.ends_with(" PRIVATE KEY");
    if found.iter().any(is_key) {
        return None;
    }
    if found == ["CERTIFICATE"] {
        return Some(
            "tls: found a certificate rather than a key in the PEM for the private key".to_string(),
        );
    }
    Some(format!(
        "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after \
         skipping PEM blocks of the following types: [{}]",
        found.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_among_other_text() {
        let text = b"x\n-----BEGIN A-----\nAAEC\n-----END A-----\n-----BEGIN B-----\nk: v\n\nAA==\n-----END B-----\n-----BEGIN C-----\n!\n-----END C-----\n";
        let found = blocks(text);
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].kind.as_str(), &found[0].bytes[..]),
            ("A", &[0, 1, 2][..])
        );
        assert!(found[1].has_headers && !found[0].has_headers);
    }

    #[test]
    fn pairs_without_pem_are_told() {
        let none = key_pair_complaint(b"", b"").unwrap();
        assert_eq!(
            none,
            "tls: failed to find any PEM data in certificate input"
        );
        let certificate = b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
        let key = b"-----BEGIN RSA PRIVATE KEY-----\nAA==\n-----END RSA PRIVATE KEY-----\n";
        assert_eq!(key_pair_complaint(certificate, key), None);
        assert!(
            key_pair_complaint(certificate, certificate)
                .unwrap()
                .contains("rather than a key")
        );
    }
}
