//! A vendor's library that crashes, hangs or cannot be loaded costs one call: the target goes on, says what happened, and the next call works.

#[path = "servers/softhsm.rs"]
mod softhsm;

use std::time::{Duration, Instant};

use softhsm::{PIN, SoftHsm, context, disk_key, error_of, owner, plain};
use strongroom::kms::pkcs11::Pkcs11;
use strongroom::kms::{KeyProvider, KmsError, WrappedKey};

/// A token with a wrapped key, and a helper that waits.
fn ready(token: &SoftHsm, kms: &Pkcs11) -> (WrappedKey, i32) {
    let id = kms.service_key(&owner("a")).expect("made").value.id;
    let wrapped = kms.wrap(&id, &disk_key(1), &context("a", 1)).expect("wrapped").value;
    assert!(token.pin_file().exists());
    (wrapped, helper(kms))
}

fn helper(kms: &Pkcs11) -> i32 {
    kms.helper_pid().expect("a helper waits").try_into().expect("a pid")
}

#[allow(unsafe_code)]
fn signal(pid: i32, signal: i32) {
    // SAFETY: the call takes numbers only; the process is a helper that the provider of this test has started.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "process {pid}");
}

fn is_there(pid: i32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

fn wait_for(what: &str, happened: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_crash_between_calls_goes_unnoticed() {
    let Some(token) = SoftHsm::new() else { return };
    let kms = token.provider();
    let (wrapped, pid) = ready(&token, &kms);
    signal(pid, libc::SIGABRT);
    wait_for("the crash", || kms.helper_pid().is_none());
    assert_eq!(kms.unwrap(&wrapped).expect("opened").value.0, plain(1));
    assert_ne!(helper(&kms), pid);
    assert!(!is_there(pid), "no zombie is left");
}

#[test]
fn a_crash_in_a_call_is_named_and_the_next_call_works() {
    let Some(token) = SoftHsm::new() else { return };
    let kms = token.provider();
    let (wrapped, pid) = ready(&token, &kms);
    // Stopped, it dies with the request before it.
    signal(pid, libc::SIGSTOP);
    std::thread::scope(|scope| {
        let call = scope.spawn(|| error_of(kms.unwrap(&wrapped)));
        wait_for("the call to begin", || kms.helper_pid().is_none());
        signal(pid, libc::SIGABRT);
        signal(pid, libc::SIGCONT);
        let error = call.join().expect("an answer");
        assert!(error.is_retryable() && error.to_string().contains("crashed"), "{error}");
        assert!(error.to_string().contains("SIGABRT"), "{error}");
    });
    assert_eq!(kms.unwrap(&wrapped).expect("opened").value.0, plain(1));
}

#[test]
fn a_call_that_hangs_times_out_and_the_next_one_works() {
    let Some(token) = SoftHsm::new() else { return };
    let mut config = token.config();
    let patient = config.provider("local").expect("a provider");
    let (wrapped, _) = ready(&token, &patient);
    config.timeout_s = 5;
    let kms = config.provider("local").expect("a provider");
    kms.health().expect("well");
    let pid = helper(&kms);
    signal(pid, libc::SIGSTOP);
    let error = error_of(kms.unwrap(&wrapped));
    assert!(error.is_retryable() && error.to_string().contains("no answer within 5 s"), "{error}");
    wait_for("the helper to be killed", || !is_there(pid));
    assert_eq!(kms.unwrap(&wrapped).expect("opened").value.0, plain(1));
}

#[test]
fn calls_wait_for_their_turn_only_so_long() {
    let Some(token) = SoftHsm::new() else { return };
    let mut config = token.config();
    config.timeout_s = 3;
    let kms = config.provider("local").expect("a provider");
    kms.health().expect("well");
    signal(helper(&kms), libc::SIGSTOP);
    std::thread::scope(|scope| {
        let calls = [(); 4].map(|()| scope.spawn(|| kms.health()));
        let outcomes = calls.map(|call| call.join().expect("an answer"));
        let failed = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        assert!(failed >= 1, "one of them had the helper that hung");
        assert!(outcomes.into_iter().filter_map(Result::err).all(|error| error.is_retryable()));
    });
    kms.health().expect("well again");
}

#[test]
fn an_idle_helper_ends_and_one_that_is_let_go_of_too() {
    let Some(token) = SoftHsm::new() else { return };
    let mut config = token.config();
    config.idle = Duration::from_millis(50);
    let kms = config.provider("local").expect("a provider");
    // As often as not the call comes when the helper is about to go.
    for _ in 0..20 {
        kms.health().expect("well");
        std::thread::sleep(Duration::from_millis(50));
    }
    wait_for("the helper to end", || kms.helper_pid().is_none());

    let kms = token.provider();
    kms.health().expect("well");
    let pid = helper(&kms);
    drop(kms);
    wait_for("the helper to end", || !is_there(pid));
}

#[test]
fn a_helper_ends_with_the_thread_that_called_or_not_at_all() {
    let Some(token) = SoftHsm::new() else { return };
    let kms = token.provider();
    std::thread::scope(|scope| scope.spawn(|| kms.health().expect("well")).join().expect("done"));
    let pid = helper(&kms);
    kms.health().expect("well");
    assert_eq!(helper(&kms), pid, "it outlives the thread whose call has started it");
}

#[test]
fn a_helper_holds_nothing_of_the_targets() {
    let Some(token) = SoftHsm::new() else { return };
    let folder = tempfile::tempdir().expect("a directory");
    let kms = token.provider();
    let (_, pid) = ready(&token, &kms);
    let Ok(variables) = std::fs::read(format!("/proc/{pid}/environ")) else {
        eprintln!("SKIPPED: only root may look into the helper ({})", folder.path().display());
        return;
    };
    let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).expect("read");
    for place in [&variables, &command_line] {
        let place = String::from_utf8_lossy(place);
        assert!(!place.contains(PIN) && !place.contains("CARGO"), "{place}");
    }
    let files: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("listed").collect();
    let sockets = files.iter().filter(|file| {
        let target = std::fs::read_link(file.as_ref().expect("an entry").path()).unwrap_or_default();
        target.to_string_lossy().starts_with("socket:")
    });
    assert_eq!(sockets.count(), 1, "{files:?}");
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("read");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("there");
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
}

#[test]
fn what_cannot_be_loaded_or_found_is_named() {
    let Some(token) = SoftHsm::new() else { return };
    let refused = |change: &dyn Fn(&mut strongroom::kms::pkcs11::Pkcs11Config)| {
        let mut config = token.config();
        change(&mut config);
        error_of(config.provider("local").expect("no library is needed for that").health())
    };
    let error = refused(&|config| config.module = "/nonexistent.so".into());
    assert!(matches!(error, KmsError::Config(_)) && error.to_string().contains("/nonexistent.so"), "{error}");
    let error = refused(&|config| config.module = "/bin/true".into());
    assert!(matches!(error, KmsError::Config(_)), "{error}");
    let error = refused(&|config| config.token = "other".to_owned());
    assert!(error.is_retryable() && error.to_string().contains("\"disks\""), "{error}");
    let error = refused(&|config| config.program = "/nonexistent".into());
    assert!(error.is_retryable(), "{error}");
    let error = refused(&|config| config.pin = strongroom::secrets::SecretRef::File("/nonexistent".into()));
    assert!(matches!(error, KmsError::Refused { .. }), "{error}");
}
