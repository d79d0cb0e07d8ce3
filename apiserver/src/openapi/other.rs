//! Paths beside resources: discovery, the version, the keys of service account tokens.

use super::routes::{self, Path, Payload, Produces};
use super::schema::Definitions;

/// The path that tells about a group.
pub(super) fn group(group: &str, definitions: &mut Definitions<'_>) -> Path {
    let id = format!("get{}APIGroup", routes::word(group, true));
    let payload = object(definitions, "APIGroup");
    routes::document(
        &format!("/apis/{group}/"),
        (&id, &routes::word(group, false)),
        "get information of a group",
        (Produces::Objects, payload),
    )
}

/// Paths that belong to no group.
pub(super) fn path(key: &str, definitions: &mut Definitions<'_>) -> Option<Path> {
    let versions = "get available API versions";
    let path = format!("/{key}/");
    let made = match key {
        "api" => {
            let payload = object(definitions, "APIVersions");
            let names = ("getCoreAPIVersions", "core");
            routes::document(&path, names, versions, (Produces::Objects, payload))
        }
        "apis" => {
            let payload = object(definitions, "APIGroupList");
            let names = ("getAPIVersions", "apis");
            routes::document(&path, names, versions, (Produces::Objects, payload))
        }
        "version" => {
            let info = definitions.named("version.Info");
            let payload = info.map_or(Payload::Text, Payload::Object);
            let what = "get the version information for this server";
            let names = ("getCodeVersion", "version");
            routes::document(&path, names, what, (Produces::Json, payload))
        }
        "openid/v1/jwks" => {
            let what = "get service account issuer OpenID JSON Web Key Set (contains public token \
                        verification keys)";
            let names = ("getServiceAccountIssuerOpenIDKeyset", "openid");
            routes::document(&path, names, what, (Produces::Keys, Payload::Text))
        }
        ".well-known/openid-configuration" => {
            let what = "get service account issuer OpenID configuration, also known as the 'OIDC \
                        discovery doc'";
            let names = ("getServiceAccountIssuerOpenIDConfiguration", "WellKnown");
            routes::document(&path, names, what, (Produces::Json, Payload::Text))
        }
        _ => return None,
    };
    Some(made)
}

fn object(definitions: &mut Definitions<'_>, kind: &str) -> Payload {
    let known = definitions.kind("", "v1", kind);
    known.map_or(Payload::Text, Payload::Object)
}
