//! Label selectors: `a=b,c!=d,e in (f,g),h,!i,j>1`, and the structured form in objects.

use std::fmt;

use crate::doc::Node;
use crate::field::{FieldError, aggregate};
use crate::name;

/// How a label's value is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `=`.
    Equals,
    /// `==`.
    DoubleEquals,
    /// `!=`.
    NotEquals,
    /// `in`.
    In,
    /// `notin`.
    NotIn,
    /// The key alone.
    Exists,
    /// `!` and the key.
    DoesNotExist,
    /// `>`.
    GreaterThan,
    /// `<`.
    LessThan,
}

/// One condition on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How its value is judged.
    pub operator: Operator,
    /// Against what, sorted.
    pub values: Vec<String>,
}

/// Conditions that must all hold; none hold for everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    /// Sorted by key.
    pub requirements: Vec<Requirement>,
}

impl Requirement {
    /// A condition that makes sense.
    ///
    /// # Errors
    ///
    /// If the key is no label's, or the values do not fit the operator.
    pub fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Self, String> {
        let mut errors = Vec::new();
        let complaints = name::label_key(key);
        if !complaints.is_empty() {
            errors.push(FieldError::invalid("key", key, complaints.join("; ")));
        }
        let complaint = match (operator, values.len()) {
            (Operator::In | Operator::NotIn, 0) => {
                "for 'in', 'notin' operators, values set can't be empty"
            }
            (Operator::Equals | Operator::DoubleEquals | Operator::NotEquals, n) if n != 1 => {
                "exact-match compatibility requires one single value"
            }
            (Operator::Exists | Operator::DoesNotExist, n) if n != 0 => {
                "values set must be empty for exists and does not exist"
            }
            (Operator::GreaterThan | Operator::LessThan, n) if n != 1 => {
                "for 'Gt', 'Lt' operators, exactly one value is required"
            }
            _ => "",
        };
        if !complaint.is_empty() {
            errors.push(FieldError::invalid("values", &*values, complaint));
        }
        for (at, value) in values.iter().enumerate() {
            let compares = matches!(operator, Operator::GreaterThan | Operator::LessThan);
            if compares && value.parse::<i64>().is_err() {
                let complaint = "for 'Gt', 'Lt' operators, the value must be an integer";
                errors.push(FieldError::invalid(
                    format!("values[{at}]"),
                    &**value,
                    complaint,
                ));
            }
        }
        for (at, value) in values.iter().enumerate() {
            let complaints = name::label_value(value);
            if !complaints.is_empty() {
                let field = format!("values[{at}][{key}]");
                errors.push(FieldError::invalid(field, &**value, complaints.join("; ")));
            }
        }
        if !errors.is_empty() {
            return Err(aggregate(&errors));
        }
        values.sort();
        Ok(Self {
            key: key.to_string(),
            operator,
            values,
        })
    }

    /// Whether a label's value, none if there is no such label, fulfils the condition.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let is_one = |value: &str| self.values.iter().any(|known| known == value);
        let number = |text: &str| text.parse::<i64>().ok();
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(is_one),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(is_one),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let limit = self.values.first().and_then(|limit| number(limit));
                match (value.and_then(number), limit, self.operator) {
                    (Some(value), Some(limit), Operator::GreaterThan) => value > limit,
                    (Some(value), Some(limit), _) => value < limit,
                    _ => false,
                }
            }
        }
    }
}

impl LabelSelector {
    /// Parses the text of a query parameter.
    ///
    /// # Errors
    ///
    /// In upstream's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser {
            tokens: tokens(text),
            at: 0,
        };
        let mut requirements = parser.requirements()?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements })
    }

    /// The structured form in objects (metav1.LabelSelector). An absent selector selects nothing,
    /// which is the caller's to know; an empty one everything.
    ///
    /// # Errors
    ///
    /// If an operator is unknown or does not fit its values.
    pub fn from_node(node: Node<'_>) -> Result<Self, String> {
        let mut requirements = Vec::new();
        for label in node.get("matchLabels").into_iter().flat_map(Node::children) {
            let values = vec![label.as_str().unwrap_or_default().to_string()];
            requirements.push(Requirement::new(label.key(), Operator::Equals, values)?);
        }
        for expression in node
            .get("matchExpressions")
            .into_iter()
            .flat_map(Node::children)
        {
            let operator = match expression.text(&["operator"]) {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(format!("{other:?} is not a valid label selector operator")),
            };
            let values = expression
                .get("values")
                .into_iter()
                .flat_map(Node::children);
            let values = values
                .filter_map(Node::as_str)
                .map(str::to_string)
                .collect();
            requirements.push(Requirement::new(
                expression.text(&["key"]),
                operator,
                values,
            )?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements })
    }

    /// Whether labels, an object of strings or nothing, fulfil all conditions.
    pub fn matches(&self, labels: Option<Node<'_>>) -> bool {
        self.matches_by(|key| {
            labels
                .and_then(|labels| labels.get(key))
                .and_then(Node::as_str)
        })
    }

    /// Whether labels that are looked up fulfil all conditions.
    pub fn matches_by<'l>(&self, lookup: impl Fn(&str) -> Option<&'l str>) -> bool {
        self.requirements
            .iter()
            .all(|one| one.matches(lookup(&one.key)))
    }

    /// Selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The one value that a label must have, if the selector says so.
    pub fn exact(&self, key: &str) -> Option<&str> {
        let one = self.requirements.iter().find(|one| one.key == key)?;
        match (one.operator, &one.values[..]) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, [value]) => Some(value),
            _ => None,
        }
    }
}

/// What can be parsed again.
impl fmt::Display for LabelSelector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.requirements.iter().map(ToString::to_string).collect();
        out.write_str(&all.join(","))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::Equals => write!(out, "{key}={values}"),
            Operator::DoubleEquals => write!(out, "{key}=={values}"),
            Operator::NotEquals => write!(out, "{key}!={values}"),
            Operator::In => write!(out, "{key} in ({values})"),
            Operator::NotIn => write!(out, "{key} notin ({values})"),
            Operator::Exists => write!(out, "{key}"),
            Operator::DoesNotExist => write!(out, "!{key}"),
            Operator::GreaterThan => write!(out, "{key}>{values}"),
            Operator::LessThan => write!(out, "{key}<{values}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Word,
    In,
    NotIn,
    Symbol(&'static str),
    /// Symbols that mean nothing together.
    Error,
    End,
}

const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", ">", "<", "(", ")", ","];

fn tokens(text: &str) -> Vec<(Token, String)> {
    let is_symbol = |c: char| "=!(),><".contains(c);
    let is_blank = |c: char| " \t\r\n".contains(c);
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches(is_blank);
    // A NUL ends the text, as it ends upstream's.
    while !rest.is_empty() && !rest.starts_with('\0') {
        let found = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol));
        let (token, len) = match found {
            Some(symbol) => (Token::Symbol(symbol), symbol.len()),
            None => {
                let end = rest.find(|c| is_symbol(c) || is_blank(c) || c == '\0');
                let word = &rest[..end.unwrap_or(rest.len())];
                let token = match word {
                    "in" => Token::In,
                    "notin" => Token::NotIn,
                    "" => Token::Error,
                    _ => Token::Word,
                };
                (token, word.len().max(1))
            }
        };
        let len = if rest.is_char_boundary(len) {
            len
        } else {
            rest.len()
        };
        tokens.push((token, rest[..len].to_string()));
        rest = rest[len..].trim_start_matches(is_blank);
    }
    tokens.push((Token::End, String::new()));
    tokens
}

struct Parser {
    tokens: Vec<(Token, String)>,
    at: usize,
}

impl Parser {
    /// The next token where `in` and `notin` are words like any other.
    fn peek(&self) -> (Token, &str) {
        let (token, text) = &self.tokens[self.at.min(self.tokens.len() - 1)];
        let token = if matches!(token, Token::In | Token::NotIn) {
            Token::Word
        } else {
            *token
        };
        (token, text)
    }

    fn next(&mut self) -> (Token, String) {
        let (token, text) = self.peek();
        let found = (token, text.to_string());
        self.at += 1;
        found
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                (Token::Word | Token::Symbol("!"), _) => {
                    let one = self.requirement();
                    requirements
                        .push(one.map_err(|e| format!("unable to parse requirement: {e}"))?);
                    match self.next() {
                        (Token::End, _) => return Ok(requirements),
                        (Token::Symbol(","), _) => match self.peek() {
                            (Token::Word | Token::Symbol("!"), _) => {}
                            (_, text) => {
                                return Err(format!(
                                    "found '{text}', expected: identifier after ','"
                                ));
                            }
                        },
                        (_, text) => {
                            return Err(format!(
                                "found '{text}', expected: ',' or 'end of string'"
                            ));
                        }
                    }
                }
                (Token::End, _) => return Ok(requirements),
                (_, text) => {
                    let expected = "!, identifier, or 'end of string'";
                    return Err(format!("found '{text}', expected: {expected}"));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let (mut token, mut key) = self.next();
        let is_negated = token == Token::Symbol("!");
        if is_negated {
            (token, key) = self.next();
        }
        if token != Token::Word {
            return Err(format!("found '{key}', expected: identifier"));
        }
        let complaints = name::label_key(&key);
        if !complaints.is_empty() {
            let error = FieldError::invalid("<nil>", &*key, complaints.join("; "));
            return Err(error.to_string());
        }
        if is_negated {
            return Requirement::new(&key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek().0, Token::End | Token::Symbol(",")) {
            return Requirement::new(&key, Operator::Exists, Vec::new());
        }
        let (token, text) = self.tokens[self.at.min(self.tokens.len() - 1)].clone();
        self.at += 1;
        let operator = match token {
            Token::In => Operator::In,
            Token::NotIn => Operator::NotIn,
            Token::Symbol("=") => Operator::Equals,
            Token::Symbol("==") => Operator::DoubleEquals,
            Token::Symbol("!=") => Operator::NotEquals,
            Token::Symbol(">") => Operator::GreaterThan,
            Token::Symbol("<") => Operator::LessThan,
            _ => {
                return Err(format!(
                    "found '{text}', expected: in, notin, =, ==, !=, gt, lt"
                ));
            }
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.value()?],
        };
        Requirement::new(&key, operator, values)
    }

    fn value(&mut self) -> Result<String, String> {
        if matches!(self.peek().0, Token::End | Token::Symbol(",")) {
            return Ok(String::new());
        }
        match self.next() {
            (Token::Word, text) => Ok(text),
            (_, text) => Err(format!("found '{text}', expected: identifier")),
        }
    }

    /// `(a,b)`; nothing between two commas is the empty value.
    fn values(&mut self) -> Result<Vec<String>, String> {
        match self.next() {
            (Token::Symbol("("), _) => {}
            (_, text) => return Err(format!("found '{text}' expected: '('")),
        }
        let mut values: Vec<String> = Vec::new();
        let mut add = |value: &str| {
            if !values.iter().any(|known| known == value) {
                values.push(value.to_string());
            }
        };
        match self.peek() {
            (Token::Word | Token::Symbol(","), _) => {}
            (Token::Symbol(")"), _) => {
                self.at += 1;
                return Ok(vec![String::new()]);
            }
            (_, text) => return Err(format!("found '{text}', expected: ',', ')' or identifier")),
        }
        let mut is_empty = true;
        loop {
            match self.next() {
                (Token::Word, text) => {
                    add(&text);
                    is_empty = false;
                    match self.peek() {
                        (Token::Symbol(","), _) => {}
                        (Token::Symbol(")"), _) => break,
                        (_, text) => return Err(format!("found '{text}', expected: ',' or ')'")),
                    }
                }
                (Token::Symbol(","), _) => {
                    if is_empty {
                        add("");
                        is_empty = false;
                    }
                    match self.peek().0 {
                        Token::Symbol(")") => {
                            add("");
                            break;
                        }
                        Token::Symbol(",") => add(""),
                        _ => {}
                    }
                }
                (_, text) => return Err(format!("found '{text}', expected: ',', or identifier")),
            }
        }
        self.at += 1;
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::doc::Doc;

    fn parsed(text: &str) -> String {
        LabelSelector::parse(text).map_or_else(|error| error, |selector| selector.to_string())
    }

    #[test]
    fn selectors_are_normalised() {
        for (text, want) in [
            ("", ""),
            ("a", "a"),
            ("!a", "!a"),
            ("a=b", "a=b"),
            ("a == b", "a==b"),
            ("a!=b", "a!=b"),
            ("x in (b,a,b)", "x in (a,b)"),
            ("x notin(a)", "x notin (a)"),
            ("b=1,a=2", "a=2,b=1"),
            ("a=", "a="),
            ("a=,b", "a=,b"),
            ("x in ()", "x in ()"),
            ("x in (,a)", "x in (,a)"),
            ("x in (a,)", "x in (,a)"),
            ("x in (a,,b)", "x in (,a,b)"),
            ("a>1,b<2", "a>1,b<2"),
            (" example.com/a = b ", "example.com/a=b"),
            ("in", "in"),
            ("a=in", "a=in"),
        ] {
            assert_eq!(parsed(text), want, "{text}");
        }
    }

    #[test]
    fn errors_speak_as_upstream_does() {
        for (text, want) in [
            ("a=b,", "found '', expected: identifier after ','"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            (
                ",a",
                "found ',', expected: !, identifier, or 'end of string'",
            ),
            (
                "!=a",
                "found '!=', expected: !, identifier, or 'end of string'",
            ),
            (
                "a b",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            (
                "a in b",
                "unable to parse requirement: found 'b' expected: '('",
            ),
            (
                "a in (b",
                "unable to parse requirement: found '', expected: ',' or ')'",
            ),
            (
                "!(",
                "unable to parse requirement: found '(', expected: identifier",
            ),
            (
                "a>x",
                r#"unable to parse requirement: values[0]: Invalid value: "x": for 'Gt', 'Lt' operators, the value must be an integer"#,
            ),
        ] {
            assert_eq!(parsed(text), want, "{text}");
        }
        assert!(parsed("a=b/c").starts_with(
            r#"unable to parse requirement: values[0][a]: Invalid value: "b/c": a valid label must"#
        ));
        assert!(parsed("a/b/c").starts_with(
            r#"unable to parse requirement: <nil>: Invalid value: "a/b/c": a valid label key"#
        ));
    }

    #[test]
    fn labels_are_matched() {
        let labels = Doc::literal(r#"{"app":"web","tier":"2"}"#);
        for (text, want) in [
            ("", true),
            ("app", true),
            ("!app", false),
            ("app=web", true),
            ("app!=web", false),
            ("other!=x", true),
            ("app in (api,web)", true),
            ("app notin (api)", true),
            ("x in (a)", false),
            ("tier>1", true),
            ("tier<2", false),
            ("app>1", false),
            ("app=web,tier=3", false),
            ("x=", false),
        ] {
            let selector = LabelSelector::parse(text).unwrap();
            assert_eq!(selector.matches(Some(labels.root())), want, "{text}");
        }
        assert!(LabelSelector::parse("!a").unwrap().matches(None));
        assert_eq!(
            LabelSelector::parse("a in (b)").unwrap().exact("a"),
            Some("b")
        );
    }

    #[test]
    fn structured_selectors_are_the_same() {
        let node = Doc::literal(
            r#"{"matchLabels":{"b":"1"},"matchExpressions":[{"key":"a","operator":"In","values":["y","x"]},{"key":"c","operator":"Exists"}]}"#,
        );
        assert_eq!(
            LabelSelector::from_node(node.root()).unwrap().to_string(),
            "a in (x,y),b=1,c"
        );
        let bad = Doc::literal(r#"{"matchExpressions":[{"key":"a","operator":"Gt"}]}"#);
        let error = LabelSelector::from_node(bad.root()).unwrap_err();
        assert_eq!(error, r#""Gt" is not a valid label selector operator"#);
    }

    proptest! {
        #[test]
        fn anything_is_answered_and_printing_is_stable(text in "[ab=!(),<> \\PC]{0,20}") {
            if let Ok(selector) = LabelSelector::parse(&text) {
                prop_assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector));
            }
        }
    }
}
