//! Server and client show each other certificates of a CA that the other one knows, or there is no connection; the error says whose it is and where to look.

#[path = "servers/pykmip.rs"]
mod pykmip;

use pykmip::{Certificates, PyKmip};
use strongroom::kms::KmsError;
use strongroom::kms::kmip::KmipConfig;

#[test]
fn a_certificate_of_an_unknown_ca_is_refused_on_either_side() {
    let Some(server) = PyKmip::start() else { return };
    let right = server.certificates.client(server.port);
    right.open("local").expect("a provider").health().expect("healthy");
    let strangers = Certificates::make();
    let stranger = strangers.client(server.port);

    let distrusts = KmipConfig { ca_file: stranger.ca_file.clone(), ..right.clone() };
    let said = expect_refused(&distrusts);
    assert!(said.contains("its certificate") && said.contains("ca_file"), "{said}");

    let misnamed = KmipConfig { server_name: Some("kmip.example".to_owned()), ..right.clone() };
    let said = expect_refused(&misnamed);
    assert!(said.contains("server_name"), "{said}");

    let unknown =
        KmipConfig { client_key_file: stranger.client_key_file, client_cert_file: stranger.client_cert_file, ..right };
    let said = expect_refused(&unknown);
    assert!(said.contains("our certificate") && said.contains("client_cert_file"), "{said}");
}

#[test]
fn a_missing_certificate_is_an_error_of_the_configuration() {
    let certificates = Certificates::make();
    let right = certificates.client(5696);
    let missing = KmipConfig { client_cert_file: certificates.path("nothing.pem"), ..right.clone() };
    assert!(config_error(&missing).contains("nothing.pem"));
    let swapped = KmipConfig { client_cert_file: right.client_key_file.clone(), ..right.clone() };
    assert!(config_error(&swapped).contains("client.key"));
    std::fs::copy(&right.client_key_file, certificates.path("open.key")).expect("copied");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(certificates.path("open.key"), mode).expect("mode set");
    let open = KmipConfig { client_key_file: certificates.path("open.key"), ..right };
    assert!(config_error(&open).contains("chmod 600"));
}

fn config_error(config: &KmipConfig) -> String {
    match config.open("local").map(|_| ()) {
        Err(KmsError::Config(what)) => what,
        other => panic!("{other:?}"),
    }
}

fn expect_refused(config: &KmipConfig) -> String {
    match config.open("local").expect("a provider").health() {
        Err(e @ KmsError::Refused { .. }) => e.to_string(),
        other => panic!("{other:?}"),
    }
}
