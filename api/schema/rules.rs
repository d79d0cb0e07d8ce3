//! Turns default rules into static data: what the text says is checked here, not when it applies.

use std::fmt::Write;

use crate::gates::is_on;

/// A rule as Rust source; none if a feature gate switches it off.
///
/// # Panics
///
/// If the rule says what the engine cannot do.
pub(crate) fn rule(text: &str) -> Option<String> {
    let parsed = text.split_once(" = ").and_then(|(field, rest)| {
        let (value, condition) = rest.split_once(" if ")?;
        Rule::of(field, value, condition)
    });
    let rule = parsed.unwrap_or_else(|| panic!("what is the rule {text}?"));
    rule.is_on.then(|| rule.source())
}

/// A rule: the lists that it ranges over, and Rust source for the rest.
#[derive(Default)]
struct Rule<'a> {
    /// The paths of the lists (or maps) that surround the field, from the outermost inwards.
    each: Vec<&'a str>,
    target: String,
    /// What `{k}` ranges over.
    keys: String,
    value: String,
    when: Vec<String>,
    is_on: bool,
}

impl<'a> Rule<'a> {
    fn of(field: &'a str, value: &str, condition: &str) -> Option<Self> {
        let (each, _, _) = split(field);
        let mut rule = Self {
            each,
            is_on: true,
            keys: "Keys::None".to_string(),
            ..Self::default()
        };
        rule.target = rule.place(field)?;
        rule.value = rule.value(value)?;
        for one in parts(condition, " & ") {
            let said = rule.condition(one, field)?;
            rule.when.extend(said);
        }
        Some(rule)
    }

    fn source(&self) -> String {
        let each: String = self.each.iter().map(|path| keys(path) + ", ").collect();
        format!(
            "Rule::Set(Setter {{ each: &[{each}], target: {}, keys: {}, value: {}, when: &[{}] }}), ",
            self.target,
            self.keys,
            self.value,
            self.when.join(", "),
        )
    }

    /// A path, counted from the innermost element that it shares with the field.
    fn place(&self, path: &str) -> Option<String> {
        let (each, rest, keyed) = split(path);
        let depth = each.len();
        let mut out = String::new();
        write!(
            out,
            "Place {{ depth: {depth}, path: {}, keyed: {keyed} }}",
            keys(rest)
        )
        .ok()?;
        self.each.starts_with(&each).then_some(out)
    }

    fn value(&self, text: &str) -> Option<String> {
        let Some((name, argument)) = call(text) else {
            return Some(format!("Value::Is({})", literal(text)?));
        };
        Some(match name {
            "copy" => format!("Value::Copy({})", self.place(argument)?),
            "fn:lower" => format!("Value::Lower({})", self.place(argument)?),
            "fn:concat" => {
                let (path, suffix) = argument.split_once(',')?;
                format!("Value::Concat({}, {suffix})", self.place(path)?)
            }
            "fn:storageVersionName" => format!("Value::StorageVersions({})", self.place(argument)?),
            "fn:now" => "Value::Now".to_string(),
            "fn:aggregateContainerLimits" | "fn:aggregateContainerRequests" => {
                "Value::Aggregate".to_string()
            }
            _ => return None,
        })
    }

    /// Rust source of a condition; none inside if it always holds.
    fn condition(&mut self, text: &str, field: &str) -> Option<Option<String>> {
        let (name, argument) = call(text).unwrap_or((text, field));
        if name == "gate" {
            self.is_on &= is_on(argument);
            return Some(None);
        }
        Some(Some(match name {
            "absent" => format!("Condition::Absent({})", self.place(argument)?),
            "zero" => format!("Condition::Zero({})", self.place(argument)?),
            "present" => {
                let place = self.place(argument)?;
                if split(argument).2 && self.keys == "Keys::None" {
                    self.keys = format!("Keys::Of({place})");
                    return Some(None);
                }
                format!("Condition::Present({place})")
            }
            "eq" | "ne" | "in" => self.comparison(name, argument)?,
            "any" => {
                let mut ways = String::new();
                for way in parts(argument, " ; ") {
                    let all: Option<Vec<_>> = parts(way, " & ")
                        .iter()
                        .map(|one| self.condition(one, field))
                        .collect();
                    let all: Vec<String> = all?.into_iter().flatten().collect();
                    ways += &format!("&[{}], ", all.join(", "));
                }
                format!("Condition::Any(&[{ways}])")
            }
            "fn:noVolumeSourceSet" => "Condition::NoVolumeSource".to_string(),
            "fn:isHugePage" => "Condition::Key(Key::HugePage)".to_string(),
            "fn:supportedPodLevelResource" => "Condition::Key(Key::PodLevel)".to_string(),
            "fn:overcommitAllowed" => "Condition::Key(Key::Overcommitted)".to_string(),
            "fn:inAggregateContainerLimits" => {
                self.keys = "Keys::Aggregate(\"limits\")".to_string();
                return Some(None);
            }
            "fn:inAggregateContainerRequests" => {
                self.keys = "Keys::Aggregate(\"requests\")".to_string();
                return Some(None);
            }
            _ => return None,
        }))
    }

    fn comparison(&self, name: &str, argument: &str) -> Option<String> {
        let (left, right) = argument.rsplit_once(',')?;
        if let Some(("fn:imageTag", image)) = call(left) {
            let is = name == "eq" && right == "\"latest\"";
            let is_not = name == "ne" && right == "\"latest\"";
            let image = self.place(image)?;
            return (is || is_not).then(|| format!("Condition::Latest({image}, {is})"));
        }
        let values: Option<Vec<String>> = right.split('|').map(literal).collect();
        let values = values?.join(", ");
        let place = self.place(left)?;
        Some(format!(
            "Condition::In({place}, &[{values}], {})",
            name != "ne"
        ))
    }
}

/// `f(x)` as `f` and `x`.
fn call(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.split_once('(')?;
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == ':');
    is_name.then_some((name, rest.strip_suffix(')')?))
}

/// Splits at a separator that stands outside of all parentheses.
fn parts<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && text[at..].starts_with(separator) => {
                found.push(&text[start..at]);
                start = at + separator.len();
            }
            _ => {}
        }
    }
    found.push(&text[start..]);
    found
}

/// The lists and maps that a path goes through, the path after them, and whether that ends in a key
/// of a map.
fn split(path: &str) -> (Vec<&str>, &str, bool) {
    let mut each = Vec::new();
    let (mut rest, keyed) = match path.strip_suffix("{k}") {
        Some(map) => (map, true),
        None => (path, false),
    };
    while let Some((list, inner)) = rest.split_once("[*]").or_else(|| rest.split_once("{k}")) {
        each.push(list.trim_start_matches('.'));
        rest = inner;
    }
    (each, rest.trim_start_matches('.'), keyed)
}

/// The keys of a path as Rust source.
fn keys(path: &str) -> String {
    let (plain, last) = match path.split_once('[') {
        Some((plain, key)) => (plain, Some(key.trim_end_matches(']').trim_matches('"'))),
        None => (path, None),
    };
    let keys: Vec<&str> = plain
        .split('.')
        .filter(|key| !key.is_empty() && *key != "@")
        .chain(last)
        .collect();
    format!("&{keys:?}")
}

/// A JSON value as Rust source.
fn literal(json: &str) -> Option<String> {
    Some(match json {
        "null" => "Literal::Null".to_string(),
        "true" | "false" => format!("Literal::Bool({json})"),
        _ if json.starts_with('"') => format!("Literal::Str({json})"),
        _ if json.starts_with(['{', '[']) => format!("Literal::Json({json:?})"),
        _ => format!("Literal::Int({})", json.parse::<i64>().ok()?),
    })
}
