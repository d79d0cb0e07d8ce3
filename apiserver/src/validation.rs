//! What validation is written with: a cursor into a document, a collector of errors that knows where
//! they are, and the checks that many kinds share.
//!
//! A check reads like the rule that it is. The collector finds a field's path from its place in
//! the document (elements as `[0]`, entries of maps as `[key]`, all else as `.field`), so no check
//! carries paths around, and a pod's rules are the same inside of a Deployment:
//!
//! ```
//! use api::doc::Doc;
//! use apiserver::validation::{At, Errors};
//!
//! let doc = Doc::literal(r#"{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"name":"A.b"}]}}"#);
//! let mut errors = Errors::default();
//! for container in At::root(&doc).path(&["spec", "containers"]).items() {
//!     if errors.need(container.get("name"), "") {
//!         errors.names(container.get("name"), api::name::dns_1123_label);
//!     }
//!     errors.need(container.get("terminationMessagePath"), "");
//! }
//! let texts: Vec<String> = errors.into_vec().iter().map(ToString::to_string).collect();
//! assert!(texts[0].starts_with(r#"spec.containers[0].name: Invalid value: "A.b": a lowercase RFC"#));
//! assert_eq!(texts[1], "spec.containers[0].terminationMessagePath: Required value");
//! ```
//!
//! - [`At`], [`errors`] and [`mod@place`]: the vocabulary
//! - [`labels`]: labels, annotations and selectors; [`meta`]: `metadata` of every object
//! - [`pod`]: pods, templates of pods and their parts; [`claim`]: what claims a volume

pub mod claim;
pub mod errors;
pub mod labels;
pub mod meta;
mod place;
pub mod pod;

pub use api::at::{At, same};
pub use errors::Errors;
