//! Server-side printing: objects as rows for people (`;as=Table`).
//!
//! What stands in a row is computed from the storage version, whatever version was asked for. The
//! headings are rows of [`api::resources`]; their descriptions are prose of upstream's, which this
//! project does not carry, and stay empty.

mod apps;
mod autoscaling;
mod cluster;
mod network;
mod pod;
mod storage;
#[cfg(test)]
mod tests;
mod view;

use api::codec::json;
use api::doc::Node;
use api::resources::{self, Column};
use api::values::time::Moment;

pub use view::{Cell, human_duration};
use view::{Col, View};

/// A printer: the group and kind, and what stands in its columns.
type Printer = (&'static str, &'static str, &'static [Col]);

const PRINTERS: [&[Printer]; 6] = [
    pod::PRINTERS,
    apps::PRINTERS,
    autoscaling::PRINTERS,
    cluster::PRINTERS,
    network::PRINTERS,
    storage::PRINTERS,
];

/// What every kind has that has no columns of its own.
const PLAIN_COLUMNS: &[Column] = &[
    Column {
        name: "Name",
        kind: "string",
        format: "name",
        priority: 0,
    },
    Column {
        name: "Created At",
        kind: "date",
        format: "",
        priority: 0,
    },
];
const PLAIN_CELLS: &[Col] = &[Col::Name, Col::Of(|view| view.created())];

/// What a row carries of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Include<'a> {
    /// Nothing.
    None,
    /// Its metadata.
    Metadata,
    /// All of it: JSON in the version that was asked for.
    Object(&'a [u8]),
}

/// The metadata of lists.
#[derive(Debug, Clone, Copy, Default)]
pub struct ListMeta<'a> {
    /// The list's resourceVersion; a single object's own.
    pub resource_version: &'a str,
    /// Where the next page starts; empty on the last one.
    pub continue_token: &'a str,
    /// How many objects follow, where that is known.
    pub remaining: Option<i64>,
}

/// Prints the objects of one kind.
#[derive(Clone, Copy)]
pub struct Table {
    columns: &'static [Column],
    cells: &'static [Col],
    kind: Kind,
}

/// What tells tables apart besides their columns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Without columns of its own.
    Plain,
    /// Rows say when nothing more happens to the pod.
    Pods,
    /// Lists are shown in the order in which they match.
    FlowSchemas,
    Other,
}

impl Table {
    /// The table of a built-in kind. Kinds without columns of their own have name and age.
    pub fn of(group: &str, version: &str, kind: &str) -> Self {
        let plain = Self {
            columns: PLAIN_COLUMNS,
            cells: PLAIN_CELLS,
            kind: Kind::Plain,
        };
        let columns = columns(group, version, kind);
        let printer = PRINTERS
            .iter()
            .flat_map(|some| some.iter())
            .find(|known| known.0 == group && known.1 == kind);
        match (columns, printer) {
            (Some(columns), Some((group, kind, cells))) => Self {
                columns,
                cells,
                kind: match (*group, *kind) {
                    ("", "Pod") => Kind::Pods,
                    ("flowcontrol.apiserver.k8s.io", "FlowSchema") => Kind::FlowSchemas,
                    _ => Kind::Other,
                },
            },
            _ => plain,
        }
    }

    /// The headings.
    pub fn columns(&self) -> &'static [Column] {
        self.columns
    }

    /// What stands in an object's row. The object is in its storage version.
    pub fn cells(&self, object: Node<'_>, now: Moment) -> Vec<Cell> {
        View { object, now }.cells(self.cells)
    }

    /// Appends an object's row. The object is in its storage version; `meta_version` is that of
    /// `meta.k8s.io` that was asked for.
    pub fn write_row(
        &self,
        object: Node<'_>,
        include: Include<'_>,
        meta_version: &str,
        now: Moment,
        out: &mut Vec<u8>,
    ) {
        let phase = match self.kind {
            Kind::Pods => object.text(&["status", "phase"]),
            _ => "",
        };
        write_row(&self.cells(object, now), completed(phase), out, |out| {
            write_included(object, include, meta_version, out);
        });
    }

    /// Appends a table up to its rows; [`END`] follows them, and commas stand between. Events of a
    /// watch have the headings in the first only.
    pub fn write_head(
        &self,
        meta: &ListMeta<'_>,
        meta_version: &str,
        with_columns: bool,
        out: &mut Vec<u8>,
    ) {
        let columns = with_columns.then(|| self.columns.iter().map(|column| (*column, "")));
        write_head(meta, meta_version, columns, out);
    }

    /// A whole table. The objects are in their storage version.
    pub fn write<'a>(
        &self,
        meta: &ListMeta<'_>,
        meta_version: &str,
        with_columns: bool,
        objects: impl Iterator<Item = (Node<'a>, Include<'a>)>,
        now: Moment,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_head(meta, meta_version, with_columns, &mut out);
        let start = out.len();
        let mut objects: Vec<_> = objects.collect();
        if self.kind == Kind::FlowSchemas {
            objects.sort_by_key(|(object, _)| {
                let precedence = view::int(*object, "spec.matchingPrecedence");
                (precedence, view::text(*object, "metadata.name"))
            });
        }
        for (object, include) in objects {
            if out.len() > start {
                out.push(b',');
            }
            self.write_row(object, include, meta_version, now, &mut out);
        }
        if out.len() == start && self.kind == Kind::Plain {
            // Upstream makes these rows as it goes: without objects there are none.
            out.pop();
            out.extend_from_slice(b"null}");
        } else {
            out.extend_from_slice(END);
        }
        out
    }
}

/// What follows the rows of a table.
pub const END: &[u8] = b"]}";

/// The headings of a kind that is a resource, or that a subresource answers with.
fn columns(group: &str, version: &str, kind: &str) -> Option<&'static [Column]> {
    let group_version = if group.is_empty() {
        version.to_string()
    } else {
        format!("{group}/{version}")
    };
    let own = resources::resources().iter().find(|known| {
        known.kind == kind
            && known.group == group
            && known.version == version
            && !known.columns.is_empty()
    });
    own.map(|known| known.columns)
        .or_else(|| resources::subresource_columns(&group_version, kind))
}

/// Appends a table up to its rows, with columns and their descriptions.
pub fn write_head<'c>(
    meta: &ListMeta<'_>,
    meta_version: &str,
    columns: Option<impl Iterator<Item = (Column, &'c str)>>,
    out: &mut Vec<u8>,
) {
    write_type("Table", meta_version, out);
    write_list_meta(meta, out);
    out.extend_from_slice(b",\"columnDefinitions\":");
    match columns {
        None => out.extend_from_slice(b"null"),
        Some(columns) => {
            out.push(b'[');
            for (at, (column, description)) in columns.enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_column(&column, description, out);
            }
            out.push(b']');
        }
    }
    out.extend_from_slice(b",\"rows\":[");
}

fn write_column(column: &Column, description: &str, out: &mut Vec<u8>) {
    for (name, text) in [
        ("{\"name\":", column.name),
        (",\"type\":", column.kind),
        (",\"format\":", column.format),
        (",\"description\":", description),
    ] {
        out.extend_from_slice(name.as_bytes());
        json::write_string(text, out);
    }
    out.extend_from_slice(format!(",\"priority\":{}}}", column.priority).as_bytes());
}

/// Appends a row. `completed` is why nothing more happens to the object, with a message.
pub fn write_row(
    cells: &[Cell],
    completed: Option<(&str, &str)>,
    out: &mut Vec<u8>,
    object: impl FnOnce(&mut Vec<u8>),
) {
    out.extend_from_slice(b"{\"cells\":[");
    for (at, cell) in cells.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        match cell {
            Cell::Text(text) => json::write_string(text, out),
            Cell::Int(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Cell::Bool(value) => out.extend_from_slice(value.to_string().as_bytes()),
        }
    }
    out.push(b']');
    if let Some((reason, message)) = completed {
        out.extend_from_slice(
            b",\"conditions\":[{\"type\":\"Completed\",\"status\":\"True\",\"reason\":",
        );
        json::write_string(reason, out);
        out.extend_from_slice(b",\"message\":");
        json::write_string(message, out);
        out.extend_from_slice(b"}]");
    }
    out.extend_from_slice(b",\"object\":");
    object(out);
    out.push(b'}');
}

/// Why a pod in this phase is done.
fn completed(phase: &str) -> Option<(&str, &'static str)> {
    match phase {
        "Succeeded" => Some((phase, "The pod has completed successfully.")),
        "Failed" => Some((phase, "The pod failed.")),
        _ => None,
    }
}

/// Appends what a row carries of its object.
pub fn write_included(
    object: Node<'_>,
    include: Include<'_>,
    meta_version: &str,
    out: &mut Vec<u8>,
) {
    match include {
        Include::None => out.extend_from_slice(b"null"),
        Include::Metadata => write_partial(object, meta_version, out),
        Include::Object(bytes) => out.extend_from_slice(bytes),
    }
}

/// Appends an object reduced to its metadata.
fn write_partial(object: Node<'_>, meta_version: &str, out: &mut Vec<u8>) {
    write_type("PartialObjectMetadata", meta_version, out);
    out.extend_from_slice(b",\"metadata\":");
    match object.get("metadata") {
        Some(metadata) => json::write(metadata, out),
        None => out.extend_from_slice(b"{}"),
    }
    out.push(b'}');
}

fn write_type(kind: &str, meta_version: &str, out: &mut Vec<u8>) {
    let text = format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"meta.k8s.io/{meta_version}\"");
    out.extend_from_slice(text.as_bytes());
}

fn write_list_meta(meta: &ListMeta<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"metadata\":{");
    let start = out.len();
    let mut field = |name: &str, write: &dyn Fn(&mut Vec<u8>)| {
        if out.len() > start {
            out.push(b',');
        }
        out.extend_from_slice(format!("\"{name}\":").as_bytes());
        write(out);
    };
    if !meta.resource_version.is_empty() {
        field("resourceVersion", &|out| {
            json::write_string(meta.resource_version, out);
        });
    }
    if !meta.continue_token.is_empty() {
        field("continue", &|out| {
            json::write_string(meta.continue_token, out)
        });
    }
    if let Some(remaining) = meta.remaining {
        field("remainingItemCount", &|out| {
            out.extend_from_slice(remaining.to_string().as_bytes());
        });
    }
    out.push(b'}');
}
