//! What is wrong with the settings of messaging.
//!
//! Pure. Ranges are in `config`; here is what only messaging knows: what a sender, a recipient and a redirect look like.
//! It never repeats a value. Used by `config`.

use super::Settings;
use super::safety::listed;
use super::types::{EmailAddress, Number};

impl Settings {
    /// What is wrong, by key.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |key, fits: bool, wanted: &str| {
            if !fits {
                problems.push((key, wanted.to_owned()));
            }
        };
        check(
            "hold",
            self.hold < self.retention,
            "must be shorter than messages.retention, or a request is forgotten while it is worked on",
        );
        check(
            "find_out_within",
            self.find_out_within < self.retention,
            "must be shorter than messages.retention",
        );
        check(
            "duplicates_within",
            self.duplicates_within <= self.retention,
            "must not be longer than messages.retention, or a message is forgotten that is still guarded",
        );
        check(
            "sms.senders",
            listed(&self.sms.senders).all(is_sms_sender),
            "must be numbers such as +18005550100, short codes or names of up to 11 letters and digits, separated by \
             commas",
        );
        check(
            "sms.allow",
            listed(&self.sms.allow).all(is_number_pattern),
            "must be numbers such as +14255550123 or beginnings such as +1425*, separated by commas",
        );
        check(
            "sms.redirect",
            self.sms.redirect.is_empty() || Number::parse(&self.sms.redirect).is_ok(),
            "must be one number such as +14255550123",
        );
        check(
            "email.senders",
            listed(&self.email.senders).all(is_address),
            "must be mail addresses, separated by commas",
        );
        check(
            "email.allow",
            listed(&self.email.allow).all(is_address_pattern),
            "must be mail addresses or domains such as *@example.com, separated by commas",
        );
        check(
            "email.redirect",
            self.email.redirect.is_empty() || is_address(&self.email.redirect),
            "must be one mail address",
        );
        problems
    }
}

/// A number, a short code, or an alphanumeric name.
fn is_sms_sender(text: &str) -> bool {
    let is_short_code = (3..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_name = (1..=11).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b' ')
        && text.bytes().any(|byte| byte.is_ascii_alphabetic());
    Number::parse(text).is_ok() || is_short_code || is_name
}

fn is_number_pattern(text: &str) -> bool {
    match text.strip_suffix('*') {
        None => Number::parse(text).is_ok(),
        Some(beginning) => beginning.strip_prefix('+').is_some_and(|digits| {
            (1..15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
        }),
    }
}

fn is_address(text: &str) -> bool {
    EmailAddress::parse(text, "").is_ok()
}

fn is_address_pattern(text: &str) -> bool {
    match text.strip_prefix("*@") {
        Some(domain) => is_address(&format!("someone@{domain}")),
        None => is_address(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn keys(change: impl FnOnce(&mut Settings)) -> Vec<&'static str> {
        let mut settings = Settings::default();
        change(&mut settings);
        settings.problems().into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn the_defaults_are_those_of_the_default_settings_file() {
        let file: toml::Table = include_str!("../../config/default.toml").parse().unwrap();
        let read: Settings = file["messages"].clone().try_into().unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", Settings::default()));
        assert_eq!(read.problems(), []);
    }

    #[test]
    fn lists_of_what_they_are_for_are_fine() {
        let nothing: [&str; 0] = [];
        let found = keys(|settings| {
            settings.sms.senders = "+18005550100, 50505, Contoso".into();
            settings.sms.allow = "+1425*, +442071838750,".into();
            settings.sms.redirect = "+14255550123".into();
            settings.email.senders = "noreply@contoso.example".into();
            settings.email.allow = "*@contoso.example, a@b.example".into();
            settings.email.redirect = "dev@contoso.example".into();
        });
        assert_eq!(found, nothing);
    }

    #[test]
    fn each_mistake_is_found_by_its_key() {
        for (key, text) in [
            ("sms.senders", "+18005550100; 50505"),
            ("sms.senders", "a name that is too long"),
            ("sms.allow", "*"),
            ("sms.allow", "1425*"),
            ("sms.redirect", "+1425*"),
            ("sms.redirect", "+14255550123, +14255550124"),
            ("email.senders", "contoso.example"),
            ("email.allow", "*"),
            ("email.allow", "@contoso.example"),
            ("email.redirect", "a@b.example, c@d.example"),
        ] {
            let found = keys(|settings| {
                let of = match key {
                    "sms.senders" => &mut settings.sms.senders,
                    "sms.allow" => &mut settings.sms.allow,
                    "sms.redirect" => &mut settings.sms.redirect,
                    "email.senders" => &mut settings.email.senders,
                    "email.allow" => &mut settings.email.allow,
                    _ => &mut settings.email.redirect,
                };
                *of = text.into();
            });
            assert_eq!(found, [key], "{text}");
        }
        assert_eq!(keys(|settings| settings.hold = settings.retention), ["hold"]);
        assert_eq!(keys(|settings| settings.find_out_within = Duration::MAX), ["find_out_within"]);
        assert_eq!(keys(|settings| settings.duplicates_within = Duration::MAX), ["duplicates_within"]);
    }
}
