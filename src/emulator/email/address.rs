//! Mail addresses: which are well-formed.
//!
//! Pure. Narrower than RFC 5321: no quoted local parts, no address literals, and a domain has a dot. Used by `email`.

const MAX_LOCAL: usize = 64;
const MAX_DOMAIN: usize = 253;

/// Whether it is one address and nothing else.
pub(super) fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    is_local(local) && is_domain(domain)
}

/// The domain of an address.
pub(super) fn domain(address: &str) -> Option<&str> {
    address.rsplit_once('@').map(|(_, domain)| domain)
}

fn is_local(local: &str) -> bool {
    let is_fine = |c: char| match c {
        c if c.is_ascii() => c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c),
        c => c.is_alphanumeric(),
    };
    (1..=MAX_LOCAL).contains(&local.len())
        && local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_fine))
}

fn is_domain(domain: &str) -> bool {
    let is_fine =
        |c: char| c == '-' || if c.is_ascii() { c.is_ascii_alphanumeric() } else { c.is_alphanumeric() };
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(is_fine)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    domain.len() <= MAX_DOMAIN && domain.contains('.') && domain.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_told_from_what_is_none() {
        for good in [
            "a@b.c",
            "john.doe@domain.com",
            "bounce+7@magic.example.net",
            "o'neil@x-y.example",
            "info@bücher.example",
        ] {
            assert!(is_address(good), "{good:?}");
        }
        let long = format!("{}@example.com", "a".repeat(65));
        for bad in [
            "",
            "@",
            "a",
            "a@",
            "@b.c",
            "a@b",
            "a@@b.c",
            "a@b@c.d",
            "a b@c.d",
            "a@b .c",
            "a@b..c",
            ".a@b.c",
            "a.@b.c",
            "a@-b.c",
            "a@b.c,d@e.f",
            "A <a@b.c>",
            "a@b.c\r\nBcc: d@e.f",
            "\"a b\"@c.d",
            "a@[127.0.0.1]",
            &long,
        ] {
            assert!(!is_address(bad), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_put_together_from_good_parts_is_an_address(
            local in "[a-z0-9_+-]{1,20}(\\.[a-z0-9]{1,10}){0,2}",
            host in "[a-z0-9]{1,20}(\\.[a-z0-9]{1,10}){1,3}",
        ) {
            let address = format!("{local}@{host}");
            prop_assert!(is_address(&address));
            prop_assert_eq!(domain(&address), Some(host.as_str()));
        }

        #[test]
        fn no_address_holds_what_could_end_a_header(text in "\\PC{0,40}|[a@.\\r\\n ,<>]{0,12}") {
            if is_address(&text) {
                let bad = |c: char| c.is_whitespace() || c.is_control() || ",;<>\"".contains(c);
                prop_assert!(!text.contains(bad));
                prop_assert_eq!(text.matches('@').count(), 1);
            }
        }
    }
}
