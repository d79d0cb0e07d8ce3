//! Options of what is handed on: read from the query, checked, and written for the kubelet.

use api::doc::{Doc, Node};
use api::field::FieldError;
use api::status::{Qualified, Status};
use api::values::time::{self, Precision};
use form_urlencoded::Serializer;

use crate::registry::Outcome;
use crate::request::Query;

/// Options of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Whose; empty for the only one.
    pub container: String,
    /// The kubelet's certificate does not matter.
    pub trusts_any: bool,
    follow: bool,
    previous: bool,
    timestamps: bool,
    since_seconds: Option<i64>,
    since_time: Option<String>,
    tail_lines: Option<i64>,
    limit_bytes: Option<i64>,
    stream: Option<String>,
}

impl LogOptions {
    /// Reads and checks them.
    ///
    /// # Errors
    ///
    /// If a value is malformed or out of range.
    pub fn read(query: &Query, pod: &str) -> Outcome<Self> {
        let number = |key: &str| match query.get(key) {
            None => Ok(None),
            Some(text) => parse_int(text).map(Some).map_err(Status::bad_request),
        };
        let options = Self {
            container: query.text("container").to_string(),
            trusts_any: query.flag("insecureSkipTLSVerifyBackend"),
            follow: query.flag("follow"),
            previous: query.flag("previous"),
            timestamps: query.flag("timestamps"),
            since_seconds: number("sinceSeconds")?,
            since_time: query.get("sinceTime").map(since).transpose()?,
            tail_lines: number("tailLines")?,
            limit_bytes: number("limitBytes")?,
            stream: query.get("stream").map(str::to_string),
        };
        let errors = options.errors();
        if errors.is_empty() {
            return Ok(options);
        }
        let of = Qualified {
            group: "",
            name: "PodLogOptions",
        };
        Err(Status::invalid(of, pod, &errors).into())
    }

    fn errors(&self) -> Vec<FieldError> {
        const POSITIVE: &str = "must be greater than 0";
        let mut errors = Vec::new();
        if let Some(lines) = self.tail_lines.filter(|lines| *lines < 0) {
            let detail = "must be greater than or equal to 0";
            errors.push(FieldError::invalid("tailLines", lines, detail));
        }
        if let Some(bytes) = self.limit_bytes.filter(|bytes| *bytes < 1) {
            errors.push(FieldError::invalid("limitBytes", bytes, POSITIVE));
        }
        match (self.since_seconds, &self.since_time) {
            (Some(_), Some(_)) => {
                let detail = "at most one of `sinceTime` or `sinceSeconds` may be specified";
                errors.push(FieldError::forbidden("", detail));
            }
            (Some(seconds), None) if seconds < 1 => {
                errors.push(FieldError::invalid("sinceSeconds", seconds, POSITIVE));
            }
            _ => {}
        }
        if self.stream.is_some() {
            errors.push(FieldError::forbidden("stream", "may not be specified"));
        }
        errors
    }

    /// The log does not end until the container does.
    pub fn follows(&self) -> bool {
        self.follow
    }

    /// The query for the kubelet, its keys in order.
    pub fn query(&self) -> String {
        let flag = |is_set: bool| is_set.then(|| "true".to_string());
        let number = |number: Option<i64>| number.map(|number| number.to_string());
        encode([
            ("follow", flag(self.follow)),
            ("limitBytes", number(self.limit_bytes)),
            ("previous", flag(self.previous)),
            ("sinceSeconds", number(self.since_seconds)),
            ("sinceTime", self.since_time.clone()),
            ("tailLines", number(self.tail_lines)),
            ("timestamps", flag(self.timestamps)),
        ])
    }
}

fn encode<'a>(pairs: impl IntoIterator<Item = (&'a str, Option<String>)>) -> String {
    let mut out = Serializer::new(String::new());
    for (key, value) in pairs {
        if let Some(value) = value {
            out.append_pair(key, &value);
        }
    }
    out.finish()
}

/// A time as kubelets read it; an empty one is the first moment of the calendar.
fn since(text: &str) -> Outcome<String> {
    if matches!(text, "" | "null") {
        return Ok("0001-01-01T00:00:00Z".to_string());
    }
    let moment = time::parse(text, Precision::Seconds);
    let moment = moment.map_err(|_| {
        let layout = "2006-01-02T15:04:05Z07:00";
        Status::bad_request(format!(
            "parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\""
        ))
    })?;
    Ok(moment.text(Precision::Seconds))
}

/// A number as Go's strconv reads it, with its errors.
fn parse_int(text: &str) -> Result<i64, String> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse().map_err(|error: std::num::ParseIntError| {
        let why = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseInt: parsing {text:?}: {why}")
    })
}

/// The options object of exec, attach or port-forward, as admission sees it.
///
/// # Errors
///
/// If a value is malformed.
pub fn of_connection(subresource: &str, query: &Query) -> Outcome<Doc> {
    let kind = match subresource {
        "exec" => "PodExecOptions",
        "attach" => "PodAttachOptions",
        _ => "PodPortForwardOptions",
    };
    let mut doc = of_kind(kind);
    let top = doc.top();
    if subresource == "portforward" {
        let ports = query.all("ports").flat_map(|text| text.split(','));
        let mut list = None;
        for text in ports {
            let port: u16 = text.parse().map_err(|_| bad_port(text))?;
            let list = *list.get_or_insert_with(|| doc.list(top, "ports"));
            doc.push(list, i64::from(port));
        }
        return Ok(doc);
    }
    for key in ["stdin", "stdout", "stderr", "tty"] {
        if query.flag(key) {
            doc.set(top, key, true);
        }
    }
    if let Some(container) = query.get("container").filter(|name| !name.is_empty()) {
        doc.set(top, "container", container);
    }
    if subresource == "exec" && query.get("command").is_some() {
        let list = doc.list(top, "command");
        for word in query.all("command") {
            doc.push(list, word);
        }
    }
    Ok(doc)
}

fn bad_port(text: &str) -> Box<Status> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let why = match is_number {
        true => "value out of range",
        false => "invalid syntax",
    };
    Status::bad_request(format!(
        "cannot convert to []int32: strconv.ParseUint: parsing {text:?}: {why}"
    ))
    .into()
}

/// An options object of a kind.
pub fn of_kind(kind: &str) -> Doc {
    let mut doc = Doc::new();
    let top = doc.top();
    doc.set(top, "kind", kind);
    doc.set(top, "apiVersion", "v1");
    doc
}

/// Whether an options object has a flag.
pub fn flag(options: &Doc, key: &str) -> bool {
    let value = options.root().get(key).and_then(Node::as_bool);
    value.unwrap_or_default()
}

/// The query for the kubelet, its keys in order.
pub fn query_for_kubelet(options: &Doc) -> String {
    let list = |key| options.root().get(key).into_iter().flat_map(Node::children);
    let flag = |name, key| (name, flag(options, key).then(|| "1".to_string()));
    let ports: Vec<String> = list("ports")
        .filter_map(|port| port.as_i64().map(|port| port.to_string()))
        .collect();
    let ports = (!ports.is_empty()).then(|| ports.join(","));
    let words = list("command").filter_map(|word| Some(("command", Some(word.as_str()?.into()))));
    let rest = [
        flag("error", "stderr"),
        flag("input", "stdin"),
        flag("output", "stdout"),
        ("port", ports),
        flag("tty", "tty"),
    ];
    encode(words.chain(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_logs_are_asked_for() {
        let cases = [
            ("", Ok("")),
            (
                "follow=1&tailLines=5&timestamps=true&sinceTime=2024-01-02T03:04:05%2B01:00&previous=false",
                Ok("follow=true&sinceTime=2024-01-02T02%3A04%3A05Z&tailLines=5&timestamps=true"),
            ),
            ("limitBytes=7&previous", Ok("limitBytes=7&previous=true")),
            (
                "tailLines=x",
                Err("strconv.ParseInt: parsing \"x\": invalid syntax"),
            ),
            (
                "tailLines=-1",
                Err(
                    "PodLogOptions \"p\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0",
                ),
            ),
            (
                "limitBytes=0&sinceSeconds=0",
                Err(
                    "PodLogOptions \"p\" is invalid: [limitBytes: Invalid value: 0: must be greater than 0, sinceSeconds: Invalid value: 0: must be greater than 0]",
                ),
            ),
            (
                "stream=Stdout",
                Err("PodLogOptions \"p\" is invalid: stream: Forbidden: may not be specified"),
            ),
        ];
        for (query, want) in cases {
            let found = LogOptions::read(&Query::parse(query), "p");
            let found = found.map(|options| options.query());
            let found = found.map_err(|status| status.message);
            assert_eq!(found.as_deref().map_err(|m| &**m), want, "{query}");
        }
    }

    #[test]
    fn what_commands_are_run() {
        let query = Query::parse(
            "command=sh&command=-c&command=a b&stdin=true&tty=1&stderr=false&container=c",
        );
        let options = of_connection("exec", &query).unwrap();
        assert_eq!(
            options.to_string(),
            r#"{"kind":"PodExecOptions","apiVersion":"v1","stdin":true,"tty":true,"container":"c","command":["sh","-c","a b"]}"#
        );
        assert_eq!(
            query_for_kubelet(&options),
            "command=sh&command=-c&command=a+b&input=1&tty=1"
        );
        let options = of_connection("portforward", &Query::parse("ports=80,81&ports=82")).unwrap();
        assert_eq!(query_for_kubelet(&options), "port=80%2C81%2C82");
        let error = of_connection("portforward", &Query::parse("ports=x")).unwrap_err();
        assert_eq!(
            error.message,
            "cannot convert to []int32: strconv.ParseUint: parsing \"x\": invalid syntax"
        );
    }
}
