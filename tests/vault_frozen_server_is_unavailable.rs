//! A server that does not answer costs its time-out and no more, whether it is connected already or not; when it goes on, so do we.

#[path = "servers/openbao.rs"]
mod openbao;

use openbao::{OpenBao, context, owner};
use strongroom::kms::{DiskKey, KmsError};

#[test]
fn a_frozen_server_is_unavailable_until_it_goes_on() {
    let Some(bao) = OpenBao::start("10m") else { return };
    // Patient enough for a slow machine while it runs.
    let vault = bao.client("timeout_s = 5");
    let cmk = vault.service_key(&owner("a")).expect("made").value;
    let key = DiskKey::random().expect("a key");
    let wrapped = vault.wrap(&cmk.id, &key, &context("a", 1)).expect("wrapped").value;
    bao.freeze();
    for client in [&vault, &bao.client("timeout_s = 1")] {
        let error = client.unwrap(&wrapped).map(|_| ()).expect_err("frozen");
        assert!(
            matches!(&error, KmsError::Unavailable { .. }) && error.to_string().contains("no answer within"),
            "{error}"
        );
        assert!(matches!(client.health(), Err(KmsError::Unavailable { .. })));
    }
    bao.thaw();
    assert_eq!(vault.unwrap(&wrapped).expect("it goes on").value.0, key.0);
    vault.health().expect("healthy");
}
