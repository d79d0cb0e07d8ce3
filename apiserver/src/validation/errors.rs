//! The collector of errors, with the checks that read like rules.

use std::collections::HashSet;

use api::doc::Node;
use api::field::{FieldError, FieldErrorKind, Shown};
use api::name;

use super::place::{Place, Places, shown};
use super::{At, same};

/// What upstream says of fields that may not change.
pub const IMMUTABLE: &str = "field is immutable";
/// What upstream says of negative numbers.
pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// What upstream says of numbers and quantities that are not above 0.
pub const NOT_POSITIVE: &str = "must be greater than zero";

/// What is wrong, in the order in which it was found.
#[derive(Default)]
pub struct Errors {
    found: Vec<FieldError>,
    /// Made with the first error of a document.
    places: Vec<Places>,
}

impl Errors {
    /// All of them.
    pub fn into_vec(self) -> Vec<FieldError> {
        self.found
    }

    /// Whether nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// How many there are so far.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Adds an error whose path is not where the value stands.
    pub fn push(&mut self, error: FieldError) {
        self.found.push(error);
    }

    /// The path of a field.
    pub fn path(&mut self, at: At<'_>) -> String {
        self.place(at).path
    }

    fn place(&mut self, at: At<'_>) -> Place {
        let doc = at.node.doc();
        let known = self.places.iter().position(|places| places.knows(doc));
        let index = known.unwrap_or_else(|| {
            self.places.push(Places::of(doc));
            self.places.len() - 1
        });
        self.places[index].find(at)
    }

    fn add(&mut self, kind: FieldErrorKind, at: At<'_>, detail: impl Into<String>) {
        let place = self.place(at);
        self.found.push(FieldError {
            kind,
            field: place.path,
            value: Some(place.shown),
            detail: detail.into(),
        });
    }

    /// A malformed value.
    pub fn invalid(&mut self, at: At<'_>, detail: impl Into<String>) {
        self.add(FieldErrorKind::Invalid, at, detail);
    }

    /// A field that is wrong for what it is told to be.
    pub fn invalid_value(&mut self, at: At<'_>, value: impl Shown, detail: impl Into<String>) {
        let path = self.path(at);
        self.found.push(FieldError::invalid(path, value, detail));
    }

    /// A field that is wrong in a way that its value does not show.
    pub fn invalid_omitted(&mut self, at: At<'_>, detail: impl Into<String>) {
        self.add(FieldErrorKind::Invalid, at, detail);
        if let Some(error) = self.found.last_mut() {
            error.value = None;
        }
    }

    /// Like [`Self::invalid_value`], told of something relative to where the value stands: upstream
    /// forgets indexes here and there.
    pub fn invalid_below(
        &mut self,
        at: At<'_>,
        below: &str,
        value: impl Shown,
        detail: impl Into<String>,
    ) {
        let path = format!("{}{below}", self.path(at));
        self.found.push(FieldError::invalid(path, value, detail));
    }

    /// Runs checks whose errors are told of another path: what `from` names in it becomes `to`.
    pub fn renamed(&mut self, from: &str, to: &str, checks: impl FnOnce(&mut Self)) {
        let start = self.found.len();
        checks(self);
        for error in &mut self.found[start..] {
            error.field = error.field.replacen(from, to, 1);
        }
    }

    /// Runs checks of a field whose errors are told of another one.
    pub fn told_of(&mut self, here: At<'_>, there: At<'_>, checks: impl FnOnce(&mut Self)) {
        let start = self.found.len();
        checks(self);
        if self.found.len() > start {
            let (here, there) = (self.path(here), self.path(there));
            for error in &mut self.found[start..] {
                error.field = error.field.replacen(&here, &there, 1);
            }
        }
    }

    /// A field that must be set.
    pub fn required(&mut self, at: At<'_>, detail: impl Into<String>) {
        let path = self.path(at);
        self.found.push(FieldError::required(path, detail));
    }

    /// A field that may not be set here.
    pub fn forbidden(&mut self, at: At<'_>, detail: impl Into<String>) {
        let path = self.path(at);
        self.found.push(FieldError::forbidden(path, detail));
    }

    /// A value that is there already.
    pub fn duplicate(&mut self, at: At<'_>) {
        self.add(FieldErrorKind::Duplicate, at, "");
    }

    /// A name of nothing.
    pub fn not_found(&mut self, at: At<'_>) {
        self.add(FieldErrorKind::NotFound, at, "");
    }

    /// A value that is none of those known, which upstream mostly sorts.
    pub fn not_supported(&mut self, at: At<'_>, known: &[&str]) {
        let path = self.path(at);
        let mut error = FieldError::not_supported(path, "", known);
        error.value = Some(self.place(at).shown);
        self.found.push(error);
    }

    /// More than this many bytes.
    pub fn too_long(&mut self, at: At<'_>, most: usize) {
        let path = self.path(at);
        self.found.push(FieldError::too_long(path, most));
    }

    /// More than this many elements.
    pub fn too_many(&mut self, at: At<'_>, most: usize) {
        let path = self.path(at);
        self.found.push(FieldError::too_many(path, at.len(), most));
    }

    /// Checks that there is something; says whether.
    pub fn need(&mut self, at: At<'_>, detail: &str) -> bool {
        if at.is_empty() {
            self.required(at, detail);
        }
        !at.is_empty()
    }

    /// Checks that there is nothing.
    pub fn deny(&mut self, at: At<'_>, detail: &str) {
        if !at.is_empty() {
            self.forbidden(at, detail);
        }
    }

    /// Checks a text, there or not, with one of the functions of [`api::name`].
    pub fn names(&mut self, at: At<'_>, check: impl Fn(&str) -> Vec<String>) {
        for complaint in check(at.str()) {
            self.invalid(at, complaint);
        }
    }

    /// Checks that the text, there or not, is one of those known.
    pub fn one_of(&mut self, at: At<'_>, known: &[&str]) {
        if !known.contains(&at.str()) {
            self.not_supported(at, known);
        }
    }

    /// Checks a text for which absence is [`FieldErrorKind::Required`].
    pub fn need_one_of(&mut self, at: At<'_>, known: &[&str]) {
        if self.need(at, "") {
            self.one_of(at, known);
        }
    }

    /// Checks that the number is not negative.
    pub fn non_negative(&mut self, at: At<'_>) {
        if at.int() < 0 {
            self.invalid(at, NOT_NEGATIVE);
        }
    }

    /// Checks that the number is above 0.
    pub fn positive(&mut self, at: At<'_>) {
        if at.int() <= 0 {
            self.invalid(at, NOT_POSITIVE);
        }
    }

    /// Checks that the number, there or not, is within bounds.
    pub fn in_range(&mut self, at: At<'_>, least: i64, most: i64) {
        for complaint in name::in_range(at.int(), least, most) {
            self.invalid(at, complaint);
        }
    }

    /// Checks that a field is as it was.
    pub fn immutable(&mut self, new: At<'_>, old: At<'_>) {
        if !same(new, old) {
            self.invalid(new, IMMUTABLE);
        }
    }

    /// Checks that the texts of a list differ, or those of a field of its elements.
    pub fn unique(&mut self, list: At<'_>, field: &'static str) {
        let mut seen = HashSet::new();
        for item in list.items() {
            let at = match field {
                "" => item,
                field => item.get(field),
            };
            if !seen.insert(at.node().map(Key)) {
                self.duplicate(at);
            }
        }
    }
}

/// A value by its text.
struct Key<'d>(Node<'d>);

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Key<'_> {}

impl std::hash::Hash for Key<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        match self.0.as_str() {
            Some(text) => text.hash(state),
            None => shown(self.0).hash(state),
        }
    }
}

#[cfg(test)]
mod tests {
    use api::doc::Doc;

    use super::*;

    fn texts(errors: Errors) -> Vec<String> {
        let errors = errors.into_vec();
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn paths_follow_the_type() {
        let doc = Doc::literal(
            r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"labels":{"a":"b"}},
                "spec":{"template":{"spec":{"containers":[{"name":"a","resources":{"limits":{"cpu":"1"}}},{"name":"a"}]}}}}"#,
        );
        let root = At::root(&doc);
        let containers = root.path(&["spec", "template", "spec", "containers"]);
        let mut errors = Errors::default();
        let limits = containers
            .items()
            .next()
            .unwrap()
            .path(&["resources", "limits"]);
        errors.invalid(limits.items().next().unwrap(), "x");
        errors.unique(containers, "name");
        errors.required(
            containers
                .items()
                .nth(1)
                .unwrap()
                .path(&["lifecycle", "preStop"]),
            "",
        );
        errors.immutable(
            root.get("metadata").entry("labels").unwrap(),
            root.get("spec").get("selector"),
        );
        errors.in_range(root.path(&["spec", "replicas"]), 1, 2);
        errors.in_range(root.path(&["metadata", "generation"]), 1, 2);
        errors.not_supported(root.path(&["spec", "strategy", "type"]), &["A", "B"]);
        assert_eq!(
            texts(errors),
            [
                r#"spec.template.spec.containers[0].resources.limits[cpu]: Invalid value: "1": x"#,
                r#"spec.template.spec.containers[1].name: Duplicate value: "a""#,
                "spec.template.spec.containers[1].lifecycle.preStop: Required value",
                r#"metadata.labels: Invalid value: {"a":"b"}: field is immutable"#,
                "spec.replicas: Invalid value: null: must be between 1 and 2, inclusive",
                "metadata.generation: Invalid value: 0: must be between 1 and 2, inclusive",
                r#"spec.strategy.type: Unsupported value: "": supported values: "A", "B""#,
            ]
        );
    }
}
