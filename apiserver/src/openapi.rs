//! OpenAPI: what the API looks like, for kubectl and for programs that make clients.
//!
//! Version 3 has a document for each version of each group and an index of them, version 2 has one
//! for everything. All are derived from the catalog and the schema table when they are first asked
//! for. The largest has some megabytes, so that what was built can be dropped ([`OpenApi::trim`]);
//! hashes stay, since clients keep documents by them.

mod descriptions;
mod enums;
mod gnostic;
mod other;
mod parameters;
mod routes;
mod schema;
mod v2;
mod v3;
mod writer;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
pub use schema::Custom;

use self::descriptions::Descriptions;
use self::routes::Path;
use self::schema::Definitions;
use self::writer::Writer;
use crate::catalog::Catalog;
use crate::document::{Ask, Cache, Document, hash};
use crate::negotiate::clauses;

const INDEX: &str = "/openapi/v3";
const VERSION_2: &str = "/openapi/v2";
const JSON: &str = "application/json";
/// The document of version 2 in protobuf, and how it was called first.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const PROTOBUF_AT: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// The OpenAPI documents of a catalog. When the catalog changes, make another.
pub struct OpenApi {
    catalog: Arc<Catalog>,
    custom: Vec<Custom>,
    kept: Mutex<BTreeMap<String, Kept>>,
}

/// What is left of a document that was built.
struct Kept {
    hash: String,
    /// None once it was dropped.
    body: Option<Bytes>,
}

/// What a document of version 3 is about.
struct Subject<'c> {
    /// Path below the index, such as `apis/apps/v1`.
    key: String,
    group: &'c str,
    /// Empty for a group as a whole.
    version: &'c str,
}

impl OpenApi {
    /// The documents of a catalog, with the definitions of the custom kinds in it.
    pub fn new(catalog: Arc<Catalog>, custom: Vec<Custom>) -> Self {
        Self {
            catalog,
            custom,
            kept: Mutex::default(),
        }
    }

    /// The answer to a request; none if there is no such document. It may take as long as building
    /// the documents does: some tenths of a second.
    pub fn respond(&self, ask: &Ask<'_>) -> Option<Document> {
        if ask.plain_path() == VERSION_2 {
            return Some(self.version_2(ask));
        }
        let rest = ask.plain_path().strip_prefix(INDEX)?;
        match rest.strip_prefix('/') {
            None if rest.is_empty() => Some(self.index(ask)),
            None => None,
            Some(key) => self.version_3(key, ask),
        }
    }

    /// Drops what was built.
    pub fn trim(&self) {
        for kept in self.lock().values_mut() {
            kept.body = None;
        }
    }

    /// How many bytes are kept.
    pub fn kept_bytes(&self) -> usize {
        let kept = self.lock();
        let sizes = kept.values().filter_map(|kept| kept.body.as_ref());
        sizes.map(Bytes::len).sum()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        // What is in it is whole at all times.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self, ask: &Ask<'_>) -> Document {
        let mut kept = self.lock();
        let mut descriptions = None;
        let body = Writer::document(|out| {
            out.object("paths", |out| {
                for subject in self.subjects() {
                    let known = kept.entry(subject.key.clone()).or_insert_with(|| {
                        let descriptions = descriptions.get_or_insert_with(Descriptions::load);
                        Kept {
                            hash: hash(&self.build(&subject, descriptions)),
                            body: None,
                        }
                    });
                    out.object(&subject.key, |out| {
                        out.text("serverRelativeURL", &url(&subject.key, &known.hash));
                    });
                }
            });
        });
        let document = Document {
            etag: format!("\"{}\"", hash(&body)),
            ..Document::ok(JSON, body)
        };
        document.unless_known(ask)
    }

    fn version_3(&self, key: &str, ask: &Ask<'_>) -> Option<Document> {
        let subjects = self.subjects();
        let subject = subjects.iter().find(|subject| subject.key == key)?;
        let is_accepted = ask.accept.is_empty() || {
            let mut all = clauses(ask.accept).into_iter();
            all.any(|clause| clause.matches(JSON))
        };
        if !is_accepted {
            let refused = Document::empty(406);
            return Some(Document {
                varies: true,
                ..refused
            });
        }
        let mut kept = self.lock();
        let (hash, body) = match kept.get(key) {
            Some(Kept {
                hash,
                body: Some(body),
            }) => (hash.clone(), body.clone()),
            _ => {
                let body = Bytes::from(self.build(subject, &Descriptions::load()));
                let hash = hash(&body);
                let fresh = Kept {
                    hash: hash.clone(),
                    body: Some(body.clone()),
                };
                kept.insert(key.to_string(), fresh);
                (hash, body)
            }
        };
        drop(kept);
        Some(versioned(key, &hash, body, ask))
    }

    fn version_2(&self, ask: &Ask<'_>) -> Document {
        let accept = if ask.accept.is_empty() {
            "*/*"
        } else {
            ask.accept
        };
        let wanted = clauses(accept).into_iter().find_map(|clause| {
            let mut all = [JSON, PROTOBUF_AT, PROTOBUF].into_iter();
            all.find(|media_type| clause.matches(media_type))
        });
        let media_type = match wanted {
            None => {
                let refused = Document::empty(406);
                return Document {
                    varies: true,
                    ..refused
                };
            }
            Some(JSON) => JSON,
            Some(_) => PROTOBUF,
        };
        let mut kept = self.lock();
        // The tag is that of the JSON, whatever the encoding.
        let (hash, body) = match kept.get(media_type) {
            Some(Kept {
                hash,
                body: Some(body),
            }) => (hash.clone(), body.clone()),
            _ => {
                let json = self.build_2();
                let hash = hash(&json);
                let encoded = match media_type {
                    JSON => Ok(json),
                    _ => gnostic::encode(json),
                };
                let Ok(body) = encoded.map(Bytes::from) else {
                    return Document::empty(500);
                };
                let fresh = Kept {
                    hash: hash.clone(),
                    body: Some(body.clone()),
                };
                kept.insert(media_type.to_string(), fresh);
                (hash, body)
            }
        };
        drop(kept);
        let document = Document {
            etag: format!("\"{hash}\""),
            varies: true,
            ..Document::ok(media_type, body)
        };
        document.unless_known(ask)
    }

    fn build_2(&self) -> Vec<u8> {
        let mut definitions = Definitions::new(&self.custom);
        let mut paths = Vec::new();
        for subject in self.subjects() {
            paths.extend(self.paths(&subject, &mut definitions));
        }
        paths.sort_by(|a, b| a.path.cmp(&b.path));
        v2::document(&paths, &definitions, &Descriptions::load())
    }

    /// What there are documents of, sorted by key.
    fn subjects(&self) -> Vec<Subject<'_>> {
        let subject = |key: String, group, version| Subject {
            key,
            group,
            version,
        };
        let others = [
            ".well-known/openid-configuration",
            "openid/v1/jwks",
            "version",
            "api",
            "apis",
        ];
        let mut all: Vec<Subject<'_>> = others
            .iter()
            .map(|key| subject((*key).to_string(), "", ""))
            .collect();
        for group in self.catalog.groups() {
            let root = match &*group.name {
                "" => "api".to_string(),
                name => {
                    all.push(subject(format!("apis/{name}"), name, ""));
                    format!("apis/{name}")
                }
            };
            for version in &group.versions {
                let key = format!("{root}/{}", version.name);
                all.push(subject(key, &group.name, &version.name));
            }
        }
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all
    }

    fn build(&self, subject: &Subject<'_>, descriptions: &Descriptions) -> Vec<u8> {
        let mut definitions = Definitions::new(&self.custom);
        let paths = self.paths(subject, &mut definitions);
        v3::document(subject, &paths, &definitions, descriptions)
    }

    fn paths<'c>(&'c self, subject: &Subject<'_>, definitions: &mut Definitions<'c>) -> Vec<Path> {
        let Some(group) = self.catalog.group(subject.group) else {
            return Vec::new();
        };
        match (group.version(subject.version), subject.group) {
            (Some(version), _) => routes::paths(group, version, definitions),
            (None, "") => other::path(&subject.key, definitions).into_iter().collect(),
            (None, name) => vec![other::group(name, definitions)],
        }
    }
}

/// With its hash in the URL a document may be kept for ever; with another hash it is elsewhere.
fn versioned(key: &str, hash: &str, body: Bytes, ask: &Ask<'_>) -> Document {
    let mut query = form_urlencoded::parse(ask.query.as_bytes());
    let asked = query.find(|(name, _)| name == "hash");
    let asked = asked.map_or_else(String::new, |(_, value)| value.into_owned());
    let mut document = Document {
        etag: format!("\"{hash}\""),
        varies: true,
        ..Document::ok(JSON, body)
    };
    if asked == hash {
        document.cache = Cache::Immutable;
    } else if !asked.is_empty() {
        let moved = Document::empty(301);
        return Document {
            location: url(key, hash),
            varies: true,
            ..moved
        };
    }
    document.unless_known(ask)
}

fn url(key: &str, hash: &str) -> String {
    format!("{INDEX}/{key}?hash={hash}")
}

fn info(out: &mut Writer) {
    out.text("title", "Kubernetes");
    out.text("version", "unversioned");
}

fn bearer_token(out: &mut Writer) {
    out.object("BearerToken", |out| {
        out.text("description", "Bearer Token authentication");
        out.text("in", "header");
        out.text("name", "authorization");
        out.text("type", "apiKey");
    });
}

/// What a response code says.
fn reason(code: u16) -> &'static str {
    match code {
        201 => "Created",
        202 => "Accepted",
        _ => "OK",
    }
}

#[cfg(test)]
mod tests;
