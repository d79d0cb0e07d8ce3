//! Compiles the protocol definitions with protox, so that no protoc is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let protos = [
        "etcd/kv.proto",
        "etcd/rpc.proto",
        "trireme/log.proto",
        "trireme/peer.proto",
    ];
    println!("cargo:rerun-if-changed=proto");
    tonic_prost_build::configure()
        // Keys and values are slices of the buffer they arrived in, never copies.
        .bytes(".")
        .compile_fds(protox::compile(protos, ["proto"])?)?;
    Ok(())
}
