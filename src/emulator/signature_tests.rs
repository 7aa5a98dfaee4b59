//! The signature check against vectors that were computed elsewhere, and against everything that must not pass.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

/// Base64 of the bytes 0x00 to 0x1f: a made-up key.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const DATE: &str = "Tue, 04 Mar 2025 05:06:07 GMT";
const MARGIN: Duration = Duration::from_mins(5);

/// A signed request whose signature was computed independently and equals that of two official SDKs.
struct Vector {
    method: &'static str,
    target: &'static str,
    host: &'static str,
    body: &'static str,
    hash: &'static str,
    signature: &'static str,
}

const VECTORS: [Vector; 3] = [
    Vector {
        method: "GET",
        target: "/identities/8%3Aacs%3A1b3c5d7e-0000-4000-8000-0123456789ab_00000000-0000-0000-0000-000000000001?api-version=2025-03-02-preview",
        host: "contoso.communication.azure.com",
        body: "",
        hash: "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        signature: "rI8xnLZXTbcLF6S8tHUHqxqIJcAHaa3WlxAhTZqv570=",
    },
    Vector {
        method: "POST",
        target: "/identities?api-version=2023-10-01",
        host: "contoso.communication.azure.com",
        body: r#"{"createTokenWithScopes":["chat","voip"],"expiresInMinutes":60}"#,
        hash: "jENEeifYNCidF9FcfXJ54WzhK3ED/2UrQyA4+oWOZKc=",
        signature: "A1upm3yb4/iMMm2iBDz+A+C5/3VlE2L3klOeb7+nqoA=",
    },
    Vector {
        method: "POST",
        target: "/sms?api-version=2021-03-07&trace=a%2Cb",
        host: "127.0.0.1:8080",
        body: r#"{"from":"+18005550100","smsRecipients":[{"to":"+14255550123"}],"message":"Grüße"}"#,
        hash: "pJmxqrRpD9Obtvg9GdgiiIpbXLhMfv7RR3CNYFy2KLA=",
        signature: "hhh2NFB1fzGiOYJ0T8egOCf5+cUx1dTOSezcJvjrnpE=",
    },
];

impl Vector {
    fn headers(&self) -> HeaderMap {
        let authorization = format!(
            "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature={}",
            self.signature
        );
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", self.host),
            ("x-ms-date", DATE),
            ("x-ms-content-sha256", self.hash),
            ("authorization", &authorization),
        ] {
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn verify(&self, headers: &HeaderMap) -> Result<u64, Refusal> {
        check(self.method, self.target, headers, self.body, at(DATE))
    }
}

fn at(date: &str) -> Timestamp {
    Timestamp::from_system_time(httpdate::parse_http_date(date).unwrap())
}

fn check(
    method: &str,
    target: &str,
    headers: &HeaderMap,
    body: &str,
    now: Timestamp,
) -> Result<u64, Refusal> {
    let other = [9; 64];
    let key = STANDARD.decode(KEY).unwrap();
    let keys = [(4, other.as_slice()), (5, key.as_slice())];
    let received = Received { method, target, headers, body: body.as_bytes() };
    verify(&received, keys.into_iter(), &[now], MARGIN)
}

/// Signs again after a change, so that only the change itself can be what is refused.
fn sign(vector: &Vector, headers: &mut HeaderMap, names: &str) {
    let values: Vec<&str> =
        names.split(';').map(|name| headers.get(name).map_or("", |v| v.to_str().unwrap())).collect();
    let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(KEY).unwrap()).unwrap();
    mac.update(format!("{}\n{}\n{}", vector.method, vector.target, values.join(";")).as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let authorization = format!("HMAC-SHA256 SignedHeaders={names}&Signature={signature}");
    headers.insert("authorization", HeaderValue::from_str(&authorization).unwrap());
}

#[test]
fn the_published_vectors_pass_and_name_their_key() {
    for vector in &VECTORS {
        assert_eq!(vector.verify(&vector.headers()), Ok(5), "{}", vector.target);
    }
}

#[test]
fn the_raw_request_target_is_what_is_signed() {
    // The same meaning with the percent-encoding changed.
    let vector = &VECTORS[0];
    let plain = vector.target.replace("%3A", ":");
    assert_eq!(check("GET", &plain, &vector.headers(), "", at(DATE)), Err(Refusal::Denied));
    // Of the two readings of a space and a comma in a query, only the one on the request line verifies.
    let as_sent = Vector {
        target: "/sms?api-version=2021-03-07&trace=a%20b%2Cc",
        signature: "7zXL9wcQ/D6nuaFDUmYbSgakagh1NyYk/a5ciq8fPCo=",
        ..VECTORS[2]
    };
    assert_eq!(as_sent.verify(&as_sent.headers()), Ok(5));
    let re_serialised = Vector { signature: "p24qqxf4Fufr857jF1x4iMc4DNcMH68J06+0NlRGU0I=", ..as_sent };
    assert_eq!(re_serialised.verify(&re_serialised.headers()), Err(Refusal::Denied));
}

#[test]
fn method_host_date_and_target_are_all_covered() {
    let vector = &VECTORS[1];
    let headers = vector.headers();
    assert_eq!(check("PUT", vector.target, &headers, vector.body, at(DATE)), Err(Refusal::Denied));
    assert_eq!(check("POST", "/identities", &headers, vector.body, at(DATE)), Err(Refusal::Denied));
    for (name, value) in
        [("host", "contoso.communication.azure.com:443"), ("x-ms-date", "Tue, 04 Mar 2025 05:06:08 GMT")]
    {
        let mut changed = headers.clone();
        changed.insert(name, HeaderValue::from_static(value));
        assert_eq!(vector.verify(&changed), Err(Refusal::Denied), "{name}");
    }
}

#[test]
fn a_changed_body_is_told_apart_even_when_the_signature_is_wrong_too() {
    let vector = &VECTORS[1];
    let mut headers = vector.headers();
    let changed = vector.body.replace("60", "61");
    assert_eq!(check("POST", vector.target, &headers, &changed, at(DATE)), Err(Refusal::ContentHash));
    sign(&VECTORS[0], &mut headers, "x-ms-date;host;x-ms-content-sha256");
    assert_eq!(check("POST", vector.target, &headers, &changed, at(DATE)), Err(Refusal::ContentHash));
    // A correct hash in hexadecimal is not base64.
    headers.insert("x-ms-content-sha256", HeaderValue::from_static("8c4344"));
    assert_eq!(vector.verify(&headers), Err(Refusal::ContentHash));
}

#[test]
fn the_date_may_be_off_by_the_margin_and_no_more_in_either_direction() {
    let vector = &VECTORS[0];
    let headers = vector.headers();
    let check_at = |now| check(vector.method, vector.target, &headers, vector.body, now);
    let second = Duration::from_millis(1);
    assert_eq!(check_at(at(DATE).plus(MARGIN)), Ok(5));
    assert_eq!(check_at(at(DATE).minus(MARGIN)), Ok(5));
    assert_eq!(check_at(at(DATE).plus(MARGIN + second)), Err(Refusal::ClockSkew));
    assert_eq!(check_at(at(DATE).minus(MARGIN + second)), Err(Refusal::ClockSkew));
}

#[test]
fn an_old_date_with_a_wrong_signature_tells_nothing_about_the_date() {
    let vector = Vector { signature: VECTORS[1].signature, ..VECTORS[0] };
    let late = at(DATE).plus(Duration::from_hours(1));
    assert_eq!(check(vector.method, vector.target, &vector.headers(), "", late), Err(Refusal::Denied));
}

#[test]
fn date_may_stand_in_for_x_ms_date_and_more_headers_may_be_signed() {
    let vector = &VECTORS[1];
    let mut headers = vector.headers();
    headers.remove("x-ms-date");
    headers.insert("date", HeaderValue::from_static(DATE));
    for names in [
        "date;host;x-ms-content-sha256",
        "host;Date;X-MS-Content-SHA256",
        "date;host;x-ms-content-sha256;host",
    ] {
        sign(vector, &mut headers, names);
        assert_eq!(vector.verify(&headers), Ok(5), "{names}");
    }
    headers.insert("x-ms-client-request-id", HeaderValue::from_static("a"));
    sign(vector, &mut headers, "date;host;x-ms-client-request-id;x-ms-content-sha256");
    assert_eq!(vector.verify(&headers), Ok(5));
    // Unsigned, and far off, `x-ms-date` proves nothing and harms nothing.
    headers.insert("x-ms-date", HeaderValue::from_static("Tue, 04 Mar 2020 05:06:07 GMT"));
    assert_eq!(vector.verify(&headers), Ok(5));
}

#[test]
fn date_host_and_content_hash_must_be_signed() {
    let vector = &VECTORS[1];
    for names in ["x-ms-date;host", "x-ms-date;x-ms-content-sha256", "host;x-ms-content-sha256", "x-ms-date"]
    {
        let mut headers = vector.headers();
        sign(vector, &mut headers, names);
        assert_eq!(vector.verify(&headers), Err(Refusal::Denied), "{names}");
    }
}

#[test]
fn a_date_in_any_other_form_is_denied() {
    let vector = &VECTORS[1];
    for date in [
        "Tue, 4 Mar 2025 05:06:07 GMT",
        "Wed, 04 Mar 2025 05:06:07 GMT",
        "Tuesday, 04-Mar-25 05:06:07 GMT",
        "Tue Mar  4 05:06:07 2025",
        "2025-03-04T05:06:07Z",
        "mar., 04 mars 2025 05:06:07 GMT",
        "",
    ] {
        let mut headers = vector.headers();
        headers.insert("x-ms-date", HeaderValue::from_str(date).unwrap());
        sign(vector, &mut headers, "x-ms-date;host;x-ms-content-sha256");
        assert_eq!(vector.verify(&headers), Err(Refusal::Denied), "{date:?}");
    }
}

#[test]
fn a_missing_or_repeated_header_is_denied() {
    let vector = &VECTORS[1];
    for name in ["authorization", "x-ms-date", "host", "x-ms-content-sha256"] {
        let mut headers = vector.headers();
        headers.remove(name);
        assert_eq!(vector.verify(&headers), Err(Refusal::Denied), "without {name}");
        let mut headers = vector.headers();
        let value = headers[name].clone();
        headers.append(name, value);
        assert_eq!(vector.verify(&headers), Err(Refusal::Denied), "two of {name}");
    }
}

#[test]
fn authorization_of_any_other_form_is_denied() {
    let vector = &VECTORS[1];
    let signature = vector.signature;
    let names = "x-ms-date;host;x-ms-content-sha256";
    for authorization in [
        String::new(),
        "HMAC-SHA256".to_owned(),
        "Bearer abc.def.ghi".to_owned(),
        format!("HMAC-SHA256 SignedHeaders={names}"),
        format!("HMAC-SHA256 Signature={signature}"),
        format!("HMAC-SHA256 SignedHeaders={names}&Signature=%%%"),
        format!("HMAC-SHA256 SignedHeaders={names}&Signature={signature}&Credential=x"),
        format!("HMAC-SHA256 SignedHeaders={names}&Signature={signature}&Signature={signature}"),
        format!("HMAC-SHA256 SignedHeaders={names};&Signature={signature}"),
        format!("HMAC-SHA256 SignedHeaders={}&Signature={signature}", "host;".repeat(40) + names),
        format!("HMAC-SHA1 SignedHeaders={names}&Signature={signature}"),
    ] {
        let mut headers = vector.headers();
        headers.insert("authorization", HeaderValue::from_str(&authorization).unwrap());
        assert_eq!(vector.verify(&headers), Err(Refusal::Denied), "{authorization:?}");
    }
}

proptest! {
    #[test]
    fn no_authorization_text_can_make_the_check_panic(text in "[ -~]{0,200}") {
        let vector = &VECTORS[1];
        let mut headers = vector.headers();
        headers.insert("authorization", HeaderValue::from_str(&format!("HMAC-SHA256 {text}")).unwrap());
        prop_assert_eq!(vector.verify(&headers), Err(Refusal::Denied));
    }
}
