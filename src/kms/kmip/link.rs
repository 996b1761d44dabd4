//! The way to the server: one TLS connection, kept and opened anew when it broke, with a time limit for everything.
//!
//! A whole exchange has one deadline, so that a server that sends a byte now and then does not hold a caller either. Whoever finds the connection in use
//! waits within the same limit. A connection on which anything went wrong is not used again. If a kept one turns out to have ended, the request is sent once
//! more over a new one, unless it creates something.

use std::io::{self, Read, Write};
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::AlertDescription;
use rustls::pki_types::ServerName;
use zeroize::Zeroizing;

use crate::kms::KmsError;
use crate::kms::tls::{TimedSocket, TlsClient, TlsStream};

use super::message::{Call, MOST_ANSWER, Request, VERSION, answer_bytes};
use super::words::{reason, tag};

/// The server, and who we are there.
pub struct Server {
    /// What errors call it.
    pub name: String,
    /// Host and port.
    pub address: String,
    /// Whom its certificate has to name.
    pub server_name: ServerName<'static>,
    /// The CA that has signed its certificate.
    pub ca_file: PathBuf,
    /// Our certificate.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// For a connection, and for an exchange.
    pub time_out: Duration,
}

/// The way to the server.
pub struct Link {
    server: Server,
    slot: Mutex<Slot>,
    is_free: Condvar,
}

#[derive(Default)]
struct Slot {
    is_taken: bool,
    kept: Option<Session>,
}

/// Why an exchange did not come to its end.
enum Failure {
    /// The peer has ended the connection.
    Ended(String),
    /// Everything else.
    Kms(KmsError),
}

impl Link {
    /// Checks the files, and connects when there is something to send.
    pub fn new(server: Server) -> Result<Self, KmsError> {
        server.tls()?;
        Ok(Self { server, slot: Mutex::default(), is_free: Condvar::new() })
    }

    /// What errors call the server.
    pub fn name(&self) -> &str {
        &self.server.name
    }

    /// Sends a request, and brings the answer.
    pub fn exchange(&self, request: &Request) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        let taken = self.take()?;
        let (session, was_kept) = match taken.kept() {
            Some(kept) => (kept, true),
            None => (self.server.connect()?, false),
        };
        let outcome = match self.try_on(&taken, session, request) {
            Err(Failure::Ended(_)) if was_kept && request.is_repeatable() => {
                self.try_on(&taken, self.server.connect()?, request)
            }
            outcome => outcome,
        };
        outcome.map_err(|failure| self.server.error(failure))
    }

    /// Only a connection on which all went well is kept.
    fn try_on(
        &self,
        taken: &Taken<'_>,
        mut session: Session,
        request: &Request,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let answer = session.exchange(&self.server, request)?;
        taken.keep(session);
        Ok(answer)
    }

    fn take(&self) -> Result<Taken<'_>, KmsError> {
        let slot = self.slot();
        let waited = self.is_free.wait_timeout_while(slot, self.server.time_out, |slot| slot.is_taken);
        let (mut slot, outcome) = waited.unwrap_or_else(PoisonError::into_inner);
        if outcome.timed_out() && slot.is_taken {
            return Err(self.server.unavailable("calls before this one have not been answered in time"));
        }
        slot.is_taken = true;
        Ok(Taken { link: self })
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to use the connection.
struct Taken<'a> {
    link: &'a Link,
}

impl Taken<'_> {
    fn kept(&self) -> Option<Session> {
        self.link.slot().kept.take()
    }

    fn keep(&self, session: Session) {
        self.link.slot().kept = Some(session);
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.link.slot().is_taken = false;
        self.link.is_free.notify_one();
    }
}

impl Server {
    /// Read anew for each connection: certificates are renewed while we run.
    fn tls(&self) -> Result<TlsClient, KmsError> {
        TlsClient::new(&self.ca_file, Some((&self.cert_file, &self.key_file)))
    }

    fn connect(&self) -> Result<Session, KmsError> {
        let cannot = |e: io::Error| self.unavailable(&format!("{}: {e}", self.address));
        let deadline = self.deadline();
        let addresses = self.address.to_socket_addrs().map_err(cannot)?;
        let socket = TimedSocket::dial(addresses, deadline).map_err(cannot)?;
        let tls = TlsStream::connect(&self.tls()?, self.server_name.clone(), socket);
        let mut session = Session(tls.map_err(|e| self.error(self.broken(&e)))?);
        session.agree(self).map_err(|failure| self.error(failure))?;
        Ok(session)
    }

    fn deadline(&self) -> Option<Instant> {
        Some(Instant::now() + self.time_out)
    }

    fn unavailable(&self, what: &str) -> KmsError {
        KmsError::Unavailable { kms: self.name.clone(), what: what.to_owned() }
    }

    fn nonsense(&self, what: impl ToString) -> Failure {
        Failure::Kms(KmsError::Protocol { kms: self.name.clone(), what: what.to_string() })
    }

    fn refused(&self, what: String) -> Failure {
        Failure::Kms(KmsError::Refused { kms: self.name.clone(), what })
    }

    fn wrong_version(&self, what: &str) -> Failure {
        let what = format!(
            "speak KMIP {}.{} ({what}), which is the first with authenticated encryption",
            VERSION.0, VERSION.1
        );
        Failure::Kms(KmsError::Unsupported { kms: self.name.clone(), what })
    }

    fn error(&self, failure: Failure) -> KmsError {
        match failure {
            Failure::Ended(what) => self.unavailable(&what),
            Failure::Kms(error) => error,
        }
    }

    fn broken(&self, e: &io::Error) -> Failure {
        if let Some(of_tls) = e.get_ref().and_then(|inner| inner.downcast_ref()) {
            return self.tls_failure(of_tls);
        }
        match e.kind() {
            io::ErrorKind::TimedOut => {
                let what = format!("it does not answer within {} s", self.time_out.as_secs_f32());
                Failure::Kms(self.unavailable(&what))
            }
            io::ErrorKind::UnexpectedEof => Failure::Ended("it ended the connection".to_owned()),
            _ => Failure::Ended(format!("the connection broke: {e}")),
        }
    }

    /// Says whose certificate is wrong, and where to look.
    fn tls_failure(&self, error: &rustls::Error) -> Failure {
        use AlertDescription as Alert;
        match error {
            rustls::Error::InvalidCertificate(why) => self.refused(format!(
                "its certificate is not accepted ({why}); ca_file {} has to hold the CA that signed it, and server_name what it names",
                self.ca_file.display()
            )),
            rustls::Error::AlertReceived(
                alert @ (Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied),
            ) => self.refused(format!(
                "it does not accept our certificate ({alert:?}); see client_cert_file {}",
                self.cert_file.display()
            )),
            rustls::Error::AlertReceived(Alert::HandshakeFailure) => self.refused(
                "no cipher suite or certificate suits both sides; it has to offer AES-GCM with TLS 1.2 or 1.3".to_owned(),
            ),
            other => self.nonsense(format!("TLS: {other}")),
        }
    }
}

struct Session(TlsStream);

impl Session {
    /// Asks for our version of the protocol. With TLS 1.3 it is here that a server refuses a certificate.
    fn agree(&mut self, server: &Server) -> Result<(), Failure> {
        let request = Request::new([0; 8], &[Call::DiscoverVersions]);
        let answer = self.exchange(server, &request)?;
        let outcomes = request.read(&answer).map_err(|e| server.nonsense(e))?;
        let versions = match outcomes.into_iter().next() {
            Some(Ok(versions)) => versions,
            Some(Err(refusal)) if refusal.reason == reason::AUTHENTICATION_NOT_SUCCESSFUL => {
                return Err(server.refused(refusal.text));
            }
            Some(Err(refusal)) => return Err(server.wrong_version(&refusal.text)),
            None => return Err(server.nonsense("an empty answer")),
        };
        let ours = |version: super::ttlv::Structure<'_>| {
            let number = |tag| version.need(tag).and_then(|number| number.integer());
            (number(tag::PROTOCOL_VERSION_MAJOR), number(tag::PROTOCOL_VERSION_MINOR)) == (Ok(VERSION.0), Ok(VERSION.1))
        };
        match versions.items().filter_map(|version| version.structure().ok()).any(ours) {
            true => Ok(()),
            false => Err(server.wrong_version("it does not list that version")),
        }
    }

    fn exchange(&mut self, server: &Server, request: &Request) -> Result<Zeroizing<Vec<u8>>, Failure> {
        self.0.set_deadline(server.deadline());
        self.0.write_all(request.bytes()).map_err(|e| server.broken(&e))?;
        // It never grows, so nothing is left behind by growing.
        let mut answer = Zeroizing::new(vec![0; MOST_ANSWER]);
        let mut arrived = 0;
        loop {
            match answer_bytes(&answer[..arrived]).map_err(|e| server.nonsense(e))? {
                Some(wanted) if arrived > wanted || arrived == wanted && self.0.has_unread() => {
                    return Err(server.nonsense("it sends more than an answer"));
                }
                Some(wanted) if arrived == wanted => {
                    answer.truncate(wanted);
                    return Ok(answer);
                }
                _ => arrived += self.0.read(&mut answer[arrived..]).map_err(|e| server.broken(&e))?,
            }
        }
    }
}
