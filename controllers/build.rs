//! Compiles the protocol definition of cloud providers with protox, so that no protoc is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    tonic_prost_build::configure().compile_fds(protox::compile(["cloud.proto"], ["proto"])?)?;
    Ok(())
}
