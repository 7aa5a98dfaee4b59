//! Recipients that stand for an outcome: numbers of +1 206 555 01xx and mail addresses at magic.example.net.
//!
//! One table for each service, from which docs/emulator-magic.md is written. Pure: it says what is to happen and does
//! nothing. None of this is part of ACS; any other recipient gets what is sent to it. Used by `sms` and `email`.

use std::time::Duration;

/// The numbers of fiction in Seattle; the last two digits choose.
const BLOCK: &str = "+120655501";
/// The domain whose local parts choose. Reserved for examples: no mail ever reaches anybody there.
const DOMAIN: &str = "magic.example.net";
/// How much later than others a delayed report comes.
const DELAY: Duration = Duration::from_mins(10);

/// What becomes of an SMS to a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SmsOutcome {
    /// It is delivered.
    Delivered,
    /// It is delivered, and the report comes this much later.
    Delayed(Duration),
    /// It is delivered at the second attempt.
    SecondAttempt,
    /// It fails, with this detail code.
    Failed(u16),
    /// No report comes, unless a timeout was asked for.
    Never,
    /// The recipient has opted out, from every sender.
    OptedOut,
    /// The item is refused with 503, each time.
    Unavailable,
    /// The item is refused with 503 every other time, beginning with the first.
    UnavailableOnce,
    /// Changing or reading opt-outs fails with 500; messages are delivered.
    OptOutsBroken,
}

/// What becomes of a mail to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MailOutcome {
    /// It gets there: this status is reported, with these details if any.
    Reported(&'static str, Option<&'static str>),
    /// It is delivered, and the report comes this much later.
    Delayed(Duration),
    /// No report ever comes.
    Never,
    /// The address is on the suppression list. If all are, the operation fails.
    Suppressed,
    /// The service gives the mail up. If it does so for all, the operation fails.
    Dropped,
}

/// Last two digits, what happens, and the same in words.
const SMS: &[(&str, SmsOutcome, &str)] = &[
    ("00", SmsOutcome::Delivered, "delivered, as to any other number"),
    ("02", SmsOutcome::Failed(4002), "fails with 4002"),
    ("03", SmsOutcome::Failed(4003), "fails with 4003"),
    ("04", SmsOutcome::Failed(4004), "fails with 4004"),
    ("05", SmsOutcome::Failed(4005), "fails with 4005"),
    ("06", SmsOutcome::Failed(4006), "fails with 4006"),
    ("07", SmsOutcome::OptedOut, "opted out from every sender: fails with 4007, and `optouts:check` says so"),
    ("08", SmsOutcome::Failed(4008), "fails with 4008"),
    ("09", SmsOutcome::Failed(4009), "fails with 4009"),
    ("10", SmsOutcome::Failed(4010), "fails with 4010"),
    ("20", SmsOutcome::Failed(4020), "fails with 4020"),
    ("30", SmsOutcome::Delayed(DELAY), "delivered; the report comes ten minutes later than others"),
    (
        "31",
        SmsOutcome::Never,
        "no report ever comes; with `deliveryReportTimeoutInSeconds`, 5002 after that time",
    ),
    ("32", SmsOutcome::SecondAttempt, "delivered at the second attempt: two `deliveryAttempts`"),
    ("33", SmsOutcome::Unavailable, "the item is refused with 503 `ServiceUnavailable`, each time"),
    (
        "34",
        SmsOutcome::UnavailableOnce,
        "the item is refused with 503 every other time, beginning with the first",
    ),
    ("35", SmsOutcome::OptOutsBroken, "delivered; in `optouts:*` the item is 500 `Internal Server Error`"),
    ("40", SmsOutcome::Failed(4000), "fails with 4000"),
    ("50", SmsOutcome::Failed(5000), "fails with 5000"),
    ("51", SmsOutcome::Failed(5001), "fails with 5001"),
    ("52", SmsOutcome::Failed(5002), "fails with 5002"),
    ("99", SmsOutcome::Failed(9999), "fails with 9999"),
];

/// Local part, what happens, and the same in words.
const MAIL: &[(&str, MailOutcome, &str)] = &[
    ("deliver", MailOutcome::Reported("Delivered", None), "`Delivered`, as to any other address"),
    (
        "bounce",
        MailOutcome::Reported("Bounced", Some("The recipient's address does not exist.")),
        "`Bounced`",
    ),
    ("fail", MailOutcome::Reported("Failed", Some("The recipient's server refused the mail.")), "`Failed`"),
    (
        "spam",
        MailOutcome::Reported("FilteredSpam", Some("The recipient's server took the mail for spam.")),
        "`FilteredSpam`",
    ),
    (
        "quarantine",
        MailOutcome::Reported("Quarantined", Some("The recipient's server put the mail in quarantine.")),
        "`Quarantined`",
    ),
    (
        "suppressed",
        MailOutcome::Suppressed,
        "`Suppressed`; if all recipients are, the operation is `Failed` with `EmailDroppedAllRecipientsSuppressed`",
    ),
    (
        "drop",
        MailOutcome::Dropped,
        "`Failed`; if all recipients are such, the operation is `Failed` with `EmailDropped`",
    ),
    ("delay", MailOutcome::Delayed(DELAY), "`Delivered`; the report comes ten minutes later than others"),
    ("never", MailOutcome::Never, "no report ever comes; the operation succeeds"),
];

/// What becomes of an SMS to this number, in E.164 form.
pub(super) fn sms(to: &str) -> SmsOutcome {
    let last = to.strip_prefix(BLOCK).unwrap_or_default();
    SMS.iter().find(|row| row.0 == last).map_or(SmsOutcome::Delivered, |row| row.1)
}

/// What becomes of a mail to this address. Case does not matter, nor does what follows a `+` in the local part.
pub(super) fn mail(address: &str) -> MailOutcome {
    let delivered = MailOutcome::Reported("Delivered", None);
    let Some((local, domain)) = address.rsplit_once('@') else { return delivered };
    if !domain.eq_ignore_ascii_case(DOMAIN) {
        return delivered;
    }
    let local = local.split_once('+').map_or(local, |(local, _)| local);
    MAIL.iter().find(|row| row.0.eq_ignore_ascii_case(local)).map_or(delivered, |row| row.1)
}

/// What a detail code of a delivery report says after it.
pub(super) const fn sms_code(code: u16) -> &'static str {
    match code {
        2000 => "No Error",
        4000 => "The message was blocked as fraudulent",
        4001 => "The sender's number is not valid",
        4002 => "The recipient's number is not valid",
        4003 => "The destination is not supported",
        4004 => "The recipient's number does not exist",
        4005 => "The message was blocked by the carrier",
        4006 => "The recipient cannot be reached",
        4007 => "The recipient has opted out",
        4008 => "The profile's limit was exceeded",
        4009 => "The entitlement was rejected",
        4010 => "The toll-free number is not verified",
        4020 => "The carrier's volume limit was exceeded",
        5000 => "The message could not be delivered",
        5001 => "The message could not be delivered for now",
        5002 => "The carrier sent no report",
        _ => "The message could not be delivered for an unknown reason",
    }
}

#[cfg(test)]
#[path = "magic_tests.rs"]
mod tests;
