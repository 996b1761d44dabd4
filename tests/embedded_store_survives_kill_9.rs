//! A process that uses the store is killed in the middle of rotations, rewraps and destructions: what it was told is done is there afterwards, and
//! nothing else is half there. Power cuts at each single step are simulated in `kms::embedded::commit`.

mod keystore;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use keystore::{Place, context, disk_key, open, owner};
use strongroom::kms::embedded::{EmbeddedConfig, Unlock};
use strongroom::kms::{Change, KeyProvider, KmsError, WrappedKey};
use strongroom::secrets::SecretRef;

const FOLDER: &str = "STRONGROOM_TEST_STORE";
const ROUNDS: u64 = 25;
/// A machine with much else to do may need more until each thing was done once.
const MOST_ROUNDS: u64 = 200;

/// What the killed process does; it is this test binary, told by a variable where its store is.
#[test]
#[ignore = "runs within the other test"]
fn victim() -> Result<(), KmsError> {
    let Some(folder) = std::env::var_os(FOLDER).map(std::path::PathBuf::from) else { return Ok(()) };
    let unlock = Unlock::RootKey(SecretRef::File(folder.join("root.key")));
    let store = open(&EmbeddedConfig { path: folder.join("keys.store"), unlock, create: true })?;
    let id = store.service_key(&owner("a"))?.value.id;
    for round in 0.. {
        let version = store.rotate(&id)?.value.newest();
        println!("rotated {version}");
        let wrapped = store.wrap(&id, &disk_key(version as u8), &context("a", version.into()))?.value;
        let wrapped = store.rewrap(&wrapped)?.value.encode()?;
        println!("wrapped {}", wrapped.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        if round % 3 == 0 {
            let doomed = store.service_key(&owner("doomed"))?.value.id;
            match store.change(&doomed, Change::ScheduleDeletion { days: 7 }) {
                // A victim before this one was killed in between.
                Err(KmsError::State { .. }) => {}
                other => drop(other?),
            }
            store.destroy_due(SystemTime::now() + Duration::from_secs(8 * 24 * 60 * 60))?;
            println!("destroyed {doomed}");
        }
    }
    Ok(())
}

#[test]
fn what_was_told_is_there_after_kill_9() {
    let place = Place::new();
    let config = place.by_root_key();
    let (mut newest, mut wrapped, mut destroyed) = (0, vec![], vec![]);
    for round in 0..MOST_ROUNDS {
        if round >= ROUNDS && newest > 0 && !wrapped.is_empty() && !destroyed.is_empty() {
            break;
        }
        // A destruction is told of in the third line.
        let lines = run_and_kill(&place, round as usize % 7, Duration::from_micros(round % ROUNDS * 1700));
        for line in &lines {
            match line.split_once(' ') {
                Some(("rotated", version)) => newest = version.parse().expect("a number"),
                Some(("wrapped", hex)) => wrapped.push(WrappedKey::decode(&bytes(hex)).expect("a key")),
                Some(("destroyed", id)) => destroyed.push(id.to_owned()),
                _ => {}
            }
        }
        let store = open(&config).unwrap_or_else(|e| panic!("round {round}: {e}"));
        let cmk = store.service_key(&owner("a")).expect("there").value;
        assert!(
            cmk.newest() >= newest,
            "round {round}: version {newest} was told of, and {} is the newest",
            cmk.newest()
        );
        for key in &wrapped {
            let opened = store.unwrap(key).unwrap_or_else(|e| panic!("round {round}: {e}")).value;
            assert_eq!(opened.0, disk_key(key.context.lineage.as_u128() as u8).0);
        }
        let keys = store.keys().expect("told").value;
        for id in &destroyed {
            let state = keys.iter().find(|key| key.id.0 == *id).expect("its name is left").state;
            assert_eq!(state.to_string(), "destroyed");
        }
        drop(store);
        let names: Vec<_> = place.files().into_iter().map(|(path, _)| path).collect();
        assert_eq!(names.len(), 4, "store, counter, lock and root key: {names:?}");
    }
    assert!(
        newest > 0 && !wrapped.is_empty() && !destroyed.is_empty(),
        "the victims lived long enough to do something"
    );
}

/// Kills the victim so long after so many of its words.
fn run_and_kill(place: &Place, words: usize, after: Duration) -> Vec<String> {
    let binary = std::env::current_exe().expect("this test");
    let mut victim = Command::new(binary)
        .args(["--exact", "victim", "--ignored", "--nocapture"])
        .env(FOLDER, place.folder())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(victim.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let is_word = |line: &String| ["rotated ", "wrapped ", "destroyed "].iter().any(|word| line.starts_with(word));
    let mut said: Vec<_> = lines.by_ref().filter(is_word).take(words).collect();
    std::thread::sleep(after);
    victim.kill().expect("killed");
    said.extend(lines.filter(is_word));
    victim.wait().expect("ended");
    said
}

fn bytes(hex: &str) -> Vec<u8> {
    // A line is short enough for a pipe to take it whole (PIPE_BUF, pipe(7)).
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("digits")).collect()
}
