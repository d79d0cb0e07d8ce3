//! Errors about fields, as validation reports them: where, what kind, which value, why.

use std::fmt;

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// It names something that does not exist.
    NotFound,
    /// It must be set.
    Required,
    /// The value is there already.
    Duplicate,
    /// The value is malformed.
    Invalid,
    /// The value is none of those that are known.
    NotSupported,
    /// It may not be set here.
    Forbidden,
    /// Too many bytes.
    TooLong,
    /// Too many elements.
    TooMany,
    /// Too few elements.
    TooFew,
    /// Validation itself failed.
    Internal,
    /// The value has the wrong type.
    TypeInvalid,
}

impl FieldErrorKind {
    /// The cause's type in a Status.
    pub fn cause(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TooFew => "FieldValueTooFew",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::TooFew => "Too few",
            Self::Internal => "Internal error",
        }
    }
}

/// An error about one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// What is wrong.
    pub kind: FieldErrorKind,
    /// Where, such as `spec.containers[0].name`.
    pub field: String,
    /// The value as it is shown: JSON, strings quoted. None where the kind shows none.
    pub value: Option<String>,
    /// Why.
    pub detail: String,
}

impl FieldError {
    fn new(
        kind: FieldErrorKind,
        field: impl Into<String>,
        value: Option<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            field: field.into(),
            value,
            detail: detail.into(),
        }
    }

    /// A malformed value.
    pub fn invalid(field: impl Into<String>, value: impl Shown, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Invalid, field, Some(value.shown()), detail)
    }

    /// A field that must be set.
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Required, field, None, detail)
    }

    /// A field that may not be set here.
    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Forbidden, field, None, detail)
    }

    /// A value that is there already.
    pub fn duplicate(field: impl Into<String>, value: impl Shown) -> Self {
        Self::new(FieldErrorKind::Duplicate, field, Some(value.shown()), "")
    }

    /// A name of nothing.
    pub fn not_found(field: impl Into<String>, value: impl Shown) -> Self {
        Self::new(FieldErrorKind::NotFound, field, Some(value.shown()), "")
    }

    /// A value that is none of those known.
    pub fn not_supported(field: impl Into<String>, value: impl Shown, known: &[&str]) -> Self {
        let detail = match known {
            [] => String::new(),
            known => {
                let quoted: Vec<String> = known.iter().map(|value| format!("{value:?}")).collect();
                format!("supported values: {}", quoted.join(", "))
            }
        };
        Self::new(
            FieldErrorKind::NotSupported,
            field,
            Some(value.shown()),
            detail,
        )
    }

    /// More than this many bytes.
    pub fn too_long(field: impl Into<String>, bytes_max: usize) -> Self {
        let unit = if bytes_max == 1 { "byte" } else { "bytes" };
        let detail = format!("may not be more than {bytes_max} {unit}");
        Self::new(FieldErrorKind::TooLong, field, None, detail)
    }

    /// More than this many elements.
    pub fn too_many(field: impl Into<String>, found: usize, most: usize) -> Self {
        let unit = if most == 1 { "item" } else { "items" };
        let detail = format!("must have at most {most} {unit}");
        Self::new(
            FieldErrorKind::TooMany,
            field,
            Some(found.to_string()),
            detail,
        )
    }

    /// The error without the field: what a Status cause says.
    pub fn body(&self) -> String {
        let mut body = self.kind.text().to_string();
        if let Some(value) = &self.value {
            body = format!("{body}: {value}");
        }
        if !self.detail.is_empty() {
            body = format!("{body}: {}", self.detail);
        }
        body
    }
}

impl std::error::Error for FieldError {}

impl fmt::Display for FieldError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.field, self.body())
    }
}

/// Several errors in one line: `a`, or `[a, b]`, each once.
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for error in errors {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.len() {
        1 => texts.remove(0),
        _ => format!("[{}]", texts.join(", ")),
    }
}

/// A value in an error.
pub trait Shown {
    /// As JSON would write it.
    fn shown(&self) -> String;
}

impl Shown for &str {
    fn shown(&self) -> String {
        format!("{self:?}")
    }
}

impl Shown for i64 {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for bool {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for &[String] {
    fn shown(&self) -> String {
        format!("{self:?}").replace("\", \"", "\",\"")
    }
}

impl Shown for crate::doc::Node<'_> {
    fn shown(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_upstreams_do() {
        for (error, want) in [
            (
                FieldError::invalid("spec.replicas", -1_i64, "must be >= 0"),
                "spec.replicas: Invalid value: -1: must be >= 0",
            ),
            (
                FieldError::invalid("metadata.name", "A", "no"),
                r#"metadata.name: Invalid value: "A": no"#,
            ),
            (
                FieldError::required("spec.containers", ""),
                "spec.containers: Required value",
            ),
            (
                FieldError::forbidden("spec", "immutable"),
                "spec: Forbidden: immutable",
            ),
            (
                FieldError::duplicate("a[1]", "x"),
                r#"a[1]: Duplicate value: "x""#,
            ),
            (
                FieldError::not_supported("p", "x", &["TCP", "UDP"]),
                r#"p: Unsupported value: "x": supported values: "TCP", "UDP""#,
            ),
            (
                FieldError::too_long("a", 1),
                "a: Too long: may not be more than 1 byte",
            ),
            (
                FieldError::too_many("a", 3, 2),
                "a: Too many: 3: must have at most 2 items",
            ),
        ] {
            assert_eq!(error.to_string(), want);
        }
        let one = FieldError::required("a", "");
        let two = FieldError::required("b", "");
        assert_eq!(aggregate(std::slice::from_ref(&one)), "a: Required value");
        assert_eq!(
            aggregate(&[one.clone(), one, two]),
            "[a: Required value, b: Required value]"
        );
    }
}
