//! Secret references: where the configuration says that a secret lies, in place of the secret itself.
//!
//! A reference is a word such as `file:psk.txt`, `env:PSK` or `credential:psk`. A secret that stands in the configuration by
//! mistake is refused, and no message repeats it. What a reference leads to is read straight into locked memory.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::memory::{PAGE, Secret, SecretError};

/// A secret's text with its lengths fills the page that a [`Secret`] takes anyway.
const MOST_BYTES: usize = PAGE - 2 * size_of::<usize>();

/// systemd names the folder of a service's credentials in this variable (systemd.exec(5), `LoadCredential=`).
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Where a secret lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretRef {
    /// `file:PATH`: a file that nobody else may read.
    File(PathBuf),
    /// `env:NAME`: a variable of the environment.
    Env(String),
    /// `credential:NAME`: a credential that systemd hands to the service.
    Credential(String),
}

/// Why a secret cannot be had.
#[derive(Debug, Error)]
pub enum SecretRefError {
    /// The configuration holds something else, perhaps the secret itself.
    #[error(
        "a secret never stands in the configuration; write where it lies: \"file:PATH\", \"env:NAME\" or \"credential:NAME\""
    )]
    NotAReference,
    /// A variable or credential cannot have such a name.
    #[error("\"{kind}:\" has to be followed by a name of letters, digits, \"_\", \"-\" and \".\"")]
    Name {
        /// The kind of reference.
        kind: &'static str,
    },
    /// The file cannot be read.
    #[error("secret {reference}: {source}")]
    Read {
        /// The reference.
        reference: SecretRef,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The file is not for this process alone.
    #[error("secret {reference}: {source}")]
    NotPrivate {
        /// The reference.
        reference: SecretRef,
        /// What is wrong with it.
        source: NotPrivate,
    },
    /// There is no such variable.
    #[error("secret {reference}: the environment has no such variable")]
    NoVariable {
        /// The reference.
        reference: SecretRef,
    },
    /// The process was not started with credentials.
    #[error("secret {reference}: {CREDENTIALS_DIRECTORY} is not set; the service needs LoadCredential= in its unit")]
    NoCredentials {
        /// The reference.
        reference: SecretRef,
    },
    /// There is nothing, or more than a secret is long.
    #[error("secret {reference}: it is {what}")]
    Content {
        /// The reference.
        reference: SecretRef,
        /// Empty or too long.
        what: &'static str,
    },
    /// There is no locked memory for it.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

/// Why a file is no place for a secret.
#[derive(Debug, Error)]
pub enum NotPrivate {
    /// Others can read it.
    #[error("{path} has mode {mode:04o}: others may read it; run `chmod 600 {path}`")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is somebody else's.
    #[error("{path} belongs to uid {owner}, and this process runs as uid {us}; run `chown {us} {path}`")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// Nobody can say whose it is.
    #[error("{path}: {source}")]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// What a reference led to, without the line end that editors leave.
pub struct SecretText {
    bytes: [u8; MOST_BYTES],
    /// As it was read.
    read: usize,
    /// Without the line end.
    len: usize,
}

impl SecretText {
    /// The secret.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// All that was read: the last of random bytes may look like a line end.
    pub fn with_line_end(&self) -> &[u8] {
        &self.bytes[..self.read]
    }
}

impl Default for SecretText {
    fn default() -> Self {
        Self { bytes: [0; MOST_BYTES], read: 0, len: 0 }
    }
}

impl SecretRef {
    /// Takes a relative path from this folder, which is that of the configuration file.
    pub fn resolve(&mut self, folder: &Path) {
        if let Self::File(path) = self {
            *path = folder.join(&path);
        }
    }

    /// Reads the secret into locked memory.
    pub fn read(&self) -> Result<Secret<SecretText>, SecretRefError> {
        match self {
            Self::File(path) => {
                let file = self.open(path)?;
                check_private(path, &file)
                    .map_err(|source| SecretRefError::NotPrivate { reference: self.clone(), source })?;
                self.fill(file)
            }
            Self::Env(name) => {
                let value = std::env::var_os(name)
                    .ok_or_else(|| SecretRefError::NoVariable { reference: self.clone() })
                    .map(|value| Zeroizing::new(OsString::into_vec(value)))?;
                self.fill(value.as_slice())
            }
            Self::Credential(name) => {
                let folder = std::env::var_os(CREDENTIALS_DIRECTORY)
                    .ok_or_else(|| SecretRefError::NoCredentials { reference: self.clone() })?;
                // Who may read a credential is systemd's affair: it grants a service's user access through an access
                // control list, which shows in the mode as a permission of the group.
                self.fill(self.open(&Path::new(&folder).join(name))?)
            }
        }
    }

    fn open(&self, path: &Path) -> Result<File, SecretRefError> {
        File::open(path).map_err(|source| SecretRefError::Read { reference: self.clone(), source })
    }

    fn fill(&self, mut from: impl Read) -> Result<Secret<SecretText>, SecretRefError> {
        let content = |what| SecretRefError::Content { reference: self.clone(), what };
        Secret::filled(|text: &mut SecretText| {
            while text.read < MOST_BYTES {
                match from.read(&mut text.bytes[text.read..]) {
                    Ok(0) => break,
                    Ok(read) => text.read += read,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(source) => return Err(SecretRefError::Read { reference: self.clone(), source }),
                }
            }
            if text.read == MOST_BYTES {
                return Err(content("too long for a secret"));
            }
            let line = text.with_line_end();
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            text.len = line.strip_suffix(b"\r").unwrap_or(line).len();
            if text.len == 0 {
                return Err(content("empty"));
            }
            Ok(())
        })
    }
}

impl TryFrom<String> for SecretRef {
    type Error = SecretRefError;

    fn try_from(mut text: String) -> Result<Self, SecretRefError> {
        let parsed = parse(&text);
        // It may have been a secret.
        text.zeroize();
        parsed
    }
}

impl From<SecretRef> for String {
    fn from(reference: SecretRef) -> Self {
        reference.to_string()
    }
}

fn parse(text: &str) -> Result<SecretRef, SecretRefError> {
    match text.split_once(':') {
        Some(("file", path)) if !path.is_empty() => Ok(SecretRef::File(path.into())),
        Some(("env", name)) => Ok(SecretRef::Env(checked_name("env", name)?)),
        Some(("credential", name)) => Ok(SecretRef::Credential(checked_name("credential", name)?)),
        _ => Err(SecretRefError::NotAReference),
    }
}

/// A name that leads out of the folder of credentials, or that no variable can have, is refused.
fn checked_name(kind: &'static str, name: &str) -> Result<String, SecretRefError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(fits) {
        return Err(SecretRefError::Name { kind });
    }
    Ok(name.to_owned())
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Env(name) => write!(f, "env:{name}"),
            Self::Credential(name) => write!(f, "credential:{name}"),
        }
    }
}

/// The file has to belong to its reader and be closed to everybody else, as ssh(1) demands of its keys.
pub fn check_private(path: &Path, file: &File) -> Result<(), NotPrivate> {
    let meta = file.metadata().map_err(|source| NotPrivate::Unknown { path: path.to_owned(), source })?;
    if meta.mode() & 0o077 != 0 {
        return Err(NotPrivate::Open { path: path.to_owned(), mode: meta.mode() & 0o7777 });
    }
    let us = effective_uid();
    // Root may read everybody's secrets, and systemd hands a service the files of root.
    if meta.uid() != us && us != 0 && meta.uid() != 0 {
        return Err(NotPrivate::Foreign { path: path.to_owned(), owner: meta.uid(), us });
    }
    Ok(())
}

/// Who this process is.
#[allow(unsafe_code)]
pub(crate) fn effective_uid() -> u32 {
    // SAFETY: the call has no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn secret_file(content: &[u8], mode: u32) -> (tempfile::TempDir, SecretRef) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("psk");
        std::fs::write(&path, content).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode set");
        let mut reference = SecretRef::try_from("file:psk".to_owned()).expect("a reference");
        reference.resolve(dir.path());
        (dir, reference)
    }

    #[test]
    fn a_file_is_read_from_the_folder_of_the_configuration() {
        for (content, secret) in
            [("s3cret", "s3cret"), ("s3cret\n", "s3cret"), ("s3cret\r\n", "s3cret"), (" a b \n\n", " a b \n")]
        {
            let (_dir, reference) = secret_file(content.as_bytes(), 0o600);
            assert_eq!(reference.read().expect("a secret").as_bytes(), secret.as_bytes());
        }
    }

    #[test]
    fn an_absolute_path_stays() {
        let mut reference = SecretRef::try_from("file:/etc/psk".to_owned()).expect("a reference");
        reference.resolve(Path::new("/somewhere"));
        assert_eq!(reference, SecretRef::File("/etc/psk".into()));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_cure() {
        let (_dir, reference) = secret_file(b"s3cret", 0o640);
        let error = reference.read().map(|_| ()).expect_err("refused").to_string();
        assert!(error.contains("chmod 600") && error.contains("file:") && !error.contains("s3cret"), "{error}");
    }

    #[test]
    fn nothing_and_too_much_are_refused_and_not_shown() {
        for (content, what) in [(vec![], "empty"), (b"\n".to_vec(), "empty"), (vec![b'x'; PAGE], "too long")] {
            let (_dir, reference) = secret_file(&content, 0o600);
            let error = reference.read().map(|_| ()).expect_err("refused").to_string();
            assert!(error.contains(what) && !error.contains("xxx"), "{error}");
        }
    }

    #[test]
    fn a_variable_is_read_and_a_missing_one_is_named() {
        let name = "CARGO_MANIFEST_DIR";
        let value = std::env::var(name).expect("cargo sets it");
        assert_eq!(SecretRef::Env(name.to_owned()).read().expect("there").as_bytes(), value.as_bytes());
        let missing = SecretRef::try_from("env:STRONGROOM_NOT_THERE".to_owned()).expect("a reference");
        let error = missing.read().map(|_| ()).expect_err("not there").to_string();
        assert!(error.contains("env:STRONGROOM_NOT_THERE"), "{error}");
    }

    #[test]
    fn a_credential_needs_a_unit_that_loads_it() {
        if std::env::var_os(CREDENTIALS_DIRECTORY).is_some() {
            eprintln!("skipped: this test runs with credentials of its own");
            return;
        }
        let reference = SecretRef::try_from("credential:psk".to_owned()).expect("a reference");
        let error = reference.read().map(|_| ()).expect_err("no credentials").to_string();
        assert!(error.contains("LoadCredential"), "{error}");
    }

    #[test]
    fn a_secret_in_the_configuration_is_refused_and_not_repeated() {
        for plain in
            ["DHHC-1:00:c2VjcmV0:", "s3cret", "", "file:", "vault:s3cret", "env:s3cret=1", "credential:../s3cret"]
        {
            let error = SecretRef::try_from(plain.to_owned()).expect_err("refused").to_string();
            assert!(!error.contains("s3cret") && !error.contains("c2VjcmV0"), "{error}");
        }
    }
}
