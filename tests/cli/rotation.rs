//! `rotation`: its exit code is what scripts go by before they regenerate a key, so nothing but a plain yes is a yes.

use std::io::{Read, Write};

use crate::process::{Finished, run};

/// What the command says to this answer of an admin endpoint.
fn told(status: &str, body: &str) -> Finished {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let read = stream.read(&mut request).unwrap();
        assert!(request[..read].starts_with(b"GET /rotation HTTP/1.1\r\n"));
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let finished = run(&["rotation", "--admin", &address]);
    server.join().unwrap();
    finished
}

#[test]
fn only_a_plain_yes_of_the_broker_is_one() {
    let yes = told("200 OK", r#"{"safe_to_regenerate_other_key":true,"key_in_use":"ab"}"#);
    assert_eq!(yes.code, Some(0), "{yes:?}");
    assert!(yes.out.contains("safe to regenerate it      yes"), "{yes:?}");
    let no = r#"{"safe_to_regenerate_other_key":false,"not_yet_because":"another replica signs"}"#;
    let no = told("200 OK", no);
    assert_eq!(no.code, Some(4), "{no:?}");
    assert!(no.out.contains("not yet") && no.out.contains("another replica signs"), "{no:?}");
    for (status, body) in [
        ("200 OK", r#"{"safe_to_regenerate_other_key":"true"}"#),
        ("200 OK", r#"{"safe_to_regenerate_other_key":1}"#),
        ("200 OK", "{}"),
        ("200 OK", "yes"),
        ("404 Not Found", r#"{"safe_to_regenerate_other_key":true}"#),
        ("503 Service Unavailable", r#"{"safe_to_regenerate_other_key":true}"#),
    ] {
        assert_eq!(told(status, body).code, Some(4), "{status} {body}");
    }
}
