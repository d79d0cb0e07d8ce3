//! `metadata` on the generic path: what the server sets, and what it holds against requests.

use api::doc::Doc;
use api::status::Status;

use super::call::{Call, Outcome};

/// Letters of generated names, without those that make words or look alike.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Letters behind a generateName.
const SUFFIX: usize = 5;
/// The longest part of a generateName that is kept.
const BASE_MAX: usize = 63 - SUFFIX;

/// A text of an object's metadata.
pub fn text<'d>(doc: &'d Doc, key: &str) -> &'d str {
    doc.root().text(&["metadata", key])
}

/// Takes a key out of an object's metadata.
pub fn clear(doc: &mut Doc, key: &str) {
    if let Some(metadata) = doc.find_path(&["metadata"]) {
        doc.remove(metadata, key);
    }
}

/// Puts back what another document has under a key of its metadata.
pub fn copy(doc: &mut Doc, from: &Doc, key: &str) {
    clear(doc, key);
    if let Some(value) = from.root().path(&["metadata", key]) {
        let value = doc.graft(value);
        let top = doc.top();
        let metadata = doc.object(top, "metadata");
        doc.put(metadata, key, value);
    }
}

impl Call<'_> {
    /// Holds a body's name and namespace against those of the request, and sets what is missing.
    ///
    /// # Errors
    ///
    /// If they differ.
    pub fn check_identity(&self, doc: &mut Doc, is_create: bool) -> Outcome<()> {
        let (wanted, found) = (&self.info.namespace, text(doc, "namespace"));
        if self.row.resource.namespaced {
            if found.is_empty() {
                doc.set_path(&["metadata", "namespace"], wanted);
            } else if found != wanted {
                return Err(Status::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the \
                     request",
                )
                .into());
            }
        } else if !found.is_empty() {
            clear(doc, "namespace");
        }
        let name = text(doc, "name");
        if is_create && self.info.name.is_empty() {
            return Ok(());
        }
        if name.is_empty() {
            if !is_create {
                doc.set_path(&["metadata", "name"], &self.info.name);
            }
        } else if name != self.info.name && !self.info.name.is_empty() {
            let message = format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                self.info.name
            );
            return Err(Status::bad_request(message).into());
        }
        Ok(())
    }

    /// What only the server sets on a new object.
    pub fn set_system_fields(&self, doc: &mut Doc) {
        for key in [
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
            "generation",
        ] {
            clear(doc, key);
        }
        doc.set_path(&["metadata", "uid"], &*self.api.uuid());
        doc.set_path(&["metadata", "creationTimestamp"], &self.now);
    }

    /// What a changed object keeps of what it was.
    pub fn keep_system_fields(&self, new: &mut Doc, old: &Doc) {
        copy(new, old, "generation");
        clear(new, "selfLink");
        for key in [
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        ] {
            let is_missing = new
                .root()
                .path(&["metadata", key])
                .is_none_or(|value| value.is_null() || value.as_str() == Some(""));
            if is_missing {
                copy(new, old, key);
            }
        }
    }

    /// A name of a prefix.
    pub fn generate_name(&self, prefix: &str) -> String {
        let mut end = prefix.len().min(BASE_MAX);
        while !prefix.is_char_boundary(end) {
            end -= 1;
        }
        let mut name = prefix[..end].to_string();
        let mut random = self.api.seams.rng.next_u64();
        for _ in 0..SUFFIX {
            let letters = ALPHABET.len() as u64;
            let at = usize::try_from(random % letters).unwrap_or_default();
            name.push(char::from(ALPHABET[at]));
            random /= letters;
        }
        name
    }
}
