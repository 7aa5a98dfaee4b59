//! Who forges tokens: knows the issuer's public keys and everything else about it but its private keys. What only the
//! issuer can sign is here too, where the token is bad for another reason than its signature.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rand::RngExt;
use serde_json::{Value, json};

use crate::token_signer::{Signer, base64, key_set};

/// How many kinds of forged tokens there are.
pub(crate) const KINDS: usize = 36;

pub(crate) struct Forger {
    /// A token that is good.
    pub(crate) good: String,
    /// The issuer's keys.
    pub(crate) rsa: Signer,
    ec: Signer,
    /// What the good token says.
    claims: Value,
    own_rsa: Signer,
    own_ec: Signer,
    own_p384: Signer,
    /// A server of the forger's own keys.
    elsewhere: String,
}

impl Forger {
    pub(crate) fn new(rsa: Signer, ec: Signer, claims: Value, elsewhere: String) -> Self {
        Self {
            good: rsa.sign("RS256", &claims),
            rsa,
            ec,
            claims,
            own_rsa: Signer::other_rsa("own"),
            own_ec: Signer::p256("rsa"),
            own_p384: Signer::p384("ec"),
            elsewhere,
        }
    }

    pub(crate) fn own_key(&self) -> &Signer {
        &self.own_rsa
    }

    fn but(&self, name: &str, value: Value) -> Value {
        let mut claims = self.claims.clone();
        claims[name] = value;
        claims
    }

    /// Signed by the issuer, with one claim that is bad.
    fn issued(&self, name: &str, value: Value) -> String {
        self.ec.sign("ES256", &self.but(name, value))
    }

    /// Signed by the issuer, with one more field in the header.
    fn issued_headed(&self, name: &str, value: Value) -> String {
        let mut header = json!({"alg": "ES256", "kid": "ec"});
        header[name] = value;
        self.ec.sign_headed("ES256", &header, &self.claims)
    }

    /// Signed by the issuer, these texts.
    fn issued_text(&self, header: &str, claims: &str) -> String {
        self.ec.sign_text("ES256", header, claims)
    }

    /// Signed by the forger under another id.
    fn own(&self, kid: &str) -> String {
        self.own_ec.sign_headed("ES256", &json!({"alg": "ES256", "kid": kid}), &self.claims)
    }

    /// Signed by the forger under the issuer's id, with one more field in the header.
    fn own_headed(&self, name: &str, value: Value) -> String {
        let mut header = json!({"alg": "RS256", "kid": "rsa"});
        header[name] = value;
        self.own_rsa.sign_headed("RS256", &header, &self.claims)
    }

    /// HMAC with a text that everybody knows: the confusion of RS256 with HS256.
    fn confused(&self, key: &[u8], any: u64) -> String {
        let header = base64(json!({"alg": "HS256", "kid": "rsa"}).to_string());
        let message = format!("{header}.{}", base64(self.but("n", json!(any)).to_string()));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
        format!("{message}.{}", base64(ring::hmac::sign(&key, message.as_bytes())))
    }

    /// A token with these bytes for a signature.
    fn with_signature(&self, algorithm: &str, kid: &str, any: u64, signature: &[u8]) -> String {
        let header = base64(json!({"alg": algorithm, "kid": kid}).to_string());
        format!("{header}.{}.{}", base64(self.but("n", json!(any)).to_string()), base64(signature))
    }

    /// A forged token of the kind with this number; each one is another.
    pub(crate) fn forge(&self, kind: usize, now: u64) -> (&'static str, String) {
        let mut random = rand::rng();
        let any = random.random::<u64>();
        let far = any % 1_000_000;
        let (message, signature) = self.good.rsplit_once('.').unwrap();
        let (header, _) = message.split_once('.').unwrap();
        let claims = self.claims.to_string();
        let es256 = r#"{"alg":"ES256","kid":"ec"}"#;
        let modulus = self.rsa.jwk()["n"].as_str().unwrap().to_owned();
        match kind % KINDS {
            0 => ("none", self.with_signature("none", "rsa", any, b"")),
            1 => ("nOnE, signed", self.issued_headed("alg", json!("nOnE"))),
            2 => ("HS256 with the key set", self.confused(key_set(&[&self.rsa, &self.ec]).as_bytes(), any)),
            3 => ("HS256 with the modulus", self.confused(modulus.as_bytes(), any)),
            4 => ("HS256 with nothing", self.confused(b"", any)),
            5 => ("another audience", self.issued("aud", json!(format!("other-{any}")))),
            6 => ("no audience", self.issued("aud", json!([]))),
            7 => ("another issuer", self.issued("iss", json!(format!("https://evil-{any}.example")))),
            8 => (
                "almost the issuer",
                self.issued("iss", json!(format!("{}/", self.claims["iss"].as_str().unwrap()))),
            ),
            9 => ("expired", self.issued("exp", json!(now - 31 - far))),
            10 => ("never expires", self.issued("exp", Value::Null)),
            11 => ("not yet", self.issued("nbf", json!(now + 3600 + far))),
            12 => ("issued tomorrow", self.issued("iat", json!(now + 86_400 + far))),
            13 => ("huge", self.issued("pad", json!("x".repeat(6_500)))),
            14 => ("unknown key", self.own(&any.to_string())),
            15 => ("path in the key id", self.own(&format!("../../../../dev/null{any}"))),
            16 => ("SQL in the key id", self.own("x' UNION SELECT 'a")),
            17 => ("URL as key id", self.own(&self.elsewhere)),
            18 => ("no key id", self.own_ec.sign_headed("ES256", &json!({"alg": "ES256"}), &self.claims)),
            19 => ("own key, the issuer's id", self.own_headed("n", json!(any))),
            20 => ("jku", self.own_headed("jku", json!(self.elsewhere))),
            21 => ("embedded key", self.own_headed("jwk", self.own_rsa.jwk())),
            22 => ("x5u", self.own_headed("x5u", json!(self.elsewhere))),
            23 => ("cut off", self.good[..usize::try_from(any).unwrap_or(0) % self.good.len()].to_owned()),
            24 => {
                let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
                let place = usize::try_from(far).unwrap() % bytes.len();
                bytes[place] ^= 1 << (any % 8);
                ("signature changed", format!("{message}.{}", base64(bytes)))
            }
            25 => {
                let claims = base64(self.but("sub", json!(format!("system:admin-{any}"))).to_string());
                ("claims changed", format!("{header}.{claims}.{signature}"))
            }
            26 => ("ES256 under the RSA key's id", self.own("rsa")),
            27 => (
                "P-384 as ES256",
                self.own_p384.sign_headed("ES256", &json!({"alg": "ES256", "kid": "ec"}), &self.claims),
            ),
            28 => ("r and s are zero", self.with_signature("ES256", "ec", any, &[0; 64])),
            29 => ("r and s are too large", self.with_signature("ES256", "ec", any, &[0xff; 64])),
            30 => ("a token in a token", self.issued_headed("cty", json!("JWT"))),
            31 => ("a claim twice", self.issued_text(es256, &claims.replacen('{', "{\"aud\":\"other\",", 1))),
            32 => (
                "a header field twice",
                self.issued_text(&es256.replacen('{', "{\"alg\":\"none\",", 1), &claims),
            ),
            33 => ("not JSON", self.issued_text(es256, &format!("<xml>{any}</xml>"))),
            34 => {
                let deep = format!("{}{}", "{\"a\":".repeat(400), "}".repeat(400));
                ("deep", self.issued_text(es256, &deep))
            }
            _ => ("noise", (0..any % 300).map(|_| char::from(random.random_range(33u8..127))).collect()),
        }
    }
}
