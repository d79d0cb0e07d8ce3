//! Kinds that are asked, not stored: bindings and reviews.

use api::status::Status;

use crate::registry::{Call, Outcome};
use crate::respond::{Form, Reply};

/// Answers a request to a kind without storage.
///
/// # Errors
///
/// Whatever stands against it.
pub async fn answer(call: &Call<'_>, _body: Vec<u8>, _form: Form) -> Outcome<Reply> {
    Err(Status::method_not_supported(call.of(), &call.info.verb).into())
}
