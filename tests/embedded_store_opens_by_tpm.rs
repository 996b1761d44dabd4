//! A TPM 2.0 opens the store, as long as its PCRs are what they were; another TPM does not. Against `swtpm`; skipped where that is missing.
#![cfg(feature = "tpm")]

mod keystore;

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use keystore::{Place, open, owner, refusal};
use strongroom::kms::KeyProvider;
use strongroom::kms::embedded::{SlotKind, Unlock};

/// A TPM in software, with its state in a folder.
struct Swtpm {
    child: Child,
    port: u16,
}

impl Swtpm {
    /// `tpm2-tss` takes the port after that of the TPM for control (tss2-tcti-swtpm(7)).
    fn start(state: &Path) -> Option<Self> {
        let port = two_free_ports();
        let child = Command::new("swtpm")
            .args(["socket", "--tpm2", "--tpmstate", &format!("dir={}", state.display())])
            .args(["--server", &format!("type=tcp,port={port},bindaddr=127.0.0.1")])
            .args(["--ctrl", &format!("type=tcp,port={},bindaddr=127.0.0.1", port + 1)])
            .args(["--flags", "not-need-init,startup-clear"])
            .stdout(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            eprintln!("skipped: there is no swtpm here (Debian: apt-get install swtpm)");
            return None;
        };
        let it = Self { child, port };
        for _ in 0..200 {
            // The port for control takes many connections, the other one a single one.
            if TcpStream::connect(("127.0.0.1", port + 1)).is_ok() {
                return Some(it);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("swtpm does not listen");
    }

    fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    fn unlock(&self, pcrs: &[u8]) -> Unlock {
        Unlock::Tpm { tcti: self.tcti(), pcrs: pcrs.to_vec() }
    }

    /// Measures something into a PCR; false if the tool for that is missing.
    fn extend(&self, pcr: u8) -> bool {
        let digest = format!("{pcr}:sha256={}", "01".repeat(32));
        let done = Command::new("tpm2_pcrextend").arg(digest).env("TPM2TOOLS_TCTI", self.tcti()).status();
        done.is_ok_and(|status| status.success())
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn two_free_ports() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = first.local_addr().expect("its number").port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

#[test]
fn a_tpm_opens_what_it_sealed_and_another_one_does_not() {
    let (place, state, other_state) = (Place::new(), Place::new(), Place::new());
    let Some(tpm) = Swtpm::start(state.folder()) else { return };
    let store = open(&place.by(tpm.unlock(&[]))).expect("made");
    assert_eq!(store.slots()[0].kind, SlotKind::Tpm);
    let key = store.service_key(&owner("a")).expect("made").value.id;
    drop(store);
    // The machine starts anew.
    drop(tpm);
    let tpm = Swtpm::start(state.folder()).expect("it was there");
    let store = open(&place.by(tpm.unlock(&[]))).expect("opened");
    assert_eq!(store.service_key(&owner("a")).expect("found").value.id, key);
    drop(store);
    let other = Swtpm::start(other_state.folder()).expect("it was there");
    let error = refusal(&place.by(other.unlock(&[])));
    assert!(error.contains("opens none of the store's TPM slots"), "{error}");
    let nobody = Unlock::Tpm { tcti: format!("swtpm:host=127.0.0.1,port={}", two_free_ports()), pcrs: vec![] };
    let error = refusal(&place.by(nobody));
    assert!(error.contains("the TPM at swtpm:"), "{error}");
}

#[test]
fn a_slot_that_is_bound_to_pcrs_opens_until_they_change() {
    let (place, state) = (Place::new(), Place::new());
    let Some(tpm) = Swtpm::start(state.folder()) else { return };
    let bound = place.by(tpm.unlock(&[8, 16]));
    let store = open(&bound).expect("made");
    // A way in for the day on which the firmware is new.
    let by_passphrase = place.by_passphrase("recovery");
    store.add_slot(&by_passphrase.unlock).expect("added");
    drop(store);
    drop(open(&bound).expect("opened"));
    if !tpm.extend(8) {
        eprintln!("skipped in part: there is no tpm2_pcrextend here (Debian: apt-get install tpm2-tools)");
        return;
    }
    let error = refusal(&bound);
    assert!(error.contains("policy") && error.contains("add a new TPM slot"), "{error}");
    let store = open(&by_passphrase).expect("opened");
    store.remove_slot(0).expect("removed");
    store.add_slot(&bound.unlock).expect("added");
    drop(store);
    open(&bound).expect("opened");
}
