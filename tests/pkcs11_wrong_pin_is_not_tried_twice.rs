//! A PIN that a PKCS#11 token refuses is named and never tried again, since tokens lock after a few; another one is tried at the next call.

#[path = "servers/softhsm.rs"]
mod softhsm;

use softhsm::{PIN, SoftHsm, error_of};
use strongroom::kms::{KeyProvider, KmsError};

#[test]
fn a_wrong_pin_is_named_and_left_alone() {
    let Some(token) = SoftHsm::new() else { return };
    token.write_pin("0000wrong");
    let kms = token.provider();
    let check = |error: KmsError| {
        let text = error.to_string();
        assert!(matches!(error, KmsError::Refused { .. }), "{text}");
        assert!(text.contains("the PIN in file:") && !text.contains("0000wrong"), "{text}");
        text
    };
    assert!(check(error_of(kms.health())).contains("PinIncorrect"));
    for _ in 0..3 {
        assert!(check(error_of(kms.health())).contains("not tried again"));
    }
    token.write_pin("1111wrong");
    assert!(check(error_of(kms.health())).contains("PinIncorrect"), "another one is tried");
    token.write_pin(PIN);
    kms.health().expect("well");
    // One that was refused once may have become the right one by way of another that was taken.
    token.write_pin("1111wrong");
    kms.health().expect("the session goes on");
}
