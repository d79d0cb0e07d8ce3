//! Schedules in cron's notation, as the cron parser of upstream's CronJobs reads them.

use super::duration;

/// When something is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The time zone that the text itself names; empty if it names none.
    pub zone: String,
    /// At which times.
    pub times: Times,
}

/// At which times something is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Times {
    /// Again and again after so many nanoseconds.
    Every(i64),
    /// Whenever a clock shows a time that all of these hold.
    Clock(Clock),
}

/// Sets of numbers, a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// 0 to 59.
    pub minutes: u64,
    /// 0 to 23.
    pub hours: u64,
    /// 1 to 31.
    pub days: u64,
    /// 1 to 12.
    pub months: u64,
    /// 0 to 6, from Sunday.
    pub weekdays: u64,
    /// Every day of the month is meant: then the day of the week decides alone.
    pub any_day: bool,
    /// Every day of the week is meant: then the day of the month decides alone. If neither is, one
    /// of both is enough.
    pub any_weekday: bool,
}

struct Bounds {
    least: u64,
    most: u64,
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds {
    least: 0,
    most: 59,
    names: &[],
};
const HOURS: Bounds = Bounds {
    least: 0,
    most: 23,
    names: &[],
};
const DAYS: Bounds = Bounds {
    least: 1,
    most: 31,
    names: &[],
};
const MONTHS: Bounds = Bounds {
    least: 1,
    most: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
const WEEKDAYS: Bounds = Bounds {
    least: 0,
    most: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

impl Schedule {
    /// Parses five fields or a descriptor such as `@daily` or `@every 1h`, perhaps behind `TZ=zone`.
    ///
    /// # Errors
    ///
    /// In upstream's words. `is_zone` knows the time zones.
    pub fn parse(text: &str, is_zone: impl Fn(&str) -> bool) -> Result<Self, String> {
        if text.is_empty() {
            return Err("empty spec string".to_string());
        }
        let (zone, rest) = match text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
            true => {
                // What upstream's parser does here is a panic, which is told.
                let (zone, rest) = text.split_once(' ').ok_or(
                    "invalid schedule format: runtime error: slice bounds out of range [:-1]",
                )?;
                let zone = zone.split_once('=').map_or("", |(_, zone)| zone);
                if !zone.is_empty() && zone != "Local" && !is_zone(zone) {
                    let why = format!("unknown time zone {zone}");
                    return Err(format!("provided bad location {zone}: {why}"));
                }
                (zone, rest.trim())
            }
            false => ("", text),
        };
        let times = match rest.starts_with('@') {
            true => descriptor(rest)?,
            false => Times::Clock(clock(rest)?),
        };
        Ok(Self {
            zone: zone.to_string(),
            times,
        })
    }
}

fn descriptor(text: &str) -> Result<Times, String> {
    let fields = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => {
            let every = text
                .strip_prefix("@every ")
                .ok_or_else(|| format!("unrecognized descriptor: {text}"))?;
            return duration::parse(every)
                .map(Times::Every)
                .map_err(|error| format!("failed to parse duration {text}: {error}"));
        }
    };
    Ok(Times::Clock(clock(fields)?))
}

fn clock(text: &str) -> Result<Clock, String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = fields[..] else {
        let (found, fields) = (fields.len(), fields.join(" "));
        return Err(format!(
            "expected exactly 5 fields, found {found}: [{fields}]"
        ));
    };
    let (minutes, _) = field(minutes, &MINUTES)?;
    let (hours, _) = field(hours, &HOURS)?;
    let (days, any_day) = field(days, &DAYS)?;
    let (months, _) = field(months, &MONTHS)?;
    let (weekdays, any_weekday) = field(weekdays, &WEEKDAYS)?;
    Ok(Clock {
        minutes,
        hours,
        days,
        months,
        weekdays,
        any_day,
        any_weekday,
    })
}

/// The numbers of a field, and whether a star says that it is any.
fn field(text: &str, bounds: &Bounds) -> Result<(u64, bool), String> {
    let mut all = (0, false);
    for range in text.split(',').filter(|range| !range.is_empty()) {
        let (bits, any) = self::range(range, bounds)?;
        all = (all.0 | bits, all.1 || any);
    }
    Ok(all)
}

fn range(text: &str, bounds: &Bounds) -> Result<(u64, bool), String> {
    let parts: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let is_star = ["*", "?"].contains(&ends[0]);
    let (start, mut end) = match ends[..] {
        _ if is_star => (bounds.least, bounds.most),
        [only] => {
            let number = number_or_name(only, bounds)?;
            (number, number)
        }
        [first, last] => (
            number_or_name(first, bounds)?,
            number_or_name(last, bounds)?,
        ),
        _ => return Err(format!("too many hyphens: {text}")),
    };
    let step = match parts[..] {
        [_] => 1,
        [_, step] => {
            let step = number(step)?;
            if ends.len() == 1 {
                end = bounds.most;
            }
            step
        }
        _ => return Err(format!("too many slashes: {text}")),
    };
    let Bounds { least, most, .. } = bounds;
    if start < *least {
        return Err(format!(
            "beginning of range ({start}) below minimum ({least}): {text}"
        ));
    }
    if end > *most {
        return Err(format!(
            "end of range ({end}) above maximum ({most}): {text}"
        ));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {text}"
        ));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    let mut bits = 0;
    let mut at = start;
    while at <= end {
        bits |= 1 << at;
        at = at.saturating_add(step);
    }
    Ok((bits, is_star && step == 1))
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<u64, String> {
    let name = text.to_lowercase();
    match (bounds.least..)
        .zip(bounds.names)
        .find(|(_, known)| **known == name)
    {
        Some((number, _)) => Ok(number),
        None => number(text),
    }
}

/// Go's Atoi, and no less than 0.
fn number(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = text.strip_prefix('+').unwrap_or(text).parse::<i64>();
    let Ok(number) = parsed else {
        let why = if is_number {
            "value out of range"
        } else {
            "invalid syntax"
        };
        return Err(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {why}"
        ));
    };
    u64::try_from(number).map_err(|_| format!("negative number ({number}) not allowed: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Schedule, String> {
        Schedule::parse(text, |zone| zone == "Europe/Paris")
    }

    #[test]
    fn schedules_are_read() {
        let clock = |text| match parse(text).unwrap().times {
            Times::Clock(clock) => clock,
            Times::Every(nanos) => panic!("{nanos}"),
        };
        let clock_of = clock("*/15 1-3 1,15 jan MON-fri");
        assert_eq!(clock_of.minutes, 1 | 1 << 15 | 1 << 30 | 1 << 45);
        assert_eq!(clock_of.hours, 0b1110);
        assert_eq!(clock_of.days, 1 << 1 | 1 << 15);
        assert_eq!((clock_of.months, clock_of.weekdays), (1 << 1, 0b11_1110));
        assert!(!clock_of.any_day && clock("0 0 ? * *").any_weekday);
        assert_eq!(clock("5/20 * * * *").minutes, 1 << 5 | 1 << 25 | 1 << 45);
        assert_eq!(clock("@weekly").weekdays, 1);
        assert_eq!(
            parse("@every 1h").unwrap().times,
            Times::Every(3_600_000_000_000)
        );
        assert_eq!(
            parse("TZ=Europe/Paris 0 0 * * *").unwrap().zone,
            "Europe/Paris"
        );
    }

    #[test]
    fn complaints_are_upstreams() {
        for (text, want) in [
            ("", "empty spec string"),
            ("error", "expected exactly 5 fields, found 1: [error]"),
            (
                "1 2 3 4 5 6",
                "expected exactly 5 fields, found 6: [1 2 3 4 5 6]",
            ),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            (
                "5-3 * * * *",
                "beginning of range (5) beyond end of range (3): 5-3",
            ),
            (
                "*/0 * * * *",
                "step of range should be a positive number: */0",
            ),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            (
                "x * * * *",
                r#"failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax"#,
            ),
            ("1/-2 * * * *", "negative number (-2) not allowed: -2"),
            ("@nightly", "unrecognized descriptor: @nightly"),
            (
                "TZ=Foo * * * * *",
                "provided bad location Foo: unknown time zone Foo",
            ),
            (
                "TZ=UTC",
                "invalid schedule format: runtime error: slice bounds out of range [:-1]",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), want, "{text}");
        }
        assert!(
            parse("@every x")
                .unwrap_err()
                .starts_with("failed to parse duration @every x: ")
        );
    }
}
