//! Paths and their operations: what follows from the catalog, as neither version of OpenAPI yet.

mod maker;

pub(crate) use maker::paths;

use super::parameters::Parameter;

/// A path with its operations.
pub(crate) struct Path {
    pub(crate) path: String,
    /// What all operations take.
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) operations: Vec<Operation>,
}

/// What a method does.
pub(crate) struct Operation {
    /// In small letters.
    pub(crate) method: &'static str,
    /// Empty for documents.
    pub(crate) action: &'static str,
    pub(crate) id: String,
    pub(crate) description: String,
    pub(crate) tag: String,
    /// What only this one takes, sorted by name.
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) body: Option<Body>,
    pub(crate) produces: Produces,
    pub(crate) responses: &'static [u16],
    pub(crate) payload: Payload,
    /// Group, version and kind.
    pub(crate) of: Option<(String, String, String)>,
}

/// What a request carries.
pub(crate) struct Body {
    pub(crate) definition: String,
    pub(crate) required: bool,
}

/// What a response carries.
#[derive(Clone)]
pub(crate) enum Payload {
    /// An object of that definition.
    Object(String),
    /// Text.
    Text,
}

/// The media types of responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Produces {
    /// Objects.
    Objects,
    /// Objects, or events.
    Events,
    /// Text, or errors.
    Log,
    /// Whatever the other side says.
    Anything,
    /// JSON only.
    Json,
    /// A set of keys.
    Keys,
}

impl Produces {
    pub(crate) fn media_types(self) -> &'static [&'static str] {
        match self {
            Self::Objects => &[
                "application/json",
                "application/yaml",
                "application/vnd.kubernetes.protobuf",
            ],
            Self::Events => &[
                "application/json",
                "application/yaml",
                "application/vnd.kubernetes.protobuf",
                "application/json;stream=watch",
                "application/vnd.kubernetes.protobuf;stream=watch",
            ],
            Self::Log => &[
                "text/plain",
                "application/json",
                "application/yaml",
                "application/vnd.kubernetes.protobuf",
            ],
            Self::Anything => &["*/*"],
            Self::Json => &["application/json"],
            Self::Keys => &["application/jwk-set+json"],
        }
    }
}

/// The media types of a patch.
pub(crate) const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// A document that has no parameters, such as those of discovery.
pub(crate) fn document(
    path: &str,
    (id, tag): (&str, &str),
    description: &str,
    (produces, payload): (Produces, Payload),
) -> Path {
    let operation = Operation {
        method: "get",
        action: "",
        id: id.to_string(),
        description: description.to_string(),
        tag: tag.to_string(),
        parameters: Vec::new(),
        body: None,
        produces,
        responses: &[200],
        payload,
        of: None,
    };
    Path {
        path: path.to_string(),
        parameters: Vec::new(),
        operations: vec![operation],
    }
}

/// The group without its usual domain, as one word: `rbacAuthorization`.
pub(crate) fn word(group: &str, capital: bool) -> String {
    let name = match group {
        "" => "core",
        group => group.strip_suffix(".k8s.io").unwrap_or(group),
    };
    let mut capital = capital;
    let mut word = String::new();
    for (at, letter) in name.char_indices() {
        let fits = letter.is_alphabetic() || letter == '_' || (at > 0 && letter.is_numeric());
        if !fits {
            capital = true;
        } else if std::mem::take(&mut capital) {
            word.extend(letter.to_uppercase());
        } else {
            word.push(letter);
        }
    }
    word
}

fn title(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(letters).collect()
}

/// `an Event`, `a Pod`, `Endpoints`.
fn with_article(kind: &str) -> String {
    let plural = kind.ends_with('s') && !kind.ends_with("ss");
    let first = kind.chars().next().unwrap_or_default();
    match first.to_ascii_lowercase() {
        _ if plural => kind.to_string(),
        'a' | 'e' | 'i' | 'o' | 'u' => format!("an {kind}"),
        _ => format!("a {kind}"),
    }
}
