//! Who may use the control API, and who may not.

use acs_broker::emulator::Settings;
use acs_broker::secret::Secret;
use serde_json::json;

use super::harness::{Running, client_builder, start, start_with};
use crate::emulator_control::Control;

/// A path of each kind: reading, changing, streaming.
const PATHS: [(&str, &str); 4] =
    [("GET", "status"), ("GET", "messages"), ("POST", "reset"), ("GET", "stream")];

async fn status(running: &Running, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
    let client = client_builder().build().unwrap();
    let mut request = client.request(method.parse().unwrap(), format!("{}/_emulator/{path}", running.base()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_foreign_page_is_refused_and_its_own_page_is_not() {
    let running = start().await;
    let own = running.base();
    for (method, path) in PATHS {
        for (name, value) in [
            ("origin", "https://attacker.example"),
            ("origin", "null"),
            ("origin", "http://127.0.0.1"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert_eq!(status(&running, method, path, &[(name, value)]).await, 403, "{path} {name} {value}");
        }
        let own = [("origin", own.as_str()), ("sec-fetch-site", "same-origin")];
        assert!(status(&running, method, path, &own).await < 300, "{path}");
    }
}

#[tokio::test]
async fn a_name_rebound_to_this_machine_is_refused() {
    let running = start().await;
    for (method, path) in PATHS {
        for host in ["attacker.example:8082", "localhost.attacker.example", "10.0.0.1:8082"] {
            assert_eq!(status(&running, method, path, &[("host", host)]).await, 403, "{path} {host}");
        }
        for host in ["localhost:8082", "127.0.0.1", "[::1]:8082"] {
            assert!(status(&running, method, path, &[("host", host)]).await < 300, "{path} {host}");
        }
    }
}

#[tokio::test]
async fn the_page_and_the_validation_of_webhooks_are_for_anyone_who_reaches_the_port() {
    let running = start().await;
    let headers = [("host", "emulator.test:8082"), ("sec-fetch-site", "cross-site")];
    assert_eq!(status(&running, "GET", "", &headers).await, 200);
    assert_eq!(
        status(&running, "GET", "events/validate?id=x", &headers).await,
        400,
        "the code is the ticket"
    );
    assert_eq!(status(&running, "POST", "", &headers).await, 403);
    assert_eq!(status(&running, "GET", "emails/x/source", &headers).await, 403, "that has data");
}

#[tokio::test]
async fn with_a_control_token_another_name_is_let_in_if_it_brings_it() {
    let token = Secret::new("correct-horse");
    let running = start_with(Settings { control_token: Some(token), ..Settings::on_free_ports() }).await;
    let host = ("host", "emulator.test:8082");
    let bearer = |token: &str| format!("Bearer {token}");
    for (method, path) in PATHS {
        assert_eq!(status(&running, method, path, &[host]).await, 401, "{path}");
        let wrong = bearer("correct-hors");
        assert_eq!(status(&running, method, path, &[host, ("authorization", &wrong)]).await, 401, "{path}");
        let right = bearer("correct-horse");
        assert!(status(&running, method, path, &[host, ("authorization", &right)]).await < 300, "{path}");
        assert!(status(&running, method, path, &[]).await < 300, "{path}: this machine needs none");
    }
    let refused = Control::at(running.base()).with_token("wrong");
    let answered = refused.send(refused.request("GET", "status").header("host", "emulator.test")).await;
    assert_eq!(answered.refused().1, "Unauthorized");
    assert_eq!(answered.headers["www-authenticate"], "Bearer");
}

/// The address of this machine that others would use, if it has one. Nothing is sent.
fn outer_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[tokio::test]
async fn a_peer_that_is_not_on_loopback_needs_the_token() {
    let Some(address) = outer_address() else {
        // The rule itself is proved beside the code, with addresses that are made up.
        eprintln!("this machine has no address but loopback");
        return;
    };
    let allowed =
        Settings { address: format!("{address}:0"), allow_off_loopback: true, ..Settings::on_free_ports() };
    let without = start_with(allowed.clone()).await;
    let control = Control::at(without.base());
    assert_eq!(control.get("status").await.refused().0, 403);
    assert_eq!(
        control.send(control.request("GET", "status").header("host", "localhost")).await.refused().0,
        403
    );
    assert_eq!(control.get("").await.status, 200, "the page");

    let with = start_with(Settings { control_token: Some(Secret::new("t0ken")), ..allowed }).await;
    let control = Control::at(with.base());
    assert_eq!(control.get("status").await.refused().0, 401);
    assert_eq!(control.post("clock", &json!({ "advance": "1h" })).await.refused().0, 401);
    let control = control.with_token("t0ken");
    assert_eq!(control.advance("1h").await.ahead_ms, 3_600_000);
    let own = control.request("GET", "status").header("origin", with.base());
    assert_eq!(control.send(own).await.status, 200);
    let foreign = control.request("GET", "status").header("origin", "http://attacker.example");
    assert_eq!(control.send(foreign).await.refused().0, 403);
}
