//! What scopes, forms and claims are read as, whatever they hold.

use proptest::prelude::*;

use super::*;

#[test]
fn scopes_of_one_audience_become_permissions_each_once() {
    let clients = "https://communication.azure.com/clients";
    let read = |scopes: &str| consent(&scopes.split(' ').collect::<Vec<_>>()).map_err(|problem| problem.code);
    let granted = |names: &str| Ok((clients.to_owned(), names.to_owned()));
    assert_eq!(read(&format!("{clients}/.default")), granted("Chat VoIP"));
    assert_eq!(read(&format!("{clients}/.default {clients}/chat")), granted("Chat VoIP"));
    assert_eq!(read(&format!("{clients}/VOIP {clients}/Chat.Join")), granted("VoIP Chat.Join"));
    assert_eq!(read("Chat"), Err(70_011));
    assert_eq!(read(&format!("{clients}/")), Err(65_005));
    assert_eq!(read("https://communication.azure.com//.default"), Err(500_011));
    assert_eq!(read(&format!("{clients}/Chat {TENANT}/Chat")), Err(70_011));
}

#[test]
fn the_first_of_two_parameters_counts_and_an_empty_one_is_none() {
    let form = Form::read(b"a=1&a=2&b=&c=%20x+y&=z&d");
    assert_eq!((form.get("a"), form.get("b"), form.get("d")), (Some("1"), None, None));
    assert_eq!(form.get("c"), Some(" x y"));
    assert_eq!(form.need("b").map_err(|problem| problem.code), Err(900_144));
}

proptest! {
    #[test]
    fn no_request_can_make_reading_panic(
        body in proptest::collection::vec(any::<u8>(), 0..300),
        scopes in proptest::collection::vec("(https://)?[a-z./]{0,40}(/\\.default|/Chat)?", 0..6),
        claims: f64,
    ) {
        let form = Form::read(&body);
        let _ = (application(&form), scopes_of(&form));
        let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
        if let Ok((audience, permissions)) = consent(&scopes) {
            prop_assert!(principals::is_audience(&audience) && !permissions.is_empty());
        }
        let claims = json!({ "exp": claims, "nbf": claims });
        let now = Timestamp::from_millis(u64::MAX);
        prop_assert!(!is_current(claims.as_object().unwrap(), now), "it cannot have begun and not ended at once");
    }
}
