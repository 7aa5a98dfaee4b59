//! How a text travels: its encoding, and into how many segments it is cut.
//!
//! Pure. As 3GPP TS 23.038 and 23.040 say: GSM-7 if every character has a place in it, else UCS-2; a message of more
//! than one segment loses some of each to the header that joins them. Used by `sms`.

/// The basic alphabet of GSM-7 beyond letters, digits and what both alphabets have in common.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./:;<=>?¡ÄÖÑÜ§¿äöñüà";
/// Characters of the extension table: they take two places.
const EXTENDED: &str = "\u{c}^{}\\[~]|€";

/// The encoding of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Gsm7,
    Ucs2,
}

impl Encoding {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Gsm7 => "GSM-7",
            Self::Ucs2 => "UCS-2",
        }
    }
}

/// The encoding of `text` and how many segments it takes, at least one.
pub(super) fn segments(text: &str) -> (Encoding, u32) {
    let septets: Option<Vec<usize>> = text.chars().map(septets).collect();
    match septets {
        Some(widths) => (Encoding::Gsm7, cut(&widths, 160, 153)),
        None => {
            let widths: Vec<usize> = text.chars().map(char::len_utf16).collect();
            (Encoding::Ucs2, cut(&widths, 70, 67))
        }
    }
}

/// The length of a text as limits count it: in UTF-16 units.
pub(super) fn length(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// How many places a character takes in GSM-7; nothing: it has none.
fn septets(c: char) -> Option<usize> {
    if c.is_ascii_alphanumeric() || BASIC.contains(c) { Some(1) } else { EXTENDED.contains(c).then_some(2) }
}

/// Into how many segments characters of these widths are cut: one of `single`, or several of `part`. A character is
/// never cut in two.
fn cut(widths: &[usize], single: usize, part: usize) -> u32 {
    if widths.iter().sum::<usize>() <= single {
        return 1;
    }
    let (mut segments, mut filled) = (1_u32, 0_usize);
    for width in widths {
        filled = filled.saturating_add(*width);
        if filled > part {
            segments = segments.saturating_add(1);
            filled = *width;
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_cut_where_the_standard_says() {
        use Encoding::{Gsm7, Ucs2};
        for (text, expected) in [
            (String::new(), (Gsm7, 1)),
            ("a".repeat(160), (Gsm7, 1)),
            ("a".repeat(161), (Gsm7, 2)),
            ("a".repeat(306), (Gsm7, 2)),
            ("a".repeat(307), (Gsm7, 3)),
            ("€".repeat(80), (Gsm7, 1)),
            ("€".repeat(81), (Gsm7, 2)),
            // 76 fit into a part of 153: the last place stays empty.
            ("€".repeat(153), (Gsm7, 3)),
            ("é{}\n".repeat(20), (Gsm7, 1)),
            ("Grüße".into(), (Gsm7, 1)),
            ("ç".into(), (Ucs2, 1)),
            ("ж".repeat(70), (Ucs2, 1)),
            ("ж".repeat(71), (Ucs2, 2)),
            ("ж".repeat(135), (Ucs2, 3)),
            ("😀".repeat(35), (Ucs2, 1)),
            // 33 fit into a part of 67.
            ("😀".repeat(67), (Ucs2, 3)),
        ] {
            assert_eq!(segments(&text), expected, "{} × {:?}", text.chars().count(), text.chars().next());
        }
        assert_eq!(length("a😀"), 3);
    }

    proptest! {
        #[test]
        fn a_longer_text_never_takes_fewer_segments(text in "\\PC{0,400}", more in "[a-zA-Z€ж😀]{0,3}") {
            let (encoding, count) = segments(&text);
            let longer = segments(&format!("{text}{more}"));
            prop_assert!(count >= 1);
            prop_assert!(longer.1 >= count);
            prop_assert!(encoding == Encoding::Gsm7 || longer.0 == Encoding::Ucs2);
        }
    }
}
