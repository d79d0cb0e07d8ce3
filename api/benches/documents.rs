//! What the work on one pod of about 5 kB costs: `cargo bench -p api`. Each line is the best of
//! many rounds.
#![expect(
    clippy::disallowed_methods,
    reason = "a measurement reads the real clock"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use api::codec::{Encoding, Incoming, json, protobuf};
use api::conform::{Unknown, conform};
use api::doc::Doc;
use api::schema;

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
