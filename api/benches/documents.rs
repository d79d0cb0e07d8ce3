//! What the work on one pod of about 5 kB costs: `cargo bench -p api`. Each line is the best of
//! many rounds.
#![expect(
    clippy::disallowed_methods,
    reason = "a measurement reads the real clock"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use api::apply::FieldManager;
use api::codec::{Encoding, Incoming, json, protobuf};
use api::conform::{Unknown, conform};
use api::defaults;
use api::doc::Doc;
use api::patch;
use api::schema::{self, Type};

const POD: &str = include_str!("../testdata/pod.json");

fn main() {
    let schema = schema::kind("", "v1", "Pod").expect("there are pods");
    let text = POD.trim().as_bytes();
    let decode = || {
        let incoming = Incoming::read(text.to_vec(), Encoding::Json).expect("JSON");
        incoming.decode(schema, Unknown::Keep).expect("a pod").0
    };
    let doc = decode();
    let mut message = Vec::new();
    protobuf::encode_enveloped(&doc, schema, &mut message);
    println!(
        "pod: {} bytes of JSON, {} of protobuf",
        text.len(),
        message.len()
    );
    measure("JSON parse", || json::parse(text.to_vec()).expect("JSON"));
    measure("JSON parse and conform", decode);
    measure("conform again", || {
        let mut copy = doc.clone();
        conform(&mut copy, schema, Unknown::Keep).expect("a pod");
        copy
    });
    measure("defaults", || {
        let mut copy = doc.clone();
        defaults::apply(&mut copy, schema, "2026-03-01T11:00:00Z");
        copy
    });
    measure("JSON write", || written(&doc));
    measure("protobuf decode", || {
        let incoming = Incoming::read(message.clone(), Encoding::Protobuf).expect("protobuf");
        incoming.decode(schema, Unknown::Keep).expect("a pod").0
    });
    measure("protobuf encode", || {
        let mut out = Vec::with_capacity(message.len());
        protobuf::encode_enveloped(&doc, schema, &mut out);
        out
    });
    let yaml = text.to_vec();
    measure("YAML decode", || {
        let incoming = Incoming::read(yaml.clone(), Encoding::Yaml).expect("YAML");
        incoming.decode(schema, Unknown::Keep).expect("a pod").0
    });
    let twin = doc.clone();
    measure("compare", || doc == twin);
    measure("clone", || doc.clone());
    writes(&doc, schema);
}

/// What a write does besides decoding and encoding.
fn writes(doc: &Doc, schema: &'static Type) {
    let change = Doc::literal(
        r#"{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"api","image":"x:2"}]}}"#,
    );
    measure("strategic merge patch", || {
        let mut copy = doc.clone();
        patch::strategic::apply(&mut copy, change.root(), schema).expect("a patch");
        conform(&mut copy, schema, Unknown::Keep).expect("a pod");
        copy
    });
    let fields = FieldManager {
        schema,
        api_version: "v1",
        kind: "Pod",
        subresource: "",
        reset: None,
        now: "2026-03-01T11:00:00Z",
    };
    let mut changed = doc.clone();
    patch::strategic::apply(&mut changed, change.root(), schema).expect("a patch");
    measure("track an update", || {
        let mut new = changed.clone();
        fields.update(doc, &mut new, "kubectl");
        new
    });
    let mut config = change.clone();
    config.set_path(&["apiVersion"], "v1");
    config.set_path(&["kind"], "Pod");
    measure("server-side apply", || {
        fields
            .apply(doc, &config, "one", true)
            .expect("a configuration")
    });
}

fn written(doc: &Doc) -> Vec<u8> {
    let mut out = Vec::with_capacity(8192);
    json::write(doc.root(), &mut out);
    out
}

fn measure<T>(name: &str, mut work: impl FnMut() -> T) {
    const ROUNDS: u32 = 200;
    const PASSES: u32 = 50;
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..PASSES {
            black_box(work());
        }
        best = best.min(start.elapsed());
    }
    let micros = best.as_secs_f64() * 1e6 / f64::from(PASSES);
    println!("{name:26} {micros:8.2} µs");
}
