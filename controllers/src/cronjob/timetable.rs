//! When a schedule is due, in its time zone.

use std::str::FromStr;

use api::values::schedule::{Clock, Schedule, Times};
use chrono::{
    DateTime, Datelike, Duration, LocalResult, NaiveDate, NaiveDateTime, Offset, TimeZone,
    Timelike, Utc,
};
use chrono_tz::Tz;
use jiff::Timestamp;

/// What has not come in so many years never comes.
const YEARS_MAX: i32 = 5;

/// A schedule in its time zone.
#[derive(Debug, Clone)]
pub(crate) struct Timetable {
    times: Times,
    zone: Tz,
}

impl Timetable {
    /// Reads a schedule, which may name its own zone.
    ///
    /// # Errors
    ///
    /// In upstream's words.
    pub(crate) fn parse(schedule: &str) -> Result<Self, String> {
        let schedule = Schedule::parse(schedule, |name| zone(name).is_some())?;
        Ok(Self {
            zone: zone(&schedule.zone).unwrap_or(Tz::UTC),
            times: schedule.times,
        })
    }

    /// The first time after another; none if there is none for years.
    pub(crate) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let second = after.as_second();
        let found = match &self.times {
            Times::Every(nanos) => second.checked_add((nanos / 1_000_000_000).max(1))?,
            Times::Clock(clock) => self.next_on_clock(clock, second)?,
        };
        Timestamp::from_second(found).ok()
    }

    /// Field by field from the largest, as upstream's parser goes: whatever is no longer what was
    /// looked at sends it back to the beginning.
    fn next_on_clock(&self, clock: &Clock, after: i64) -> Option<i64> {
        let mut time = self.local(DateTime::from_timestamp(after.checked_add(1)?, 0)?);
        let last_year = time.year() + YEARS_MAX;
        // Once a larger field was moved, the smaller ones start at their least.
        let mut is_moved = false;
        'again: while time.year() <= last_year {
            while !has(clock.months, time.month()) {
                let first = NaiveDate::from_ymd_opt(time.year(), time.month(), 1)?;
                let next = first.checked_add_months(chrono::Months::new(1))?;
                time = self.at(next.and_hms_opt(0, 0, 0)?);
                is_moved = true;
                if time.month() == 1 {
                    continue 'again;
                }
            }
            while !is_on_day(clock, &time) {
                let next = time.date_naive().succ_opt()?;
                time = self.at(next.and_hms_opt(0, 0, 0)?);
                is_moved = true;
                if time.day() == 1 {
                    continue 'again;
                }
            }
            while !has(clock.hours, time.hour()) {
                if !is_moved {
                    let into = i64::from(time.minute() * 60 + time.second());
                    time = self.local(time.to_utc() - Duration::seconds(into));
                    is_moved = true;
                }
                time = self.local(time.to_utc() + Duration::hours(1));
                if time.hour() == 0 {
                    continue 'again;
                }
            }
            while !has(clock.minutes, time.minute()) || time.second() != 0 {
                let rest = i64::from(60 - time.second());
                time = self.local(time.to_utc() + Duration::seconds(rest));
                is_moved = true;
                if time.minute() == 0 {
                    continue 'again;
                }
            }
            return Some(time.timestamp());
        }
        None
    }

    fn local(&self, time: DateTime<Utc>) -> DateTime<Tz> {
        time.with_timezone(&self.zone)
    }

    /// A time that clocks show: the first of two; where clocks skip it, as if they did not. Where they
    /// skip midnight, the day begins with the next hour.
    fn at(&self, clock: NaiveDateTime) -> DateTime<Tz> {
        match self.zone.from_local_datetime(&clock) {
            LocalResult::Single(time) | LocalResult::Ambiguous(time, _) => time,
            LocalResult::None => {
                let before = self
                    .zone
                    .offset_from_utc_datetime(&(clock - Duration::days(1)));
                let offset = before.fix().local_minus_utc();
                self.zone
                    .from_utc_datetime(&(clock - Duration::seconds(offset.into())))
            }
        }
    }
}

fn has(bits: u64, number: u32) -> bool {
    bits >> number & 1 == 1
}

fn is_on_day(clock: &Clock, time: &DateTime<Tz>) -> bool {
    let in_month = has(clock.days, time.day());
    let in_week = has(clock.weekdays, time.weekday().num_days_from_sunday());
    match clock.any_day || clock.any_weekday {
        true => in_month && in_week,
        false => in_month || in_week,
    }
}

/// A time zone by its name; empty and `Local` are the cluster's own, which is UTC.
pub(crate) fn zone(name: &str) -> Option<Tz> {
    match name {
        "" | "Local" => Some(Tz::UTC),
        name => Tz::from_str(name).ok(),
    }
}

/// A time as RFC 3339 in a time zone.
pub(crate) fn rfc3339(time: Timestamp, zone: Tz) -> String {
    let time = DateTime::from_timestamp(time.as_second(), 0).unwrap_or_default();
    let text = time.with_timezone(&zone).to_rfc3339();
    match text.strip_suffix("+00:00") {
        Some(text) => format!("{text}Z"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(schedule: &str, time: &str) -> String {
        let time: Timestamp = time.parse().unwrap();
        let next = Timetable::parse(schedule).unwrap().next(time);
        next.map_or_else(|| "never".to_string(), |next| next.to_string())
    }

    #[test]
    fn the_next_time_is_the_first_that_all_fields_allow() {
        for (schedule, time, want) in [
            (
                "0/15 * * * *",
                "2012-07-09T14:45:00Z",
                "2012-07-09T15:00:00Z",
            ),
            (
                "0/15 * * * *",
                "2012-07-09T14:59:01Z",
                "2012-07-09T15:00:00Z",
            ),
            ("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
            (
                "* * * * *",
                "2026-01-01T00:00:59.5Z",
                "2026-01-01T00:01:00Z",
            ),
            (
                "20-35/15 * * * *",
                "2012-07-09T15:45:00Z",
                "2012-07-09T16:20:00Z",
            ),
            (
                "20-35/15 * * * *",
                "2012-07-09T23:46:00Z",
                "2012-07-10T00:20:00Z",
            ),
            (
                "0 0 9 Apr-Oct ?",
                "2012-07-09T23:35:00Z",
                "2012-08-09T00:00:00Z",
            ),
            ("0 0 * 2 1", "2012-07-09T23:35:00Z", "2013-02-04T00:00:00Z"),
            ("0 0 1 2 1", "2012-07-09T23:35:00Z", "2013-02-01T00:00:00Z"),
            ("0 0 29 2 ?", "2012-07-09T23:35:00Z", "2016-02-29T00:00:00Z"),
            ("0 0 30 2 ?", "2012-07-09T23:35:00Z", "never"),
            (
                "0 0 31 12 *",
                "2012-12-31T00:00:00Z",
                "2013-12-31T00:00:00Z",
            ),
            (
                "@every 90s",
                "2012-07-09T23:35:00.7Z",
                "2012-07-09T23:36:30Z",
            ),
            ("@daily", "2012-07-09T23:35:51Z", "2012-07-10T00:00:00Z"),
        ] {
            assert_eq!(after(schedule, time), want, "{schedule} {time}");
        }
    }

    /// Upstream's parser's cases of daylight saving in New York, and of a zone that skips midnight.
    #[test]
    fn clocks_that_change_skip_and_repeat() {
        for (schedule, time, want) in [
            (
                "TZ=America/New_York 0 2 * * *",
                "2012-03-11T00:00:00-05:00",
                "2012-03-12T06:00:00Z",
            ),
            (
                "TZ=America/New_York 0 * * * ?",
                "2012-03-11T01:00:00-05:00",
                "2012-03-11T07:00:00Z",
            ),
            (
                "TZ=America/New_York 0 1 * * ?",
                "2012-03-11T00:00:00-05:00",
                "2012-03-11T06:00:00Z",
            ),
            (
                "TZ=America/New_York 30 2 11 Mar ?",
                "2012-03-11T00:00:00-05:00",
                "2013-03-11T06:30:00Z",
            ),
            (
                "TZ=America/New_York 0 2 4 Nov ?",
                "2012-11-04T00:00:00-04:00",
                "2012-11-04T07:00:00Z",
            ),
            (
                "TZ=America/New_York 45 1 4 Nov ?",
                "2012-11-04T01:45:00-04:00",
                "2012-11-04T06:45:00Z",
            ),
            (
                "TZ=America/New_York 0 0 * * ?",
                "2012-11-04T00:00:00-04:00",
                "2012-11-05T05:00:00Z",
            ),
            (
                "TZ=America/Sao_Paulo 0 9 10 * ?",
                "2018-10-17T05:00:00-04:00",
                "2018-11-10T11:00:00Z",
            ),
            (
                "TZ=Asia/Kolkata 0 14 14 * *",
                "2016-01-03T13:09:03+05:30",
                "2016-01-14T08:30:00Z",
            ),
        ] {
            assert_eq!(after(schedule, time), want, "{schedule} {time}");
        }
    }

    #[test]
    fn times_are_told_in_their_zone() {
        let time: Timestamp = "2026-07-01T10:00:00Z".parse().unwrap();
        assert_eq!(rfc3339(time, Tz::UTC), "2026-07-01T10:00:00Z");
        assert_eq!(
            rfc3339(time, zone("Europe/Berlin").unwrap()),
            "2026-07-01T12:00:00+02:00"
        );
        assert!(zone("Mars/Base").is_none());
    }
}
