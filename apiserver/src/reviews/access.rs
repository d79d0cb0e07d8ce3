//! SubjectAccessReview and its kin: may somebody do something?

use api::doc::{Doc, Node};
use api::field::FieldError;
use api::status::{Qualified, Status};

use super::selectors::{self, Selectors};
use super::{new_status, texts};
use crate::authorization::{Attributes, Authorizer, Decision};
use crate::user::User;
use crate::validation::{At, Errors};

/// As upstream's errors name the kind: not at all.
const KIND: Qualified<'static> = Qualified {
    group: "authorization.k8s.io",
    name: "",
};

/// Answers a SubjectAccessReview: may the user that it names do it?
///
/// # Errors
///
/// If the question makes no sense.
pub async fn subject_access(authorizer: &Authorizer, review: Doc) -> Result<Doc, Status> {
    let mut errors = spec_errors(&review, true);
    check_metadata(&mut errors, &review, &[], "must be empty");
    refuse(errors)?;
    let user = subject(&review);
    Ok(answer(authorizer, &user, review).await)
}

/// Answers a LocalSubjectAccessReview: as [`subject_access`], within the namespace of the request.
///
/// # Errors
///
/// If the question makes no sense or is about another namespace.
pub async fn local_subject_access(
    authorizer: &Authorizer,
    namespace: &str,
    mut review: Doc,
) -> Result<Doc, Status> {
    if review.root().text(&["metadata", "namespace"]).is_empty() {
        review.set_path(&["metadata", "namespace"], namespace);
    }
    let mut errors = spec_errors(&review, true);
    check_metadata(
        &mut errors,
        &review,
        &["namespace"],
        "must be empty except for namespace",
    );
    let root = review.root();
    let own = root.text(&["metadata", "namespace"]);
    let resource = part(&review, "resourceAttributes");
    if let Some(resource) = resource.filter(|node| node.text(&["namespace"]) != own) {
        errors.push(FieldError::invalid(
            "spec.resourceAttributes.namespace",
            resource.text(&["namespace"]),
            "must match metadata.namespace",
        ));
    }
    if let Some(path) = part(&review, "nonResourceAttributes") {
        let why = "disallowed on this kind of request";
        errors.push(FieldError::invalid("spec.nonResourceAttributes", path, why));
    }
    refuse(errors)?;
    if namespace != own {
        return Err(Status::bad_request(format!(
            "spec.resourceAttributes.namespace must match namespace: {namespace}"
        )));
    }
    let user = subject(&review);
    Ok(answer(authorizer, &user, review).await)
}

/// Answers a SelfSubjectAccessReview: may whoever asks do it?
///
/// # Errors
///
/// If the question makes no sense.
pub async fn self_subject_access(
    authorizer: &Authorizer,
    user: &User,
    review: Doc,
) -> Result<Doc, Status> {
    let mut errors = spec_errors(&review, false);
    check_metadata(&mut errors, &review, &[], "must be empty");
    refuse(errors)?;
    Ok(answer(authorizer, user, review).await)
}

fn refuse(errors: Vec<FieldError>) -> Result<(), Status> {
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid(KIND, "", &errors)),
    }
}

/// A part of the spec that is there.
fn part<'d>(review: &'d Doc, key: &str) -> Option<Node<'d>> {
    let node = review.root().path(&["spec", key]);
    node.filter(|node| !node.is_null())
}

fn spec_errors(review: &Doc, has_subject: bool) -> Vec<FieldError> {
    let (resource, path) = (
        part(review, "resourceAttributes"),
        part(review, "nonResourceAttributes"),
    );
    let mut errors = Vec::new();
    match (resource, path) {
        (Some(_), Some(path)) => errors.push(FieldError::invalid(
            "spec.nonResourceAttributes",
            path,
            "cannot be specified in combination with resourceAttributes",
        )),
        (None, None) => errors.push(FieldError::invalid(
            "spec.resourceAttributes",
            Doc::literal("null").root(),
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    let groups = part(review, "groups");
    let user = review.root().text(&["spec", "user"]);
    if has_subject && user.is_empty() && groups.is_none_or(Node::is_empty) {
        let why = "at least one of user or group must be specified";
        errors.push(FieldError::invalid("spec.user", user, why));
    }
    let mut more = Errors::default();
    let at = At::root(review).get("spec").get("resourceAttributes");
    selectors::validate(&mut more, at);
    errors.extend(more.into_vec());
    errors
}

fn check_metadata(errors: &mut Vec<FieldError>, review: &Doc, allowed: &[&str], why: &str) {
    let Some(metadata) = review.root().get("metadata") else {
        return;
    };
    let counts = |field: &Node<'_>| {
        let is_empty = field.is_null()
            || field.as_str() == Some("")
            || matches!(field.kind(), api::doc::Kind::List | api::doc::Kind::Object)
                && field.is_empty();
        !is_empty && field.key() != "managedFields" && !allowed.contains(&field.key())
    };
    if metadata.children().any(|field| counts(&field)) {
        errors.push(FieldError::invalid("metadata", metadata, why));
    }
}

/// The user that a question names.
fn subject(review: &Doc) -> User {
    let spec = |key: &str| review.root().path(&["spec", key]);
    let text = |key: &str| {
        spec(key)
            .and_then(Node::as_str)
            .unwrap_or_default()
            .to_string()
    };
    let extra = spec("extra").into_iter().flat_map(Node::children);
    User {
        name: text("user"),
        uid: text("uid"),
        groups: spec("groups").map(texts).unwrap_or_default(),
        extra: extra
            .map(|entry| (entry.key().to_string(), texts(entry)))
            .collect(),
    }
}

async fn answer(authorizer: &Authorizer, user: &User, mut review: Doc) -> Doc {
    let selectors = Selectors::of(part(&review, "resourceAttributes"));
    let decision = decide(authorizer, user, &review, &selectors).await;
    let status = new_status(&mut review);
    review.set(status, "allowed", decision.is_allowed());
    if matches!(decision, Decision::Deny(_)) {
        review.set(status, "denied", true);
    }
    if !decision.reason().is_empty() {
        review.set(status, "reason", decision.reason());
    }
    let error = selectors.evaluation_error();
    if !error.is_empty() {
        review.set(status, "evaluationError", &error);
    }
    review
}

async fn decide(
    authorizer: &Authorizer,
    user: &User,
    review: &Doc,
    selectors: &Selectors,
) -> Decision {
    let Some(node) = part(review, "resourceAttributes") else {
        let node = part(review, "nonResourceAttributes");
        let text = |key: &str| node.map_or("", |node| node.text(&[key]));
        let attributes = Attributes::path(user, text("verb"), text("path"));
        return authorizer.authorize(&attributes).await;
    };
    let text = |key: &str| node.text(&[key]);
    let attributes = Attributes {
        version: match text("version") {
            "" => "*",
            version => version,
        },
        subresource: text("subresource"),
        namespace: text("namespace"),
        name: text("name"),
        field_selector: selectors.fields.as_ref(),
        label_selector: selectors.labels.as_ref(),
        ..Attributes::resource(user, text("verb"), text("group"), text("resource"))
    };
    authorizer.authorize(&attributes).await
}
