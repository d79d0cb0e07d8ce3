//! Quantities: exact numbers with a suffix, such as `500m`, `1Gi` or `2e3`.
//!
//! Held as billionths in 128 bits. What upstream's parser leaves as it was written stays so (`1024`
//! does not become `1.024k`, `1536Mi` does not become `1.5Gi`), everything else gets the one
//! canonical form: no fraction, the largest suffix that keeps the number whole.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, Neg, Sub};

const NANO: i128 = 1_000_000_000;

/// Which suffixes a quantity is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `2e3`.
    DecimalExponent,
    /// `Ki`, `Mi`, …
    BinarySi,
    /// `m`, `k`, `M`, …
    DecimalSi,
}

/// An exact number of something.
#[derive(Debug, Clone)]
pub struct Quantity {
    nanos: i128,
    format: Format,
    /// How it was written, where that is a form upstream keeps.
    written: Option<Box<str>>,
}

/// Why a text is no quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseError {
    /// Not a number and a suffix.
    Format,
    /// The digits are no number.
    Numeric,
    /// There is no such suffix.
    Suffix,
}

impl std::error::Error for ParseError {}

impl fmt::Display for ParseError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Format => {
                "quantities must match the regular expression \
                 '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            }
            Self::Numeric => "unable to parse numeric part of quantity",
            Self::Suffix => "unable to parse quantity's suffix",
        })
    }
}

/// A text taken apart.
struct Parts<'a> {
    is_negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

/// What a suffix multiplies by.
enum Scale {
    Ten(i32),
    Two(u32),
}

impl Quantity {
    /// A whole number, in decimal notation.
    pub fn from_units(value: i64) -> Self {
        Self {
            nanos: i128::from(value) * NANO,
            format: Format::DecimalSi,
            written: None,
        }
    }

    /// Thousandths.
    pub fn from_millis(value: i64) -> Self {
        Self {
            nanos: i128::from(value) * (NANO / 1_000),
            format: Format::DecimalSi,
            written: None,
        }
    }

    /// Parses a quantity.
    ///
    /// # Errors
    ///
    /// If the text is none. Values beyond 128 bits of billionths are capped, smaller ones than a
    /// billionth rounded up, as upstream does.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let parts = Parts::of(text)?;
        let (scale, mut format) = suffix(parts.suffix)?;
        let written = parts.is_kept(&scale).then(|| text.into());
        let size = match scale {
            Scale::Ten(exponent) => decimal(parts.whole, parts.fraction, exponent),
            Scale::Two(bits) => {
                let size = decimal(parts.whole, parts.fraction, 0);
                size.saturating_mul(1 << bits)
                    .min(i128::from(i64::MAX) * NANO)
            }
        };
        if format == Format::BinarySi && 0 < size && size < NANO {
            format = Format::DecimalSi;
        }
        let nanos = if parts.is_negative { -size } else { size };
        Ok(Self {
            nanos,
            format,
            written,
        })
    }

    /// The same number, written in another notation.
    #[must_use]
    pub fn in_format(mut self, format: Format) -> Self {
        self.format = format;
        self.written = None;
        self
    }

    /// How it is written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether it was parsed from this very text and keeps it.
    pub(crate) fn is_written_as(&self, text: &str) -> bool {
        self.written.as_deref() == Some(text)
    }

    /// 0.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// -1, 0 or 1.
    pub fn signum(&self) -> i32 {
        match self.nanos.cmp(&0) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        }
    }

    /// Units, rounded up (away from zero), capped to 64 bits.
    pub fn units(&self) -> i64 {
        capped(round_up(self.nanos, NANO))
    }

    /// Thousandths, rounded up (away from zero), capped to 64 bits.
    pub fn millis(&self) -> i64 {
        capped(round_up(self.nanos, NANO / 1_000))
    }

    /// Rounds up to thousandths, as defaulting does.
    #[must_use]
    pub fn rounded_to_millis(&self) -> Self {
        let step = NANO / 1_000;
        if self.nanos % step == 0 {
            return self.clone();
        }
        Self {
            nanos: round_up(self.nanos, step) * step,
            format: self.format,
            written: None,
        }
    }

    fn write_decimal(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut number, mut exponent) = (self.nanos, -9);
        while number % 10 == 0 && exponent < 18 {
            number /= 10;
            exponent += 1;
        }
        while exponent % 3 != 0 {
            number *= 10;
            exponent -= 1;
        }
        write!(out, "{number}")?;
        if self.format == Format::DecimalExponent {
            return if exponent == 0 {
                Ok(())
            } else {
                write!(out, "e{exponent}")
            };
        }
        out.write_str(match exponent {
            -9 => "n",
            -6 => "u",
            -3 => "m",
            3 => "k",
            6 => "M",
            9 => "G",
            12 => "T",
            15 => "P",
            18 => "E",
            _ => "",
        })
    }

    fn write_binary(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        let (mut number, mut at) = (self.nanos / NANO, 0);
        while number % 1024 == 0 && at + 1 < SUFFIXES.len() {
            number /= 1024;
            at += 1;
        }
        write!(out, "{number}{}", SUFFIXES[at])
    }
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Self, ParseError> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        if text.is_empty() {
            return Err(ParseError::Format);
        }
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let stripped = unsigned.trim_start_matches('0');
        let (whole, mut rest) = stripped.split_at(digits(stripped));
        let mut fraction = "";
        if let Some(after) = rest.strip_prefix('.') {
            (fraction, rest) = after.split_at(digits(after));
        }
        let letters = rest
            .bytes()
            .take_while(|byte| b"eEinumkKMGTP".contains(byte))
            .count();
        let exponent = &rest[letters..];
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if digits(exponent) != exponent.len() {
            return Err(ParseError::Format);
        }
        let has_number = unsigned.starts_with(|c: char| c.is_ascii_digit()) || !fraction.is_empty();
        if !has_number && (!rest.is_empty() || unsigned == ".") {
            return Err(if rest.is_empty() {
                ParseError::Numeric
            } else {
                ParseError::Format
            });
        }
        let whole = if whole.is_empty() { "0" } else { whole };
        Ok(Self {
            is_negative: text.starts_with('-'),
            whole,
            fraction,
            suffix: rest,
        })
    }

    /// Whether upstream keeps the text: it looks canonical to a parser that does not normalise.
    fn is_kept(&self, scale: &Scale) -> bool {
        let digits = self.whole.len() + self.fraction.len();
        let last = if self.fraction.is_empty() {
            self.whole
        } else {
            self.fraction
        };
        match scale {
            Scale::Two(bits) => {
                let precision = 14_i64 - digits as i64 - i64::from(*bits) * 3 / 10;
                let is_odd = self.whole.parse::<u64>().is_ok_and(|value| value & 7 != 0);
                self.fraction.is_empty() && precision >= 0 && is_odd
            }
            Scale::Ten(exponent) => {
                let exponent = i64::from(*exponent) - self.fraction.len() as i64;
                let shifted = format!("{}{}", self.whole, self.fraction);
                let kept = digits <= 18 && exponent >= -9 && exponent % 3 == 0;
                kept && !shifted.ends_with("000")
                    && !self.whole.starts_with('0')
                    && !last.is_empty()
            }
        }
    }
}

fn suffix(text: &str) -> Result<(Scale, Format), ParseError> {
    let scale = match text {
        "n" => Scale::Ten(-9),
        "u" => Scale::Ten(-6),
        "m" => Scale::Ten(-3),
        "" => Scale::Ten(0),
        "k" => Scale::Ten(3),
        "M" => Scale::Ten(6),
        "G" => Scale::Ten(9),
        "T" => Scale::Ten(12),
        "P" => Scale::Ten(15),
        "E" => Scale::Ten(18),
        "Ki" => Scale::Two(10),
        "Mi" => Scale::Two(20),
        "Gi" => Scale::Two(30),
        "Ti" => Scale::Two(40),
        "Pi" => Scale::Two(50),
        "Ei" => Scale::Two(60),
        _ => {
            let exponent = text.strip_prefix(['e', 'E']).ok_or(ParseError::Suffix)?;
            let exponent = exponent.parse().map_err(|_| ParseError::Suffix)?;
            return Ok((Scale::Ten(exponent), Format::DecimalExponent));
        }
    };
    let is_binary = matches!(scale, Scale::Two(_));
    Ok((
        scale,
        if is_binary {
            Format::BinarySi
        } else {
            Format::DecimalSi
        },
    ))
}

/// Billionths of `whole.fraction` times ten to a power, rounded up, capped.
fn decimal(whole: &str, fraction: &str, exponent: i32) -> i128 {
    let mut value: i128 = 0;
    let shift = i64::from(exponent) + 9;
    // How many of the digits count; what follows only decides about rounding up.
    let kept = (whole.len() as i64).saturating_add(shift).max(0);
    let mut inexact = false;
    for (at, digit) in whole.bytes().chain(fraction.bytes()).enumerate() {
        if (at as i64) < kept {
            value = value
                .saturating_mul(10)
                .saturating_add(i128::from(digit - b'0'));
        } else {
            inexact |= digit != b'0';
        }
    }
    if value == 0 {
        return i128::from(inexact);
    }
    let missing = kept - (whole.len() + fraction.len()) as i64;
    for _ in 0..missing.min(64) {
        value = value.saturating_mul(10);
    }
    value.saturating_add(i128::from(inexact))
}

fn round_up(value: i128, step: i128) -> i128 {
    value / step + (value % step).signum()
}

fn capped(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// The canonical form.
impl fmt::Display for Quantity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(written) = &self.written {
            return out.write_str(written);
        }
        let is_small = self.nanos.unsigned_abs() < 1024 * NANO.unsigned_abs();
        match self.format {
            _ if self.nanos == 0 => out.write_str("0"),
            Format::BinarySi if !is_small && self.nanos % NANO == 0 => self.write_binary(out),
            _ => self.write_decimal(out),
        }
    }
}

/// Equal numbers are equal, however they are written.
impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// Sums keep the format of the first that is not 0.
impl Add<&Quantity> for Quantity {
    type Output = Self;

    fn add(self, other: &Self) -> Self {
        let format = if self.is_zero() {
            other.format
        } else {
            self.format
        };
        Self {
            nanos: self.nanos.saturating_add(other.nanos),
            format,
            written: None,
        }
    }
}

impl Sub<&Quantity> for Quantity {
    type Output = Self;

    fn sub(self, other: &Self) -> Self {
        let format = if self.is_zero() {
            other.format
        } else {
            self.format
        };
        Self {
            nanos: self.nanos.saturating_sub(other.nanos),
            format,
            written: None,
        }
    }
}

impl Neg for Quantity {
    type Output = Self;

    fn neg(self) -> Self {
        Self {
            nanos: self.nanos.saturating_neg(),
            format: self.format,
            written: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        match Quantity::parse(text) {
            Ok(quantity) => quantity.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn quantities_have_one_form() {
        for (text, want) in [
            ("0", "0"),
            ("000", "0"),
            ("0Ki", "0"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("1024Mi", "1Gi"),
            ("1536Mi", "1536Mi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Gi", "512Mi"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("2000m", "2"),
            ("64Mi", "64Mi"),
            ("2e3", "2e3"),
            ("2E3", "2E3"),
            ("12e6", "12e6"),
            ("1.5e3", "1500"),
            ("100e-3", "100e-3"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("-0.1n", "-1n"),
            ("-1Gi", "-1Gi"),
            ("+5", "+5"),
            ("0.1Ki", "102400m"),
            ("0.0001Ki", "102400u"),
            ("8191Pi", "8191Pi"),
            ("8Ei", "9223372036854775807"),
            ("1.", "1."),
            (".5", "500m"),
            ("1.10", "1100m"),
            ("100k", "100k"),
            ("1000000k", "1G"),
            ("3.0", "3"),
            ("1E", "1E"),
            ("1000Ki", "1000Ki"),
            ("1e1", "10"),
        ] {
            assert_eq!(canonical(text), want, "{text}");
        }
    }

    #[test]
    fn errors_speak_as_upstream_does() {
        let format = ParseError::Format.to_string();
        for text in ["", "1x", "x", "1 ", "1Gi2x", "--1", "1.5.5", "é"] {
            assert_eq!(canonical(text), format, "{text}");
        }
        for text in ["1kk", "1mi", "1e", "1Gi5", "1e99999999999"] {
            assert_eq!(
                canonical(text),
                "unable to parse quantity's suffix",
                "{text}"
            );
        }
    }

    #[test]
    fn sums_and_differences_are_exact() {
        let of = |text| Quantity::parse(text).unwrap();
        assert_eq!((of("0.1") + &of("0.2")).to_string(), "300m");
        assert_eq!((of("1Gi") + &of("1")).to_string(), "1073741825");
        assert_eq!((of("1Gi") + &of("1Gi")).to_string(), "2Gi");
        assert_eq!((of("0") + &of("512Mi") + &of("512Mi")).to_string(), "1Gi");
        assert_eq!((of("1") - &of("1500m")).to_string(), "-500m");
        assert!(of("1Gi") > of("1G") && of("1000m") == of("1"));
        assert_eq!((of("1500m").units(), of("-1500m").units()), (2, -2));
        assert_eq!((of("1.0001").millis(), of("1u").millis()), (1001, 1));
        assert_eq!(of("1100u").rounded_to_millis().to_string(), "2m");
    }

    proptest! {
        #[test]
        fn the_form_is_stable(text in "[+-]?[0-9]{0,20}(\\.[0-9]{0,12})?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e-?[0-9]{1,2})?") {
            if let Ok(quantity) = Quantity::parse(&text) {
                let form = quantity.to_string();
                let again = Quantity::parse(&form).unwrap();
                prop_assert_eq!(&again, &quantity, "{} {}", text, form);
                prop_assert_eq!(again.to_string(), form);
            }
        }

        #[test]
        fn anything_is_answered(text in "\\PC{0,12}") {
            let _ = Quantity::parse(&text);
        }
    }
}
