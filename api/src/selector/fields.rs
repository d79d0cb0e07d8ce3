//! Field selectors: `metadata.name=a,status.phase!=Running`. Which fields a kind has is its row in
//! [`mod@crate::resources`].

use std::fmt;

/// One condition on one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldTerm {
    /// The field, such as `metadata.name`.
    pub field: String,
    /// Compared with what.
    pub value: String,
    /// Must differ rather than equal.
    pub is_negated: bool,
}

/// Conditions that must all hold; none hold for everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    /// In the order of their texts.
    pub terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// Parses the text of a query parameter.
    ///
    /// # Errors
    ///
    /// In upstream's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = split(text);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let Some((field, operator, value)) = operator(part) else {
                return Err(format!(
                    "invalid selector: '{text}'; can't understand '{part}'"
                ));
            };
            let value = unescape(value)?;
            terms.push(FieldTerm {
                field: field.to_string(),
                value,
                is_negated: operator == "!=",
            });
        }
        Ok(Self { terms })
    }

    /// Whether the fields that `lookup` knows fulfil all conditions; an unknown one is empty.
    pub fn matches<'f>(&self, lookup: impl Fn(&str) -> &'f str) -> bool {
        self.terms
            .iter()
            .all(|term| (lookup(&term.field) == term.value) != term.is_negated)
    }

    /// Selects everything.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The one value that a field must have, if the selector says so.
    pub fn exact(&self, field: &str) -> Option<&str> {
        let found = self
            .terms
            .iter()
            .find(|term| term.field == field && !term.is_negated);
        found.map(|term| &*term.value)
    }
}

/// What can be parsed again.
impl fmt::Display for FieldSelector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, term) in self.terms.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let operator = if term.is_negated { "!=" } else { "=" };
            write!(
                out,
                "{comma}{}{operator}{}",
                term.field,
                escape_value(&term.value)
            )?;
        }
        Ok(())
    }
}

/// A value as it stands in a selector.
pub fn escape_value(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace(',', r"\,")
        .replace('=', r"\=")
}

/// The terms between commas that no backslash precedes.
fn split(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut is_escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// Field, operator and value of a term: the first operator counts.
fn operator(term: &str) -> Option<(&str, &str, &str)> {
    term.char_indices().find_map(|(at, _)| {
        let found = ["!=", "==", "="]
            .into_iter()
            .find(|operator| term[at..].starts_with(operator))?;
        Some((&term[..at], found, &term[at + found.len()..]))
    })
}

fn unescape(value: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => plain.push(escaped),
                other => {
                    let sequence = other.map(String::from).unwrap_or_default();
                    return Err(format!(
                        "invalid field selector: invalid escape sequence: \\{sequence}"
                    ));
                }
            },
            ',' | '=' => {
                let code = u32::from(c);
                return Err(format!(
                    "invalid field selector: unescaped character in value: {code}"
                ));
            }
            other => plain.push(other),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> String {
        FieldSelector::parse(text).map_or_else(|error| error, |selector| selector.to_string())
    }

    #[test]
    fn selectors_are_parsed() {
        for (text, want) in [
            ("", ""),
            ("a=b", "a=b"),
            ("a==b", "a=b"),
            ("b=1,a!=2", "a!=2,b=1"),
            ("a=,b=", "a=,b="),
            (r"a=x\,y\=z", r"a=x\,y\=z"),
            (",a=b,", "a=b"),
            ("a", "invalid selector: 'a'; can't understand 'a'"),
            (
                "a=b=c",
                "invalid field selector: unescaped character in value: 61",
            ),
            (
                r"a=\x",
                r"invalid field selector: invalid escape sequence: \x",
            ),
            (
                r"a=b\",
                r"invalid field selector: invalid escape sequence: \",
            ),
        ] {
            assert_eq!(parsed(text), want, "{text}");
        }
    }

    #[test]
    fn fields_are_matched() {
        let lookup = |field: &str| if field == "metadata.name" { "web" } else { "" };
        for (text, want) in [
            ("metadata.name=web", true),
            ("metadata.name!=web", false),
            ("x=", true),
            ("x=1", false),
            ("x!=1,metadata.name=web", true),
        ] {
            assert_eq!(
                FieldSelector::parse(text).unwrap().matches(lookup),
                want,
                "{text}"
            );
        }
        let selector = FieldSelector::parse("a=1,b!=2").unwrap();
        assert_eq!(
            (selector.exact("a"), selector.exact("b")),
            (Some("1"), None)
        );
    }

    proptest! {
        #[test]
        fn anything_is_answered_and_printing_is_stable(text in "[ab=!,\\\\\\PC]{0,20}") {
            if let Ok(selector) = FieldSelector::parse(&text) {
                let mut again = FieldSelector::parse(&selector.to_string()).unwrap();
                let mut once = selector;
                let by_name = |a: &FieldTerm, b: &FieldTerm| (&a.field, &a.value).cmp(&(&b.field, &b.value));
                once.terms.sort_by(by_name);
                again.terms.sort_by(by_name);
                prop_assert_eq!(once, again);
            }
        }
    }
}
