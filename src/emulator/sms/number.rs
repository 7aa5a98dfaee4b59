//! Phone numbers and senders: which are well-formed, and of which kind.
//!
//! Pure. Numbers of the North American plan have an exchange that begins with 2 to 9, which is what tells the refused
//! number of the recordings from the accepted ones of the published examples; of other countries only the length is known. Used by `sms`.

/// What a sender is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// A number in E.164 form.
    Number,
    /// Five or six digits.
    ShortCode,
    /// A name of letters, digits and spaces.
    Alphanumeric,
}

/// The area codes of toll-free numbers.
const TOLL_FREE: [&str; 7] = ["800", "833", "844", "855", "866", "877", "888"];

/// The kind of a sender; nothing: it is malformed. Of a number only the length is looked at, as was recorded: the
/// service takes "+15550000000" for a sender, though not for a recipient.
pub(super) fn sender(text: &str) -> Option<Sender> {
    let is_digits = text.bytes().all(|b| b.is_ascii_digit());
    if text.starts_with('+') {
        return has_e164_form(text).then_some(Sender::Number);
    }
    if is_digits {
        return (5..=6).contains(&text.len()).then_some(Sender::ShortCode);
    }
    let is_name = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b' ');
    (is_name && text.len() <= 11 && text.trim() == text).then_some(Sender::Alphanumeric)
}

/// Whether a message can be sent to this number.
pub(super) fn is_recipient(text: &str) -> bool {
    let Some(national) = text.strip_prefix("+1") else { return has_e164_form(text) };
    has_e164_form(text) && national.as_bytes().get(3).is_some_and(|exchange| (b'2'..=b'9').contains(exchange))
}

/// Whether it is an American toll-free number.
pub(super) fn is_toll_free(text: &str) -> bool {
    has_e164_form(text)
        && text
            .strip_prefix("+1")
            .is_some_and(|national| TOLL_FREE.iter().any(|area| national.starts_with(area)))
}

/// Whether a text holds what no number holds, so that the whole request is refused and not the one recipient.
pub(super) fn is_no_number_at_all(text: &str) -> bool {
    text.trim().is_empty() || text.chars().any(|c| c.is_alphabetic() || c.is_control())
}

/// Plus, country code, and 7 to 15 digits in all; eleven in the North American plan.
fn has_e164_form(text: &str) -> bool {
    let Some(digits) = text.strip_prefix('+') else { return false };
    let lengths = if digits.starts_with('1') { 11..=11 } else { 7..=15 };
    lengths.contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn recipients_are_judged_as_recorded() {
        for (text, good) in [
            ("+14255550123", true),
            ("+12065550199", true),
            ("+15555555551", true),
            ("+4915112345678", true),
            ("+290123456", true),
            ("+15550000000", false),
            ("+1425555012345", false),
            ("+11234567890", true),
            ("+112345678901", false),
            ("+123", false),
            ("+0987654321", false),
            ("+49151123456789012", false),
            ("14255550123", false),
            ("+1425555012٣", false),
            ("+", false),
            ("", false),
            ("Ad155500000000000", false),
        ] {
            assert_eq!(is_recipient(text), good, "{text:?}");
        }
        assert!(is_no_number_at_all("Ad155500000000000") && is_no_number_at_all(" "));
        assert!(!is_no_number_at_all("+123") && !is_no_number_at_all("425 555-0123"));
    }

    #[test]
    fn senders_have_a_kind_or_are_malformed() {
        for (text, kind) in [
            ("+18005550100", Some(Sender::Number)),
            ("+15550000000", Some(Sender::Number)),
            ("+4915112345678", Some(Sender::Number)),
            ("50505", Some(Sender::ShortCode)),
            ("505050", Some(Sender::ShortCode)),
            ("Contoso", Some(Sender::Alphanumeric)),
            ("Contoso 24", Some(Sender::Alphanumeric)),
            ("+1425555012345", None),
            ("1234", None),
            ("1234567", None),
            ("twelve chars", None),
            ("Contoso!", None),
            (" Contoso", None),
            ("", None),
        ] {
            assert_eq!(sender(text), kind, "{text:?}");
        }
        assert!(is_toll_free("+18005550100") && is_toll_free("+18885550100"));
        assert!(!is_toll_free("+14255550123") && !is_toll_free("+1800555010") && !is_toll_free("50505"));
    }

    proptest! {
        #[test]
        fn no_text_is_both_a_recipient_and_no_number_at_all(text in "\\PC{0,20}|\\+[0-9]{0,17}") {
            prop_assert!(!(is_recipient(&text) && is_no_number_at_all(&text)));
            if is_recipient(&text) {
                prop_assert_eq!(sender(&text), Some(Sender::Number));
            }
        }
    }
}
