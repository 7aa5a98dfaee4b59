//! The inbox page at `/_emulator/`, and what it shows of a mail: its source, its files, its HTML made ready for a frame.
//!
//! Whatever was sent is hostile: no answer from here lets it run a script, fetch anything, or be taken for a page of the
//! emulator. It reads what the services keep and changes nothing. Called by `control`.

#[cfg(any(fuzzing, test))]
pub(super) mod fuzzing;
mod mail;

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use sha2::{Digest, Sha256};

use super::answer::{self, Answer};
use super::shared::Shared;

const STYLE: &str = include_str!("page.css");
/// The parts of the script, in the order they depend on each other; they share one scope.
const SCRIPT: [&str; 6] = [
    include_str!("base.js"),
    include_str!("messages.js"),
    include_str!("email.js"),
    include_str!("views.js"),
    include_str!("actions.js"),
    include_str!("main.js"),
];

/// The page put together, and its policy, which allows this very script and no other.
static PAGE: LazyLock<(Bytes, String)> = LazyLock::new(|| {
    let script = SCRIPT.concat();
    let page = include_str!("page.html").replace("/*STYLE*/", STYLE).replace("/*SCRIPT*/", &script);
    let hash = STANDARD.encode(Sha256::digest(script.as_bytes()));
    // Styles are allowed inline because a frame of `srcdoc` inherits this policy, and mail is styled inline. Frames from
    // anywhere are not: that is what stops a link in a mail from loading its target into the mail's frame.
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{hash}'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; \
         frame-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types mail"
    );
    (page.into(), policy)
});

/// Answers `GET` of what is the page's: nothing, if `path` is somebody else's.
pub(super) fn handle(shared: &Shared, path: &[&str]) -> Option<Answer> {
    match path {
        [] | [""] => {
            let (page, policy) = &*PAGE;
            Some(guarded(answer::content("text/html; charset=utf-8", page.clone()), policy))
        }
        ["emails", id, "source"] => Some(mail::source(shared.email.source(id)?)),
        ["emails", id, "preview"] => {
            let html = shared.email.html(id)?;
            let files = (0..mail::MOST_ATTACHMENTS).map_while(|index| shared.email.attachment(id, index));
            Some(mail::preview(&html, files))
        }
        ["emails", id, "attachments", index] => {
            Some(mail::attachment(shared.email.attachment(id, index.parse().ok()?)?))
        }
        _ => None,
    }
}

/// The same answer with the headers that hold a browser back.
fn guarded(answer: Answer, policy: &str) -> Answer {
    answer
        .with_header("content-security-policy", policy)
        .with_header("x-content-type-options", "nosniff")
        .with_header("x-frame-options", "DENY")
        .with_header("referrer-policy", "no-referrer")
        .with_header("x-dns-prefetch-control", "off")
        .with_header("cross-origin-opener-policy", "same-origin")
        .with_header("cross-origin-resource-policy", "same-origin")
        .with_header("permissions-policy", "camera=(), microphone=(), geolocation=(), usb=(), payment=()")
        .with_header("cache-control", "no-store")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_its_policy_names_its_script() {
        let (page, policy) = &*PAGE;
        let page = std::str::from_utf8(page).unwrap();
        assert!(!page.contains("/*STYLE*/") && !page.contains("/*SCRIPT*/"));
        let (_, script) = page.split_once("<script>").unwrap();
        let (script, rest) = script.split_once("</script>").unwrap();
        assert_eq!(rest.trim(), "</body>\n</html>", "no part of the script ends it early");
        let hash = STANDARD.encode(Sha256::digest(script.as_bytes()));
        assert!(policy.contains(&format!("script-src 'sha256-{hash}';")), "{policy}");
        assert!(!STYLE.contains("</style"));
    }

    #[test]
    fn the_page_names_no_other_origin_and_makes_no_element_from_text() {
        let page = std::str::from_utf8(&PAGE.0).unwrap();
        let without_names = page.replace("http://www.w3.org/2000/svg", "");
        for forbidden in
            ["http://", "https://", "innerHTML", "insertAdjacentHTML", "document.write", "eval(", " onclick="]
        {
            assert!(!without_names.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn every_answer_holds_the_browser_back() {
        let (page, policy) = &*PAGE;
        let page = guarded(answer::content("text/html", page.clone()), policy);
        let others = [
            mail::source("{}".to_owned()),
            mail::preview("<p>", std::iter::empty()),
            mail::attachment(mail::tests::file("a", "text/html", "", b"")),
        ];
        for answer in others.into_iter().chain([page]) {
            let header =
                |name| answer.headers.iter().find(|(each, _)| *each == name).map(|(_, value)| value.as_str());
            assert!(header("content-security-policy").unwrap().starts_with("default-src 'none'; "));
            assert_eq!(header("x-content-type-options"), Some("nosniff"));
            assert_eq!(header("referrer-policy"), Some("no-referrer"));
            assert_eq!(header("x-dns-prefetch-control"), Some("off"));
            assert_eq!(header("cross-origin-opener-policy"), Some("same-origin"));
            assert_eq!(header("cache-control"), Some("no-store"));
        }
    }
}
