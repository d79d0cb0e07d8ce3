//! Objects made up from the schema: every field, or a random choice of them.

use api::doc::{Doc, Id, New};
use api::schema::{Field, SchemaOr, Shape, Type};

/// A reproducible sequence (xorshift).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 11).unwrap_or_default() % limit
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// How often a type may stand within itself.
const NESTED: usize = 2;

/// Makes up objects.
pub(crate) struct Generator {
    pub(crate) random: Random,
    /// Every field is set, to something that is not zero.
    pub(crate) maximal: bool,
    above: Vec<*const Type>,
}

impl Generator {
    pub(crate) fn new(seed: u64, maximal: bool) -> Self {
        Self {
            random: Random(seed | 1),
            maximal,
            above: Vec::new(),
        }
    }

    /// An object of a kind.
    pub(crate) fn object(&mut self, schema: &Type, api_version: &str, kind: &str) -> Doc {
        let mut doc = Doc::new();
        let top = doc.top();
        self.fields(&mut doc, top, schema);
        if schema.has_type_meta() {
            doc.set(top, "kind", kind);
            doc.set(top, "apiVersion", api_version);
        }
        doc
    }

    fn fields(&mut self, doc: &mut Doc, object: Id, schema: &Type) {
        self.above.push(schema);
        for field in schema.fields.iter() {
            // Protobuf keeps the kind and version of the outermost object only.
            let is_type_meta = schema.has_type_meta() && field.tag == 0;
            let is_chosen = !is_type_meta && (self.maximal || self.random.below(2) == 0);
            if is_chosen && let Some(value) = self.value(doc, &field.shape, Some(field)) {
                doc.put(object, &field.name, value);
            }
        }
        self.above.pop();
    }

    fn value(&mut self, doc: &mut Doc, shape: &Shape, field: Option<&Field>) -> Option<Id> {
        let count = if self.maximal {
            2
        } else {
            self.random.below(3)
        };
        Some(match shape {
            Shape::Bool => doc.make(New::Bool(self.maximal || self.random.below(2) == 0)),
            Shape::Int32 => {
                let numbers = [1, -1, i32::MAX, i32::MIN, 7];
                let number = self.random.one_of(&numbers);
                doc.make(New::from(number))
            }
            Shape::Int64 => {
                let number = self.random.one_of(&[1, -1, i64::MAX, i64::MIN, 1 << 40]);
                doc.make(New::Int(number))
            }
            Shape::Float => {
                let number = self.random.one_of(&["0.5", "-1.25", "1e+30", "1e-9"]);
                doc.make(New::Number(number))
            }
            Shape::String => {
                let known = field.map_or(&[][..], |field| field.facts.values);
                let text = match known {
                    [] => self.random.one_of(&[
                        "a",
                        "né",
                        "<b> & \"c\"",
                        "line\nline",
                        "\u{2028}",
                        "yes",
                    ]),
                    known => self.random.one_of(known),
                };
                let text = if self.maximal && text.is_empty() {
                    "x"
                } else {
                    text
                };
                doc.make(New::Str(text))
            }
            Shape::Bytes => doc.make(New::Str(self.random.one_of(&["AA==", "aGVsbG8=", "/+8B"]))),
            Shape::Time => {
                let time = self
                    .random
                    .one_of(&["2024-02-29T12:00:00Z", "1999-12-31T23:59:59Z"]);
                doc.make(New::Str(time))
            }
            Shape::MicroTime => doc.make(New::Str("2024-02-29T12:00:00.123456Z")),
            Shape::Duration => doc.make(New::Str(self.random.one_of(&["1h0m0s", "1.5s"]))),
            Shape::Quantity => {
                let quantity = self
                    .random
                    .one_of(&["100m", "15u", "1Gi", "2", "1e3", "1536Mi", "5k"]);
                doc.make(New::Str(quantity))
            }
            Shape::IntOrString => match self.random.below(2) {
                0 => doc.make(New::Int(80)),
                _ => doc.make(New::Str("25%")),
            },
            Shape::Any | Shape::Raw | Shape::Json | Shape::FieldsV1 => {
                let made = Doc::literal(r#"{"f:a":{},"n":[1,-2.50,null,true,"x"]}"#);
                doc.graft(made.root())
            }
            Shape::SchemaOr(or, schema) => match (or, self.nested(schema)) {
                (SchemaOr::Bool, _) => doc.make(New::Bool(true)),
                (SchemaOr::Strings, _) => self.list(doc, &Shape::String, 2),
                (SchemaOr::Array, true) => return None,
                (SchemaOr::Array, false) => {
                    let object = doc.make(New::Object);
                    self.fields(doc, object, schema);
                    object
                }
            },
            Shape::Struct(schema) => {
                if self.nested(schema) {
                    return None;
                }
                let object = doc.make(New::Object);
                self.fields(doc, object, schema);
                object
            }
            Shape::List(list) => self.list(doc, &list.item, count),
            Shape::Map(map) => {
                let object = doc.make(New::Object);
                for key in ["example.com/b", "a"].iter().take(count) {
                    if let Some(value) = self.value(doc, &map.item, None) {
                        doc.put(object, key, value);
                    }
                }
                object
            }
        })
    }

    fn list(&mut self, doc: &mut Doc, item: &Shape, count: usize) -> Id {
        let list = doc.make(New::List);
        for _ in 0..count {
            if let Some(value) = self.value(doc, item, None) {
                doc.push_id(list, value);
            }
        }
        list
    }

    fn nested(&self, schema: &Type) -> bool {
        let same = self
            .above
            .iter()
            .filter(|above| std::ptr::eq(**above, schema));
        same.count() >= NESTED
    }
}
