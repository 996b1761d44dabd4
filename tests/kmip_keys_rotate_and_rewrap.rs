//! A rotation at a KMIP server makes a new version that wraps from then on; older wrapped keys open, and are wrapped anew without a change of the disk key.

#[path = "servers/pykmip.rs"]
mod pykmip;

use pykmip::{PyKmip, context, owner};
use strongroom::kms::{DiskKey, KmsError};

#[test]
fn new_versions_wrap_and_old_ones_open() {
    let Some(mut server) = PyKmip::start() else { return };
    let kms = server.provider();
    let cmk = kms.service_key(&owner("a")).expect("a key").value;
    let key = DiskKey::random().expect("a key");
    let first = kms.wrap(&cmk.id, &key, &context("a", 1)).expect("wrapped").value;
    assert_eq!(first.cmk_version, 1);

    // More versions than are looked for at once.
    for number in 2..=10 {
        let rotated = kms.rotate(&cmk.id).expect("rotated");
        assert_eq!(rotated.value.newest(), number);
        assert!(rotated.request_id.is_some());
    }
    assert_eq!(kms.keys().expect("all").value, [kms.key(&cmk.id).expect("the key").value]);
    let newest = kms.wrap(&cmk.id, &key, &context("a", 1)).expect("wrapped").value;
    assert_eq!(newest.cmk_version, 10);
    assert_eq!(kms.unwrap(&first).expect("opened").value.0, key.0);

    let rewrapped = kms.rewrap(&first).expect("wrapped anew").value;
    assert_eq!((rewrapped.cmk_version, &rewrapped.context), (10, &first.context));
    assert_eq!(kms.unwrap(&rewrapped).expect("opened").value.0, key.0);

    // The old version can go then, and only what was not wrapped anew is lost.
    server.operate("strongroom.local.a-v1", "CESSATION_OF_OPERATION");
    assert!(matches!(kms.unwrap(&first), Err(KmsError::State { .. })));
    server.restart();
    assert_eq!(kms.unwrap(&rewrapped).expect("opened after a restart").value.0, key.0);
    assert_eq!(kms.unwrap(&newest).expect("opened").value.0, key.0);
}
