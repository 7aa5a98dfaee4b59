//! Whether a file is what its media type says, as far as its first bytes can tell.
//!
//! Pure. A file that claims to be a picture and is not is what mail filters look for; ACS takes it and the recipients'
//! servers do not. Types whose beginning is not fixed are believed. Used by `email`.

/// How files of a type begin; each type with all its beginnings.
const BEGINNINGS: [(&str, &[&[u8]]); 9] = [
    ("application/gzip", &[b"\x1f\x8b"]),
    ("application/pdf", &[b"%PDF-"]),
    ("application/zip", &[b"PK\x03\x04", b"PK\x05\x06"]),
    ("image/bmp", &[b"BM"]),
    ("image/gif", &[b"GIF87a", b"GIF89a"]),
    ("image/jpeg", &[b"\xff\xd8\xff"]),
    ("image/jpg", &[b"\xff\xd8\xff"]),
    ("image/png", &[b"\x89PNG\r\n\x1a\n"]),
    ("image/tiff", &[b"II*\0", b"MM\0*"]),
];

/// Programs: what they begin with on Windows and Linux. No type but the general one is true of them.
const PROGRAMS: [&[u8]; 2] = [b"MZ\x90\0", b"\x7fELF"];

/// Whether the content cannot be of that type.
pub(super) fn is_a_lie(content_type: &str, content: &[u8]) -> bool {
    let name = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let known = BEGINNINGS.iter().find(|(known, _)| *known == name);
    let begins = |with: &&[u8]| content.starts_with(with);
    match known {
        Some((_, beginnings)) => !beginnings.iter().any(begins),
        None => {
            ["text/", "image/", "audio/", "video/"].iter().any(|kind| name.starts_with(kind))
                && PROGRAMS.iter().any(begins)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_file_must_begin_as_its_type_does() {
        for (content_type, content, lie) in [
            ("image/png", &b"\x89PNG\r\n\x1a\n.."[..], false),
            ("IMAGE/PNG; x=y", b"\x89PNG\r\n\x1a\n..", false),
            ("image/png", b"\xff\xd8\xff..", true),
            ("image/png", b"", true),
            ("application/pdf", b"%PDF-1.7", false),
            ("application/pdf", b"<html>", true),
            ("image/jpeg", b"MZ\x90\0", true),
            ("text/plain", b"MZ\x90\0", true),
            ("text/plain", b"%PDF-1.7 is how it begins", false),
            ("application/octet-stream", b"MZ\x90\0", false),
            ("application/x-of-our-own", b"", false),
        ] {
            assert_eq!(is_a_lie(content_type, content), lie, "{content_type}");
        }
    }

    proptest! {
        #[test]
        fn no_type_or_content_panics(content_type in ".*", content in proptest::collection::vec(any::<u8>(), 0..32)) {
            let _ = is_a_lie(&content_type, &content);
        }
    }
}
