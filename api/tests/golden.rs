//! Upstream's own fixtures, every field of every GA kind set, must come out of each codec byte for
//! byte. They are no part of this repository: the tests pass where they are absent.

mod support;

use api::codec::protobuf::{self, Envelope};
use api::codec::{Encoding, Incoming, json, yaml};
use api::conform::{Unknown, conform};

#[test]
fn json_comes_back_byte_for_byte() {
    for fixture in support::fixtures() {
        let bytes = fixture.read("json");
        let mut doc = json::parse(bytes.clone()).unwrap();
        let strict = conform(&mut doc, fixture.schema(), Unknown::Drop)
            .unwrap_or_else(|error| panic!("{}: {error}", fixture.name));
        assert!(strict.is_empty(), "{}: {strict:?}", fixture.name);
        let want = json::parse(bytes).unwrap().to_string();
        similar(&fixture.name, &doc.to_string(), &want);
    }
}

#[test]
fn protobuf_comes_back_byte_for_byte_and_equals_json() {
    for fixture in support::fixtures() {
        let bytes = fixture.read("pb");
        let schema = fixture.schema();
        let envelope = Envelope::open(&bytes).unwrap();
        let mut doc = protobuf::decode(envelope.raw, schema)
            .unwrap_or_else(|error| panic!("{}: {error}", fixture.name));
        if schema.has_type_meta() {
            doc.set_path(&["kind"], envelope.kind);
            doc.set_path(&["apiVersion"], envelope.api_version);
        }
        conform(&mut doc, schema, Unknown::Drop)
            .unwrap_or_else(|error| panic!("{}: {error}", fixture.name));
        let want = json::parse(fixture.read("json")).unwrap().to_string();
        similar(&fixture.name, &doc.to_string(), &want);
        let mut again = Vec::new();
        protobuf::encode_enveloped(&doc, schema, &mut again);
        assert!(again == bytes, "{} differs in protobuf", fixture.name);
    }
}

#[test]
fn yaml_equals_json() {
    for fixture in support::fixtures() {
        let incoming = Incoming::read(fixture.read("yaml"), Encoding::Yaml).unwrap();
        let (doc, strict) = incoming.decode(fixture.schema(), Unknown::Drop).unwrap();
        assert!(strict.is_empty(), "{}: {strict:?}", fixture.name);
        let want = json::parse(fixture.read("json")).unwrap().to_string();
        similar(&fixture.name, &doc.to_string(), &want);
    }
}

#[test]
fn yaml_is_written_byte_for_byte() {
    for fixture in support::fixtures() {
        let doc = json::parse(fixture.read("json")).unwrap();
        let want = String::from_utf8(fixture.read("yaml")).unwrap();
        similar(&fixture.name, &yaml::write(doc.root()), &want);
    }
}

/// Fails at the first difference and shows what stands around it.
fn similar(name: &str, got: &str, want: &str) {
    if got != want {
        let at = got
            .bytes()
            .zip(want.bytes())
            .take_while(|(a, b)| a == b)
            .count();
        let around = |text: &str| {
            String::from_utf8_lossy(
                &text.as_bytes()[at.saturating_sub(80)..(at + 80).min(text.len())],
            )
            .into_owned()
        };
        panic!(
            "{name} at {at}:\n got  {}\n want {}",
            around(got),
            around(want)
        );
    }
}
