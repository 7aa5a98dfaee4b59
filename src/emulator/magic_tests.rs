//! The magic tables, and the page that is written from them.

use std::fmt::Write as _;

use super::*;

/// docs/emulator-magic.md, as the tables give it.
fn page() -> String {
    let mut page = String::from(
        "# Magic recipients of the emulator\n\n\
         Written from the tables in `src/emulator/magic.rs`. Recipients that stand for an outcome; all others get what \
         is sent to them. None of this is part of ACS.\n\n\
         ## SMS\n\n\
         | to | what becomes of the message |\n|---|---|\n",
    );
    for (last, outcome, words) in SMS {
        let text = match outcome {
            SmsOutcome::Failed(code) => format!(": {}", sms_code(*code)),
            _ => String::new(),
        };
        writeln!(page, "| `{BLOCK}{last}` | {words}{text} |").unwrap();
    }
    page.push_str(
        "\nWhat the reports say after the code is the emulator's own wording.\n\n\
         ## E-mail\n\n\
         The status is the one of `EmailDeliveryReportReceived`. Case does not matter, and a suffix is allowed: \
         `bounce+7@magic.example.net`.\n\n\
         | to, cc or bcc | what is reported |\n|---|---|\n",
    );
    for (local, _, words) in MAIL {
        writeln!(page, "| `{local}@{DOMAIN}` | {words} |").unwrap();
    }
    page
}

#[test]
fn the_page_of_magic_recipients_is_written_from_the_tables() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/emulator-magic.md");
    let page = page();
    #[allow(clippy::disallowed_methods, reason = "a developer asks the test to rewrite the page")]
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(stored == page, "docs/emulator-magic.md is stale: UPDATE_DOCS=1 cargo test magic");
}

#[test]
fn every_row_is_found_and_everybody_else_is_delivered_to() {
    for (last, outcome, _) in SMS {
        assert_eq!(sms(&format!("+120655501{last}")), *outcome);
    }
    for other in ["+12065550160", "+1206555010", "+120655501000", "+14255550105", "", "+120655501"] {
        assert_eq!(sms(other), SmsOutcome::Delivered, "{other:?}");
    }
    for (local, outcome, _) in MAIL {
        assert_eq!(mail(&format!("{local}@magic.example.net")), *outcome);
        assert_eq!(mail(&format!("{}+a+b@Magic.Example.NET", local.to_uppercase())), *outcome);
    }
    let delivered = MailOutcome::Reported("Delivered", None);
    for other in
        ["bounce@example.net", "bouncer@magic.example.net", "bounce", "", "+bounce@magic.example.net"]
    {
        assert_eq!(mail(other), delivered, "{other:?}");
    }
}

#[test]
fn no_row_is_written_twice_and_every_status_is_one_of_the_schema() {
    let mut digits: Vec<&str> = SMS.iter().map(|row| row.0).collect();
    digits.sort_unstable();
    digits.dedup();
    assert_eq!(digits.len(), SMS.len());
    for (_, outcome, _) in MAIL {
        if let MailOutcome::Reported(status, _) = outcome {
            let words = ["Bounced", "Delivered", "Failed", "FilteredSpam", "Quarantined", "Suppressed"];
            assert!(words.contains(status), "{status}");
        }
    }
}
