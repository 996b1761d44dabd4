//! Tokens end: they are renewed before that, had anew after that, and a secret that is wrong is told.

#[path = "servers/openbao.rs"]
mod openbao;

use std::time::{Duration, Instant};

use openbao::{OpenBao, context, owner};
use strongroom::kms::{DiskKey, KmsError};

#[test]
fn a_token_is_renewed_while_it_is_used() {
    let Some(bao) = OpenBao::start("6s") else { return };
    // With this secret nobody logs in a second time.
    bao.new_secret_id(&["num_uses=1"]);
    let vault = bao.client("");
    let cmk = vault.service_key(&owner("a")).expect("made").value;
    let key = DiskKey::random().expect("a key");
    let wrapped = vault.wrap(&cmk.id, &key, &context("a", 1)).expect("wrapped").value;
    let over = Instant::now() + Duration::from_secs(14);
    while Instant::now() < over {
        assert_eq!(vault.unwrap(&wrapped).expect("opened").value.0, key.0);
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_token_that_has_ended_is_had_anew() {
    let Some(mut bao) = OpenBao::start("10m") else { return };
    let vault = bao.client("");
    let cmk = vault.service_key(&owner("a")).expect("made").value;
    let key = DiskKey::random().expect("a key");
    let wrapped = vault.wrap(&cmk.id, &key, &context("a", 1)).expect("wrapped").value;
    bao.bao(&["lease", "revoke", "-prefix", "-sync", "auth/approle"]);
    assert_eq!(vault.unwrap(&wrapped).expect("logged in again").value.0, key.0);

    // A server that has gone, and comes back: nothing has to be done here.
    bao.kill();
    let error = vault.unwrap(&wrapped).map(|_| ()).expect_err("gone");
    assert!(matches!(error, KmsError::Unavailable { .. }) && error.is_retryable(), "{error}");
    bao.start_again();
    assert_eq!(vault.unwrap(&wrapped).expect("back").value.0, key.0);

    bao.put_secret("secret", "11111111-2222-3333-4444-555555555555");
    let error = bao.client("").service_key(&owner("a")).expect_err("a wrong secret");
    assert!(matches!(&error, KmsError::Refused { .. }) && !error.to_string().contains("1111"), "{error}");
}

#[test]
fn a_given_token_is_kept_alive_and_read_again_when_it_is_replaced() {
    let Some(bao) = OpenBao::start("10m") else { return };
    let token = || bao.bao(&["token", "create", "-field=token", "-policy=strongroom", "-period=6s"]);
    bao.put_secret("token", &token());
    let vault = bao.client_as("token = 'file:token'", "");
    let cmk = vault.service_key(&owner("a")).expect("made").value;
    let over = Instant::now() + Duration::from_secs(14);
    while Instant::now() < over {
        vault.health().expect("healthy");
        std::thread::sleep(Duration::from_millis(100));
    }
    vault.key(&cmk.id).expect("the token is alive");

    bao.bao(&["token", "revoke", &std::fs::read_to_string(bao.dir.path().join("token")).expect("a token")]);
    let error = vault.key(&cmk.id).expect_err("revoked");
    assert!(matches!(&error, KmsError::Refused { .. }) && error.to_string().contains("token"), "{error}");
    bao.put_secret("token", &token());
    vault.key(&cmk.id).expect("the new token");
}
