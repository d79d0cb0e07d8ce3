//! A strategy that is mostly facts: what a kind resets, what counts its generation, which functions
//! judge it.

use api::doc::{Doc, Id, Node};
use api::field::FieldError;
use api::name;

use crate::registry::Strategy;
use crate::registry::strategy::{Cx, dns_label, dns_subdomain, masked};
use crate::storage::Along;
use crate::validation::{At, Errors, same};

/// Who writes the status.
#[derive(Debug, Clone, Copy)]
pub enum Status {
    /// There is none, or it is written with the rest.
    Plain,
    /// The status endpoint, and whoever creates the object.
    Created,
    /// The status endpoint alone: a new object gets this one, as JSON.
    Own(&'static str),
}

/// Whose changes count a kind's generation.
#[derive(Debug, Clone, Copy)]
pub enum Generation {
    /// Nobody's: the kind has none.
    None,
    /// It stays 1.
    First,
    /// Changes of these fields of the root.
    Of(&'static [&'static str]),
    /// Changes of these; it starts without one.
    Later(&'static [&'static str]),
}

/// Paths of fields.
pub type Paths = &'static [&'static [&'static str]];
/// What is wrong with a text.
pub type Rule = fn(&str) -> Vec<String>;
/// Judges an object.
pub type Check = fn(&Cx<'_>, At<'_>, &mut Errors);
/// Judges a change: the new object, the old one.
pub type Compare = fn(&Cx<'_>, At<'_>, At<'_>, &mut Errors);

/// What one kind does on the generic path.
#[derive(Clone, Copy)]
pub struct Facts {
    /// Rules for names.
    pub name: fn(&str, bool) -> Vec<String>,
    /// PUT of what does not exist creates it.
    pub creates_on_update: bool,
    /// PUT needs no resourceVersion.
    pub unconditional: bool,
    /// What counts the generation.
    pub generation: Generation,
    /// Who writes the status.
    pub status: Status,
    /// The status endpoint may not change metadata.
    pub status_keeps_metadata: bool,
    /// What a decoder of the kind does beyond its type.
    pub decoded: fn(&mut Doc),
    /// What it does to a new object besides.
    pub prepare_create: fn(&Cx<'_>, &mut Doc),
    /// What it does to a changed object besides, whatever the subresource.
    pub prepare_update: fn(&Cx<'_>, &mut Doc, &Doc),
    /// Judges a new object.
    pub create: Check,
    /// Judges a changed object.
    pub update: Compare,
    /// Judges a change through a subresource.
    pub sub_update: Compare,
    /// Tells clients what they should know.
    pub warnings: fn(&Cx<'_>, At<'_>, Option<At<'_>>, &mut Vec<String>),
    /// What keeps an object that is being deleted, besides `metadata.finalizers`.
    pub holds: fn(&Doc) -> bool,
    /// What changes with the deletionTimestamp of an object that is kept.
    pub mark_deleted: fn(&mut Doc),
    /// What else the transaction does that writes an object: the new object, the old one.
    pub accompany: fn(Option<&Doc>, Option<&Doc>, &mut Along),
    /// What a subresource resets, if that is not what follows from [`Self::status`].
    pub reset_fields: Option<fn(&str) -> Paths>,
}

impl Facts {
    /// A kind without anything of its own.
    pub const PLAIN: Self = Self {
        name: dns_subdomain,
        creates_on_update: false,
        unconditional: true,
        generation: Generation::None,
        status: Status::Plain,
        status_keeps_metadata: false,
        decoded: |_| {},
        prepare_create: |_, _| {},
        prepare_update: |_, _, _| {},
        create: |_, _, _| {},
        update: |_, _, _, _| {},
        sub_update: |_, _, _, _| {},
        warnings: |_, _, _, _| {},
        holds: |_| false,
        mark_deleted: |_| {},
        accompany: |_, _, _| {},
        reset_fields: None,
    };

    fn restore_status_or_spec(&self, cx: &Cx<'_>, new: &mut Doc, old: &Doc) {
        if matches!(self.status, Status::Plain) {
            return;
        }
        if cx.subresource != "status" {
            keep(new, old, &["status"]);
            return;
        }
        keep(new, old, &["spec"]);
        if self.status_keeps_metadata {
            for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
                keep(new, old, &["metadata", field]);
            }
        }
    }
}

impl Strategy for Facts {
    fn name_errors(&self, name: &str, is_prefix: bool) -> Vec<String> {
        (self.name)(name, is_prefix)
    }

    fn creates_on_update(&self) -> bool {
        self.creates_on_update
    }

    fn updates_unconditionally(&self) -> bool {
        self.unconditional
    }

    fn decoded(&self, new: &mut Doc) {
        (self.decoded)(new);
    }

    fn prepare_create(&self, cx: &Cx<'_>, new: &mut Doc) {
        if let Status::Own(status) = self.status {
            let status = new.absorb(Doc::literal(status));
            new.put(new.top(), "status", status);
        }
        if matches!(self.generation, Generation::Of(_) | Generation::First) {
            new.set_path(&["metadata", "generation"], 1);
        }
        (self.prepare_create)(cx, new);
    }

    fn prepare_update(&self, cx: &Cx<'_>, new: &mut Doc, old: &Doc) {
        self.restore_status_or_spec(cx, new, old);
        (self.prepare_update)(cx, new, old);
        if let Generation::Of(fields) | Generation::Later(fields) = self.generation {
            let (now, before) = (At::root(new), At::root(old));
            if fields
                .iter()
                .any(|field| !same(now.get(field), before.get(field)))
            {
                let generation = before.path(&["metadata", "generation"]).int() + 1;
                new.set_path(&["metadata", "generation"], generation);
            }
        }
    }

    fn validate_create(&self, cx: &Cx<'_>, new: &Doc) -> Vec<FieldError> {
        let mut errors = Errors::default();
        (self.create)(cx, At::root(new), &mut errors);
        errors.into_vec()
    }

    fn validate_update(&self, cx: &Cx<'_>, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = Errors::default();
        let judge = match cx.subresource {
            "" => self.update,
            _ => self.sub_update,
        };
        judge(cx, At::root(new), At::root(old), &mut errors);
        errors.into_vec()
    }

    fn warnings(&self, cx: &Cx<'_>, new: &Doc, old: Option<&Doc>) -> Vec<String> {
        let mut warnings = Vec::new();
        (self.warnings)(cx, At::root(new), old.map(At::root), &mut warnings);
        warnings
    }

    fn holds(&self, object: &Doc) -> bool {
        (self.holds)(object)
    }

    fn mark_deleted(&self, object: &mut Doc) {
        (self.mark_deleted)(object);
    }

    fn accompany(&self, new: Option<&Doc>, old: Option<&Doc>, along: &mut Along) {
        (self.accompany)(new, old, along);
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static [&'static str]] {
        if let Some(known) = self.reset_fields {
            return known(subresource);
        }
        match (self.status, subresource) {
            (Status::Plain, _) => &[],
            (_, "status") if self.status_keeps_metadata => &[&["metadata"], &["spec"]],
            (_, "status") => &[&["spec"]],
            _ => &[&["status"]],
        }
    }
}

/// Puts back what was at a path.
pub fn keep(new: &mut Doc, old: &Doc, path: &[&str]) {
    match old.root().path(path) {
        Some(node) => {
            let copy = new.graft(node);
            put_path(new, path, copy);
        }
        None => remove_path(new, path),
    }
}

/// Puts a value that stands nowhere at a path.
pub fn put_path(doc: &mut Doc, path: &[&str], value: Id) {
    if let [parents @ .., last] = path {
        let top = doc.top();
        let parent = parents.iter().fold(top, |at, key| doc.object(at, key));
        doc.put(parent, last, value);
    }
}

/// Removes what is at a path.
pub fn remove_path(doc: &mut Doc, path: &[&str]) {
    if let [parents @ .., last] = path
        && let Some(parent) = doc.find_path(parents)
    {
        doc.remove(parent, last);
    }
}

/// The places of a list's elements at a path, for editing.
pub fn items_at(doc: &Doc, path: &[&str]) -> Vec<Id> {
    let list = doc.root().path(path);
    list.into_iter()
        .flat_map(Node::children)
        .map(Node::id)
        .collect()
}

/// Names that are a segment of a path.
pub fn path_segment(value: &str, _is_prefix: bool) -> Vec<String> {
    name::path_segment(value)
}

/// Names of a DNS label that starts with a letter.
pub fn dns_1035_label(value: &str, is_prefix: bool) -> Vec<String> {
    name::dns_1035_label(&masked(value, is_prefix))
}

/// The name, not a prefix, of most kinds.
pub fn subdomain(value: &str) -> Vec<String> {
    dns_subdomain(value, false)
}

/// The name, not a prefix, of a namespace and the like.
pub fn label(value: &str) -> Vec<String> {
    dns_label(value, false)
}

/// A value as Go would show it, where that is not its JSON.
pub struct Raw(pub String);

impl api::field::Shown for Raw {
    fn shown(&self) -> String {
        self.0.clone()
    }
}

/// A port's number or the name of one.
pub fn port_number_or_name(errors: &mut Errors, at: At<'_>) {
    match at.opt_int() {
        Some(port) => errors.names(at, |_| name::port_number(port)),
        None if at.is_set() => errors.names(at, name::port_name),
        None => errors.names(at, |_| name::port_number(0)),
    }
}
