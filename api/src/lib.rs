//! API machinery: what every side of the Kubernetes API must agree on, without IO and without async.
//!
//! It holds the schema table of built-in kinds, schema-directed documents, the codecs (JSON, YAML,
//! protobuf), patches and server-side apply, selectors, quantities, names and `Status`.
//!
//! It leaves serving to `apiserver`, reaching a server to `client`, and what an object makes happen
//! to `controllers`, `scheduler` and `node`.
