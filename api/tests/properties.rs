//! What must hold for any object, and for any bytes: codecs agree, and nothing panics.

mod support;

use api::apply::FieldManager;
use api::codec::{Encoding, Incoming, json, protobuf, yaml};
use api::conform::{Unknown, conform};
use api::doc::{Doc, New};
use api::patch;
use api::schema::{Kind, Shape, Type, kinds};
use support::generate::{Generator, Random};

/// The kinds whose group and version are one.
fn all() -> impl Iterator<Item = (&'static Kind, String)> {
    kinds().iter().filter(|kind| kind.group != "*").map(|kind| {
        let version = match kind.group {
            "" => kind.version.to_string(),
            group => format!("{group}/{}", kind.version),
        };
        (kind, version)
    })
}

fn decoded(bytes: Vec<u8>, encoding: Encoding, schema: &Type) -> Doc {
    let incoming = Incoming::read(bytes, encoding).unwrap_or_else(|error| panic!("{error}"));
    let (doc, strict) = incoming
        .decode(schema, Unknown::Drop)
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(strict.is_empty(), "{strict:?}");
    doc
}

/// The same object as JSON, YAML (which JSON is) and protobuf is stored as the same bytes.
fn survives(mut doc: Doc, schema: &Type, name: &str) {
    conform(&mut doc, schema, Unknown::Drop).unwrap_or_else(|error| panic!("{name}: {error}"));
    let stored = doc.to_string();
    let from_json = decoded(stored.clone().into_bytes(), Encoding::Json, schema).to_string();
    assert_eq!(from_json, stored, "{name}");
    let from_yaml = decoded(stored.clone().into_bytes(), Encoding::Yaml, schema).to_string();
    assert_eq!(Doc::literal(&from_yaml), Doc::literal(&stored), "{name}");
    let as_yaml = yaml::write(doc.root());
    let from_yaml = decoded(as_yaml.clone().into_bytes(), Encoding::Yaml, schema);
    assert_eq!(from_yaml, Doc::literal(&stored), "{name}: {as_yaml}");
    if !schema.proto.is_empty() {
        let mut message = Vec::new();
        protobuf::encode_enveloped(&doc, schema, &mut message);
        let again = decoded(message.clone(), Encoding::Protobuf, schema);
        assert_eq!(
            comparable(&again.to_string()),
            comparable(&stored),
            "{name}"
        );
        let mut second = Vec::new();
        protobuf::encode_enveloped(&again, schema, &mut second);
        assert!(second == message, "{name}: protobuf differs from itself");
    }
}

/// Protobuf cannot tell an empty list from none.
fn comparable(text: &str) -> String {
    text.replace(":[]", ":null").replace(":{}", ":null")
}

#[test]
fn maximal_objects_survive_every_codec() {
    for (kind, version) in all() {
        let mut generator = Generator::new(7, true);
        survives(
            generator.object(kind.schema, &version, kind.kind),
            kind.schema,
            kind.kind,
        );
    }
}

#[test]
fn random_objects_survive_every_codec() {
    for (kind, version) in all() {
        for seed in 1..8 {
            let mut generator = Generator::new(seed * 0x9e37_79b9, false);
            let name = format!("{} seed {seed}", kind.kind);
            survives(
                generator.object(kind.schema, &version, kind.kind),
                kind.schema,
                &name,
            );
        }
    }
}

#[test]
fn conforming_twice_is_conforming_once() {
    for (kind, version) in all() {
        let mut generator = Generator::new(99, false);
        let mut doc = generator.object(kind.schema, &version, kind.kind);
        conform(&mut doc, kind.schema, Unknown::Drop).unwrap();
        let once = doc.to_string();
        conform(&mut doc, kind.schema, Unknown::Drop).unwrap();
        assert_eq!(doc.to_string(), once, "{}", kind.kind);
    }
}

/// Bytes with a few of them changed, removed or doubled.
fn mutated(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + random.below(8) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        match random.below(4) {
            0 => bytes[at] = random.next().to_le_bytes()[0],
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, b"\"\\{}[]:,-0n\xff"[random.below(12)]),
            _ => {
                let end = (at + 1 + random.below(20)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, piece);
            }
        }
    }
    bytes
}

#[test]
fn mutated_objects_are_answered() {
    let mut random = Random(0x5eed);
    for (kind, version) in all() {
        let mut generator = Generator::new(3, kind.kind.len() % 2 == 0);
        let mut doc = generator.object(kind.schema, &version, kind.kind);
        conform(&mut doc, kind.schema, Unknown::Drop).unwrap();
        let text = doc.to_string().into_bytes();
        let mut message = Vec::new();
        protobuf::encode_enveloped(&doc, kind.schema, &mut message);
        for _ in 0..20 {
            for (bytes, encoding) in [(&text, Encoding::Json), (&message, Encoding::Protobuf)] {
                if let Ok(incoming) = Incoming::read(mutated(bytes, &mut random), encoding) {
                    let _ = incoming.decode(kind.schema, Unknown::Keep);
                }
            }
        }
    }
}

#[test]
fn any_text_survives_yaml() {
    let mut random = Random(0x7e47);
    let pieces = [
        " ",
        "  ",
        "\n",
        "\n\n",
        "\t",
        "a",
        "b c",
        "- ",
        "-",
        "#",
        ": ",
        ":",
        "'",
        "\"",
        "\\",
        "?",
        "{",
        "]",
        "<<",
        "yes",
        "1",
        ".5",
        "0x1",
        "~",
        "null",
        "é",
        "\u{2028}",
        "\u{85}",
        "\u{0}",
        "|",
        ">",
        "%",
        "@",
        "---",
        "word word word word word word word word word word word word word word word word word",
    ];
    for _ in 0..20_000 {
        let text: String = (0..random.below(6))
            .map(|_| pieces[random.below(pieces.len())])
            .collect();
        let mut doc = Doc::new();
        let top = doc.top();
        doc.set(top, &text, &*text);
        let list = doc.list(top, "list");
        doc.push(list, &*text);
        let written = yaml::write(doc.root());
        let (again, _) =
            yaml::parse(written.as_bytes()).unwrap_or_else(|e| panic!("{e}: {text:?}\n{written}"));
        assert_eq!(again, doc, "{text:?}\n{written}");
    }
}

#[test]
fn mutated_yaml_is_answered() {
    let sample = b"a: &x {b: [1, 'two', \"3\\n\"], c: !!str 4}\n<<: *x\nd: |\n  text\n  more\n? e\n: f\n---\ng: >-\n folded\n";
    let mut random = Random(0xbead);
    for _ in 0..20_000 {
        let _ = yaml::parse(&mutated(sample, &mut random));
    }
}

#[test]
fn mutated_patches_are_answered() {
    let schema = api::schema::kind("", "v1", "Pod").unwrap();
    let pod = include_str!("../testdata/pod.json").trim();
    let patches = [
        r#"[{"op":"add","path":"/metadata/labels/a","value":{"b":[1]}},{"op":"move","from":"/spec/containers/0","path":"/spec/volumes/-"},{"op":"copy","from":"/spec","path":"/status/x"},{"op":"test","path":"/spec/nodeName","value":"worker-17"},{"op":"replace","path":"/spec/containers/-1/name","value":null},{"op":"remove","path":"/status"}]"#,
        r#"{"metadata":{"labels":{"a":null},"finalizers":["x"]},"spec":{"$setElementOrder/containers":[{"name":"b"},{"name":"api"}],"containers":[{"name":"b"},{"name":"api","env":[{"name":"LOG_LEVEL","$patch":"delete"}],"ports":[{"$patch":"replace"},{"containerPort":1}]}],"volumes":[{"name":"config","$retainKeys":["name","emptyDir"],"emptyDir":{}}]},"$deleteFromPrimitiveList/x":[1]}"#,
    ];
    let mut random = Random(0xfeed);
    for _ in 0..3_000 {
        for text in patches {
            let Ok(read) = patch::read(mutated(text.as_bytes(), &mut random)) else {
                continue;
            };
            let fresh = || json::parse(pod.as_bytes().to_vec()).unwrap();
            let mut doc = fresh();
            if patch::json::apply(&mut doc, read.root()).is_ok() {
                let _ = conform(&mut doc, schema, Unknown::Drop);
            }
            let mut doc = fresh();
            if patch::merge::apply(&mut doc, read.root()).is_ok() {
                let _ = conform(&mut doc, schema, Unknown::Drop);
            }
            let mut doc = fresh();
            if patch::strategic::apply(&mut doc, read.root(), schema).is_ok() {
                let _ = conform(&mut doc, schema, Unknown::Drop);
            }
        }
    }
}

/// A patch that changes nothing changes nothing; the whole object as a merge patch onto nothing is
/// the object.
#[test]
fn patches_that_say_what_is_there_change_nothing() {
    for (kind, version) in all() {
        let mut generator = Generator::new(1234, true);
        let mut doc = generator.object(kind.schema, &version, kind.kind);
        conform(&mut doc, kind.schema, Unknown::Drop).unwrap();
        let mut merged = doc.clone();
        patch::merge::apply(&mut merged, doc.root()).unwrap();
        conform(&mut merged, kind.schema, Unknown::Drop).unwrap();
        assert_eq!(merged, doc, "{}", kind.kind);
        let mut copied = Doc::new();
        let whole = Doc::literal(&format!(r#"[{{"op":"replace","path":"","value":{doc}}}]"#));
        patch::json::apply(&mut copied, whole.root()).unwrap();
        assert_eq!(copied, doc, "{}", kind.kind);
    }
}

/// The kinds that are stored, with a manager of their fields.
fn with_fields(kind: &Kind, version: &str, work: impl FnOnce(&FieldManager<'_>)) {
    let is_object = kind
        .schema
        .field("metadata")
        .is_some_and(|field| match &field.shape {
            Shape::Struct(schema) => schema.name == "ObjectMeta",
            _ => false,
        });
    if is_object {
        work(&FieldManager {
            schema: kind.schema,
            api_version: version,
            kind: kind.kind,
            subresource: "",
            reset: None,
            now: "2026-01-01T00:00:00Z",
        });
    }
}

fn empty(schema: &Type) -> Doc {
    let mut doc = Doc::new();
    conform(&mut doc, schema, Unknown::Drop).unwrap_or_else(|error| panic!("{error}"));
    doc
}

#[test]
fn applying_twice_is_applying_once_and_applying_nothing_takes_it_back() {
    let mut applied = 0;
    for (kind, version) in all() {
        for seed in 1..6 {
            let mut generator = Generator::new(seed * 31, seed == 1);
            let mut config = generator.object(kind.schema, &version, kind.kind);
            config.set_path(&["metadata", "managedFields"], New::Null);
            // A list's keys have to be all there to say the same before and after.
            conform(&mut config, kind.schema, Unknown::Drop).unwrap();
            with_fields(kind, &version, |fields| {
                // Made-up lists may have the same element twice, which is refused.
                let Ok(once) = fields.apply(&empty(kind.schema), &config, "one", false) else {
                    return;
                };
                applied += 1;
                let twice = fields.apply(&once, &config, "one", false).unwrap();
                assert_eq!(twice, once, "{} seed {seed}", kind.kind);
                let other = fields.apply(&once, &config, "two", false).unwrap();
                let mut nothing = Doc::new();
                nothing.set_path(&["apiVersion"], &*version);
                let kept = fields.apply(&other, &nothing, "one", false).unwrap();
                let without = |doc: &Doc| {
                    let mut doc = doc.clone();
                    doc.set_path(&["metadata", "managedFields"], New::Null);
                    doc
                };
                assert_eq!(without(&kept), without(&once), "{} seed {seed}", kind.kind);
            });
        }
    }
    assert!(applied > 100, "{applied}");
}

#[test]
fn mutated_configurations_are_answered() {
    let mut random = Random(0xabcd);
    for (kind, version) in all() {
        let mut generator = Generator::new(5, false);
        let config = generator
            .object(kind.schema, &version, kind.kind)
            .to_string();
        let mut live = Generator::new(6, false).object(kind.schema, &version, kind.kind);
        conform(&mut live, kind.schema, Unknown::Drop).unwrap();
        for _ in 0..10 {
            let Ok(config) = patch::read(mutated(config.as_bytes(), &mut random)) else {
                continue;
            };
            with_fields(kind, &version, |fields| {
                let _ = fields.apply(&live, &config, "one", true);
                let mut new = config.clone();
                if conform(&mut new, kind.schema, Unknown::Drop).is_ok() {
                    fields.update(&live, &mut new, "two");
                }
            });
        }
    }
}

/// A patch of as many keys as fit in a request must not cost the square of them.
#[test]
fn patches_of_many_keys_are_linear() {
    let schema = api::schema::kind("", "v1", "ConfigMap").unwrap();
    let keys = |suffix: &str| {
        let all: Vec<String> = (0..100_000)
            .map(|at| format!(r#""k{at}":{suffix}"#))
            .collect();
        Doc::literal(&format!(r#"{{"data":{{{}}}}}"#, all.join(",")))
    };
    let (old, new, gone) = (keys(r#""1""#), keys(r#""2""#), keys("null"));
    for (patch, left) in [(&new, 100_000), (&gone, 0)] {
        let mut doc = old.clone();
        patch::merge::apply(&mut doc, patch.root()).unwrap();
        assert_eq!(doc.root().path(&["data"]).unwrap().len(), left);
        let mut doc = old.clone();
        patch::strategic::apply(&mut doc, patch.root(), schema).unwrap();
        assert_eq!(doc.root().path(&["data"]).unwrap().len(), left);
    }
    let mut sorted = old.clone();
    let data = sorted.find_path(&["data"]).unwrap();
    sorted.sort_keys(data);
    assert!(sorted == old);
}

/// Nesting as deep as decoders let through must not cost the stack of a thread of ordinary size.
#[test]
fn the_deepest_objects_fit_the_stack() {
    let schema =
        api::schema::kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap();
    let levels = 490;
    let nested = format!(
        "{}{}{}",
        r#"{"not":"#.repeat(levels * 2),
        "{}",
        "}".repeat(levels * 2)
    );
    let text = format!(
        r#"{{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","spec":{{"versions":[{{"name":"v1","schema":{{"openAPIV3Schema":{nested}}}}}]}}}}"#
    );
    let doc = decoded(text.into_bytes(), Encoding::Json, schema);
    assert!(doc.root().depth() > 900);
    assert!(doc == doc.clone());
    let mut message = Vec::new();
    protobuf::encode_enveloped(&doc, schema, &mut message);
    // Here the limit is lower, for a level costs more of the stack.
    let incoming = Incoming::read(message, Encoding::Protobuf).unwrap();
    let refused = incoming
        .decode(schema, Unknown::Drop)
        .unwrap_err()
        .to_string();
    assert_eq!(refused, "exceeded max depth");
}
