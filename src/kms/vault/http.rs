//! Requests to Vault's HTTP API, and what its answers mean (developer.hashicorp.com/vault/api-docs, "HTTP status codes").
//!
//! Answers are read into locked memory, whatever they are, and parsed there without copies.

use std::error::Error as _;
use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;
use ureq::http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::{Agent, Error};

use crate::kms::KmsError;
use crate::memory::Secret;

use super::session::Token;
use super::text::Long;
use super::transport::Dialer;

/// Idle connections are given up before servers do so.
const IDLE: Duration = Duration::from_secs(20);
/// Of what the server says, in our messages.
const MOST_SAID_CHARS: usize = 300;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Says that it is no browser's request; agents ask for it.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// When a call has to be over, all of its requests together.
#[derive(Clone, Copy)]
pub(super) struct Deadline(Instant);

/// A request.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// Behind `/v1/`.
    pub(super) path: &'a str,
    pub(super) body: Option<&'a [u8]>,
    /// Whether it belongs to the namespace: `sys/health` does not.
    pub(super) in_namespace: bool,
}

/// What came back.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Secret<Long>,
}

/// One Vault.
pub(super) struct Http {
    agent: Agent,
    name: String,
    base: String,
    namespace: Option<HeaderValue>,
    timeout: Duration,
}

impl Http {
    pub(super) fn new(address: &str, namespace: Option<HeaderValue>, timeout: Duration, dialer: Dialer) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .max_idle_connections_per_host(2)
            .max_idle_age(IDLE)
            .user_agent(concat!("strongroom/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            agent: Agent::with_parts(config, dialer, DefaultResolver::default()),
            name: format!("vault {address}"),
            base: format!("{address}/v1/"),
            namespace,
            timeout,
        }
    }

    /// What errors begin with.
    pub(super) fn name(&self) -> String {
        self.name.clone()
    }

    /// For a call that begins now.
    pub(super) fn deadline(&self) -> Deadline {
        Deadline(Instant::now() + self.timeout)
    }

    /// Sends a request and waits for the answer.
    pub(super) fn send(&self, ask: &Ask<'_>, token: Option<&Token>, deadline: Deadline) -> Result<Reply, KmsError> {
        let left = deadline.0.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.silent());
        }
        let request = self.request(ask, token)?;
        let request = self.agent.configure_request(request).timeout_global(Some(left)).build();
        let response = self.agent.run(request).map_err(|e| self.failed(e))?;
        let status = response.status();
        let mut failed = None;
        let body = Secret::filled(|text: &mut Long| {
            let read = text.read_all(response.into_body().into_reader());
            failed = read.err();
            Ok::<_, KmsError>(())
        })?;
        match failed {
            None => Ok(Reply { status, body }),
            Some(e) => Err(self.failed(Error::from(e))),
        }
    }

    fn request<'a>(&self, ask: &Ask<'a>, token: Option<&Token>) -> Result<Request<&'a [u8]>, KmsError> {
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(format!("{}{}", self.base, ask.path))
            .header(REQUEST, "true");
        if ask.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(namespace) = self.namespace.as_ref().filter(|_| ask.in_namespace) {
            request = request.header(NAMESPACE, namespace);
        }
        if let Some(token) = token {
            // It points to the locked memory where the token lies.
            let value = HeaderValue::from_maybe_shared(Bytes::from_owner(token.clone()));
            let mut value = value.map_err(|_| KmsError::Config("the token is no text".to_owned()))?;
            value.set_sensitive(true);
            request = request.header(TOKEN, value);
        }
        request
            .body(ask.body.unwrap_or_default())
            .map_err(|e| KmsError::Config(format!("no request to {} can be made: {e}", ask.path)))
    }

    fn silent(&self) -> KmsError {
        self.unavailable(format!("no answer within {} s", self.timeout.as_secs()))
    }

    /// It may be better later.
    pub(super) fn unavailable(&self, what: impl Into<String>) -> KmsError {
        KmsError::Unavailable { kms: self.name(), what: what.into() }
    }

    /// It does not let us.
    pub(super) fn refused(&self, what: impl Into<String>) -> KmsError {
        KmsError::Refused { kms: self.name(), what: what.into() }
    }

    /// It answers what it must not.
    pub(super) fn nonsense(&self, what: impl Into<String>) -> KmsError {
        KmsError::Protocol { kms: self.name(), what: what.into() }
    }

    /// What it means that no answer came.
    fn failed(&self, error: Error) -> KmsError {
        match error {
            Error::Timeout(_) => self.silent(),
            Error::HostNotFound => self.unavailable("its name cannot be resolved"),
            Error::ConnectionFailed => self.unavailable("it cannot be connected to"),
            Error::Io(e) => self.io_failed(&e),
            other => self.nonsense(other.to_string()),
        }
    }

    fn io_failed(&self, error: &io::Error) -> KmsError {
        let inner = error.get_ref();
        if let Some(Error::Timeout(_)) = inner.and_then(|inner| inner.downcast_ref()) {
            return self.silent();
        }
        match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(e @ (rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)) => self
                .refused(format!("its certificate is not to be trusted: {e}; check address, ca_file and the clocks")),
            Some(e @ rustls::Error::AlertReceived(_)) => self.refused(format!("it does not want TLS with us: {e}")),
            Some(e) => self.nonsense(format!("in TLS: {e}")),
            None if error.kind() == io::ErrorKind::InvalidData => self.nonsense(error.to_string()),
            None if error.kind() == io::ErrorKind::TimedOut => self.silent(),
            None => match error.source() {
                Some(source) => self.unavailable(format!("{error}: {source}")),
                None => self.unavailable(error.to_string()),
            },
        }
    }

    /// What it means that the answer is an error, for whatever was asked.
    pub(super) fn check(&self, reply: Reply, path: &str, capability: &str) -> Result<Reply, Complaint> {
        let status = reply.status;
        if status.is_success() {
            return Ok(reply);
        }
        let said = reply.said();
        let error = match status.as_u16() {
            400 => return Err(Complaint::Objection(said)),
            404 => return Err(Complaint::Missing),
            403 => self.refused(format!("{said}; the policy of its role has to grant {capability} on {path}")),
            // 472 and 473: a standby that does not serve.
            429 | 472 | 473 => self.unavailable(format!("it is too busy, or a standby: {said}")),
            503 => self.unavailable(format!("it is sealed, or in maintenance: {said}")),
            500.. => self.unavailable(format!("it has a fault: {said}")),
            300..=399 => self.nonsense(format!("it sends us elsewhere ({status}), and no redirection is followed")),
            _ => self.refused(format!("{path}: {said}")),
        };
        Err(Complaint::Error(error))
    }

    /// Reads an answer where it lies.
    pub(super) fn parse<'a, T: Deserialize<'a>>(&self, reply: &'a Reply, path: &str) -> Result<T, KmsError> {
        // The parser's own words would repeat what it found.
        serde_json::from_slice(reply.body.as_bytes()).map_err(|e| {
            self.nonsense(format!("its answer for {path} is not the JSON that it has to be, at byte {}", e.column()))
        })
    }
}

/// An answer that is none of those which are the same for everything.
pub(super) enum Complaint {
    /// 404.
    Missing,
    /// 400, and what it said.
    Objection(String),
    /// Everything else.
    Error(KmsError),
}

impl Reply {
    /// What the server said, or at least its status.
    fn said(&self) -> String {
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<String>,
        }
        let errors = serde_json::from_slice(self.body.as_bytes()).map_or_else(|_| Vec::new(), |e: Errors| e.errors);
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        let said: String = errors.join("; ").chars().map(printable).take(MOST_SAID_CHARS).collect();
        match said.split_whitespace().collect::<Vec<_>>().join(" ") {
            said if said.is_empty() => self.status.to_string(),
            said => said,
        }
    }
}
