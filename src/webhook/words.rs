//! What ACS says about a delivery, reduced to ordinary words before anything else sees it.
//!
//! Such a text may repeat a number or an address, which must not reach a record's failure or a log. Used by `read`.

/// The longest text that is kept, in characters.
const MAX_TEXT: usize = 300;
/// The longest code.
const MAX_CODE: usize = 64;

/// A code: letters, digits, `.`, `_`, `-`.
pub(super) fn code(text: &str) -> String {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text.chars().filter(allowed).take(MAX_CODE).collect()
}

/// A text of ordinary words and short numbers; anything else becomes `…`.
pub(super) fn ordinary(text: &str) -> String {
    let text: String = text.chars().take(4 * MAX_TEXT).collect();
    let words: Vec<&str> =
        text.split_whitespace().map(|word| if is_ordinary(word) { word } else { "…" }).collect();
    words.join(" ").chars().take(MAX_TEXT).collect()
}

fn is_ordinary(word: &str) -> bool {
    let core = word.trim_matches(|c: char| c.is_ascii_punctuation());
    let digits = core.bytes().filter(u8::is_ascii_digit).count();
    core.len() <= 32
        && digits <= 4
        && !word.contains(['@', '+'])
        && core.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '\'' | ':' | ','))
        && !(core.contains('.') && core.chars().any(|c| c.is_ascii_alphabetic()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_and_short_codes_stay_and_numbers_and_addresses_go() {
        assert_eq!(ordinary("No error."), "No error.");
        assert_eq!(ordinary("4001: Message blocked, try later."), "4001: Message blocked, try later.");
        assert_eq!(ordinary("DestinationMailboxFull"), "DestinationMailboxFull");
        assert_eq!(ordinary("to +14255550123 failed"), "to … failed");
        assert_eq!(ordinary("550 5.1.1 <someone@contoso.com> unknown"), "550 5.1.1 … unknown");
        assert_eq!(ordinary("see mail.contoso.com/x?y"), "see …");
        assert_eq!(ordinary("call 1(425)555-0123"), "call …");
        assert_eq!(code("Filtered Spam\n"), "FilteredSpam");
    }

    proptest! {
        #[test]
        fn no_text_brings_a_number_an_address_or_a_control_character_through(
            text in ".{0,80}", number in "\\+?[1-9][0-9]{6,14}", name in "[a-z]{1,10}",
        ) {
            let address = format!("{name}@contoso.com");
            let reduced = ordinary(&format!("{text} {number} {address}\n{text}"));
            prop_assert!(!reduced.contains(&number) && !reduced.contains(&address));
            prop_assert!(!reduced.contains(char::is_control));
            prop_assert!(reduced.chars().count() <= MAX_TEXT);
        }
    }
}
