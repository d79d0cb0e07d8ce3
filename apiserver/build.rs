//! Compiles the protocol of key management plugins with protox, so that no protoc is needed.
//!
//! Collects what kinds and fields are for, for OpenAPI: the comments of the crate `k8s-openapi`.
//!
//! The crate is a dependency for no target, so that it is locked and fetched with the others and never
//! compiled; its source is read as text where cargo says that it lies.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a build script; it reads what is locked and writes to OUT_DIR"
)]

#[path = "build/comments.rs"]
mod comments;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The module of the minor that is served.
const MINOR: &str = "v1_36";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=proto");
    let protocol = protox::compile(["kms.proto"], ["proto"]).unwrap();
    let generator = tonic_prost_build::configure().bytes(".");
    generator.compile_fds(protocol).unwrap();
    println!("cargo::rerun-if-changed=../Cargo.lock");
    let source = source().join("src").join(MINOR);
    let mut found = Vec::new();
    scan(&source, &mut found);
    assert!(
        found.len() > 600,
        "{} types are described in {}",
        found.len(),
        source.display()
    );
    found.sort();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap()).join("descriptions.zz");
    let file = std::fs::File::create(out).unwrap();
    let mut packer = flate2::write::ZlibEncoder::new(file, flate2::Compression::best());
    for definition in found {
        packer.write_all(definition.as_bytes()).unwrap();
    }
    packer.finish().unwrap();
}

/// Where the source lies: among what was fetched, or else cargo fetches it.
fn source() -> PathBuf {
    let found = metadata(&["--offline"]).or_else(|_| metadata(&[]));
    let found = found.unwrap_or_else(|why| {
        panic!("the source of k8s-openapi is not there (`cargo fetch --locked` fetches it): {why}")
    });
    let found: serde_json::Value = serde_json::from_slice(&found).unwrap();
    let packages = found["packages"].as_array().unwrap();
    let ours = packages.iter().find(|known| known["name"] == "k8s-openapi");
    let manifest = ours.unwrap()["manifest_path"].as_str().unwrap();
    Path::new(manifest).parent().unwrap().to_path_buf()
}

fn metadata(more: &[&str]) -> Result<Vec<u8>, String> {
    let output = Command::new(std::env::var_os("CARGO").unwrap())
        .args(["metadata", "--format-version=1", "--locked"])
        .args(more)
        .current_dir(std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn scan(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            scan(&path, found);
        } else if let Some(record) = comments::record(&std::fs::read_to_string(&path).unwrap()) {
            found.push(record);
        }
    }
}
