//! The calendar. Moments are written as RFC 3339 has them, in UTC with milliseconds, and read in no other way, so that in records a moment has one text
//! only; the cloud's API has them to the second or the minute.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

const DAY_MS: u64 = 86_400_000;
/// The last moment that has four digits for its year.
const LAST_MS: u64 = 253_402_300_799_999;

/// A day of the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// The year.
    pub year: u64,
    /// From 1 on.
    pub month: u64,
    /// From 1 on.
    pub day: u64,
}

impl Date {
    /// The day that begins so many days after 1970-01-01.
    pub fn of_day(day: u64) -> Self {
        // Days since 0000-03-01 in years of 365 or 366 days that end with February (H. Hinnant, "chrono-compatible low-level date algorithms").
        let days = day + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let (day, month) = (day_of_year - (153 * march_month + 2) / 5 + 1, (march_month + 2) % 12 + 1);
        Self { year: era * 400 + year_of_era + u64::from(month <= 2), month, day }
    }

    /// The days since 1970-01-01; `None` before that.
    fn days(self) -> Option<u64> {
        let year = if self.month <= 2 { self.year.checked_sub(1)? } else { self.year };
        let march_month = (self.month + 9) % 12;
        let day_of_year = (153 * march_month + 2) / 5 + self.day.checked_sub(1)?;
        let year_of_era = year % 400;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        (year / 400 * 146_097 + day_of_era).checked_sub(719_468)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// A month, which usage is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    year: u64,
    month: u64,
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// A moment between 1970 and 9999, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Time {
    ms: u64,
}

impl Time {
    /// By the system's clock, which may be wrong and may be set back: the order of records is told by their numbers.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::from_ms(u64::try_from(since.as_millis()).unwrap_or(LAST_MS))
    }

    /// So many milliseconds after 1970 began.
    pub fn from_ms(ms: u64) -> Self {
        Self { ms: ms.min(LAST_MS) }
    }

    /// So many seconds after 1970 began.
    pub fn from_seconds(seconds: u64) -> Self {
        Self::from_ms(seconds.saturating_mul(1000))
    }

    /// Whole seconds since 1970 began.
    pub fn seconds(self) -> u64 {
        self.ms / 1000
    }

    /// To the second: `2018-06-07T06:08:54Z`.
    pub fn to_second(self) -> String {
        let text = self.to_string();
        format!("{}Z", &text[..19])
    }

    /// To the minute: `2018-06-07T06:08Z`.
    pub fn to_minute(self) -> String {
        let text = self.to_string();
        format!("{}Z", &text[..16])
    }

    /// The month in UTC.
    pub fn month(self) -> Month {
        let Date { year, month, .. } = Date::of_day(self.ms / DAY_MS);
        Month { year, month }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (date, ms) = (Date::of_day(self.ms / DAY_MS), self.ms % DAY_MS);
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        write!(f, "{date}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text.as_bytes()).ok_or_else(|| format!("{text:?} is no time such as 2026-11-25T22:07:01.123Z"))
    }
}

fn parse(text: &[u8]) -> Option<Time> {
    const SHAPE: &[u8; 24] = b"0000-00-00T00:00:00.000Z";
    let fits = |(byte, shape): (&u8, &u8)| if *shape == b'0' { byte.is_ascii_digit() } else { byte == shape };
    if text.len() != SHAPE.len() || !text.iter().zip(SHAPE).all(fits) {
        return None;
    }
    let number = |from: usize, to: usize| text[from..to].iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0'));
    let date = Date { year: number(0, 4), month: number(5, 7), day: number(8, 10) };
    let (hour, minute, second) = (number(11, 13), number(14, 16), number(17, 19));
    // Neither a 30th of February nor a leap second, which the system's clock does not tell.
    let day = date.days().filter(|day| Date::of_day(*day) == date)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some(Time::from_ms(day * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000 + number(20, 23)))
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.to_string()
    }
}

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        // date -u -d @SECONDS +%Y-%m-%dT%H:%M:%S.%3NZ
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (4_107_542_400_001, "2100-03-01T00:00:00.001Z"),
            (LAST_MS, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Time::from_ms(ms).to_string(), text);
            assert_eq!(text.parse(), Ok(Time::from_ms(ms)));
        }
        assert_eq!(Time::from_ms(u64::MAX), Time::from_ms(LAST_MS));
        assert_eq!(Time::from_ms(951_782_400_000).month().to_string(), "2000-02");
    }

    #[test]
    fn every_day_has_its_number() {
        for day in 0..=LAST_MS / DAY_MS {
            assert_eq!(Date::of_day(day).days(), Some(day));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "2026-11-25T22:07:01Z",
            "2026-11-25 22:07:01.123Z",
            "2026-02-29T00:00:00.000Z",
            "2026-13-01T00:00:00.000Z",
            "2026-00-01T00:00:00.000Z",
            "2026-01-00T00:00:00.000Z",
            "0000-01-01T00:00:00.000Z",
            "1969-12-31T00:00:00.000Z",
            "2026-01-01T24:00:00.000Z",
            "2026-01-01T00:00:60.000Z",
            "+026-01-01T00:00:00.000Z",
        ] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }
}
