//! Times as ACS writes them: in bodies and in headers.
//!
//! Pure. No time, however far off, makes them fail. Used by every service.

use crate::clock::Timestamp;

/// The end of the year 9999, beyond which no date format here can write.
const LAST_MILLISECOND: u64 = 253_402_300_799_999;

/// A time as bodies write it: UTC, seven fractional digits, `+00:00`.
pub(super) fn iso_8601(time: Timestamp) -> String {
    let millis = time.as_millis().min(LAST_MILLISECOND);
    let seconds = i64::try_from(millis / 1000).unwrap_or_default();
    let at = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}0000+00:00",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        millis % 1000
    )
}

/// A time as headers write it.
pub(super) fn http_date(time: Timestamp) -> String {
    httpdate::fmt_http_date(Timestamp::from_millis(time.as_millis().min(LAST_MILLISECOND)).to_system_time())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_seven_fractional_digits_and_an_offset() {
        assert_eq!(iso_8601(Timestamp::from_millis(1_668_592_082_723)), "2022-11-16T09:48:02.7230000+00:00");
        assert_eq!(iso_8601(Timestamp::from_millis(0)), "1970-01-01T00:00:00.0000000+00:00");
        assert_eq!(iso_8601(Timestamp::from_millis(u64::MAX)), "9999-12-31T23:59:59.9990000+00:00");
        assert_eq!(http_date(Timestamp::from_millis(u64::MAX)), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
