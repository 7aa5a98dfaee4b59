//! Which senders callers may use, and which recipients a message may reach: the net under every environment that is
//! not production.
//!
//! Pure. Built from settings that `config` has checked. Used by `sms` and `email`.

/// The items of a list separated by commas.
pub(super) fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// The sender to use: the one asked for if it is in the list, the first of the list if none was.
pub(super) fn sender<'s>(senders: &'s str, asked: Option<&str>) -> Option<&'s str> {
    match asked {
        None => listed(senders).next(),
        Some(asked) => listed(senders).find(|sender| sender.eq_ignore_ascii_case(asked)),
    }
}

/// Whether a recipient is allowed: by whole items, by beginnings (`+1425*`) or by ends (`*@example.com`); an empty list
/// allows all.
pub(super) fn allows(list: &str, recipient: &str) -> bool {
    let mut items = listed(list).peekable();
    if items.peek().is_none() {
        return true;
    }
    let recipient = recipient.to_ascii_lowercase();
    items.any(|item| {
        let item = item.to_ascii_lowercase();
        match (item.strip_suffix('*'), item.strip_prefix('*')) {
            (Some(beginning), _) => recipient.starts_with(beginning),
            (None, Some(end)) => recipient.ends_with(end),
            (None, None) => recipient == item,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sender_is_the_default_and_others_are_refused() {
        let senders = "+18005550100, 50505,Contoso";
        assert_eq!(sender(senders, None), Some("+18005550100"));
        assert_eq!(sender(senders, Some("contoso")), Some("Contoso"));
        assert_eq!(sender(senders, Some("+18005550101")), None);
        assert_eq!(sender(" , ", None), None);
    }

    #[test]
    fn recipients_are_allowed_whole_by_beginning_or_by_end() {
        assert!(allows("", "+1"));
        let list = "+1425*, +442071838750, *@Example.com, a@b.example";
        for (recipient, allowed) in [
            ("+14255550123", true),
            ("+14265550123", false),
            ("+442071838750", true),
            ("+4420718387501", false),
            ("Someone@EXAMPLE.com", true),
            ("someone@notexample.org", false),
            ("a@b.example", true),
            ("aa@b.example", false),
        ] {
            assert_eq!(allows(list, recipient), allowed, "{recipient}");
        }
    }
}
