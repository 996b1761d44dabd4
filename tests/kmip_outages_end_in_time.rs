//! With a KMIP server frozen or gone, calls fail within their time and say that it is not available; they work when it is back.

#[path = "servers/pykmip.rs"]
mod pykmip;

use std::time::{Duration, Instant};

use pykmip::{Certificates, PyKmip, context, free_port, owner};
use strongroom::kms::{DiskKey, KmsError};

/// Of a busy machine: far more than the time limit, far less than for ever.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_frozen_server_holds_nobody_and_is_used_again() {
    let Some(mut server) = PyKmip::start() else { return };
    let mut config = server.certificates.client(server.port);
    config.timeout_s = 3;
    let kms = config.open("local").expect("a provider");
    // The server may take its time for its first answers.
    let cmk = server.provider().service_key(&owner("a")).expect("a key").value;
    let key = DiskKey::random().expect("a key");
    let wrapped = server.provider().wrap(&cmk.id, &key, &context("a", 1)).expect("wrapped").value;
    assert_eq!(kms.unwrap(&wrapped).expect("opened").value.0, key.0);

    server.signal("STOP");
    let begun = Instant::now();
    // Over the kept connection, over a new one, and by several at once.
    for _ in 0..2 {
        expect_unavailable(kms.unwrap(&wrapped));
    }
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| expect_unavailable(kms.health()));
        }
    });
    assert!(begun.elapsed() < PATIENCE, "held for {:?}", begun.elapsed());
    server.signal("CONT");
    assert_eq!(kms.unwrap(&wrapped).expect("opened again").value.0, key.0);

    server.kill();
    expect_unavailable(kms.unwrap(&wrapped));
    server.restart();
    assert_eq!(kms.unwrap(&wrapped).expect("opened after a restart").value.0, key.0);
}

#[test]
fn a_provider_opens_without_its_server() {
    let certificates = Certificates::make();
    let kms = certificates.client(free_port()).open("local").expect("no server is needed");
    expect_unavailable(kms.health());
}

fn expect_unavailable<T>(outcome: Result<T, KmsError>) {
    match outcome.map(|_| ()) {
        Err(e @ KmsError::Unavailable { .. }) => {
            assert!(e.is_retryable() && e.to_string().contains("kmip 127.0.0.1:"), "{e}")
        }
        other => panic!("{other:?}"),
    }
}
