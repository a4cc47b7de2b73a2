//! Calendar time in UTC: WASI knows no other.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const DAY: i64 = 86_400;
/// What `ls` takes for so long ago that the year says more than the hour.
const HALF_A_YEAR: Duration = Duration::from_secs(182 * 86_400);

/// A moment, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    /// Seconds since 1970.
    pub(crate) unix: i64,
    nanoseconds: u32,
    year: i64,
    month: usize,
    day: i64,
    second_of_day: i64,
}

impl Civil {
    /// The moment of `time`.
    pub(crate) fn of(time: SystemTime) -> Self {
        let (unix, nanoseconds) = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => (
                i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                after.subsec_nanos(),
            ),
            Err(before) => (
                i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
                0,
            ),
        };
        let days = unix.div_euclid(DAY);
        // Years that begin in March have their odd day at the end; 400 of them are one era.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = (month_from_march + 2) % 12;
        Self {
            unix,
            nanoseconds,
            year: year_of_era + era * 400 + i64::from(month < 2),
            month: usize::try_from(month).unwrap_or(0),
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
            second_of_day: unix.rem_euclid(DAY),
        }
    }

    fn clock(self) -> (i64, i64, i64) {
        (
            self.second_of_day / 3600,
            self.second_of_day / 60 % 60,
            self.second_of_day % 60,
        )
    }

    /// As in a line of `ls -l`: with the hour, or with the year if it was long ago or is to come.
    pub(crate) fn listed(self, time: SystemTime, now: SystemTime) -> String {
        let (hour, minute, _) = self.clock();
        let recent = match now.duration_since(time) {
            Ok(age) => age < HALF_A_YEAR,
            Err(ahead) => ahead.duration() < Duration::from_secs(3600),
        };
        let month = MONTHS[self.month];
        if recent {
            format!("{month} {:2} {hour:02}:{minute:02}", self.day)
        } else {
            format!("{month} {:2}  {}", self.day, self.year)
        }
    }

    /// `2026-11-21 16:53:14.123456789 +0000`
    pub(crate) fn full(self) -> String {
        let (hour, minute, second) = self.clock();
        format!(
            "{}-{:02}-{:02} {hour:02}:{minute:02}:{second:02}.{:09} +0000",
            self.year,
            self.month + 1,
            self.day,
            self.nanoseconds
        )
    }

    /// `2026-11-21 16:53`
    pub(crate) fn minute(self) -> String {
        self.full()[..16].to_owned()
    }

    /// As `date` shows it, with the letters of `strftime`.
    pub(crate) fn format(self, format: &str) -> String {
        let (hour, minute, second) = self.clock();
        let mut text = String::new();
        let mut letters = format.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                text.push(letter);
                continue;
            }
            text.push_str(&match letters.next() {
                Some('Y') => self.year.to_string(),
                Some('m') => format!("{:02}", self.month + 1),
                Some('d') => format!("{:02}", self.day),
                Some('e') => format!("{:2}", self.day),
                Some('H') => format!("{hour:02}"),
                Some('M') => format!("{minute:02}"),
                Some('S') => format!("{second:02}"),
                Some('N') => format!("{:09}", self.nanoseconds),
                Some('s') => self.unix.to_string(),
                Some('F') => self.format("%Y-%m-%d"),
                Some('T') => self.format("%H:%M:%S"),
                Some('b') => MONTHS[self.month].to_owned(),
                Some('a') => {
                    let day = (self.unix.div_euclid(DAY) + 4).rem_euclid(7);
                    DAYS[usize::try_from(day).unwrap_or(0)].to_owned()
                }
                Some('Z') => "UTC".to_owned(),
                Some('z') => "+0000".to_owned(),
                Some('n') => "\n".to_owned(),
                Some('t') => "\t".to_owned(),
                Some('%') | None => "%".to_owned(),
                Some(other) => format!("%{other}"),
            });
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(unix: u64) -> Civil {
        Civil::of(UNIX_EPOCH + Duration::from_secs(unix))
    }

    #[test]
    fn moments() {
        assert_eq!(at(0).full(), "1970-01-01 00:00:00.000000000 +0000");
        assert_eq!(
            at(951_782_400).format("%a %b %e %T %Z %Y"),
            "Tue Feb 29 00:00:00 UTC 2000"
        );
        assert_eq!(at(1_795_280_354).minute(), "2026-11-21 16:59");
        assert_eq!(at(4_107_542_399).format("%F %T"), "2100-02-28 23:59:59");
        assert_eq!(at(4_107_542_400).format("%F"), "2100-03-01");
        let before = Civil::of(UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(before.format("%F %T %s"), "1969-12-31 23:59:59 -1");
    }

    #[test]
    fn long_ago_is_told_by_the_year() {
        let then = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let day = Duration::from_secs(86_400);
        assert_eq!(Civil::of(then).listed(then, then + day), "Sep  9 01:46");
        assert_eq!(
            Civil::of(then).listed(then, then + day * 200),
            "Sep  9  2001"
        );
        assert_eq!(Civil::of(then).listed(then, then - day), "Sep  9  2001");
    }
}
