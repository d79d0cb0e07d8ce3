//! OpenAPI 2.0 as protobuf, in the messages that kubectl and older clients read (`openapi.v2`).
//!
//! The messages have the shape of the JSON document, so that a table of fields for each is all there
//! is. What no message has a field for is an extension, whose value is YAML; JSON is YAML.

use api::codec::json::{self, SyntaxError};
use api::doc::Node;

/// How a member of an object is written.
#[derive(Clone, Copy)]
enum As {
    Text,
    Yes,
    /// A text in a message of its own, repeated there (`TypeItem`).
    TextList,
    /// Each text of a list.
    Texts,
    /// Each value of a list as YAML.
    Values,
    /// A message.
    Message(&'static Message),
    /// A message that is one alternative of another, by the tag in it.
    Choice(u32, &'static Message),
    /// A message for each element of a list.
    Messages(&'static Message),
    /// Each element of a list is a parameter or a reference to one.
    Parameters,
    /// Each element of a list maps names to lists of texts.
    Requirements,
}

struct Message {
    /// Name, tag and form of the members that have a field.
    fields: &'static [(&'static str, u32, As)],
    /// Tag and form of all members: the object maps names to them.
    entries: Option<(u32, Entry)>,
    /// Tag of the extensions.
    extensions: u32,
}

/// The values of an object that maps names to them.
#[derive(Clone, Copy)]
enum Entry {
    Message(&'static Message),
    /// In a message of alternatives.
    Choice(u32, &'static Message),
    Parameter,
}

const fn structure(fields: &'static [(&'static str, u32, As)], extensions: u32) -> Message {
    Message {
        fields,
        entries: None,
        extensions,
    }
}

const fn map(tag: u32, entry: Entry) -> Message {
    Message {
        fields: &[],
        entries: Some((tag, entry)),
        extensions: 0,
    }
}

static DOCUMENT: Message = structure(
    &[
        ("swagger", 1, As::Text),
        ("info", 2, As::Message(&INFO)),
        ("paths", 8, As::Message(&PATHS)),
        ("definitions", 9, As::Message(&SCHEMAS)),
        ("parameters", 10, As::Message(&PARAMETERS)),
        ("security", 12, As::Requirements),
        ("securityDefinitions", 13, As::Message(&SECURITY)),
    ],
    16,
);

static INFO: Message = structure(
    &[
        ("title", 1, As::Text),
        ("version", 2, As::Text),
        ("description", 3, As::Text),
    ],
    7,
);

static PATHS: Message = map(2, Entry::Message(&PATH));
static SCHEMAS: Message = map(1, Entry::Message(&SCHEMA));
static PARAMETERS: Message = map(1, Entry::Parameter);
static SECURITY: Message = map(1, Entry::Choice(2, &API_KEY));
static RESPONSES: Message = map(1, Entry::Choice(1, &RESPONSE));

static API_KEY: Message = structure(
    &[
        ("type", 1, As::Text),
        ("name", 2, As::Text),
        ("in", 3, As::Text),
        ("description", 4, As::Text),
    ],
    5,
);

static PATH: Message = structure(
    &[
        ("get", 2, As::Message(&OPERATION)),
        ("put", 3, As::Message(&OPERATION)),
        ("post", 4, As::Message(&OPERATION)),
        ("delete", 5, As::Message(&OPERATION)),
        ("options", 6, As::Message(&OPERATION)),
        ("head", 7, As::Message(&OPERATION)),
        ("patch", 8, As::Message(&OPERATION)),
        ("parameters", 9, As::Parameters),
    ],
    10,
);

static OPERATION: Message = structure(
    &[
        ("tags", 1, As::Texts),
        ("description", 3, As::Text),
        ("operationId", 5, As::Text),
        ("produces", 6, As::Texts),
        ("consumes", 7, As::Texts),
        ("parameters", 8, As::Parameters),
        ("responses", 9, As::Message(&RESPONSES)),
        ("schemes", 10, As::Texts),
    ],
    13,
);

static RESPONSE: Message = structure(
    &[
        ("description", 1, As::Text),
        ("schema", 2, As::Choice(1, &SCHEMA)),
    ],
    5,
);

static BODY: Message = structure(
    &[
        ("description", 1, As::Text),
        ("name", 2, As::Text),
        ("in", 3, As::Text),
        ("required", 4, As::Yes),
        ("schema", 5, As::Message(&SCHEMA)),
    ],
    6,
);

static QUERY: Message = structure(
    &[
        ("required", 1, As::Yes),
        ("in", 2, As::Text),
        ("description", 3, As::Text),
        ("name", 4, As::Text),
        ("type", 6, As::Text),
        ("format", 7, As::Text),
        ("uniqueItems", 20, As::Yes),
    ],
    23,
);

static IN_PATH: Message = structure(
    &[
        ("required", 1, As::Yes),
        ("in", 2, As::Text),
        ("description", 3, As::Text),
        ("name", 4, As::Text),
        ("type", 5, As::Text),
        ("format", 6, As::Text),
        ("uniqueItems", 19, As::Yes),
    ],
    22,
);

static SCHEMA: Message = structure(
    &[
        ("$ref", 1, As::Text),
        ("format", 2, As::Text),
        ("title", 3, As::Text),
        ("description", 4, As::Text),
        ("pattern", 13, As::Text),
        ("uniqueItems", 16, As::Yes),
        ("required", 19, As::Texts),
        ("enum", 20, As::Values),
        ("additionalProperties", 21, As::Choice(1, &SCHEMA)),
        ("type", 22, As::TextList),
        ("items", 23, As::Choice(1, &SCHEMA)),
        ("allOf", 24, As::Messages(&SCHEMA)),
        ("properties", 25, As::Message(&SCHEMAS)),
    ],
    31,
);

/// The message of a document.
///
/// # Errors
///
/// If it is no JSON.
pub(super) fn encode(document: Vec<u8>) -> Result<Vec<u8>, SyntaxError> {
    let doc = json::parse(document)?;
    let mut out = Out::default();
    out.message(doc.root(), &DOCUMENT);
    Ok(out.bytes)
}

#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
}

impl Out {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes
                .push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
            value >>= 7;
        }
        self.bytes.push(u8::try_from(value).unwrap_or_default());
    }

    fn blob(&mut self, tag: u32, content: &[u8]) {
        self.varint(u64::from(tag) << 3 | 2);
        self.varint(content.len() as u64);
        self.bytes.extend_from_slice(content);
    }

    fn text(&mut self, tag: u32, text: &str) {
        self.blob(tag, text.as_bytes());
    }

    /// A message in this one.
    fn within(&mut self, tag: u32, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        self.blob(tag, &inner.bytes);
    }

    fn message(&mut self, node: Node<'_>, message: &Message) {
        if let Some((tag, entry)) = message.entries {
            for child in node.children() {
                self.within(tag, |out| {
                    out.text(1, child.key());
                    out.within(2, |out| out.entry(child, entry));
                });
            }
            return;
        }
        for (name, tag, form) in message.fields {
            if let Some(child) = node.get(name) {
                self.member(child, *tag, *form);
            }
        }
        for child in node.children() {
            if child.key().starts_with("x-") {
                self.within(message.extensions, |out| {
                    out.text(1, child.key());
                    out.within(2, |out| out.yaml(child));
                });
            }
        }
    }

    fn entry(&mut self, node: Node<'_>, entry: Entry) {
        match entry {
            Entry::Message(message) => self.message(node, message),
            Entry::Choice(tag, message) => self.within(tag, |out| out.message(node, message)),
            Entry::Parameter => self.parameter(node),
        }
    }

    fn member(&mut self, node: Node<'_>, tag: u32, form: As) {
        let texts = || node.children().filter_map(Node::as_str);
        match form {
            As::Text => {
                if let Some(text) = node.as_str() {
                    self.text(tag, text);
                }
            }
            As::Yes => {
                if node.as_bool() == Some(true) {
                    self.varint(u64::from(tag) << 3);
                    self.varint(1);
                }
            }
            As::TextList => self.within(tag, |out| match node.as_str() {
                Some(text) => out.text(1, text),
                None => texts().for_each(|text| out.text(1, text)),
            }),
            As::Texts => texts().for_each(|text| self.text(tag, text)),
            As::Values => {
                for child in node.children() {
                    self.within(tag, |out| out.yaml(child));
                }
            }
            As::Message(message) => self.within(tag, |out| out.message(node, message)),
            As::Choice(choice, message) => {
                self.within(tag, |out| {
                    out.within(choice, |out| out.message(node, message))
                });
            }
            As::Messages(message) => {
                for child in node.children() {
                    self.within(tag, |out| out.message(child, message));
                }
            }
            As::Parameters => {
                for child in node.children() {
                    self.within(tag, |out| match child.get("$ref") {
                        Some(reference) => out.within(2, |out| {
                            out.text(1, reference.as_str().unwrap_or_default());
                        }),
                        None => out.within(1, |out| out.parameter(child)),
                    });
                }
            }
            As::Requirements => {
                for child in node.children().flat_map(Node::children) {
                    self.within(tag, |out| {
                        out.within(1, |out| {
                            out.text(1, child.key());
                            out.within(2, |out| out.member(child, 1, As::Texts));
                        });
                    });
                }
            }
        }
    }

    fn parameter(&mut self, node: Node<'_>) {
        match node.text(&["in"]) {
            "body" => self.within(1, |out| out.message(node, &BODY)),
            place => {
                let (tag, message) = if place == "path" {
                    (4, &IN_PATH)
                } else {
                    (3, &QUERY)
                };
                self.within(2, |out| out.within(tag, |out| out.message(node, message)));
            }
        }
    }

    /// A value of any kind.
    fn yaml(&mut self, node: Node<'_>) {
        let mut text = Vec::new();
        json::write(node, &mut text);
        text.push(b'\n');
        self.blob(2, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The start of a document as upstream's library writes it.
    #[test]
    fn messages_have_the_shape_of_the_document() {
        let json = br#"{"swagger":"2.0","info":{"title":"K","version":"u"},"definitions":{"a.B":{"type":"object","properties":{"c":{"$ref":"d"}},"x-y":[{"z":"w"}]}}}"#;
        let bytes = encode(json.to_vec()).unwrap();
        let mut want = vec![0x0a, 3];
        want.extend_from_slice(b"2.0");
        want.extend_from_slice(&[0x12, 6, 0x0a, 1, b'K', 0x12, 1, b'u']);
        // Definitions: name and schema; type, properties, extension.
        want.extend_from_slice(&[0x4a, 57, 0x0a, 55, 0x0a, 3]);
        want.extend_from_slice(b"a.B");
        want.extend_from_slice(&[0x12, 48, 0xb2, 0x01, 8, 0x0a, 6]);
        want.extend_from_slice(b"object");
        want.extend_from_slice(&[
            0xca, 0x01, 10, 0x0a, 8, 0x0a, 1, b'c', 0x12, 3, 0x0a, 1, b'd',
        ]);
        want.extend_from_slice(&[0xfa, 0x01, 21, 0x0a, 3]);
        want.extend_from_slice(b"x-y");
        want.extend_from_slice(&[0x12, 14, 0x12, 12]);
        want.extend_from_slice(b"[{\"z\":\"w\"}]\n");
        assert_eq!(bytes, want);
    }
}
