//! Times as Chat writes and reads them: whole seconds and `Z` in bodies, milliseconds in events.
//!
//! Pure. No time, however far off, makes them fail. Used by every part of `chat`.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock::Timestamp;

/// The end of the year 9999, beyond which no date format here can write.
const LAST_MILLISECOND: u64 = 253_402_300_799_999;

/// A time as bodies write it: `2026-11-22T12:00:00Z`.
pub(super) fn seconds(time: Timestamp) -> String {
    format!("{}Z", to_the_second(time))
}

/// A time as events write it: `2026-11-22T12:00:00.123Z`.
pub(super) fn millis(time: Timestamp) -> String {
    format!("{}.{:03}Z", to_the_second(time), time.as_millis().min(LAST_MILLISECOND) % 1000)
}

fn to_the_second(time: Timestamp) -> String {
    let seconds = i64::try_from(time.as_millis().min(LAST_MILLISECOND) / 1000).unwrap_or_default();
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (month, day) = (u8::from(at.month()), at.day());
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    format!("{:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}", at.year())
}

/// A time of a request, in the form of RFC 3339; without an offset it is UTC. What lies before 1970 is 1970.
pub(super) fn read(text: &str) -> Option<Timestamp> {
    // A plus sign that was not escaped in a query arrives as a space.
    let text = text.trim().replace(' ', "+");
    let at = OffsetDateTime::parse(&text, &Rfc3339)
        .or_else(|_| OffsetDateTime::parse(&format!("{text}Z"), &Rfc3339))
        .ok()?;
    let millis = at.unix_timestamp_nanos().div_euclid(1_000_000).max(0);
    Some(Timestamp::from_millis(u64::try_from(millis).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_have_whole_seconds_in_bodies_and_milliseconds_in_events() {
        let time = Timestamp::from_millis(1_668_592_082_723);
        assert_eq!(seconds(time), "2022-11-16T09:48:02Z");
        assert_eq!(millis(time), "2022-11-16T09:48:02.723Z");
        assert_eq!(seconds(Timestamp::default()), "1970-01-01T00:00:00Z");
        assert_eq!(seconds(Timestamp::from_millis(u64::MAX)), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn times_are_read_in_every_form_that_sdks_write() {
        let time = Some(Timestamp::from_millis(1_668_592_082_000));
        for text in [
            "2022-11-16T09:48:02Z",
            "2022-11-16T09:48:02.000Z",
            "2022-11-16T09:48:02.0000000Z",
            "2022-11-16T09:48:02+00:00",
            "2022-11-16T09:48:02 00:00",
            "2022-11-16T10:48:02+01:00",
            "2022-11-16T09:48:02",
        ] {
            assert_eq!(read(text), time, "{text}");
        }
        assert_eq!(read("0001-01-01T00:00:00Z"), Some(Timestamp::default()));
        for text in ["", "yesterday", "2022-11-16", "2022-13-16T09:48:02Z", "1668592082"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(millis_of in 0..=LAST_MILLISECOND) {
            let time = Timestamp::from_millis(millis_of);
            prop_assert_eq!(read(&millis(time)), Some(time));
            prop_assert_eq!(read(&seconds(time)), Some(Timestamp::from_millis(millis_of / 1000 * 1000)));
        }

        #[test]
        fn no_text_makes_reading_fail(text in ".{0,40}") {
            let _ = read(&text);
        }
    }
}
