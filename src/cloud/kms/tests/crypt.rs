//! What keys seal and open.

use base64ct::{Base64, Encoding};
use serde_json::json;

use super::*;

fn base64(bytes: usize) -> String {
    Base64::encode_string(&vec![b'x'; bytes])
}

#[test]
fn what_was_sealed_opens_with_its_context() {
    let site = Site::new();
    let cloud = site.open();
    let key = new_key(&cloud);
    let sealed = kms(
        &cloud,
        "Encrypt",
        &[("KeyId", &key), ("Plaintext", "c2VjcmV0"), ("EncryptionContext", r#"{"a":"1","b":"2"}"#)],
    );
    let sealed = sealed.expect("it is enabled");
    let version = &described(&cloud, &key)["PrimaryKeyVersion"];
    assert_eq!((&sealed["KeyId"], &sealed["KeyVersionId"]), (&json!(key), version));
    let blob = text(&sealed["CiphertextBlob"]);
    let decrypt =
        |blob: &str, context: &str| kms(&cloud, "Decrypt", &[("CiphertextBlob", blob), ("EncryptionContext", context)]);
    let opened = decrypt(&blob, r#" { "b" : "2", "a" : "1" } "#).expect("the order does not count");
    assert_eq!(opened, json!({ "KeyId": key, "KeyVersionId": version, "Plaintext": "c2VjcmV0" }));
    let wrong = decrypt(&blob, r#"{"a":"1"}"#).expect_err("a pair is missing");
    let mut damaged = Base64::decode_vec(&blob).expect("it is base64");
    damaged[0] ^= 1;
    let damaged = decrypt(&Base64::encode_string(&damaged), r#"{"a":"1","b":"2"}"#).expect_err("it is damaged");
    assert_eq!(wrong, damaged, "nobody learns which of the two it was");
    assert_eq!((&*wrong.code, wrong.status), ("InvalidParameter", 400));
    assert!(wrong.message.contains("CiphertextBlob") && wrong.message.contains("EncryptionContext"));
    assert_eq!(refusal(decrypt("", "")), code("MissingParameter", 400));
    assert_eq!(refusal(decrypt("%", "")), code("InvalidParameter", 400));
}

#[test]
fn what_is_sealed_has_bounds() {
    let site = Site::new();
    let cloud = site.open();
    let key = new_key(&cloud);
    let encrypt = |plain: &str, context: &str| {
        kms(&cloud, "Encrypt", &[("KeyId", &key), ("Plaintext", plain), ("EncryptionContext", context)])
    };
    encrypt(&base64(6144), "").expect("it is not too long");
    assert_eq!(refusal(encrypt(&base64(6145), "")), code("InvalidParameter", 400));
    assert_eq!(refusal(encrypt("", "")), code("MissingParameter", 400));
    for plain in ["a", "c2VjcmV0=", "c2Vj cmV0", "秘密"] {
        assert_eq!(refusal(encrypt(plain, "")), code("InvalidParameter", 400), "{plain}");
    }
    let context = |len: usize| format!(r#"{{"k":"{}"}}"#, "é".repeat(len - 8));
    encrypt("c2VjcmV0", &context(8192)).expect("it is not too long");
    assert_eq!(refusal(encrypt("c2VjcmV0", &context(8193))), code("InvalidParameter", 400));
    for context in ["x", "[]", r#"{"a":1}"#, r#"{"a":{"b":"c"}}"#, r#""a""#] {
        assert_eq!(refusal(encrypt("c2VjcmV0", context)), code("InvalidParameter", 400), "{context}");
    }
}

#[test]
fn data_keys_have_the_length_that_was_asked_for() {
    let site = Site::new();
    let cloud = site.open();
    let key = new_key(&cloud);
    let generate = |action: &str, spec: &str, bytes: &str| {
        kms(&cloud, action, &[("KeyId", &key), ("KeySpec", spec), ("NumberOfBytes", bytes)])
    };
    for (spec, bytes, len) in
        [("", "", 32), ("AES_256", "", 32), ("AES_128", "", 16), ("AES_128", "1", 1), ("", "1024", 1024)]
    {
        let made = generate("GenerateDataKey", spec, bytes).expect("it is enabled");
        let plain = text(&made["Plaintext"]);
        assert_eq!(Base64::decode_vec(&plain).expect("it is base64").len(), len, "{spec} {bytes}");
        let opened = kms(&cloud, "Decrypt", &[("CiphertextBlob", &text(&made["CiphertextBlob"]))]);
        assert_eq!(opened.expect("it opens")["Plaintext"], plain);
    }
    for (spec, bytes) in [("AES_512", ""), ("", "0"), ("", "1025"), ("", "many")] {
        assert_eq!(refusal(generate("GenerateDataKey", spec, bytes)), code("InvalidParameter", 400), "{spec} {bytes}");
    }
    let made = generate("GenerateDataKeyWithoutPlaintext", "", "").expect("it is enabled");
    let names: Vec<&String> = made.as_object().expect("fields").keys().collect();
    assert_eq!(names, ["CiphertextBlob", "KeyId", "KeyVersionId"]);
}

#[test]
fn re_encryption_shows_no_plain_text() {
    let site = Site::new();
    let cloud = site.open();
    let (from, to) = (new_key(&cloud), new_key(&cloud));
    let (old, new) = (r#"{"a":"1"}"#, r#"{"a":"2"}"#);
    let encrypt = [("KeyId", from.as_str()), ("Plaintext", "c2VjcmV0"), ("EncryptionContext", old)];
    let blob = text(&kms(&cloud, "Encrypt", &encrypt).expect("it is enabled")["CiphertextBlob"]);
    let re_encrypt = |source: &str, key: &str| {
        let params = [
            ("CiphertextBlob", blob.as_str()),
            ("DestinationKeyId", key),
            ("SourceEncryptionContext", source),
            ("DestinationEncryptionContext", new),
        ];
        kms(&cloud, "ReEncrypt", &params)
    };
    let answer = re_encrypt(old, &to).expect("both are enabled");
    assert_eq!(answer["KeyId"], to);
    assert_eq!(answer.get("Plaintext"), None);
    let opened =
        kms(&cloud, "Decrypt", &[("CiphertextBlob", &text(&answer["CiphertextBlob"])), ("EncryptionContext", new)]);
    assert_eq!(opened.expect("it is bound to the new context")["Plaintext"], "c2VjcmV0");
    let wrong = re_encrypt(new, &to).expect_err("that is not its context");
    assert!(wrong.message.contains("SourceEncryptionContext"), "{wrong}");
    assert_eq!(refusal(re_encrypt(old, "none")), code("Forbidden.KeyNotFound", 404));
    put_state(&site, &from, KeyState::Disabled);
    assert_eq!(refusal(re_encrypt(old, &to)), code("Rejected.Disabled", 409));
}
