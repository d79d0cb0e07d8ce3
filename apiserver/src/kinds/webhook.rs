//! Where webhooks are: a URL, or a service of the cluster.

use api::field::FieldError;
use api::name;

use crate::validation::{At, Errors};

const FORM: &str = "; desired format: https://host[/path]";

/// A client configuration: exactly one of `url` and `service`.
pub fn client_config(errors: &mut Errors, at: At<'_>) {
    let (url, service) = (at.get("url"), at.get("service"));
    if url.is_set() == service.is_set() {
        errors.required(at, "exactly one of url or service is required");
    } else if url.is_set() {
        check_url(errors, url);
    } else {
        check_service(errors, service);
    }
}

/// The parts of a URL that matter here.
#[derive(Default)]
struct Url<'u> {
    scheme: &'u str,
    user: Option<&'u str>,
    host: &'u str,
    query: &'u str,
    fragment: &'u str,
}

fn parse(text: &str) -> Result<Url<'_>, String> {
    let fail = |why: &str| Err(format!("parse {text:?}: {why}"));
    if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return fail("net/url: invalid control character in URL");
    }
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if rest.starts_with(':') {
        return fail("missing protocol scheme");
    }
    let is_scheme = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphabetic())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    let (scheme, rest) = match rest.split_once(':') {
        Some((scheme, after)) if is_scheme(scheme) => (scheme, after),
        Some((first, _)) if !first.contains('/') => {
            return fail("first path segment in URL cannot contain colon");
        }
        _ => ("", rest),
    };
    if let Some(bad) = bad_escape(rest) {
        return fail(&format!("invalid URL escape {bad:?}"));
    }
    let authority = rest.strip_prefix("//").unwrap_or_default();
    let authority = authority.split('/').next().unwrap_or_default();
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if let Some((_, port)) = host.rsplit_once(':')
        && !host.ends_with(']')
        && !port.bytes().all(|byte| byte.is_ascii_digit())
    {
        return fail(&format!("invalid port {:?} after host", format!(":{port}")));
    }
    Ok(Url {
        scheme,
        user,
        host,
        query,
        fragment,
    })
}

fn bad_escape(text: &str) -> Option<String> {
    let escapes = text.match_indices('%').map(|(at, _)| &text[at + 1..]);
    let is_good = |rest: &str| {
        let bytes = rest.as_bytes();
        bytes.len() >= 2 && bytes[..2].iter().all(u8::is_ascii_hexdigit)
    };
    let mut bad = escapes.filter(|rest| !is_good(rest));
    bad.next()
        .map(|rest| format!("%{}", rest.chars().take(2).collect::<String>()))
}

fn check_url(errors: &mut Errors, at: At<'_>) {
    let url = match parse(at.str()) {
        Ok(url) => url,
        Err(why) => return errors.required(at, format!("url must be a valid URL: {why}{FORM}")),
    };
    if url.scheme.to_lowercase() != "https" {
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        errors.invalid_value(at, url.scheme, detail);
    }
    if url.host.is_empty() {
        errors.invalid_value(at, url.host, format!("host must be specified{FORM}"));
    }
    if let Some(user) = url.user {
        let detail = "user information is not permitted in the URL";
        errors.invalid_value(at, user, detail);
    }
    if !url.fragment.is_empty() {
        let detail = "fragments are not permitted in the URL";
        errors.invalid_value(at, url.fragment, detail);
    }
    if !url.query.is_empty() {
        let detail = "query parameters are not permitted in the URL";
        errors.invalid_value(at, url.query, detail);
    }
}

/// Upstream mistakes name and namespace for each other here.
fn check_service(errors: &mut Errors, at: At<'_>) {
    for (told, looked_at) in [("name", "namespace"), ("namespace", "name")] {
        if at.get(looked_at).is_empty() {
            let path = errors.path(at.get(told));
            errors.push(FieldError::required(path, ""));
        }
    }
    let port = at.get("port");
    for complaint in name::port_number(port.int()) {
        errors.invalid(port, format!("port is not valid: {complaint}"));
    }
    let path = at.get("path");
    if !["", "/"].contains(&path.str()) {
        check_path(errors, path);
    }
}

fn check_path(errors: &mut Errors, at: At<'_>) {
    let path = at.str();
    if path == "//" {
        return errors.invalid(at, "segment[0] may not be empty");
    }
    if !path.starts_with('/') {
        errors.invalid(at, "must start with a '/'");
    }
    let mut letters = path.chars();
    letters.next();
    let rest = letters.as_str();
    let steps = rest.strip_suffix('/').unwrap_or(rest).split('/');
    for (index, step) in steps.enumerate() {
        if step.is_empty() {
            errors.invalid(at, format!("segment[{index}] may not be empty"));
            continue;
        }
        for complaint in name::dns_1123_subdomain(step) {
            errors.invalid(at, format!("segment[{index}]: {complaint}"));
        }
    }
}

/// Versions of what is sent to a webhook: at least one must be known.
pub fn review_versions(errors: &mut Errors, list: At<'_>, needs_known: bool) {
    let mut seen = std::collections::HashSet::new();
    for version in list.items() {
        if !seen.insert(version.str()) {
            errors.invalid(version, "duplicate version");
            continue;
        }
        errors.names(version, name::dns_1035_label);
    }
    if needs_known && !has_known_version(list) {
        errors.invalid(list, "must include at least one of v1, v1beta1");
    }
}

/// Whether a list of versions has one that is known.
pub fn has_known_version(list: At<'_>) -> bool {
    ["v1", "v1beta1"]
        .iter()
        .any(|version| list.contains(version))
}

#[cfg(test)]
mod tests {
    use api::doc::Doc;

    use super::*;

    #[test]
    fn configurations_are_judged_as_upstream_does() {
        for (config, want) in [
            (r#"{"url":"https://a.b/c"}"#, vec![]),
            (
                "{}",
                vec!["Required value: exactly one of url or service is required"],
            ),
            (
                r#"{"url":"http://u:p@a?x#y"}"#,
                vec![
                    r#"Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[/path]"#,
                    r#"Invalid value: "u:p": user information is not permitted in the URL"#,
                    r#"Invalid value: "y": fragments are not permitted in the URL"#,
                    r#"Invalid value: "x": query parameters are not permitted in the URL"#,
                ],
            ),
            (
                r#"{"url":"https://a:b"}"#,
                vec![
                    r#"Required value: url must be a valid URL: parse "https://a:b": invalid port ":b" after host; desired format: https://host[/path]"#,
                ],
            ),
            (
                r#"{"service":{"name":"a","namespace":"b","port":443,"path":"/x/y/"}}"#,
                vec![],
            ),
            (
                r#"{"service":{"name":"a","port":0,"path":"x//y"}}"#,
                vec![
                    "Required value",
                    "Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
                    r#"Invalid value: "x//y": must start with a '/'"#,
                    r#"Invalid value: "x//y": segment[0] may not be empty"#,
                    r#"Invalid value: "x//y": segment[1] may not be empty"#,
                ],
            ),
        ] {
            let doc = Doc::literal(config);
            let mut errors = Errors::default();
            client_config(&mut errors, At::root(&doc));
            let found: Vec<String> = errors.into_vec().iter().map(FieldError::body).collect();
            assert_eq!(found, want, "{config}");
        }
    }
}
