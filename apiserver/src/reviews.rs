//! Reviews: questions about who somebody is and what they may do. The question is an object without a
//! place of its own, the answer the same object with a status. Questions conform to their types;
//! admission has seen them.

mod access;
mod selectors;
#[cfg(test)]
mod tests;

use api::doc::{Doc, Id, Kind, New};
use api::status::Status;

pub use access::{local_subject_access, self_subject_access, subject_access};

use crate::authentication::jwt::texts;
use crate::authentication::{Authenticator, common};
use crate::authorization::Authorizer;
use crate::user::User;

/// An empty status in place of what the question has there.
fn new_status(review: &mut Doc) -> Id {
    let top = review.top();
    let status = review.object(top, "status");
    review.clear(status, Kind::Object);
    status
}

/// Writes a list of texts.
fn set_list(doc: &mut Doc, object: Id, key: &str, values: &[String]) {
    let list = doc.set(object, key, New::List);
    for value in values {
        doc.push(list, value);
    }
}

/// A user as answers show it: what is empty is left out.
fn set_user(doc: &mut Doc, object: Id, key: &str, user: &User) {
    let info = doc.set(object, key, New::Object);
    for (key, value) in [("username", &user.name), ("uid", &user.uid)] {
        if !value.is_empty() {
            doc.set(info, key, value);
        }
    }
    if !user.groups.is_empty() {
        set_list(doc, info, "groups", &user.groups);
    }
    if !user.extra.is_empty() {
        let extra = doc.object(info, "extra");
        for (key, values) in &user.extra {
            set_list(doc, extra, key, values);
        }
    }
}

/// Answers a TokenReview: whose token it is.
///
/// # Errors
///
/// If there is no token, or an authenticator ignores audiences.
pub async fn token(authenticator: &Authenticator, mut review: Doc) -> Result<Doc, Status> {
    let spec = |key: &str| review.root().path(&["spec", key]);
    let token = spec("token")
        .and_then(|token| token.as_str())
        .unwrap_or_default();
    if token.is_empty() {
        let message = "token is required for TokenReview in authentication";
        return Err(Status::bad_request(message));
    }
    let mut audiences = spec("audiences").map(texts).unwrap_or_default();
    if audiences.is_empty() {
        audiences = authenticator.api_audiences().to_vec();
    }
    let found = authenticator.review(token, &audiences).await;
    let status = new_status(&mut review);
    match found {
        Ok(Some(identity)) => {
            if !audiences.is_empty() && common(&audiences, &identity.audiences).is_empty() {
                return Err(Status::internal("error validating audiences"));
            }
            review.set(status, "authenticated", true);
            set_user(&mut review, status, "user", &identity.user);
            if !identity.audiences.is_empty() {
                set_list(&mut review, status, "audiences", &identity.audiences);
            }
        }
        Ok(None) => {
            review.set(status, "user", New::Object);
        }
        Err(error) => {
            review.set(status, "user", New::Object);
            review.set(status, "error", &error);
        }
    }
    Ok(review)
}

/// Answers a SelfSubjectReview: who asks. `now` is the time of the request as metav1.Time writes it.
pub fn self_subject(user: &User, now: &str) -> Doc {
    let mut review = Doc::literal(
        r#"{"kind":"SelfSubjectReview","apiVersion":"authentication.k8s.io/v1","metadata":{},"status":{}}"#,
    );
    review.set_path(&["metadata", "creationTimestamp"], now);
    let status = new_status(&mut review);
    set_user(&mut review, status, "userInfo", user);
    review
}

/// Answers a SelfSubjectRulesReview: what whoever asks may do in a namespace, as far as it is known.
///
/// # Errors
///
/// If it names no namespace.
pub fn self_subject_rules(
    authorizer: &Authorizer,
    user: &User,
    review: &Doc,
) -> Result<Doc, Status> {
    let namespace = review.root().text(&["spec", "namespace"]);
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let known = authorizer.rules_for(user, namespace);
    let mut answer = Doc::literal(
        r#"{"kind":"SelfSubjectRulesReview","apiVersion":"authorization.k8s.io/v1","metadata":{},"spec":{},"status":{}}"#,
    );
    let status = new_status(&mut answer);
    let list = answer.set(status, "resourceRules", New::List);
    for rule in known.rules.iter().filter(|rule| !rule.resources.is_empty()) {
        let lists: [(&str, &[String]); 4] = [
            ("verbs", &rule.verbs),
            ("apiGroups", &rule.groups),
            ("resources", &rule.resources),
            ("resourceNames", &rule.names),
        ];
        push_rule(&mut answer, list, &lists);
    }
    let list = answer.set(status, "nonResourceRules", New::List);
    for rule in known.rules.iter().filter(|rule| !rule.paths.is_empty()) {
        let lists: [(&str, &[String]); 2] =
            [("verbs", &rule.verbs), ("nonResourceURLs", &rule.paths)];
        push_rule(&mut answer, list, &lists);
    }
    answer.set(status, "incomplete", known.is_incomplete);
    if !known.errors.is_empty() {
        let error = crate::authentication::aggregate(&known.errors);
        answer.set(status, "evaluationError", &error);
    }
    Ok(answer)
}

fn push_rule(doc: &mut Doc, list: Id, lists: &[(&str, &[String])]) {
    let rule = doc.push(list, New::Object);
    for (key, values) in lists {
        if !values.is_empty() || *key == "verbs" {
            set_list(doc, rule, key, values);
        }
    }
}
