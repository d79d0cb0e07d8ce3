//! Durations in Go's notation: `1h30m0s`, `1.5s`, `100ms`.

use std::fmt;

/// Why a text is no duration, in the words of Go's time.ParseDuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParseError {
    /// Not a duration at all, or too long for one.
    Invalid(String),
    /// A number without a unit.
    MissingUnit(String),
    /// A number with something else.
    UnknownUnit(String, String),
}

impl std::error::Error for ParseError {}

impl fmt::Display for ParseError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) => write!(out, "time: invalid duration {text:?}"),
            Self::MissingUnit(text) => write!(out, "time: missing unit in duration {text:?}"),
            Self::UnknownUnit(unit, text) => {
                write!(out, "time: unknown unit {unit:?} in duration {text:?}")
            }
        }
    }
}

/// Nanoseconds of a text.
///
/// # Errors
///
/// If it is no duration or longer than 64 bits of nanoseconds.
pub fn parse(text: &str) -> Result<i64, ParseError> {
    let invalid = || ParseError::Invalid(text.to_string());
    let (is_negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let number_len = rest
            .bytes()
            .take_while(|b| b.is_ascii_digit() || *b == b'.')
            .count();
        let (number, after) = rest.split_at(number_len);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(invalid());
        }
        let unit_len = after
            .bytes()
            .take_while(|b| !b.is_ascii_digit() && *b != b'.')
            .count();
        let (unit, after) = after.split_at(unit_len);
        let nanos: u64 = match unit {
            "" => return Err(ParseError::MissingUnit(text.to_string())),
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(ParseError::UnknownUnit(unit.to_string(), text.to_string())),
        };
        let whole: u64 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_| invalid())?
        };
        let part = fraction_of(fraction, nanos);
        let sum = whole
            .checked_mul(nanos)
            .and_then(|whole| whole.checked_add(part));
        total = sum
            .and_then(|sum| total.checked_add(sum))
            .ok_or_else(invalid)?;
        rest = after;
    }
    if is_negative {
        0_i64.checked_sub_unsigned(total)
    } else {
        i64::try_from(total).ok()
    }
    .ok_or_else(invalid)
}

/// That part of a unit; digits beyond what 64 bits can tell apart are dropped.
fn fraction_of(digits: &str, unit: u64) -> u64 {
    let digits = &digits[..digits.len().min(18)];
    let Ok(value) = digits.parse::<u128>() else {
        return 0;
    };
    let scale = 10_u128.pow(u32::try_from(digits.len()).unwrap_or_default());
    u64::try_from(value * u128::from(unit) / scale).unwrap_or_default()
}

/// The text of nanoseconds: `0s`, `1.5ms`, `1h0m0.5s`.
pub fn format(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let size = nanos.unsigned_abs();
    let fraction = |unit: u64| {
        let whole = size / unit;
        let digits = unit.ilog10() as usize;
        let rest = format!("{:0digits$}", size % unit);
        let rest = rest.trim_end_matches('0');
        if rest.is_empty() {
            whole.to_string()
        } else {
            format!("{whole}.{rest}")
        }
    };
    match size {
        0 => "0s".to_string(),
        1..1_000 => format!("{sign}{size}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", fraction(1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", fraction(1_000_000)),
        _ => {
            let minutes = size / 60_000_000_000;
            let seconds = format_seconds(size % 60_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

fn format_seconds(nanos: u64) -> String {
    let rest = format!("{:09}", nanos % 1_000_000_000);
    let rest = rest.trim_end_matches('0');
    let whole = nanos / 1_000_000_000;
    if rest.is_empty() {
        whole.to_string()
    } else {
        format!("{whole}.{rest}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_form() {
        for (text, want) in [
            ("0", "0s"),
            ("90m", "1h30m0s"),
            ("1.5h", "1h30m0s"),
            ("-1.5s", "-1.5s"),
            ("1500us", "1.5ms"),
            ("1500ns", "1.5µs"),
            (".5s", "500ms"),
            ("3600s", "1h0m0s"),
            ("1h1ns", "1h0m0.000000001s"),
            ("2562047h47m16.854775807s", "2562047h47m16.854775807s"),
        ] {
            assert_eq!(parse(text).map(format).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn errors_speak_as_go_does() {
        for (text, want) in [
            ("", r#"time: invalid duration """#),
            ("x", r#"time: invalid duration "x""#),
            ("3", r#"time: missing unit in duration "3""#),
            ("3d", r#"time: unknown unit "d" in duration "3d""#),
            ("9999999h", r#"time: invalid duration "9999999h""#),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), want);
        }
    }
}
