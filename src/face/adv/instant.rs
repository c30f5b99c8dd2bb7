//! Instants as RFC 3339 writes them.

use std::time::Duration;

use jiff::civil::Date;

/// Nanoseconds since the Unix epoch.
pub(in crate::face) type Instant = i128;

const SECOND: i128 = 1_000_000_000;
const MILLISECOND: i128 = 1_000_000;
const DAY: i128 = 86_400;

/// The instant that a text names; none when it is no date-time of RFC 3339 with an upper-case `T`,
/// `Z` or an offset, and up to nine digits of a second's fraction.
pub(in crate::face) fn parse(text: &str) -> Option<Instant> {
    let (date, time) = text.split_at_checked(10)?;
    let [year, month, day] = fields::<3>(date, &[4, 2, 2], '-')?;
    let date =
        Date::new(year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?).ok()?;
    let (time, rest) = time.strip_prefix('T')?.split_at_checked(8)?;
    let [hour, minute, second] = fields::<3>(time, &[2, 2, 2], ':')?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => {
            let end = rest.find(|letter: char| !letter.is_ascii_digit())?;
            let (digits, zone) = rest.split_at_checked(end)?;
            (nanoseconds(digits)?, zone)
        }
        None => (0, rest),
    };
    let offset = offset(zone)?;
    let days = date.duration_since(Date::constant(1970, 1, 1)).as_hours() / 24;
    let whole = i128::from(days) * DAY + i128::from(hour * 3_600 + minute * 60 + second)
        - i128::from(offset) * 60;
    // A leap second ends a month in UTC, and is over at the instant that follows it.
    if second == 60 && (whole.rem_euclid(DAY) != 0 || !begins_month(whole)) {
        return None;
    }
    Some(whole * SECOND + i128::from(fraction))
}

/// A time of our clock, which counts milliseconds.
pub(in crate::face) fn of_millis(millis: u64) -> Instant {
    i128::from(millis) * MILLISECOND
}

/// The first millisecond of our clock at which the instant has come.
pub(in crate::face) fn to_millis(instant: Instant) -> u64 {
    let rounded_up =
        instant.div_euclid(MILLISECOND) + i128::from(instant.rem_euclid(MILLISECOND) != 0);
    u64::try_from(rounded_up.max(0)).unwrap_or(u64::MAX)
}

/// A length of time.
pub(in crate::face) fn of(length: Duration) -> Instant {
    i128::try_from(length.as_nanos()).unwrap_or(Instant::MAX / 4)
}

/// A time of our clock in UTC and whole seconds: `2030-01-01T00:00:03Z`.
pub(in crate::face) fn written(millis: u64) -> String {
    let seconds = i64::try_from(millis / 1_000).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn begins_month(seconds: i128) -> bool {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .is_some_and(|at| at.to_zoned(jiff::tz::TimeZone::UTC).day() == 1)
}

/// Numbers of a fixed number of digits each, and the same sign between them.
fn fields<const N: usize>(text: &str, digits: &[usize; N], between: char) -> Option<[u32; N]> {
    let mut parts = text.split(between);
    let mut numbers = [0; N];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == *digits)?;
        *number = all_digits(part).then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(numbers)
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn nanoseconds(digits: &str) -> Option<u32> {
    if !all_digits(digits) || digits.len() > 9 {
        return None;
    }
    format!("{digits:0<9}").parse().ok()
}

/// Minutes that a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i32> {
    if zone == "Z" {
        return Some(0);
    }
    let ahead = zone.strip_prefix('+').map(|rest| (1, rest));
    let (sign, rest) = ahead.or_else(|| zone.strip_prefix('-').map(|rest| (-1, rest)))?;
    let [hours, minutes] = fields::<2>(rest, &[2, 2], ':')?;
    let minutes = i32::try_from(hours * 60 + minutes).ok().filter(|_| minutes < 60)?;
    (hours < 24).then_some(sign * minutes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_as_the_same_instant() {
        let at = parse("2030-01-01T00:00:03Z").unwrap();
        assert_eq!(at, 1_893_456_003 * SECOND);
        for same in [
            "2030-01-01T01:00:03+01:00",
            "2029-12-31T23:59:03-00:01",
            "2030-01-01T00:00:03.000000000-00:00",
        ] {
            assert_eq!(parse(same), Some(at), "{same}");
        }
        assert_eq!(parse("2030-01-01T00:00:03.000000001Z"), Some(at + 1));
        assert_eq!(parse("2030-01-01T00:00:03.5Z"), Some(at + SECOND / 2));
        assert_eq!(written(1_893_456_003_999), "2030-01-01T00:00:03Z");
        for edge in [
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999999-23:59",
            "2028-02-29T00:00:00Z",
            "2016-12-31T23:59:60Z",
            "2017-01-01T00:59:60+01:00",
        ] {
            assert!(parse(edge).is_some(), "{edge}");
        }
    }

    #[test]
    fn what_is_no_date_time_is_refused() {
        for wrong in [
            "",
            "2030-01-01",
            "2030-01-01T00:00:03",
            "2030-01-01t00:00:03Z",
            "2030-01-01T00:00:03z",
            "2030-01-01 00:00:03Z",
            "2030-13-01T00:00:00Z",
            "2030-00-01T00:00:00Z",
            "2030-02-29T00:00:00Z",
            "2030-01-32T00:00:00Z",
            "2030-01-01T24:00:00Z",
            "2030-01-01T00:60:00Z",
            "2030-01-01T00:00:61Z",
            "2030-01-01T00:00:60Z",
            "2030-01-02T23:59:60Z",
            "2030-01-01T00:00:03.Z",
            "2030-01-01T00:00:03.0000000000Z",
            "2030-01-01T00:00:03,5Z",
            "2030-01-01T00:00:03+1:00",
            "2030-01-01T00:00:03+24:00",
            "2030-01-01T00:00:03+00:60",
            "2030-01-01T00:00:03+0000",
            "2030-01-01T00:00:03Z ",
            " 2030-01-01T00:00:03Z",
            "2030-1-01T00:00:003Z",
            "+030-01-01T00:00:03Z",
            "2030-01-01T00:00:03Zé",
            "２030-01-01T00:00:03Z",
            "2030-01-01T0é:00:03Z",
            "2030-01-01T00:00:03.5",
            "12030-01-01T00:00:03Z",
            "2030-01-01T+1:00:03Z",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn milliseconds_are_rounded_to_when_it_has_come() {
        assert_eq!(to_millis(5 * MILLISECOND), 5);
        assert_eq!(to_millis(5 * MILLISECOND + 1), 6);
        assert_eq!(to_millis(-1), 0);
    }
}
