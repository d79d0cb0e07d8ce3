//! Which encoding, and which form of it, a client accepts.

use api::codec::Encoding;

/// The media types that objects are sent in, the default first.
pub const MEDIA_TYPES: [(&str, Encoding); 3] = [
    ("application/json", Encoding::Json),
    ("application/yaml", Encoding::Yaml),
    ("application/vnd.kubernetes.protobuf", Encoding::Protobuf),
];

/// Names of [`MEDIA_TYPES`], as errors list them.
pub const MEDIA_TYPE_NAMES: [&str; 3] = [MEDIA_TYPES[0].0, MEDIA_TYPES[1].0, MEDIA_TYPES[2].0];

/// One of the things that an Accept header names.
#[derive(Debug, Clone, PartialEq)]
pub struct Clause<'a> {
    /// `application` of `application/json`.
    pub kind: &'a str,
    /// `json` of `application/json`.
    pub subtype: &'a str,
    /// How much it is wanted.
    pub quality: f32,
    /// The parameters besides.
    pub parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Clause<'a> {
    /// Whether a media type is what is asked for.
    pub fn matches(&self, media_type: &str) -> bool {
        let (kind, subtype) = media_type.split_once('/').unwrap_or((media_type, ""));
        match (self.kind, self.subtype) {
            ("*", "*") => true,
            (ours, "*") => ours == kind,
            (ours, sub) => ours == kind && sub == subtype,
        }
    }

    /// The value of a parameter; empty if there is none.
    pub fn parameter(&self, name: &str) -> &'a str {
        let found = self.parameters.iter().rev().find(|known| known.0 == name);
        found.map_or("", |known| known.1)
    }

    fn parse(text: &'a str) -> Option<Self> {
        let (media_type, rest) = split(text.trim_matches(' '), ';');
        let (kind, subtype) = split(media_type, '/');
        let kind = kind.trim_matches(' ');
        let subtype = match subtype {
            "" if kind == "*" => "*",
            "" => return None,
            subtype if subtype.contains('/') => return None,
            subtype => subtype.trim_matches(' '),
        };
        let mut clause = Self {
            kind,
            subtype,
            quality: 1.0,
            parameters: Vec::new(),
        };
        for parameter in rest.split(';') {
            let (name, value) = split(parameter, '=');
            if value.is_empty() || value.contains('=') {
                continue;
            }
            match name.trim_matches(' ') {
                "q" => clause.quality = value.parse().unwrap_or_default(),
                name => clause.parameters.push((name, value.trim_matches(' '))),
            }
        }
        Some(clause)
    }

    /// Upstream's order, which is none where it says that either of two comes first; hence the sort
    /// below, step by step the one that upstream's library does.
    fn precedes(&self, other: &Self) -> bool {
        self.quality > other.quality
            || (self.kind != "*" && other.kind == "*")
            || (self.subtype != "*" && other.subtype == "*")
    }
}

fn split(text: &str, at: char) -> (&str, &str) {
    text.split_once(at).unwrap_or((text, ""))
}

/// What an Accept header asks for, the most wanted first.
pub fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut all: Vec<Clause<'_>> = accept.split(',').filter_map(Clause::parse).collect();
    for end in 1..all.len() {
        let mut at = end;
        while at > 0 && all[at].precedes(&all[at - 1]) {
            all.swap(at, at - 1);
            at -= 1;
        }
    }
    all
}

/// What a response is to be turned into: a Table, metadata only, aggregated discovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// Parameter `g`.
    pub group: &'a str,
    /// Parameter `v`.
    pub version: &'a str,
    /// Parameter `as`.
    pub kind: &'a str,
}

/// How a response is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted<'a> {
    /// In this encoding.
    pub encoding: Encoding,
    /// Indented.
    pub pretty: bool,
    /// As events (`stream=watch`).
    pub stream: bool,
    /// Turned into something else.
    pub target: Option<Target<'a>>,
}

impl Accepted<'_> {
    const DEFAULT: Self = Self {
        encoding: Encoding::Json,
        pretty: false,
        stream: false,
        target: None,
    };
}

/// The first thing that a client asks for and an endpoint can do; `allows` says which targets it has.
/// None: nothing that it accepts can be sent (406).
pub fn negotiate<'a>(
    accept: &'a str,
    allows: impl Fn(Option<Target<'a>>) -> bool,
) -> Option<Accepted<'a>> {
    if accept.is_empty() {
        return Some(Accepted::DEFAULT);
    }
    for clause in clauses(accept) {
        for (media_type, encoding) in MEDIA_TYPES {
            if !clause.matches(media_type) {
                continue;
            }
            let stream = clause.parameter("stream");
            let known = matches!(stream, "" | "watch") && clause.parameter("sv").is_empty();
            let target = target(&clause);
            if known && allows(target) {
                return Some(Accepted {
                    encoding,
                    pretty: clause.parameter("pretty") == "1",
                    stream: !stream.is_empty(),
                    target,
                });
            }
        }
    }
    None
}

fn target<'a>(clause: &Clause<'a>) -> Option<Target<'a>> {
    let asked = clause
        .parameters
        .iter()
        .any(|known| matches!(known.0, "as" | "g" | "v"));
    asked.then(|| Target {
        group: clause.parameter("g"),
        version: clause.parameter("v"),
        kind: clause.parameter("as"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_wanted_comes_first() {
        let order = |accept| {
            let all = clauses(accept);
            let all: Vec<String> = all
                .iter()
                .map(|c| format!("{}/{}", c.kind, c.subtype))
                .collect();
            all.join(" ")
        };
        assert_eq!(
            order("text/html, */*, application/json;q=0.5"),
            "text/html application/json */*"
        );
        assert_eq!(order("a/b;q=0.1,c/d;q=0.2"), "c/d a/b");
        assert_eq!(order("*, application/*"), "application/* */*");
        assert_eq!(order("nonsense, a/b/c,"), "");
    }

    #[test]
    fn the_first_possible_clause_counts() {
        let plain = |accept| negotiate(accept, |target| target.is_none()).map(|a| a.encoding);
        assert_eq!(plain(""), Some(Encoding::Json));
        assert_eq!(plain("*/*"), Some(Encoding::Json));
        assert_eq!(plain("application/yaml, */*"), Some(Encoding::Yaml));
        assert_eq!(
            plain("application/vnd.kubernetes.protobuf,application/json"),
            Some(Encoding::Protobuf)
        );
        assert_eq!(plain("text/html"), None);
        assert_eq!(plain("application/json;as=Table;g=meta.k8s.io;v=v1"), None);
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(plain(kubectl), Some(Encoding::Json));
        let table = negotiate(kubectl, |_| true).unwrap();
        assert_eq!(table.target.unwrap().kind, "Table");
        assert!(!table.stream);
        let watch = negotiate("application/json;stream=watch;pretty=1", |_| true).unwrap();
        assert!(watch.stream && watch.pretty && watch.target.is_none());
        assert_eq!(plain("application/json;stream=else"), None);
    }
}
