//! What is signed verifies, and nothing else does.

use proptest::prelude::*;

use super::*;

fn claims() -> Claims {
    Claims {
        aud: "https://communication.azure.com/".into(),
        iss: "i".into(),
        iat: 1,
        nbf: 1,
        exp: 2,
        appid: "a".into(),
        appidacr: "1".into(),
        groups: vec![],
        idtyp: "app".into(),
        oid: "o".into(),
        scp: None,
        sub: "o".into(),
        tid: "t".into(),
        uti: "0".into(),
        ver: "1.0".into(),
        emulator: "acs-broker".into(),
    }
}

/// A token with another header, signed or not.
fn with_header(key: &Key, header: &Value, signed: bool) -> String {
    let text = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims()).unwrap())
    );
    let mut signature = vec![0; key.key.public().modulus_len()];
    key.key.sign(&RSA_PKCS1_SHA256, &key.random, text.as_bytes(), &mut signature).unwrap();
    let signature = if signed { URL_SAFE_NO_PAD.encode(signature) } else { String::new() };
    format!("{text}.{signature}")
}

#[test]
fn what_was_signed_verifies_with_the_published_key() {
    let key = Key::new().unwrap();
    let token = key.sign(&claims()).unwrap();
    assert_eq!(key.verify(&token).unwrap().aud, claims().aud);
    let published = key.published();
    let part = |name: &str| URL_SAFE_NO_PAD.decode(published[name].as_str().unwrap()).unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    ring::signature::RsaPublicKeyComponents { n: part("n"), e: part("e") }
        .verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
        .unwrap();
    assert_eq!(object(token.split('.').next().unwrap()).unwrap()["kid"], published["kid"]);
}

#[test]
fn another_algorithm_or_key_is_refused_even_when_the_signature_is_ours() {
    let key = Key::new().unwrap();
    let kid = key.id.clone();
    assert!(key.verify(&with_header(&key, &json!({ "alg": "RS256", "kid": kid }), true)).is_some());
    for (header, signed) in [
        (json!({ "alg": "none", "kid": kid }), false),
        (json!({ "alg": "none", "kid": kid }), true),
        (json!({ "alg": "RS256", "kid": kid }), false),
        (json!({ "alg": "HS256", "kid": kid }), true),
        (json!({ "alg": "rs256", "kid": kid }), true),
        (json!({ "alg": "RS256", "kid": "another" }), true),
        (json!({ "alg": "RS256" }), true),
        (json!([]), true),
    ] {
        assert!(key.verify(&with_header(&key, &header, signed)).is_none(), "{header} {signed}");
    }
}

#[test]
fn a_huge_token_is_refused_unread() {
    let key = Key::new().unwrap();
    let long = key.sign(&Claims { sub: "x".repeat(LONGEST), ..claims() }).unwrap();
    assert!(key.verify(&long).is_none());
    assert!(read_foreign(&long).is_none());
}

#[test]
fn a_foreign_token_needs_the_shape_of_a_signed_one() {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let (header, payload) = (part(json!({ "alg": "ES256" })), part(json!({ "sub": "s" })));
    assert_eq!(read_foreign(&format!("{header}.{payload}.AAAA")).unwrap()["sub"], "s");
    for odd in [
        String::new(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!("{header}.{payload}.AAAA.AAAA"),
        format!("{header}.{payload}.!!"),
        format!("{}.{payload}.AAAA", part(json!({ "alg": "None" }))),
        format!("{}.{payload}.AAAA", part(json!({}))),
        format!("{header}.{}.AAAA", part(json!(["sub"]))),
    ] {
        assert!(read_foreign(&odd).is_none(), "{odd}");
    }
}

proptest! {
    #[test]
    fn a_token_that_was_changed_anywhere_is_refused(place: proptest::sample::Index, with in "[A-Za-z0-9_.-]") {
        let key = Key::new().unwrap();
        let token = key.sign(&claims()).unwrap();
        let at = place.index(token.len());
        let changed = format!("{}{with}{}", &token[..at], &token[at + 1..]);
        // The last character holds bits that mean nothing; base64 is read strictly, so those are refused as well.
        prop_assert_eq!(key.verify(&changed).is_some(), changed == token);
    }

    #[test]
    fn no_text_can_make_reading_panic(text in ".{0,200}", parts in proptest::collection::vec("[A-Za-z0-9_-]{0,40}", 0..5)) {
        let key = Key::new().unwrap();
        for text in [text, parts.join(".")] {
            prop_assert!(key.verify(&text).is_none());
            let _ = read_foreign(&text);
        }
    }
}
