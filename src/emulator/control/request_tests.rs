//! Tests of how control requests are read.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields, default)]
struct Outer {
    count: u8,
    inner: Inner,
}

#[derive(Debug, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields, default)]
struct Inner {
    name: Option<String>,
}

fn message(refusal: &Answer) -> String {
    assert_eq!(refusal.status, 400);
    let body: Value = serde_json::from_slice(&refusal.body).unwrap();
    assert_eq!(body["error"]["code"], "InvalidRequest");
    body["error"]["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_mistake_in_a_body_names_its_field() {
    for (body, named) in [
        (r#"{"inner":{"name":5}}"#, "inner.name"),
        (r#"{"inner":{"nmae":"x"}}"#, "nmae"),
        (r#"{"count":256}"#, "count"),
        (r#"{"cuont":2}"#, "cuont"),
        ("[]", "must be an object"),
        ("", "not JSON"),
        ("{", "not JSON"),
        (r#"{"count":1} x"#, "not JSON"),
        ("null", "must be an object"),
    ] {
        let said = message(&object::<Outer>(body.as_bytes()).unwrap_err());
        assert!(said.contains(named), "{body}: {said}");
    }
    assert_eq!(object::<Outer>(b"{}").unwrap(), Outer::default());
    assert!(message(&array::<Outer>(b"{}").unwrap_err()).contains("must be an array"));
    assert!(message(&array::<Outer>(br#"[{},{"count":-1}]"#).unwrap_err()).contains("[1].count"));
}

#[test]
fn a_mistake_in_a_query_names_its_parameter() {
    let mut query = Query::read(Some("limit=1001&after=-1&x=1&empty=&text=a+b%26c")).unwrap();
    assert!(message(&query.limit().unwrap_err()).contains("limit: must be a whole number from 1 to 1000"));
    assert!(message(&query.after().unwrap_err()).starts_with("after: "));
    assert_eq!(query.take("empty"), None);
    assert_eq!(query.take("text").as_deref(), Some("a b&c"));
    assert!(message(&query.end().unwrap_err()).starts_with("x: "));
    assert!(message(&Query::read(Some("a=1&a=2")).err().unwrap()).starts_with("a: "));
    let mut absent = Query::read(None).unwrap();
    assert_eq!((absent.limit().unwrap(), absent.after().unwrap()), (100, 0));
    assert!(absent.end().is_ok());
}

proptest! {
    #[test]
    fn what_was_encoded_is_read_back(pairs in proptest::collection::btree_map("\\PC{1,8}", "\\PC{1,20}", 0..6)) {
        let raw = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
        let mut query = Query::read(Some(&raw)).unwrap();
        for (name, value) in &pairs {
            prop_assert_eq!(query.take(name), Some(value.clone()));
        }
        prop_assert!(query.end().is_ok());
    }

    #[test]
    fn no_query_and_no_body_makes_it_panic(raw in "\\PC{0,60}", body in any::<Vec<u8>>()) {
        if let Ok(mut query) = Query::read(Some(&raw)) {
            let _ = (query.limit(), query.after(), query.end());
        }
        let _ = object::<Outer>(&body);
    }
}
