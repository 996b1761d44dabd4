//! An authority with a server's certificate for 127.0.0.1, made by the `openssl` command.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const NEW_KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/// Files in PEM.
pub struct Authority {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// Makes them in a folder; `None`, and says so, where there is no `openssl`.
    pub fn make(dir: &Path) -> Option<Self> {
        Self::make_for("IP:127.0.0.1,DNS:localhost", dir)
    }

    /// The server has these names.
    pub fn make_for(names: &str, dir: &Path) -> Option<Self> {
        if Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_err() {
            eprintln!("SKIPPED: openssl is not installed");
            return None;
        }
        std::fs::write(dir.join("names"), format!("subjectAltName={names}\n")).expect("written");
        let request = [
            &["req", "-x509"],
            &NEW_KEY[..],
            &["-keyout", "ca.key", "-out", "ca.pem", "-days", "30", "-subj", "/CN=authority"],
        ];
        openssl(dir, &request.concat());
        let request = [&["req"], &NEW_KEY[..], &["-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server"]];
        openssl(dir, &request.concat());
        let sign =
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile names -out server.pem";
        openssl(dir, &sign.split(' ').collect::<Vec<_>>());
        Some(Self { ca: dir.join("ca.pem"), cert: dir.join("server.pem"), key: dir.join("server.key") })
    }
}

fn openssl(dir: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(dir).output().expect("openssl runs");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
