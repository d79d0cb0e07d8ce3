//! The front proxy: whoever shows a certificate of its authority may say in headers who asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderMap;
use percent_encoding::percent_decode_str;

use super::certificate::{Trust, common_name};
use super::{Credentials, Found, Identity};
use crate::user::User;

/// Which proxies are believed, and which headers.
pub struct FrontProxy {
    /// The proxies' authority.
    pub trust: Arc<Trust>,
    /// Common names of proxies; none means any of the authority.
    pub allowed_names: Vec<String>,
    /// Headers with the user's name, the first that is set counts.
    pub user_headers: Vec<String>,
    /// Headers with the user's UID, the first that is set counts.
    pub uid_headers: Vec<String>,
    /// Headers with groups, all count.
    pub group_headers: Vec<String>,
    /// What headers with extra values start with.
    pub extra_prefixes: Vec<String>,
}

impl FrontProxy {
    /// The headers that everybody uses.
    pub fn new(trust: Arc<Trust>, allowed_names: Vec<String>) -> Self {
        let one = |name: &str| vec![name.to_string()];
        Self {
            trust,
            allowed_names,
            user_headers: one("X-Remote-User"),
            uid_headers: one("X-Remote-Uid"),
            group_headers: one("X-Remote-Group"),
            extra_prefixes: one("X-Remote-Extra-"),
        }
    }

    pub(super) fn authenticate(&self, credentials: &Credentials<'_>, now: SystemTime) -> Found {
        let Some(leaf) = credentials.peer.first() else {
            return Ok(None);
        };
        self.trust.verify(credentials.peer, now)?;
        let (_, certificate) =
            x509_parser::parse_x509_certificate(leaf).map_err(|error| error.to_string())?;
        let proxy = common_name(&certificate).unwrap_or_default();
        if !self.allowed_names.is_empty() && !self.allowed_names.contains(&proxy) {
            return Err(format!(
                "x509: subject with cn={proxy} is not in the allowed list"
            ));
        }
        Ok(self.user(credentials.headers).map(Identity::of))
    }

    fn user(&self, headers: &HeaderMap) -> Option<User> {
        Some(User {
            name: first(headers, &self.user_headers)?,
            uid: first(headers, &self.uid_headers).unwrap_or_default(),
            groups: self
                .group_headers
                .iter()
                .flat_map(|header| values(headers, header))
                .filter(|group| !group.is_empty())
                .collect(),
            extra: self.extra(headers),
        })
    }

    fn extra(&self, headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for prefix in &self.extra_prefixes {
            for (name, value) in headers {
                if let Some(key) = strip_prefix_ignoring_case(name.as_str(), prefix) {
                    let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                    extra.entry(unescape_key(key)).or_default().push(value);
                }
            }
        }
        extra
    }

    /// Removes what only the proxy may say, so that nothing behind authentication believes it.
    pub fn clear(&self, headers: &mut HeaderMap) {
        let plain = [&self.user_headers, &self.uid_headers, &self.group_headers];
        for header in plain.into_iter().flatten() {
            headers.remove(header.as_str());
        }
        remove_prefixed(headers, &self.extra_prefixes);
    }
}

/// Removes headers by what their names start with.
pub(crate) fn remove_prefixed(headers: &mut HeaderMap, prefixes: &[String]) {
    let is_prefixed = |name: &str| {
        prefixes
            .iter()
            .any(|prefix| strip_prefix_ignoring_case(name, prefix).is_some())
    };
    let names = headers.keys().filter(|name| is_prefixed(name.as_str()));
    for name in names.cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
}

fn strip_prefix_ignoring_case<'n>(name: &'n str, prefix: &str) -> Option<&'n str> {
    let (start, rest) = name.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// The key of an extra value as headers carry it: lower case, percent-encoded.
pub(crate) fn unescape_key(encoded: &str) -> String {
    let lower = encoded.to_ascii_lowercase();
    if !is_escaped_well(&lower) {
        return lower;
    }
    let decoded = percent_decode_str(&lower).decode_utf8();
    decoded.map_or(lower.clone(), std::borrow::Cow::into_owned)
}

/// Whether two hexadecimal digits follow every percent sign.
fn is_escaped_well(text: &str) -> bool {
    let mut parts = text.split('%');
    parts.next();
    parts.all(|part| part.len() >= 2 && part.bytes().take(2).all(|digit| digit.is_ascii_hexdigit()))
}

pub(crate) fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    let found = headers.get_all(name).into_iter();
    found
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect()
}

fn first(headers: &HeaderMap, names: &[String]) -> Option<String> {
    let of = |name: &String| values(headers, name).into_iter().next();
    names.iter().filter_map(of).find(|value| !value.is_empty())
}
