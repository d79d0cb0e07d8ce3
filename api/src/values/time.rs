//! Times: RFC 3339 in UTC, whole seconds (Time) or microseconds (MicroTime). Nothing here reads a
//! clock.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// A moment: seconds since 1970 and nanoseconds within that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Seconds since 1970-01-01T00:00:00Z, negative before.
    pub seconds: i64,
    /// 0 to 999 999 999.
    pub nanos: u32,
}

impl Moment {
    /// It as text, in UTC.
    pub fn text(self, precision: Precision) -> String {
        let mut text = String::with_capacity("2006-01-02T15:04:05.000000Z".len());
        write(self, precision, &mut text);
        text
    }
}

impl From<SystemTime> for Moment {
    /// Clocks before 1970 show its beginning.
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanos: since.subsec_nanos(),
        }
    }
}

/// Go's zero time, 0001-01-01T00:00:00Z: an unset one, `null` in JSON.
pub const UNSET: Moment = Moment {
    seconds: -62_135_596_800,
    nanos: 0,
};

/// How precise a time is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// metav1.Time.
    Seconds,
    /// metav1.MicroTime.
    Micros,
}

/// Why a text is no time, in the words of Go's time.Parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    text: String,
    precision: Precision,
    rest: String,
    expected: &'static str,
}

impl std::error::Error for ParseError {}

impl fmt::Display for ParseError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layout = match self.precision {
            Precision::Seconds => "2006-01-02T15:04:05Z07:00",
            Precision::Micros => "2006-01-02T15:04:05.000000Z07:00",
        };
        write!(out, "parsing time {:?}", self.text)?;
        match self.expected {
            "" => write!(out, ": extra text: {:?}", self.rest),
            message if message.starts_with(':') => write!(out, "{message}"),
            expected => {
                write!(
                    out,
                    " as {layout:?}: cannot parse {:?} as {expected:?}",
                    self.rest
                )
            }
        }
    }
}

/// Parses RFC 3339 with any offset.
///
/// # Errors
///
/// If it is none; a MicroTime must have exactly six digits of a second.
pub fn parse(text: &str, precision: Precision) -> Result<Moment, ParseError> {
    let mut reader = Reader {
        text,
        rest: text,
        precision,
    };
    let year = reader.digits(4, "2006")?;
    reader.literal("-")?;
    let month = reader.digits(2, "01")?;
    reader.in_range((1..=12).contains(&month), ": month out of range")?;
    reader.literal("-")?;
    let day = reader.digits(2, "02")?;
    reader.literal("T")?;
    let hour = reader.digits(2, "15")?;
    reader.in_range(hour < 24, ": hour out of range")?;
    reader.literal(":")?;
    let minute = reader.digits(2, "04")?;
    reader.in_range(minute < 60, ": minute out of range")?;
    reader.literal(":")?;
    let second = reader.digits(2, "05")?;
    reader.in_range(second < 60, ": second out of range")?;
    let nanos = reader.fraction()?;
    let offset = reader.offset()?;
    if !reader.rest.is_empty() {
        return Err(reader.error(""));
    }
    reader.in_range(
        (1..=days_in_month(year, month)).contains(&day),
        ": day out of range",
    )?;
    let days = days_from_civil(year, month, day);
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset;
    Ok(Moment { seconds, nanos })
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    precision: Precision,
}

impl Reader<'_> {
    fn error(&self, expected: &'static str) -> ParseError {
        let (text, rest) = (self.text.to_string(), self.rest.to_string());
        ParseError {
            text,
            precision: self.precision,
            rest,
            expected,
        }
    }

    fn in_range(&self, is: bool, message: &'static str) -> Result<(), ParseError> {
        if is { Ok(()) } else { Err(self.error(message)) }
    }

    fn digits(&mut self, count: usize, name: &'static str) -> Result<i64, ParseError> {
        let digits = self
            .rest
            .get(..count)
            .filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
        let value = digits.and_then(|digits| digits.parse().ok());
        let value = value.ok_or_else(|| self.error(name))?;
        self.rest = &self.rest[count..];
        Ok(value)
    }

    fn literal(&mut self, text: &'static str) -> Result<(), ParseError> {
        self.rest = self
            .rest
            .strip_prefix(text)
            .ok_or_else(|| self.error(text))?;
        Ok(())
    }

    /// Nanoseconds. Seconds may have any fraction, which is dropped when they are written.
    fn fraction(&mut self) -> Result<u32, ParseError> {
        let Some(rest) = self.rest.strip_prefix(['.', ',']) else {
            return match self.precision {
                Precision::Seconds => Ok(0),
                Precision::Micros => Err(self.error(".000000")),
            };
        };
        let count = rest.bytes().take_while(u8::is_ascii_digit).count();
        if count == 0 || self.precision == Precision::Micros && count != 6 {
            return Err(self.error(match self.precision {
                Precision::Seconds => "Z07:00",
                Precision::Micros => ".000000",
            }));
        }
        let nanos = format!("{:0<9}", &rest[..count.min(9)]).parse();
        self.rest = &rest[count..];
        Ok(nanos.unwrap_or_default())
    }

    /// Seconds east of UTC.
    fn offset(&mut self) -> Result<i64, ParseError> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let sign = match self.rest.as_bytes().first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(self.error("Z07:00")),
        };
        let error = self.error("Z07:00");
        self.rest = &self.rest[1..];
        let hours = self.digits(2, "Z07:00").map_err(|_| error.clone())?;
        self.literal(":").map_err(|_| error.clone())?;
        let minutes = self.digits(2, "Z07:00").map_err(|_| error.clone())?;
        self.in_range(hours <= 24, ": time zone offset hour out of range")?;
        self.in_range(minutes < 60, ": time zone offset minute out of range")?;
        Ok(sign * (hours * 3_600 + minutes * 60))
    }
}

/// Appends a moment in UTC.
pub fn write(moment: Moment, precision: Precision, out: &mut String) {
    use std::fmt::Write;
    let days = moment.seconds.div_euclid(86_400);
    let second = moment.seconds.rem_euclid(86_400);
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    );
    if precision == Precision::Micros {
        let _ = write!(out, ".{:06}", moment.nanos / 1_000);
    }
    out.push('Z');
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar; years are counted from March, so that
/// the leap day comes last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str, precision: Precision) -> String {
        let mut out = String::new();
        match parse(text, precision) {
            Ok(moment) => write(moment, precision, &mut out),
            Err(error) => out = error.to_string(),
        }
        out
    }

    #[test]
    fn times_become_utc_and_whole_seconds() {
        for (text, want) in [
            ("2024-02-29T23:59:59Z", "2024-02-29T23:59:59Z"),
            ("2024-01-01T00:30:00+01:00", "2023-12-31T23:30:00Z"),
            ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(canonical(text, Precision::Seconds), want);
        }
        let micros = "2024-01-01T00:00:00.000123Z";
        assert_eq!(canonical(micros, Precision::Micros), micros);
        assert_eq!(parse("0001-01-01T00:00:00Z", Precision::Seconds), Ok(UNSET));
    }

    #[test]
    fn every_day_of_four_centuries_comes_back() {
        for days in -200_000..200_000 {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
    }

    #[test]
    fn errors_speak_as_go_does() {
        for (text, want) in [
            (
                "x",
                r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#,
            ),
            (
                "",
                r#"parsing time "" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "2006""#,
            ),
            (
                "2023-02-29T00:00:00Z",
                r#"parsing time "2023-02-29T00:00:00Z": day out of range"#,
            ),
            (
                "2023-13-01T00:00:00Z",
                r#"parsing time "2023-13-01T00:00:00Z": month out of range"#,
            ),
            (
                "2023-01-01T00:00:00ZZ",
                r#"parsing time "2023-01-01T00:00:00ZZ": extra text: "Z""#,
            ),
        ] {
            assert_eq!(canonical(text, Precision::Seconds), want);
        }
        assert_eq!(
            canonical("2024-01-01T00:00:00Z", Precision::Micros),
            r#"parsing time "2024-01-01T00:00:00Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000""#
        );
    }
}
