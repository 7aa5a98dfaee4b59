//! The parts of a mail as answers: its source, its files, and its HTML in a document that can do nothing.
//!
//! No answer from here is a document: a mail's HTML goes as plain text, for the page to put behind its walls. (Chromium
//! connects ahead to the addresses of frames before it asks whether a policy allows them, so that a policy alone is not
//! enough for a document that is opened by itself.) Pictures that the mail carries are put in place; nothing else of it is
//! rewritten here. Names of files are cleaned of all that a file system or a header could trip over. Pure. Used by `inbox`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::super::answer::{self, Answer};
use super::super::email::Attachment;
use super::guarded;

/// More attachments than this are not looked at for pictures.
pub(super) const MOST_ATTACHMENTS: usize = 500;
/// A preview grows no larger than this: a small mail may name a large picture many times.
const LARGEST_PREVIEW: usize = 32 * 1024 * 1024;
/// More places of pictures than this are left alone.
const MOST_PLACES: usize = 5_000;
/// The longest name of a file, in characters.
const LONGEST_NAME: usize = 120;
/// The pictures that are put in place. SVG is not among them, for it is a document.
const PICTURES: [&str; 6] = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/avif"];

/// None of this is to be rendered.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'; sandbox";

/// What stays as it is in the name of a file in a header (RFC 8187).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// The request that the mail came in.
pub(super) fn source(source: String) -> Answer {
    guarded(answer::content("text/plain; charset=utf-8", source), NOTHING)
}

/// A file to be kept, never to be opened: whatever it says it is, it goes as bytes.
pub(super) fn attachment(file: Attachment) -> Answer {
    let name = file_name(&file.name);
    let ascii: String = name.chars().map(|c| if c.is_ascii() { c } else { '_' }).collect();
    let encoded = utf8_percent_encode(&name, PLAIN);
    guarded(answer::content("application/octet-stream", file.bytes), NOTHING).with_header(
        "content-disposition",
        format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{encoded}"),
    )
}

/// The HTML of the mail as text, with the pictures it carries in place.
pub(super) fn preview(html: &str, files: impl Iterator<Item = Attachment>) -> Answer {
    let mut pictures: Vec<(String, String)> = Vec::new();
    for Attachment { content_id: id, content_type, bytes, .. } in files {
        let id = id.unwrap_or_default().trim_matches(['<', '>']).to_owned();
        let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if !id.is_empty() && PICTURES.contains(&media_type.as_str()) && bytes.len() <= LARGEST_PREVIEW {
            pictures.push((id, format!("data:{media_type};base64,{}", STANDARD.encode(bytes))));
        }
    }
    // The longest id first, so that `logo` does not take the place of `logo-2`.
    pictures.sort_by_key(|(id, _)| std::cmp::Reverse(id.len()));
    guarded(answer::content("text/plain; charset=utf-8", with_pictures(html, &pictures)), NOTHING)
}

/// Replaces `cid:<id>` by the picture, as long as that fits.
fn with_pictures(html: &str, pictures: &[(String, String)]) -> String {
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    if pictures.is_empty() {
        return html.to_owned();
    }
    for _ in 0..MOST_PLACES {
        let Some(at) = find_scheme(rest) else { break };
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let (scheme, after) = from.split_at("cid:".len());
        match pictures.iter().find(|(id, _)| after.starts_with(id.as_str())) {
            Some((id, picture)) if out.len().saturating_add(picture.len()) <= LARGEST_PREVIEW => {
                out.push_str(picture);
                rest = after.strip_prefix(id.as_str()).unwrap_or(after);
            }
            _ => {
                out.push_str(scheme);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Where `cid:` is, in any case.
fn find_scheme(text: &str) -> Option<usize> {
    text.as_bytes().windows(4).position(|four| four.eq_ignore_ascii_case(b"cid:"))
}

/// A name that is one file in one folder on any system, says what it is, and cannot be read backwards.
pub(super) fn file_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept: String = last
        .chars()
        .filter(|c| !c.is_control() && !turns_text(*c))
        .map(|c| if "<>:\"|?*%;'`$&".contains(c) { '_' } else { c })
        .collect();
    let kept = kept.trim_matches(|c: char| c == '.' || c.is_whitespace());
    let count = kept.chars().count();
    let kept: String = if count > LONGEST_NAME {
        // The ending is what a system opens the file by: it is kept.
        let half = LONGEST_NAME / 2;
        kept.chars().take(half).chain(kept.chars().skip(count.saturating_sub(half))).collect()
    } else {
        kept.to_owned()
    };
    let stem = kept.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let is_device = matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL")
        || (stem.len() == 4
            && (stem.starts_with("COM") || stem.starts_with("LPT"))
            && stem.ends_with(|c: char| c.is_ascii_digit()));
    match kept.as_str() {
        "" => "attachment".to_owned(),
        kept if is_device => format!("_{kept}"),
        kept => kept.to_owned(),
    }
}

/// Characters that are not seen and change how the rest is seen.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
#[path = "mail_tests.rs"]
pub(super) mod tests;
