//! Which patterns of mail senders a policy may hold: those of which everybody sees whose addresses they fit.
//!
//! A star within a domain is refused, for `*example.com` fits the addresses of `evil-example.com` too. Pure; says what to
//! write instead and never repeats the pattern. Used by `auth`.

/// What is allowed at all.
const FORMS: &str = "must be a whole address, \"*@domain\", \"*.domain\" for the domains below it, \"local@*\", the \
                     beginning of local parts and \"*\", or \"*\" for all";
/// The star touches the beginning of a domain.
const OPEN_BEFORE: &str = "fits every domain that ends alike, also those of others: write \"@\" behind the star for the \
                           domain itself, or \".\" for the domains below it";
/// The star touches the end of a domain.
const OPEN_BEHIND: &str = "fits every domain that begins alike, also those of others: write the whole address, or \
                           \"local@*\" if any domain is meant";

/// What is wrong with a pattern of mail senders; none if it may stand in a policy.
pub fn mail_pattern_problem(pattern: &str) -> Option<&'static str> {
    let is_plain = |part: &str| {
        !part.is_empty() && !part.chars().any(|c| c == '*' || c == '@' || c.is_whitespace() || c.is_control())
    };
    // A dot at an end, or two in a row, and no address fits.
    let is_domain = |part: &str| is_plain(part) && part.split('.').all(|label| !label.is_empty());
    let is_address = |local: &str, domain: &str| is_plain(local) && is_domain(domain);
    let fine = |yes: bool| if yes { None } else { Some(FORMS) };
    if pattern == "*" {
        return None;
    }
    if let Some(end) = pattern.strip_prefix('*') {
        return match (end.split_once('@'), end.strip_prefix('.')) {
            (Some((local, domain)), _) => fine((local.is_empty() || is_plain(local)) && is_domain(domain)),
            (None, Some(domain)) => fine(is_domain(domain)),
            (None, None) if is_plain(end) => Some(OPEN_BEFORE),
            (None, None) => Some(FORMS),
        };
    }
    if let Some(beginning) = pattern.strip_suffix('*') {
        return match beginning.split_once('@') {
            None => fine(is_plain(beginning)),
            Some((local, "")) => fine(is_plain(local)),
            Some((local, domain)) if is_plain(local) && is_plain(domain) => Some(OPEN_BEHIND),
            Some(_) => Some(FORMS),
        };
    }
    fine(pattern.split_once('@').is_some_and(|(local, domain)| is_address(local, domain)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::policy::{Need, Patterns, Rpc, Rules};

    fn fits(pattern: &str, sender: &str) -> bool {
        let rules = Rules { email_senders: Patterns::senders([pattern]), ..Rules::default() };
        rules.allow(Rpc::SendEmail, Need::EmailSender(sender)).is_ok()
    }

    #[test]
    fn a_star_within_a_domain_is_refused_with_what_to_write_instead() {
        for (pattern, others, what) in [
            ("*example.com", "a@evil-example.com", OPEN_BEFORE),
            ("*com", "a@evil.com", OPEN_BEFORE),
            ("*-example.com", "a@evil-example.com", OPEN_BEFORE),
            ("a@example*", "a@example.evil.com", OPEN_BEHIND),
            ("a@example.com*", "a@example.com.evil.com", OPEN_BEHIND),
            ("a@example.*", "a@example.evil.com", OPEN_BEHIND),
        ] {
            assert!(fits(pattern, others), "{pattern} would not be a mistake");
            assert_eq!(mail_pattern_problem(pattern), Some(what), "{pattern}");
        }
    }

    #[test]
    fn what_no_address_fits_is_refused() {
        for pattern in [
            "",
            "example.com",
            "@example.com",
            "a@",
            "a@b@c.example",
            "*@",
            "*.",
            "*@*",
            "**",
            "*@*.example.com",
            "*.example.com*",
            "*@.example.com",
            "*..example.com",
            "*@example.com.",
            "a b@c.example",
            "*@c d",
            "@*",
            "a@b@*",
        ] {
            assert_eq!(mail_pattern_problem(pattern), Some(FORMS), "{pattern}");
        }
    }

    #[test]
    fn patterns_that_say_whose_addresses_they_fit_are_fine() {
        for (pattern, fitting, other) in [
            ("a@b.example", "A@B.example", "aa@b.example"),
            ("*@shop.example", "a@shop.example", "a@petshop.example"),
            ("*@shop.example", "a@shop.example", "a@news.shop.example"),
            ("*.shop.example", "a@news.shop.example", "a@shop.example"),
            ("*-news@shop.example", "our-news@shop.example", "our-news@petshop.example"),
            ("news@*", "news@any.example", "news2@any.example"),
            ("news-*", "news-1@any.example", "news@any.example"),
        ] {
            assert_eq!(mail_pattern_problem(pattern), None, "{pattern}");
            assert!(fits(pattern, fitting), "{pattern} {fitting}");
            assert!(!fits(pattern, other), "{pattern} {other}");
        }
        assert_eq!(mail_pattern_problem("*"), None);
    }
}
