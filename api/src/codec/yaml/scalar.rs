//! What a scalar is, by the rules of YAML 1.1 as Go's yaml.v2 has them.

use std::borrow::Cow;

use saphyr_parser::{ScalarStyle, Tag};

use crate::values::base64;

/// A scalar's value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Resolved<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Unsigned(u64),
    Float(f64),
    Str(Cow<'a, str>),
}

/// The value of a scalar with its style and tag.
pub(super) fn value<'a>(
    text: &'a str,
    style: ScalarStyle,
    tag: Option<&Tag>,
) -> Result<Resolved<'a>, String> {
    let Some(tag) = tag else {
        return Ok(match style {
            ScalarStyle::Plain => resolve(text),
            _ => Resolved::Str(text.into()),
        });
    };
    if !tag.is_yaml_core_schema() {
        return Ok(Resolved::Str(text.into()));
    }
    let resolved = match &*tag.suffix {
        "str" => return Ok(Resolved::Str(text.into())),
        "binary" => {
            let bytes =
                base64::decode(text).map_err(|_| "!!binary value contains invalid base64 data")?;
            return Ok(Resolved::Str(
                String::from_utf8_lossy(&bytes).into_owned().into(),
            ));
        }
        _ => resolve(text),
    };
    match (&*tag.suffix, resolved) {
        ("int", value @ (Resolved::Int(_) | Resolved::Unsigned(_)))
        | ("bool", value @ Resolved::Bool(_))
        | ("null", value @ Resolved::Null)
        | ("float", value @ Resolved::Float(_)) => Ok(value),
        #[expect(clippy::cast_precision_loss, reason = "as Go converts")]
        ("float", Resolved::Int(value)) => Ok(Resolved::Float(value as f64)),
        ("timestamp", _) => Ok(Resolved::Str(text.into())),
        (name, _) => Err(format!("cannot decode {text:?} as a !!{name}")),
    }
}

/// What a plain scalar means.
pub(crate) fn resolve(text: &str) -> Resolved<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Resolved::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Resolved::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Resolved::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Resolved::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Resolved::Float(f64::NEG_INFINITY),
        _ => {}
    }
    if !text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-' | '.')) {
        return Resolved::Str(text.into());
    }
    let plain = text.replace('_', "");
    if let Some(number) = integer(&plain) {
        return number;
    }
    match float(&plain) {
        Some(value) => Resolved::Float(value),
        None => Resolved::Str(text.into()),
    }
}

/// An integer in the notation of Go's literals.
fn integer(text: &str) -> Option<Resolved<'static>> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let lower = unsigned.get(..2).map(str::to_ascii_lowercase);
    let (radix, digits) = match lower.as_deref() {
        Some("0x") => (16, &unsigned[2..]),
        Some("0b") => (2, &unsigned[2..]),
        Some("0o") => (8, &unsigned[2..]),
        Some(two) if two.starts_with('0') => (8, &unsigned[1..]),
        _ => (10, unsigned),
    };
    // The parser below would take another sign.
    if !digits.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return None;
    }
    if text.starts_with('-') {
        return i64::from_str_radix(&format!("-{digits}"), radix)
            .ok()
            .map(Resolved::Int);
    }
    if let Ok(value) = i64::from_str_radix(digits, radix) {
        return Some(Resolved::Int(value));
    }
    // Go takes no sign here.
    let value = u64::from_str_radix(digits, radix)
        .ok()
        .filter(|_| !text.starts_with('+'));
    value.map(Resolved::Unsigned)
}

/// `1.5`, `.5`, `1.`, `1e3`; not what else Rust would parse (`inf`).
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (number, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let has_digits = !whole.is_empty() || (number.contains('.') && !fraction.is_empty());
    let good_exponent = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    let is_float = has_digits && all_digits(whole) && all_digits(fraction) && good_exponent;
    is_float.then(|| text.parse().ok()).flatten()
}
