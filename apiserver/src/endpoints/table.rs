//! Answers as Tables: what `kubectl get` prints.

use api::doc::Doc;
use api::values::time::Moment;

use super::list::Page;
use super::shape::{self, Include, Shape};
use crate::registry::{Call, Outcome, Row};
use crate::respond::{self, Form, Reply};
use crate::storage::Object;
use crate::table::{self, ListMeta, Table};

/// The version of `meta.k8s.io`.
const META: &str = "v1";

/// One object as a Table.
///
/// # Errors
///
/// None so far.
pub fn one(call: &Call<'_>, object: &Object, include: Include, form: Form) -> Outcome<Reply> {
    let page = Page {
        objects: vec![std::sync::Arc::new(Object::new(
            object.revision,
            object.json.clone(),
        ))],
        revision: object.revision,
        token: String::new(),
        remaining: None,
    };
    many(call, &page, include, form)
}

/// A page of a list as a Table.
///
/// # Errors
///
/// None so far.
pub fn many(call: &Call<'_>, page: &Page, include: Include, form: Form) -> Outcome<Reply> {
    let revision = page.revision.to_string();
    let meta = ListMeta {
        resource_version: &revision,
        continue_token: &page.token,
        remaining: page.remaining,
    };
    let mut out = write(call.row, &meta, &page.objects, include, true, call.moment);
    out.push(b'\n');
    if form.is_pretty {
        let compact = std::mem::take(&mut out);
        api::codec::json::indent(&compact, &mut out);
    }
    Ok(respond::bytes(200, out, form))
}

/// Objects as a Table, without a line's end.
pub fn write(
    row: &Row,
    meta: &ListMeta<'_>,
    objects: &[std::sync::Arc<Object>],
    include: Include,
    with_columns: bool,
    now: Moment,
) -> Vec<u8> {
    let resource = row.resource;
    let table = Table::of(resource.group, resource.version, resource.kind);
    let whole = |object: &Object| match include {
        Include::Object => {
            let encoding = api::codec::Encoding::Json;
            shape::one(row, object, Shape::Whole, encoding)
        }
        _ => bytes::Bytes::new(),
    };
    let docs: Vec<(Doc, bytes::Bytes)> = objects
        .iter()
        .map(|object| (object.doc(), whole(object)))
        .collect();
    let rows = docs.iter().map(|(doc, whole)| {
        let include = match include {
            Include::Nothing => table::Include::None,
            Include::Metadata => table::Include::Metadata,
            Include::Object => table::Include::Object(whole),
        };
        (doc.root(), include)
    });
    table.write(meta, META, with_columns, rows, now)
}
