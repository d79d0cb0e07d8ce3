//! TokenRequest: `serviceaccounts/NAME/token`.

use std::time::SystemTime;

use api::doc::{Doc, Id, Node};
use api::field::FieldError;
use api::status::{Qualified, Status};
use api::values::time::{Moment, Precision};
use seams::Rng;
use uuid::Builder;

use super::Issuer;
use crate::authentication::jwt::texts;
use crate::authentication::service_account::{credential_id, seconds};
use crate::storage::Lookup;
use crate::user::SERVICE_ACCOUNT_PREFIX;

const KIND: Qualified<'static> = Qualified {
    group: "authentication.k8s.io",
    name: "TokenRequest",
};
const EXPIRATION_MIN_SECONDS: i64 = 600;
const EXPIRATION_MAX_SECONDS: i64 = 1 << 32;
/// What the admission of service accounts asks for: a token that may be extended.
const EXTENDABLE_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

/// The object that a token is bound to.
#[derive(Debug, Clone)]
pub enum Bound {
    /// It lives until it expires, or the service account goes.
    ToNothing,
    /// It lives as long as this.
    To(BoundObject),
}

/// An object that a token lives as long as.
#[derive(Debug, Clone)]
pub struct BoundObject {
    /// `pod`, `secret` or `node`.
    kind: &'static str,
    name: String,
    uid: String,
    /// Of a pod: name and UID of its node, which may be unknown.
    node: Option<(String, String)>,
}

/// A token, and what others should know about it.
#[derive(Debug)]
pub struct Issued {
    /// The answer.
    pub review: Doc,
    /// For the client.
    pub warnings: Vec<String>,
    /// For the audit log.
    pub annotations: Vec<(&'static str, String)>,
}

impl Issuer {
    /// Fills in what a TokenRequest leaves open and validates it: all before admission.
    /// `request` conforms to its type and has its defaults; `account` is the service account.
    ///
    /// # Errors
    ///
    /// If it is about another account, or asks for what cannot be.
    pub fn prepare(&self, request: &mut Doc, account: &Doc, now: SystemTime) -> Result<(), Status> {
        let of = |key: &str| account.root().text(&["metadata", key]);
        let name = of("name");
        for key in ["name", "namespace"] {
            let given = request.root().text(&["metadata", key]);
            if !given.is_empty() && given != of(key) {
                let why = format!("must match the service account {key} if specified");
                let error = FieldError::invalid(format!("metadata.{key}"), given, why);
                return Err(Status::invalid(KIND, name, &[error]));
            }
        }
        let uid = request.root().text(&["metadata", "uid"]);
        if !uid.is_empty() && uid != of("uid") {
            let why = format!(
                "the UID in the token request ({uid}) does not match the UID of the service account \
                 ({})",
                of("uid")
            );
            return Err(Status::conflict(KIND, name, why));
        }
        for key in ["name", "namespace", "uid"] {
            request.set_path(&["metadata", key], of(key));
        }
        request.set_path(&["metadata", "creationTimestamp"], &written(seconds(now)));
        self.fill_audiences(request);
        let top = request.top();
        let status = request.object(top, "status");
        request.clear(status, api::doc::Kind::Object);
        request.set(status, "token", "");
        request.set(status, "expirationTimestamp", api::doc::New::Null);
        validate(request)
    }

    fn fill_audiences(&self, request: &mut Doc) {
        let top = request.top();
        let spec = request.object(top, "spec");
        let list = request.list(spec, "audiences");
        if request.node(list).is_empty() {
            for audience in &self.config.api_audiences {
                request.push(list, audience);
            }
        }
    }

    /// The object that a prepared request binds its token to.
    ///
    /// # Errors
    ///
    /// If there is no such object, it is another one than is meant, or of a kind that tokens are not
    /// bound to.
    pub async fn bound(&self, request: &Doc, lookup: &Lookup) -> Result<Bound, Status> {
        let root = request.root();
        let Some(reference) = root
            .path(&["spec", "boundObjectRef"])
            .filter(|node| !node.is_null())
        else {
            return Ok(Bound::ToNothing);
        };
        let (namespace, name) = (
            root.text(&["metadata", "namespace"]),
            reference.text(&["name"]),
        );
        let kind = reference.text(&["kind"]);
        let group_version = reference.text(&["apiVersion"]);
        let (kind, namespace) = match (group_version.contains('/'), kind) {
            (false, "Pod") => ("pod", namespace),
            (false, "Secret") => ("secret", namespace),
            (false, "Node") => ("node", ""),
            _ => return Err(unbindable(group_version, kind)),
        };
        let resource = format!("{kind}s");
        let of = Qualified {
            group: "",
            name: &resource,
        };
        let object = lookup.latest("", &resource, namespace, name).await;
        let object = object.ok_or_else(|| Status::not_found(of, name))?.doc();
        let bound = bind(kind, &object, root.text(&["metadata", "name"]), lookup).await?;
        let wanted = reference.text(&["uid"]);
        if !wanted.is_empty() && wanted != bound.uid {
            let why = format!(
                "the UID in the bound object reference ({wanted}) does not match the UID in record. \
                 The object might have been deleted and then recreated"
            );
            let of = Qualified {
                group: "",
                name: reference.text(&["kind"]),
            };
            return Err(Status::conflict(of, name, why));
        }
        Ok(Bound::To(bound))
    }

    /// The answer to a prepared and admitted request.
    ///
    /// # Errors
    ///
    /// If the key fails to sign.
    pub fn issue(
        &self,
        mut request: Doc,
        bound: &Bound,
        now: SystemTime,
        rng: &dyn Rng,
    ) -> Result<Issued, Status> {
        let now = seconds(now);
        let mut warnings = Vec::new();
        let mut lives = lifetime(&request);
        if let Some(max) = self
            .config
            .max_expiration_seconds
            .filter(|max| *max > 0 && lives > *max)
        {
            warnings.push(format!(
                "requested expiration of {lives} seconds shortened to {max} seconds"
            ));
            lives = max;
            request.set_path(&["spec", "expirationSeconds"], lives);
        }
        let is_extended = self.config.extends_expiration
            && lives == EXTENDABLE_SECONDS
            && matches!(bound, Bound::To(object) if object.kind == "pod")
            && audiences(&request)
                .iter()
                .all(|one| self.config.api_audiences.contains(one));
        let claims = Claims {
            expires: now + if is_extended { EXTENDED_SECONDS } else { lives },
            warn_after: is_extended.then_some(now + lives),
            id: random_uuid(rng),
            now,
        };
        let id = credential_id(&claims.id);
        let token = self
            .signing
            .sign(&claims.write(&self.config.issuer, &request, bound));
        let token = token.map_err(Status::internal)?;
        request.set_path(&["status", "token"], &token);
        request.set_path(&["status", "expirationTimestamp"], &written(now + lives));
        Ok(Issued {
            review: request,
            warnings,
            annotations: vec![("authentication.kubernetes.io/issued-credential-id", id)],
        })
    }
}

fn validate(request: &Doc) -> Result<(), Status> {
    let lives = lifetime(request);
    let why = if lives < EXPIRATION_MIN_SECONDS {
        "may not specify a duration less than 10 minutes"
    } else if lives > EXPIRATION_MAX_SECONDS {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(());
    };
    let error = FieldError::invalid("spec.expirationSeconds", lives, why);
    Err(Status::invalid(KIND, "", &[error]))
}

fn unbindable(group_version: &str, kind: &str) -> Status {
    let (group, version) = group_version
        .rsplit_once('/')
        .unwrap_or(("", group_version));
    Status::bad_request(format!(
        "cannot bind token to object of type {group}/{version}, Kind={kind}"
    ))
}

async fn bind(
    kind: &'static str,
    object: &Doc,
    account: &str,
    lookup: &Lookup,
) -> Result<BoundObject, Status> {
    let root = object.root();
    let mut bound = BoundObject {
        kind,
        name: root.text(&["metadata", "name"]).to_string(),
        uid: root.text(&["metadata", "uid"]).to_string(),
        node: None,
    };
    if kind != "pod" {
        return Ok(bound);
    }
    if root.text(&["spec", "serviceAccountName"]) != account {
        return Err(Status::bad_request(format!(
            "cannot bind token for serviceaccount {account:?} to pod running with different \
             serviceaccount name."
        )));
    }
    let node = root.text(&["spec", "nodeName"]);
    if !node.is_empty() {
        // A pod may run on a node that is gone; its name is worth knowing all the same.
        let found = lookup.get("", "nodes", "", node).await;
        let uid = found.map(|found| found.doc().root().text(&["metadata", "uid"]).to_string());
        bound.node = Some((node.to_string(), uid.unwrap_or_default()));
    }
    Ok(bound)
}

fn lifetime(request: &Doc) -> i64 {
    let node = request.root().path(&["spec", "expirationSeconds"]);
    node.and_then(Node::as_i64).unwrap_or_default()
}

fn audiences(request: &Doc) -> Vec<String> {
    let node = request.root().path(&["spec", "audiences"]);
    node.map(texts).unwrap_or_default()
}

/// What tells one token from another; the rest is the request's.
struct Claims {
    now: i64,
    expires: i64,
    warn_after: Option<i64>,
    id: String,
}

impl Claims {
    /// Keys in alphabetical order, as upstream sends them.
    fn write(&self, issuer: &str, request: &Doc, bound: &Bound) -> Doc {
        let metadata = |key: &str| request.root().text(&["metadata", key]).to_string();
        let (namespace, name) = (metadata("namespace"), metadata("name"));
        let mut doc = Doc::new();
        let top = doc.top();
        let list = doc.list(top, "aud");
        for audience in audiences(request) {
            doc.push(list, &audience);
        }
        doc.set(top, "exp", self.expires);
        doc.set(top, "iat", self.now);
        doc.set(top, "iss", issuer);
        doc.set(top, "jti", &self.id);
        let private = doc.object(top, "kubernetes.io");
        doc.set(private, "namespace", &namespace);
        if let Bound::To(object) = bound {
            write_bound(&mut doc, private, object);
        }
        write_reference(&mut doc, private, "serviceaccount", &name, &metadata("uid"));
        doc.sort_keys(private);
        if let Some(at) = self.warn_after {
            doc.set(private, "warnafter", at);
        }
        doc.set(top, "nbf", self.now);
        doc.set(
            top,
            "sub",
            &format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"),
        );
        doc
    }
}

fn write_bound(doc: &mut Doc, private: Id, object: &BoundObject) {
    write_reference(doc, private, object.kind, &object.name, &object.uid);
    if let Some((name, uid)) = &object.node {
        write_reference(doc, private, "node", name, uid);
    }
}

fn write_reference(doc: &mut Doc, private: Id, kind: &str, name: &str, uid: &str) {
    let reference = doc.object(private, kind);
    doc.set(reference, "name", name);
    if !uid.is_empty() {
        doc.set(reference, "uid", uid);
    }
}

fn random_uuid(rng: &dyn Rng) -> String {
    let bits = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
    Builder::from_random_bytes(bits.to_be_bytes())
        .into_uuid()
        .to_string()
}

fn written(seconds: i64) -> String {
    Moment { seconds, nanos: 0 }.text(Precision::Seconds)
}
