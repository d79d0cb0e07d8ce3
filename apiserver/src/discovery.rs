//! Discovery: which groups, versions and resources there are.
//!
//! Each endpoint says its part (`/api`, `/apis`, `/apis/apps`, `/apis/apps/v1`); `/api` and `/apis`
//! say everything at once to clients that accept the aggregated form.

mod aggregated;
mod plain;
mod version;

use std::net::IpAddr;

use api::doc::{Doc, Id};
use api::schema;
use api::status::Status;
pub use version::Build;

use crate::catalog::{Catalog, Group, Text, Version};
use crate::document::{Answer, Ask, Cache, Document, encoded, etag};
use crate::negotiate::{Accepted, MEDIA_TYPE_NAMES, Target, negotiate};

/// Where clients reach the server, by where they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addresses {
    /// Host and port for everybody.
    pub default: String,
    /// Networks whose clients have a better address.
    pub rules: Vec<Rule>,
}

/// An address for the clients of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// First address of the network.
    pub network: IpAddr,
    /// Bits that all its addresses have in common.
    pub bits: u8,
    /// Host and port.
    pub address: String,
}

impl Rule {
    fn covers(&self, client: IpAddr) -> bool {
        let same = |ours: u128, theirs: u128, width: u32| {
            let rest = width.saturating_sub(u32::from(self.bits));
            (ours ^ theirs).checked_shr(rest).unwrap_or_default() == 0
        };
        match (self.network, client.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
            _ => false,
        }
    }
}

/// The answer to a discovery request; none if the path is not one of discovery's or what it names is
/// not served.
pub fn respond(catalog: &Catalog, addresses: &Addresses, ask: &Ask<'_>) -> Option<Document> {
    let mut parts = ask.plain_path().strip_prefix('/')?.split('/');
    let place = (parts.next()?, parts.next(), parts.next(), parts.next());
    let answer = match place {
        ("api", None, ..) => root(catalog, addresses, ask, Root::Core),
        ("apis", None, ..) => root(catalog, addresses, ask, Root::Groups),
        ("api", Some(version), None, _) => {
            let found = catalog.version("", version)?;
            object(ask, "APIResourceList", plain::resources("", found))
        }
        ("apis", Some(group), None, _) => {
            let found = catalog.group(named(group)?)?;
            object(ask, "APIGroup", plain::group(found))
        }
        ("apis", Some(group), Some(version), None) => {
            let found = catalog.version(named(group)?, version)?;
            object(ask, "APIResourceList", plain::resources(group, found))
        }
        _ => return None,
    };
    Some(answer.unwrap_or_else(|status| failure(&status, ask)))
}

/// The name of a group that has one.
fn named(group: &str) -> Option<&str> {
    (!group.is_empty()).then_some(group)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Root {
    Core,
    Groups,
}

impl Root {
    fn holds(self, group: &Group) -> bool {
        (self == Self::Core) == group.name.is_empty()
    }
}

fn root(catalog: &Catalog, addresses: &Addresses, ask: &Ask<'_>, root: Root) -> Answer {
    let groups = catalog.groups().iter().filter(|group| root.holds(group));
    let allowed = |target: Option<Target<'_>>| target.is_none_or(aggregated::is_meant);
    let accepted = negotiate(ask.accept, allowed);
    if let Some(accepted) = accepted
        && accepted.target.is_some()
    {
        let list = aggregated::list(groups);
        return send_aggregated(list, accepted, ask);
    }
    match root {
        Root::Core => {
            let versions = groups.flat_map(|group| &group.versions);
            let doc = plain::core_versions(versions, addresses, ask.client);
            object(ask, "APIVersions", doc)
        }
        Root::Groups => object(ask, "APIGroupList", plain::groups(groups)),
    }
}

/// The tag is that of the JSON, whatever the encoding: caches tell them apart by the Accept header.
fn send_aggregated(list: Doc, accepted: Accepted<'_>, ask: &Ask<'_>) -> Answer {
    let schema = aggregated::schema()?;
    let json = encoded(list.clone(), schema, api::codec::Encoding::Json, false)?;
    let pretty = accepted.pretty || ask.pretty;
    let sent = encoded(list, schema, accepted.encoding, pretty)?;
    let document = Document {
        etag: etag(&json.body),
        cache: Cache::Public,
        varies: true,
        content_type: aggregated::content_type(accepted.encoding),
        ..sent
    };
    Ok(document.unless_known(ask))
}

/// An object of the core group in an encoding that the client accepts.
fn object(ask: &Ask<'_>, kind: &'static str, doc: Doc) -> Answer {
    let plain = |target: Option<Target<'_>>| target.is_none();
    let accepted = negotiate(ask.accept, plain);
    let accepted = accepted.ok_or_else(|| Box::new(Status::not_acceptable(&MEDIA_TYPE_NAMES)))?;
    let schema = schema::kind("", "v1", kind)
        .ok_or_else(|| Box::new(Status::internal(format!("no kind {kind:?} is registered"))))?;
    encoded(
        doc,
        schema,
        accepted.encoding,
        accepted.pretty || ask.pretty,
    )
}

/// An error as a document, in JSON: what the client accepts may be what is wrong.
fn failure(status: &Status, ask: &Ask<'_>) -> Document {
    let mut body = Vec::new();
    api::codec::json::write(status.to_doc().root(), &mut body);
    if ask.pretty {
        let compact = std::mem::take(&mut body);
        api::codec::json::indent(&compact, &mut body);
    }
    body.push(b'\n');
    Document {
        status: status.code,
        ..Document::ok("application/json", body)
    }
}

/// A list of texts under a key; nothing where there are none.
fn set_texts(doc: &mut Doc, object: Id, key: &str, texts: &[Text]) {
    if texts.is_empty() {
        return;
    }
    let list = doc.list(object, key);
    for text in texts {
        doc.push(list, &**text);
    }
}

/// `apps/v1`, within a group.
fn qualified(group: &str, version: &Version) -> String {
    crate::catalog::group_version(group, &version.name)
}

#[cfg(test)]
pub(crate) mod tests;
