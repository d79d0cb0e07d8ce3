//! Server-side apply: who owns which fields, and what becomes of an object when one of them says
//! what it wants.
//!
//! Every write goes through here: [`FieldManager::update`] notes what an ordinary write changed,
//! [`FieldManager::apply`] merges a configuration, drops what its owner no longer wants, and refuses
//! to change what is somebody else's. Both leave the outcome in `metadata.managedFields`.

mod atom;
mod managed;
mod scale;
mod set;
mod walk;

use std::collections::BTreeMap;
use std::fmt;

use crate::conform::{Unknown, conform};
use crate::doc::{Doc, Kind, Node};
use crate::schema::Type;
use managed::{Managed, Manager, Owned};
pub use scale::{ReplicasPaths, owners_from_scale, owners_to_scale};
pub use set::{Scalar, Set, Step, path_text};

/// More managers of updates are folded into one.
const MAX_UPDATERS: usize = 10;

/// The annotation of client-side apply.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Fields that nobody owns.
const UNOWNED: [&[&str]; 12] = [
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "clusterName"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

/// A write, as far as ownership is concerned.
pub struct FieldManager<'a> {
    /// The objects' type.
    pub schema: &'a Type,
    /// `group/version` of the request.
    pub api_version: &'a str,
    /// Kind of the objects.
    pub kind: &'a str,
    /// Subresource, empty for the object itself.
    pub subresource: &'a str,
    /// Fields that this endpoint resets, which nobody comes to own through it.
    pub reset: Option<&'a Set>,
    /// The time of the write, as metav1.Time.
    pub now: &'a str,
}

/// A field that somebody else owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Who, as messages name it.
    pub manager: String,
    /// Which field.
    pub path: String,
}

/// Why a configuration cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplyError {
    /// 400: it is not acceptable as a configuration.
    BadRequest(String),
    /// 409: it changes what others own.
    Conflict(Vec<Conflict>),
    /// 500, as upstream answers a configuration that does not fit the type.
    Invalid(String),
}

impl std::error::Error for ApplyError {}

impl fmt::Display for ApplyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRequest(text) | Self::Invalid(text) => out.write_str(text),
            Self::Conflict(conflicts) => out.write_str(&conflict_message(conflicts)),
        }
    }
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        let Conflict { manager, path } = one;
        return format!("Apply failed with 1 conflict: conflict with {manager}: {path}");
    }
    let mut by_manager: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for conflict in conflicts {
        by_manager
            .entry(&conflict.manager)
            .or_default()
            .push(&conflict.path);
    }
    let mut lines = Vec::new();
    for (manager, paths) in by_manager {
        lines.push(format!("conflicts with {manager}:"));
        lines.extend(paths.into_iter().map(|path| format!("- {path}")));
    }
    format!(
        "Apply failed with {} conflicts: {}",
        conflicts.len(),
        lines.join("\n")
    )
}

impl FieldManager<'_> {
    /// Notes in `new`'s managed fields what it changes of `live`, on behalf of `manager`. `live` is
    /// an empty object of the type if there is none yet; both conform. Malformed managed fields count
    /// as none.
    pub fn update(&self, live: &Doc, new: &mut Doc, manager: &str) {
        let mut managed = self.managed_of(live, new);
        let is_new = live.root().text(&["metadata", "uid"]).is_empty();
        drop_managed_fields(new);
        if managed.is_empty() && !is_new {
            // Somebody switched tracking off for this object.
            return;
        }
        let mut old = live.clone();
        drop_managed_fields(&mut old);
        self.track(&mut managed, &old, new, manager);
        managed.cap(MAX_UPDATERS);
        managed.write(new);
    }

    /// Whose fields count: those of the request, unless it has none or is about a subresource.
    fn managed_of(&self, live: &Doc, new: &Doc) -> Managed {
        let of_live = || Managed::read(live).unwrap_or_default();
        if !self.subresource.is_empty() {
            return of_live();
        }
        match managed::entries(new) {
            // An empty list, or one empty entry, asks for a reset.
            Some(list) if managed::is_reset(list) => Managed::default(),
            _ => Managed::read(new)
                .ok()
                .filter(|managed| !managed.is_empty())
                .unwrap_or_else(of_live),
        }
    }

    /// What `manager` comes to own by an update, and what others lose.
    fn track(&self, managed: &mut Managed, old: &Doc, new: &Doc, manager: &str) {
        let changes = self.compare(old.root(), new.root());
        let mut mine = changes.modified;
        mine.unite(changes.added);
        for owned in managed.owners.values_mut() {
            owned.fields.subtract(&mine);
            owned.fields.subtract(&changes.removed);
        }
        mine.subtract(&changes.removed);
        mine.drop_fields(&UNOWNED);
        if !mine.is_empty() {
            let owned = managed
                .owners
                .entry(self.id(manager, managed::UPDATE))
                .or_default();
            owned.fields.unite(mine);
            owned.api_version = self.api_version.to_string();
            owned.time = Some(self.now.to_string());
        }
        managed.owners.retain(|_, owned| !owned.fields.is_empty());
    }

    /// Applies a configuration to a live object on behalf of `manager`. The result conforms and has
    /// its managed fields; defaults are the caller's to set.
    ///
    /// # Errors
    ///
    /// If the configuration does not fit the type, or changes others' fields and `force` is off.
    pub fn apply(
        &self,
        live: &Doc,
        config: &Doc,
        manager: &str,
        force: bool,
    ) -> Result<Doc, ApplyError> {
        self.check(config)?;
        let mut managed = Managed::read(live).map_err(|error| {
            ApplyError::Invalid(format!("failed to decode managed fields: {error}"))
        })?;
        let mut old = live.clone();
        drop_managed_fields(&mut old);
        if managed.is_empty() {
            // What was there before anybody applied belongs to its creation.
            let mut empty = Doc::new();
            conform_or_keep(&mut empty, self.schema);
            self.track(&mut managed, &empty, &old, "before-first-apply");
        }
        let first = self.merge(&old, config, &managed, manager, force);
        let (mut new, mut managed) = match first {
            Err(ApplyError::Conflict(conflicts)) if manager == "kubectl" => {
                self.migrate(&old, config, &managed, conflicts)?
            }
            other => other?,
        };
        if manager == "kubectl" {
            refresh_last_applied(&mut new, config);
        }
        if new == old {
            // Nothing to do is no reason for a new time.
            managed.restore_times(&Managed::read(live).unwrap_or_default());
        }
        managed.write(&mut new);
        Ok(new)
    }

    fn check(&self, config: &Doc) -> Result<(), ApplyError> {
        let root = config.root();
        let version = root.text(&["apiVersion"]);
        if version != self.api_version {
            return Err(ApplyError::BadRequest(format!(
                "Incorrect version specified in apply patch. Specified patch version: {version}, \
                 expected: {}",
                self.api_version,
            )));
        }
        if root
            .path(&["metadata", "managedFields"])
            .is_some_and(|list| !list.is_null())
        {
            return Err(ApplyError::BadRequest(
                "metadata.managedFields must be nil".to_string(),
            ));
        }
        walk::validate(root, self.schema).map_err(|error| {
            ApplyError::Invalid(format!(
                "failed to create typed patch object ({}/{}; {}, Kind={}): {error}",
                root.text(&["metadata", "namespace"]),
                root.text(&["metadata", "name"]),
                self.api_version,
                self.kind,
            ))
        })
    }

    /// The merge of a configuration, and who owns what then.
    fn merge(
        &self,
        live: &Doc,
        config: &Doc,
        managed: &Managed,
        manager: &str,
        force: bool,
    ) -> Result<(Doc, Managed), ApplyError> {
        let mut managed = managed.clone();
        let id = self.id(manager, managed::APPLY);
        let merged = walk::merge(live.root(), config.root(), self.schema);
        let mut wanted = walk::field_set(config.root(), self.schema);
        if let Some(reset) = self.reset {
            wanted = wanted.recursive_difference(reset);
        }
        let last = managed
            .owners
            .get(&id)
            .map(|owned| owned.fields.clone())
            .unwrap_or_default();
        let owned = Owned {
            fields: wanted,
            api_version: self.api_version.to_string(),
            time: Some(self.now.to_string()),
        };
        managed.owners.insert(id.clone(), owned);
        let mut new = self.prune(merged, &managed, &last);
        conform(&mut new, self.schema, Unknown::Keep)
            .map_err(|error| ApplyError::Invalid(error.to_string()))?;
        let changes = self.compare(live.root(), new.root());
        let mut changed = changes.modified;
        changed.unite(changes.added);
        let mut conflicts = Vec::new();
        for (other, owned) in managed.owners.iter_mut().filter(|(other, _)| **other != id) {
            let contested = owned.fields.intersection(&changed);
            let name = other.describe(owned);
            conflicts.extend(contested.paths().iter().map(|path| Conflict {
                manager: name.clone(),
                path: path_text(path),
            }));
            owned.fields.subtract(&contested);
            owned.fields.subtract(&changes.removed);
        }
        if !force && !conflicts.is_empty() {
            return Err(ApplyError::Conflict(conflicts));
        }
        if let Some(mine) = managed.owners.get_mut(&id) {
            mine.fields.drop_fields(&UNOWNED);
        }
        managed.owners.retain(|_, owned| !owned.fields.is_empty());
        Ok((new, managed))
    }

    /// Removes what the manager applied before, does not any more, and nobody else owns.
    fn prune(&self, merged: Doc, managed: &Managed, last: &Set) -> Doc {
        if last.is_empty() {
            return merged;
        }
        let schema = self.schema;
        let named = |set: &Set| walk::with_named(set, schema);
        let pruned = walk::remove(merged.root(), &named(last), schema);
        let all = managed
            .owners
            .values()
            .fold(Set::default(), |mut all, owned| {
                all.unite(owned.fields.clone());
                all
            });
        let merged_set = named(&walk::field_set(merged.root(), schema));
        let pruned_set = named(&walk::field_set(pruned.root(), schema));
        // What others own comes back.
        let gone = merged_set.difference(&pruned_set.union(&named(&all)));
        let pruned = walk::remove(merged.root(), &gone, schema);
        // What was removed only because it stood in something removed comes back as well.
        let pruned_set = named(&walk::field_set(pruned.root(), schema));
        let gone = merged_set
            .difference(&pruned_set)
            .intersection(&named(last));
        walk::remove(merged.root(), &gone, schema)
    }

    /// Client-side apply left the last configuration in an annotation: `kubectl` may change what
    /// that says, if the object still is so.
    fn migrate(
        &self,
        live: &Doc,
        config: &Doc,
        managed: &Managed,
        conflicts: Vec<Conflict>,
    ) -> Result<(Doc, Managed), ApplyError> {
        let text = live.root().text(&["metadata", "annotations", LAST_APPLIED]);
        let last = crate::codec::json::parse(text.as_bytes().to_vec()).ok();
        let last = last.filter(|last| last.root().text(&["apiVersion"]) == self.api_version);
        let allowed = last
            .filter(|last| walk::validate(last.root(), self.schema).is_ok())
            .map(|last| {
                let changes = self.compare(last.root(), live.root());
                let set = walk::field_set(last.root(), self.schema);
                set.difference(&changes.modified)
                    .difference(&changes.added)
                    .difference(&changes.removed)
            });
        let Some(allowed) = allowed else {
            return Err(ApplyError::Conflict(conflicts));
        };
        let allowed: Vec<String> = allowed.paths().iter().map(|path| path_text(path)).collect();
        let is_allowed = |conflict: &Conflict| allowed.contains(&conflict.path);
        let left: Vec<Conflict> = conflicts.into_iter().filter(|c| !is_allowed(c)).collect();
        if !left.is_empty() {
            return Err(ApplyError::Conflict(left));
        }
        self.merge(live, config, managed, "kubectl", true)
    }

    fn compare(&self, old: Node<'_>, new: Node<'_>) -> walk::Comparison {
        let mut changes = walk::compare(old, new, self.schema);
        if let Some(reset) = self.reset {
            changes.removed = changes.removed.recursive_difference(reset);
            changes.modified = changes.modified.recursive_difference(reset);
            changes.added = changes.added.recursive_difference(reset);
        }
        changes
    }

    fn id(&self, name: &str, operation: &'static str) -> Manager {
        let name = if name.is_empty() { "unknown" } else { name };
        Manager {
            operation: operation.to_string(),
            name: name.to_string(),
            // Who applies is the same in every version.
            api_version: if operation == managed::APPLY {
                ""
            } else {
                self.api_version
            }
            .to_string(),
            subresource: self.subresource.to_string(),
        }
    }
}

/// Whether a request asks to forget all owners: by an empty list, which conforming drops, or by a
/// list of one empty entry, which is what [`FieldManager::update`] then has to find.
pub fn asks_for_reset(request: &Doc) -> bool {
    managed::entries(request).is_some_and(managed::is_reset)
}

fn conform_or_keep(doc: &mut Doc, schema: &Type) {
    // An empty object has nothing that could be of the wrong type.
    let _ = conform(doc, schema, Unknown::Keep);
}

fn drop_managed_fields(doc: &mut Doc) {
    if let Some(metadata) = doc.find_path(&["metadata"]) {
        doc.remove(metadata, "managedFields");
    }
}

/// Keeps the annotation of client-side apply true, where there is one.
fn refresh_last_applied(new: &mut Doc, config: &Doc) {
    if new
        .root()
        .text(&["metadata", "annotations", LAST_APPLIED])
        .is_empty()
    {
        return;
    }
    let mut plain = config.clone();
    if let Some(annotations) = plain.find_path(&["metadata", "annotations"]) {
        plain.remove(annotations, LAST_APPLIED);
        if plain.node(annotations).is_empty()
            && plain.node(annotations).kind() == Kind::Object
            && let Some(metadata) = plain.find_path(&["metadata"])
        {
            plain.remove(metadata, "annotations");
        }
    }
    new.set_path(
        &["metadata", "annotations", LAST_APPLIED],
        &*format!("{plain}\n"),
    );
}

#[cfg(test)]
mod tests;
