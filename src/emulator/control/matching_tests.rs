//! Tests of which messages are meant.

use super::super::super::mailbox::Kind;
use super::*;

fn message() -> Message {
    Message {
        sequence: 7,
        kind: Kind::Email,
        id: "op".into(),
        at: String::new(),
        direction: "outbound",
        from: "DoNotReply@contoso.example".into(),
        from_name: None,
        to: vec!["alice@example.com".into(), "Bob@example.com".into()],
        subject: Some("Grüße aus KÖLN".into()),
        text: "Your code is 123456.".into(),
        status: "Succeeded".into(),
        thread: None,
        attachments: 0,
        tag: Some("t".into()),
    }
}

fn fits(body: &str) -> bool {
    serde_json::from_str::<Match>(body).unwrap().fits(&message())
}

#[test]
fn everything_that_is_said_must_fit() {
    for body in [
        "{}",
        r#"{"kind":"email"}"#,
        r#"{"direction":"outbound"}"#,
        r#"{"from":"donotreply@contoso.example"}"#,
        r#"{"to":"BOB@EXAMPLE.COM"}"#,
        r#"{"contains":"grüsse"}"#.replace("grüsse", "grüße").as_str(),
        r#"{"contains":"köln"}"#,
        r#"{"contains":"CODE IS 123"}"#,
        r#"{"status":"succeeded"}"#,
        r#"{"tag":"t"}"#,
        r#"{"after":6}"#,
    ] {
        assert!(fits(body), "{body}");
    }
    for body in [
        r#"{"kind":"sms"}"#,
        r#"{"direction":"inbound"}"#,
        r#"{"from":"reply@contoso.example"}"#,
        r#"{"to":"carol@example.com"}"#,
        r#"{"to":"alice"}"#,
        r#"{"contains":"654"}"#,
        r#"{"status":"Failed"}"#,
        r#"{"thread":"19:x@thread.v2"}"#,
        r#"{"tag":"T"}"#,
        r#"{"after":7}"#,
        r#"{"kind":"email","to":"carol@example.com"}"#,
    ] {
        assert!(!fits(body), "{body}");
    }
}

#[test]
fn a_query_says_the_same_as_a_body_and_a_plus_begins_a_number() {
    let raw = "kind=sms&direction=inbound&from=+14255550123&to=%2B18005550100&contains=a+b&thread=x&status=s&tag=t&after=3";
    let mut query = Query::read(Some(raw)).unwrap();
    let read = Match::from_query(&mut query).unwrap();
    assert!(query.end().is_ok());
    assert_eq!(read.from.as_deref(), Some("+14255550123"));
    assert_eq!(read.to.as_deref(), Some("+18005550100"));
    assert_eq!(read.contains.as_deref(), Some("a b"));
    assert_eq!(
        (read.thread.as_deref(), read.status.as_deref(), read.tag.as_deref()),
        (Some("x"), Some("s"), Some("t"))
    );
    assert_eq!(read.after, 3);
    assert!(read.kind == Some(Kind::Sms) && read.direction == Some(Direction::Inbound));
    for wrong in ["kind=fax", "direction=up", "after=x"] {
        let mut query = Query::read(Some(wrong)).unwrap();
        let named = wrong.split('=').next().unwrap();
        let refusal = Match::from_query(&mut query).err().unwrap();
        assert!(String::from_utf8_lossy(&refusal.body).contains(&format!("\"{named}: ")), "{wrong}");
    }
}
