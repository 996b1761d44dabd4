//! A real KMIP server: PyKMIP (PyPI `pykmip`), made once in `target/servers/pykmip`, with certificates of its own for each start.
//!
//! Its list of cipher suites has AES-GCM with ECDSA only, so all certificates are of elliptic curves.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use strongroom::kms::kmip::KmipConfig;
use strongroom::kms::{KeyContext, KeyProvider, Owner};
use tempfile::TempDir;
use uuid::Uuid;

const REGION: &str = "local";

/// A CA with the certificates that it has signed.
pub struct Certificates {
    pub dir: TempDir,
}

impl Certificates {
    /// A new CA, a server `localhost` and a client.
    pub fn make() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let it = Self { dir };
        openssl(
            &it,
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca",
        );
        it.sign("server", "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n");
        it.sign("client", "extendedKeyUsage=clientAuth\n");
        it
    }

    fn sign(&self, name: &str, extensions: &str) {
        fs::write(self.path(&format!("{name}.ext")), extensions).expect("written");
        openssl(
            self,
            &format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
            ),
        );
        openssl(
            self,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2 -extfile {name}.ext"
            ),
        );
        let key = self.path(&format!("{name}.key"));
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).expect("mode set");
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// A client's configuration.
    pub fn client(&self, port: u16) -> KmipConfig {
        let text = format!(
            "address = '127.0.0.1:{port}'\nserver_name = 'localhost'\nca_file = 'ca.pem'\n\
             client_cert_file = 'client.pem'\nclient_key_file = 'client.key'\ntimeout_s = 10"
        );
        let mut config: KmipConfig = toml::from_str(&text).expect("a configuration");
        config.resolve(self.dir.path());
        config
    }
}

fn openssl(at: &Certificates, args: &str) {
    let output = Command::new("openssl").args(args.split(' ')).current_dir(at.dir.path()).output().expect("openssl");
    assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A running server.
pub struct PyKmip {
    pub certificates: Certificates,
    pub port: u16,
    child: Child,
}

impl PyKmip {
    /// Starts one, if it can be had.
    pub fn start() -> Option<Self> {
        let program = program()?;
        let certificates = Certificates::make();
        let port = free_port();
        let dir = certificates.dir.path().to_str().expect("a UTF-8 path").to_owned();
        fs::create_dir(certificates.path("policy")).expect("a directory");
        let config = format!(
            "[server]\nhostname=127.0.0.1\nport={port}\ncertificate_path={dir}/server.pem\nkey_path={dir}/server.key\n\
             ca_path={dir}/ca.pem\nauth_suite=TLS1.2\npolicy_path={dir}/policy\nenable_tls_client_auth=True\n\
             logging_level=INFO\ndatabase_path={dir}/kmip.db\n"
        );
        fs::write(certificates.path("server.conf"), config).expect("written");
        let child = run_server(&program, &certificates);
        let mut server = Self { certificates, port, child };
        server.wait();
        Some(server)
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(90);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = || fs::read_to_string(self.certificates.path("server.log")).unwrap_or_default();
            assert!(self.child.try_wait().is_ok_and(|ended| ended.is_none()), "the server ended: {}", log());
            assert!(Instant::now() < deadline, "the server does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills it, and starts it again with the keys that it has stored.
    pub fn restart(&mut self) {
        self.kill();
        self.child = run_server(&program().expect("it was there before"), &self.certificates);
        self.wait();
    }

    /// It stops slowly when it is asked, and has processes of its own: all of them are killed.
    pub fn kill(&mut self) {
        self.signal("KILL");
        let _ = self.child.wait();
    }

    /// Sends a signal to all of its processes.
    pub fn signal(&self, name: &str) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args([&format!("-{name}"), "--", &group]).status();
    }

    /// A provider for it.
    pub fn provider(&self) -> Box<dyn KeyProvider> {
        self.certificates.client(self.port).open(REGION).expect("a provider")
    }

    /// Does something with a key as the server's operator does: revokes (`CESSATION_OF_OPERATION`, `KEY_COMPROMISE`) or destroys the keys of a name.
    pub fn operate(&self, name: &str, what: &str) {
        let script = "\
import sys
from kmip.pie.client import ProxyKmipClient
from kmip.core import enums
from kmip.core.factories.attributes import AttributeFactory
port, ca, cert, key, name, what = sys.argv[1:]
with ProxyKmipClient(hostname='127.0.0.1', port=int(port), cert=cert, key=key, ca=ca, ssl_version='PROTOCOL_TLSv1_2') as c:
    by_name = AttributeFactory().create_attribute(enums.AttributeType.NAME, name)
    for uid in c.locate(attributes=[by_name]):
        c.destroy(uid) if what == 'DESTROY' else c.revoke(enums.RevocationReasonCode[what], uid)
        print('done', uid)
";
        let python = venv().join("bin/python");
        let path = |file| self.certificates.path(file);
        let output = Command::new("timeout")
            .args(["60".as_ref(), python.as_os_str(), "-c".as_ref(), script.as_ref()])
            .arg(self.port.to_string())
            .args([path("ca.pem"), path("client.pem"), path("client.key")])
            .args([name, what])
            .output()
            .expect("python");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && out.contains("done"), "{what} {name}: {out}{err}");
    }
}

impl Drop for PyKmip {
    fn drop(&mut self) {
        self.kill();
    }
}

/// In a process group of its own.
fn run_server(program: &Path, certificates: &Certificates) -> Child {
    use std::os::unix::process::CommandExt;
    let config = certificates.path("server.conf");
    let log = fs::File::create(certificates.path("out.log")).expect("a log");
    let mut command = Command::new(program);
    command.arg("-f").arg(config).arg("-l").arg(certificates.path("server.log")).process_group(0);
    command.current_dir(certificates.dir.path()).stdin(Stdio::null());
    command.stdout(log.try_clone().expect("a log")).stderr(log).spawn().expect("started")
}

/// A port that is free now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn venv() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers/pykmip")
}

/// The server's program, if it was installed.
fn program() -> Option<PathBuf> {
    let program = venv().join("bin/pykmip-server");
    if !program.exists() {
        eprintln!("SKIPPED: there is no PyKMIP; scripts/servers installs it");
        return None;
    }
    Some(program)
}

/// A disk's context.
pub fn context(account: &str, lineage: u128) -> KeyContext {
    KeyContext::disk(owner(account), Uuid::from_u128(lineage))
}

/// An account of the region.
pub fn owner(account: &str) -> Owner {
    Owner { region: REGION.to_owned(), account: account.to_owned() }
}
