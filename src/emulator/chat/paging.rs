//! Pages of lists: what a request asks for, and the link to the next page.
//!
//! Pure. The link is absolute and opaque to callers; thread ids stand in it unescaped, as in recorded answers. Used by
//! the operations that list.

use super::refusal::{self, Refusal};
use super::times;
use crate::clock::Timestamp;
use crate::emulator::call::Call;

/// The largest page; who asks for more gets this.
const MAX_PAGE: usize = 200;
/// What a place in a list begins with, so that a foreign text is told from it.
const MARK: &str = "3e470000";

/// How many items a page may have: `maxPageSize`, or what the list has without it.
pub(super) fn size(call: &Call<'_>, without: usize) -> Result<usize, Refusal> {
    match call.query("maxPageSize") {
        None => Ok(without),
        Some(text) => match text.parse::<usize>() {
            Ok(size) if size > 0 => Ok(size.min(MAX_PAGE)),
            _ => Err(refusal::bad_request("The query parameter maxPageSize must be a number of at least 1.")),
        },
    }
}

/// How many items to leave out.
pub(super) fn skip(call: &Call<'_>) -> Result<usize, Refusal> {
    match call.query("skip") {
        None => Ok(0),
        Some(text) => text
            .parse()
            .map_err(|_| refusal::bad_request("The query parameter skip must be a number of at least 0.")),
    }
}

/// The earliest time that is wanted. Links to next pages have it in epoch milliseconds.
pub(super) fn start_time(call: &Call<'_>) -> Result<Option<Timestamp>, Refusal> {
    let Some(text) = call.query("startTime") else { return Ok(None) };
    let millis = || text.parse().ok().map(Timestamp::from_millis);
    match times::read(&text).or_else(millis) {
        Some(time) => Ok(Some(time)),
        None => Err(refusal::bad_request("The query parameter startTime must be a date and time.")),
    }
}

/// The place in a list from which to go on.
pub(super) fn place(call: &Call<'_>) -> Result<Option<u64>, Refusal> {
    let Some(text) = call.query("syncState") else { return Ok(None) };
    read_place(&text)
        .map(Some)
        .ok_or_else(|| refusal::bad_request("The query parameter syncState is not valid."))
}

fn read_place(text: &str) -> Option<u64> {
    let digits = text.strip_prefix(MARK).filter(|digits| digits.len() == 16)?;
    // No sign, no upper case: a place is written one way.
    let is_hex = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex { u64::from_str_radix(digits, 16).ok() } else { None }
}

fn write_place(place: u64) -> String {
    format!("{MARK}{place:016x}")
}

/// The link to the page that begins at a place; `path` is what follows the host.
pub(super) fn link_to_place(
    call: &Call<'_>,
    path: &str,
    place: u64,
    size: usize,
    start: Option<Timestamp>,
) -> String {
    let (base, version) = (call.base, call.version.text());
    let (place, start) = (write_place(place), start.unwrap_or_default().as_millis());
    format!("{base}{path}?syncState={place}&startTime={start}&maxPageSize={size}&api-version={version}")
}

/// A page of a short list that is counted from its beginning, and the link to the next.
pub(super) fn by_count<T>(
    call: &Call<'_>,
    path: &str,
    size: usize,
    items: impl Iterator<Item = T>,
) -> Result<(Vec<T>, Option<String>), Refusal> {
    let skip = skip(call)?;
    let mut rest = items.skip(skip);
    let page: Vec<T> = rest.by_ref().take(size).collect();
    let next = rest.next().map(|_| {
        let (base, version, skip) = (call.base, call.version.text(), skip.saturating_add(size));
        format!("{base}{path}?skip={skip}&maxPageSize={size}&api-version={version}")
    });
    Ok((page, next))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_place_is_read_as_it_was_written(place: u64) {
            prop_assert_eq!(read_place(&write_place(place)), Some(place));
        }

        #[test]
        fn no_text_is_read_as_another_place(text in "(3e470000)?[0-9a-fA-F+-]{0,18}") {
            if let Some(place) = read_place(&text) {
                prop_assert_eq!(write_place(place), text);
            }
        }
    }
}
