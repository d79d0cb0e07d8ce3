//! Kinds that are asked, not stored: bindings and reviews.

use api::doc::Doc;
use api::status::Status;

use super::{actions, component_statuses, write};
use crate::registry::{Call, Outcome};
use crate::respond::{self, Form, Reply};
use crate::reviews;

/// Answers a request to a kind without storage.
///
/// # Errors
///
/// Whatever stands against it.
pub async fn answer(call: &Call<'_>, body: Vec<u8>, form: Form) -> Outcome<Reply> {
    let resource = call.row.resource;
    if resource.name == "componentstatuses" {
        return component_statuses::answer(call, form).await;
    }
    if call.info.verb != "create" {
        return Err(Status::method_not_supported(call.of(), &call.info.verb).into());
    }
    if (resource.group, resource.name) == ("", "bindings") {
        return actions::bind(call, body, form).await;
    }
    let encoding = write::body_encoding(call.headers)?;
    let review = call.decode(body, encoding, &call.expected())?;
    let mut answer = ask(call, review).await?;
    crate::registry::object::canonical(&mut answer, call.row.schema)?;
    Ok(respond::object(201, &answer, call.row.schema, form))
}

async fn ask(call: &Call<'_>, review: Doc) -> Outcome<Doc> {
    let api = call.api;
    let (user, namespace) = (call.user, &*call.info.namespace);
    Ok(match call.row.resource.name {
        "tokenreviews" => reviews::token(&api.authenticator, review).await?,
        "selfsubjectreviews" => reviews::self_subject(user, &call.now),
        "selfsubjectrulesreviews" => reviews::self_subject_rules(&api.authorizer, user, &review)?,
        "subjectaccessreviews" => reviews::subject_access(&api.authorizer, review).await?,
        "localsubjectaccessreviews" => {
            reviews::local_subject_access(&api.authorizer, namespace, review).await?
        }
        "selfsubjectaccessreviews" => {
            reviews::self_subject_access(&api.authorizer, user, review).await?
        }
        other => return Err(Status::method_not_supported(call.of(), other).into()),
    })
}
