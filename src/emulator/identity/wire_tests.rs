//! Bodies as the service was seen to read and write them.

use proptest::prelude::*;

use serde_json::json;

use super::*;

/// Status, code, target and message of a refusal, and whether it names versions.
fn refusal<T: std::fmt::Debug>(read: Result<T, Box<Answer>>) -> (u16, String, Option<String>, String, bool) {
    let answer = read.unwrap_err();
    assert_eq!(answer.content_type, Some("application/json"));
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let text = |name: &str| body["error"][name].as_str().map(str::to_owned);
    (answer.status, text("code").unwrap(), text("target"), text("message").unwrap(), answer.names_versions)
}

fn validation(
    target: &str,
    message: &str,
    names_versions: bool,
) -> (u16, String, Option<String>, String, bool) {
    (400, "ValidationError".into(), Some(target.into()), message.into(), names_versions)
}

#[test]
fn an_empty_create_and_one_full_of_nulls_ask_for_nothing() {
    let nothing = CreateRequest { custom_id: None, scopes: vec![], minutes: 1440 };
    for body in [
        "",
        "{}",
        r#"{"createTokenWithScopes":null,"expiresInMinutes":null,"customId":null}"#,
        r#"{"createTokenWithScopes":[]}"#,
        r#"{"somethingElse":{"a":[1]}}"#,
    ] {
        assert_eq!(create_request(body.as_bytes(), true).unwrap(), nothing, "{body}");
    }
}

#[test]
fn custom_id_is_read_in_the_preview_and_ignored_elsewhere() {
    let read = |id: &str, preview| {
        create_request(json!({ "customId": id }).to_string().as_bytes(), preview).map(|r| r.custom_id)
    };
    assert_eq!(read("sally@contoso.com", true).unwrap().as_deref(), Some("sally@contoso.com"));
    assert_eq!(read("sally@contoso.com", false).unwrap(), None);
    let longest = "ü".repeat(256);
    assert_eq!(read(&longest, true).unwrap(), Some(longest.clone()));
    for wrong in [String::new(), longest + "x"] {
        assert_eq!(refusal(read(&wrong, true)).2.as_deref(), Some("CustomId"));
        assert_eq!(read(&wrong, false).unwrap(), None);
    }
    assert_eq!(refusal(create_request(br#"{"customId":1}"#, true)).2.as_deref(), Some("CustomId"));
}

#[test]
fn scopes_keep_their_order_and_lose_their_repetitions() {
    let request = token_request(br#"{"scopes":["voip","chat","voip"]}"#).unwrap();
    assert_eq!(request, TokenRequest { scopes: vec!["voip", "chat"], minutes: 1440 });
}

#[test]
fn the_edges_of_the_validity_are_accepted_and_what_lies_beyond_refused_in_the_recorded_words() {
    for minutes in [60, 61, 1439, 1440] {
        let body = format!(r#"{{"scopes":["chat"],"expiresInMinutes":{minutes}}}"#);
        assert_eq!(token_request(body.as_bytes()).unwrap().minutes, minutes);
    }
    for minutes in [59, 1441, 0, -1, 4_294_967_356_i64] {
        let wanted = validation(
            "ExpiresInMinutes",
            &format!(
                "ExpiresInMinutes value {minutes} is invalid. Value must be within the [60, 1440] interval."
            ),
            true,
        );
        let body = format!(r#"{{"scopes":["chat"],"expiresInMinutes":{minutes}}}"#);
        assert_eq!(refusal(token_request(body.as_bytes())), wanted);
        let body = format!(r#"{{"createTokenWithScopes":["chat"],"expiresInMinutes":{minutes}}}"#);
        assert_eq!(refusal(create_request(body.as_bytes(), false)), wanted);
    }
    for odd in ["60.5", "\"60\"", "1e2", "[60]", "99999999999999999999"] {
        let body = format!(r#"{{"scopes":["chat"],"expiresInMinutes":{odd}}}"#);
        assert_eq!(refusal(token_request(body.as_bytes())).2.as_deref(), Some("ExpiresInMinutes"), "{odd}");
    }
}

#[test]
fn a_token_request_without_scopes_is_refused_in_the_recorded_words() {
    let wanted = validation("Scopes", "Scopes: The Scopes field is required.", false);
    assert_eq!(refusal(token_request(b"{}")), wanted);
    assert_eq!(refusal(token_request(br#"{"scopes":null,"expiresInMinutes":60}"#)), wanted);
    assert_eq!(refusal(token_request(br#"{"scopes":[]}"#)).2.as_deref(), Some("Scopes"));
}

#[test]
fn scopes_are_those_of_the_specification_and_nothing_else() {
    for scope in SCOPES {
        let body = json!({ "scopes": [scope] }).to_string();
        assert_eq!(token_request(body.as_bytes()).unwrap().scopes, vec![scope]);
    }
    for odd in
        [r#"["Chat"]"#, r#"["chat "]"#, r#"["pstn"]"#, "[1]", "[null]", "\"chat\"", "{}", r#"["chat","x"]"#]
    {
        let body = format!(r#"{{"scopes":{odd}}}"#);
        assert_eq!(refusal(token_request(body.as_bytes())).2.as_deref(), Some("Scopes"), "{odd}");
        let body = format!(r#"{{"createTokenWithScopes":{odd}}}"#);
        assert_eq!(
            refusal(create_request(body.as_bytes(), false)).2.as_deref(),
            Some("CreateTokenWithScopes"),
            "{odd}"
        );
    }
}

#[test]
fn a_body_that_is_no_json_object_is_refused() {
    let deep = "[".repeat(60_000);
    for body in ["x", "[]", "1", "null", "{", r#"{"scopes":["chat"]} x"#, "\u{feff}{}", &deep] {
        assert_eq!(refusal(token_request(body.as_bytes())).1, "ValidationError");
        assert_eq!(refusal(create_request(body.as_bytes(), true)).1, "ValidationError");
    }
    assert_eq!(refusal(token_request(b"")).0, 400);
    assert_eq!(refusal(token_request(&[0xff, 0xfe])).0, 400);
}

proptest! {
    #[test]
    fn no_body_can_make_reading_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = create_request(&body, true);
        let _ = token_request(&body);
    }
}
