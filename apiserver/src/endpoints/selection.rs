//! Which objects a list, a watch or a deletion of many is about.

use std::sync::Arc;

use api::resources::Label;
use api::selector::{FieldSelector, LabelSelector};
use api::status::Status;

use crate::registry::{Call, Outcome};
use crate::storage::Object;

/// Which objects are meant.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The namespace, empty for all.
    pub namespace: String,
    labels: LabelSelector,
    fields: FieldSelector,
    /// What is stored may name fields otherwise than the request's version: by the same keys.
    known: &'static [Label],
}

impl Selection {
    /// Reads the selectors of a request.
    ///
    /// # Errors
    ///
    /// If one cannot be parsed or names an unknown field.
    pub fn read(call: &Call<'_>) -> Outcome<Self> {
        let bad = |error: String| Status::bad_request(error);
        let labels = LabelSelector::parse(call.query.text("labelSelector"));
        let labels = labels.map_err(bad)?;
        let fields = FieldSelector::parse(call.query.text("fieldSelector")).map_err(bad)?;
        let mut selection = Self {
            namespace: call.namespace().to_string(),
            labels,
            fields,
            known: call.row.stored.as_ref().map_or(&[], |stored| stored.labels),
        };
        selection.resolve(call.row.resource.labels)?;
        Ok(selection)
    }

    /// Fields by their canonical keys.
    fn resolve(&mut self, named: &'static [Label]) -> Outcome<()> {
        for term in &mut self.fields.terms {
            if matches!(&*term.field, "metadata.name" | "metadata.namespace") {
                continue;
            }
            let mut known = named.iter().filter(|label| label.accepted);
            let Some(label) = known.find(|label| label.label == term.field) else {
                let message = if named.is_empty() {
                    format!(
                        "{:?} is not a known field selector: only \"metadata.name\", \
                         \"metadata.namespace\"",
                        term.field
                    )
                } else {
                    format!("field label not supported: {}", term.field)
                };
                return Err(Status::bad_request(message).into());
            };
            term.field = label.key.to_string();
        }
        Ok(())
    }

    /// Everything of the namespace.
    pub fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The one object that it can be, if it says so: its namespace and name.
    pub fn one(&self, namespaced: bool) -> Option<(&str, &str)> {
        let name = self.fields.exact("metadata.name")?;
        if !namespaced {
            return Some(("", name));
        }
        let namespace = match &*self.namespace {
            "" => self.fields.exact("metadata.namespace")?,
            namespace => namespace,
        };
        Some((namespace, name))
    }

    /// Whether an object is in the namespace, by its key.
    pub fn is_in_namespace(&self, key: &str) -> bool {
        self.namespace.is_empty()
            || key
                .strip_prefix(&*self.namespace)
                .is_some_and(|rest| rest.starts_with('/'))
    }

    /// Whether an object of the namespace is meant.
    pub fn matches(&self, object: &Arc<Object>) -> bool {
        if self.is_everything() {
            return true;
        }
        let found = object.selectable(self.known);
        self.labels.matches_by(|key| found.label(key))
            && self.fields.matches(|key| found.field(key))
    }
}
