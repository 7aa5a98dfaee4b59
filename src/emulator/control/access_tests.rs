//! Tests of who may use the control paths.

use proptest::prelude::*;

use super::*;

const HERE: &str = "127.0.0.1:50000";
const ELSEWHERE: &str = "192.0.2.7:50000";

fn status(token: Option<&str>, peer: &str, headers: &[(&str, &str)]) -> u16 {
    let mut request = http::Request::builder().uri("/_emulator/status");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    let origin = Origin { peer: peer.parse().unwrap(), scheme: "http" };
    let token = token.map(Secret::new);
    check(token.as_ref(), origin, &head).map_or_else(|refusal| refusal.status, |()| 200)
}

#[test]
fn programs_on_this_machine_need_nothing() {
    for host in ["localhost:8082", "LOCALHOST", "127.0.0.1:8082", "127.0.0.1", "[::1]:8082", "[::1]"] {
        for peer in [HERE, "[::1]:50000", "[::ffff:127.0.0.1]:50000"] {
            assert_eq!(status(None, peer, &[("host", host)]), 200, "{host} from {peer}");
            assert_eq!(status(Some("t"), peer, &[("host", host)]), 200, "{host} from {peer}");
        }
    }
}

#[test]
fn a_name_that_is_not_loopback_is_refused() {
    for host in [
        "attacker.example:8082",
        "localhost.attacker.example",
        "127.0.0.1.attacker.example",
        "localhost@attacker.example",
        "attacker.example@localhost",
        "192.0.2.1",
        "0.0.0.0:8082",
        "",
        "[::1",
        "a b",
    ] {
        assert_eq!(status(None, HERE, &[("host", host)]), 403, "{host}");
    }
    assert_eq!(status(None, HERE, &[]), 403, "no host at all");
    assert_eq!(status(None, HERE, &[("host", "localhost"), ("host", "localhost")]), 403, "two hosts");
}

#[test]
fn its_own_page_is_let_in_and_no_other() {
    let host = ("host", "localhost:8082");
    assert_eq!(status(None, HERE, &[host, ("origin", "http://localhost:8082")]), 200);
    assert_eq!(status(None, HERE, &[host, ("sec-fetch-site", "same-origin")]), 200);
    assert_eq!(status(None, HERE, &[host, ("sec-fetch-site", "none")]), 200);
    for origin in [
        "null",
        "",
        "https://localhost:8082",
        "http://localhost",
        "http://localhost:3000",
        "http://a.example",
    ] {
        assert_eq!(status(None, HERE, &[host, ("origin", origin)]), 403, "{origin}");
    }
    for site in ["cross-site", "same-site", ""] {
        assert_eq!(status(None, HERE, &[host, ("sec-fetch-site", site)]), 403, "{site}");
    }
    let own = ("origin", "http://localhost:8082");
    assert_eq!(status(None, HERE, &[host, own, ("sec-fetch-site", "cross-site")]), 403);
    assert_eq!(status(None, HERE, &[host, own, ("origin", "http://a.example")]), 403);
}

#[test]
fn other_machines_and_other_names_need_the_token() {
    for (peer, host) in [(ELSEWHERE, "10.0.0.5:8082"), (ELSEWHERE, "localhost"), (HERE, "emulator:8082")] {
        let host = ("host", host);
        assert_eq!(status(None, peer, &[host]), 403, "no token is set");
        assert_eq!(
            status(Some(""), peer, &[host, ("authorization", "Bearer ")]),
            403,
            "an empty token is none"
        );
        assert_eq!(status(Some("secret"), peer, &[host]), 401);
        for wrong in ["Bearer secre", "Bearer secret2", "secret", "Basic secret", "Bearer", "Bearer  "] {
            assert_eq!(status(Some("secret"), peer, &[host, ("authorization", wrong)]), 401, "{wrong}");
        }
        for right in ["Bearer secret", "bearer secret"] {
            assert_eq!(status(Some("secret"), peer, &[host, ("authorization", right)]), 200, "{right}");
        }
        let right = ("authorization", "Bearer secret");
        assert_eq!(status(Some("secret"), peer, &[host, right, right]), 401, "twice is never");
        let foreign = ("origin", "http://a.example");
        assert_eq!(status(Some("secret"), peer, &[host, right, foreign]), 403, "a page that knows the token");
    }
}

proptest! {
    #[test]
    fn no_host_makes_it_panic_and_only_loopback_ones_are(host in "[ -~]{0,40}") {
        if is_loopback(&host) {
            let lower = host.to_ascii_lowercase();
            prop_assert!(
                lower.starts_with("localhost") || lower.starts_with("127.") || lower.starts_with('['),
                "{}", host
            );
        }
    }

    #[test]
    fn no_name_under_another_domain_is_loopback(name in "[a-z0-9.-]{0,20}", port in 0_u16..) {
        let name = format!("{name}.example:{port}");
        prop_assert!(!is_loopback(&name));
    }
}
