//! The token that requests carry: had by AppRole or given, renewed in time, had anew when it has ended.
//!
//! A token is looked after whenever a call needs it, and by every look at the KMS's health; there is no thread for it. No lock is held while
//! a server is waited for: with one that does not answer every caller waits for its own time-out, and not for those of others.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::http::Method;

use crate::kms::KmsError;
use crate::memory::Secret;
use crate::secrets::{SecretRef, SecretText};

use super::VaultAuth;
use super::http::{Ask, Complaint, Deadline, Http, Reply};
use super::text::{Short, TooLong, short};

const LOGIN: &str = "auth/approle/login";
const LOOKUP: &str = "auth/token/lookup-self";
const RENEW: &str = "auth/token/renew-self";
/// A renewal that has failed is tried again after so much.
const AGAIN: Duration = Duration::from_secs(5);

/// A token, in locked memory.
#[derive(Clone)]
pub(super) struct Token(Arc<Secret<Short>>);

impl AsRef<[u8]> for Token {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// A token and its time.
struct Session {
    token: Token,
    /// None if it never ends.
    term: Option<Term>,
}

/// How long a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Term {
    /// What the first grant was: a renewal that gives much less is one shortly before the end.
    granted: Duration,
    ends_at: Instant,
    /// When it is time to ask for more.
    renew_at: Instant,
    renewable: bool,
}

/// What is to be done about a token before it is used.
enum Due {
    Nothing(Token),
    Renewal(Token, Term),
    Login,
}

/// The token of the moment.
pub(super) struct Sessions {
    auth: VaultAuth,
    current: Mutex<Option<Session>>,
}

impl Sessions {
    pub(super) fn new(auth: VaultAuth) -> Self {
        Self { auth, current: Mutex::new(None) }
    }

    /// A token that is good for a request now.
    pub(super) fn token(&self, http: &Http, deadline: Deadline) -> Result<Token, KmsError> {
        match self.due(Instant::now()) {
            Due::Nothing(token) => Ok(token),
            Due::Login => self.log_in(http, deadline),
            Due::Renewal(token, term) => self.renew(http, token, term, deadline),
        }
    }

    /// Another one than this, which was refused.
    pub(super) fn replace(&self, http: &Http, refused: &Token, deadline: Deadline) -> Result<Token, KmsError> {
        let mut current = self.lock();
        if current.as_ref().is_some_and(|session| Arc::ptr_eq(&session.token.0, &refused.0)) {
            *current = None;
        }
        drop(current);
        self.token(http, deadline)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Session>> {
        self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn due(&self, now: Instant) -> Due {
        let mut current = self.lock();
        let Some(session) = current.as_mut() else { return Due::Login };
        let token = session.token.clone();
        let Some(term) = session.term.as_mut() else { return Due::Nothing(token) };
        if now >= term.ends_at {
            return Due::Login;
        }
        if now < term.renew_at {
            return Due::Nothing(token);
        }
        let before = *term;
        // Whoever comes meanwhile uses it as it is.
        term.renew_at = now + AGAIN;
        Due::Renewal(token, before)
    }

    /// Asks for more time. The token stays in use where that fails, until its end.
    fn renew(&self, http: &Http, token: Token, term: Term, deadline: Deadline) -> Result<Token, KmsError> {
        if !term.renewable {
            return self.log_in_or_keep(http, token, deadline);
        }
        let body = short(|text| text.push(b"{}"))?;
        let ask = Ask { method: Method::POST, path: RENEW, body: Some(body.as_bytes()), in_namespace: true };
        let reply = match http.send(&ask, Some(&token), deadline) {
            Ok(reply) if reply.status.is_success() => reply,
            Ok(reply) if reply.status.as_u16() == 403 => return self.log_in(http, deadline),
            Ok(_) | Err(_) => return Ok(token),
        };
        let renewed = http.parse::<AuthReply<'_>>(&reply, RENEW)?;
        let lease = Duration::from_secs(renewed.auth.lease_duration);
        if lease < term.granted / 2 {
            // Its longest time is nearly over.
            return self.log_in_or_keep(http, token, deadline);
        }
        let term = Term { granted: term.granted, ..Term::new(lease, renewed.auth.renewable, Instant::now()) };
        self.keep(token, Some(term))
    }

    fn log_in_or_keep(&self, http: &Http, token: Token, deadline: Deadline) -> Result<Token, KmsError> {
        match self.log_in(http, deadline) {
            Err(_) => Ok(token),
            new => new,
        }
    }

    fn keep(&self, token: Token, term: Option<Term>) -> Result<Token, KmsError> {
        *self.lock() = Some(Session { token: token.clone(), term });
        Ok(token)
    }

    fn log_in(&self, http: &Http, deadline: Deadline) -> Result<Token, KmsError> {
        match &self.auth {
            VaultAuth::AppRole { role_id, secret_id } => self.log_in_as(http, role_id, secret_id, deadline),
            VaultAuth::Token(reference) => self.take(http, reference, deadline),
        }
    }

    fn log_in_as(
        &self,
        http: &Http,
        role_id: &SecretRef,
        secret_id: &SecretRef,
        deadline: Deadline,
    ) -> Result<Token, KmsError> {
        let (role_id, secret_id) = (read(role_id)?, read(secret_id)?);
        let body = short(|text| {
            text.push(b"{\"role_id\":")?.push_json(role_id.as_bytes())?;
            text.push(b",\"secret_id\":")?.push_json(secret_id.as_bytes())?.push(b"}")
        })?;
        let ask = Ask { method: Method::POST, path: LOGIN, body: Some(body.as_bytes()), in_namespace: true };
        let reply = http.send(&ask, None, deadline)?;
        let reply =
            accepted(http, reply, LOGIN, "the AppRole login failed; check role_id, secret_id and their limits")?;
        let AuthReply { auth } = http.parse(&reply, LOGIN)?;
        let token = Token::of(auth.client_token.unwrap_or_default().as_bytes(), http)?;
        let lease = Duration::from_secs(auth.lease_duration);
        let term = (!lease.is_zero()).then(|| Term::new(lease, auth.renewable, Instant::now()));
        self.keep(token, term)
    }

    /// Reads the token that we were given, and asks how long it is good for.
    fn take(&self, http: &Http, reference: &SecretRef, deadline: Deadline) -> Result<Token, KmsError> {
        let token = Token::of(read(reference)?.as_bytes(), http)?;
        let ask = Ask { method: Method::GET, path: LOOKUP, body: None, in_namespace: true };
        let reply = http.send(&ask, Some(&token), deadline)?;
        let what =
            format!("the token in {reference} is not accepted; it has ended, was revoked, or cannot look itself up");
        let reply = accepted(http, reply, LOOKUP, &what)?;
        let LookupReply { data } = http.parse(&reply, LOOKUP)?;
        let lease = Duration::from_secs(data.ttl);
        let term = (!lease.is_zero()).then(|| Term::new(lease, data.renewable, Instant::now()));
        self.keep(token, term)
    }
}

/// A login either works, or we are refused, or the server cannot serve now.
fn accepted(http: &Http, reply: Reply, path: &str, refusal: &str) -> Result<Reply, KmsError> {
    if reply.status.as_u16() == 403 {
        return Err(http.refused(refusal));
    }
    http.check(reply, path, "update").map_err(|complaint| match complaint {
        Complaint::Error(e) => e,
        Complaint::Missing => http.refused(format!("it has no {path}; enable that, or check the namespace")),
        Complaint::Objection(said) => http.refused(format!("{refusal} ({said})")),
    })
}

fn read(reference: &SecretRef) -> Result<Secret<SecretText>, KmsError> {
    reference.read().map_err(|e| KmsError::Config(e.to_string()))
}

impl Token {
    fn of(bytes: &[u8], http: &Http) -> Result<Self, KmsError> {
        if bytes.is_empty() {
            return Err(http.nonsense("a login without a token"));
        }
        Secret::filled(|text: &mut Short| match text.push(bytes) {
            Ok(_) => Ok(()),
            Err(TooLong) => Err(http.nonsense("a token that is too long")),
        })
        .map(|text| Self(Arc::new(text)))
    }
}

impl Term {
    fn new(lease: Duration, renewable: bool, now: Instant) -> Self {
        // Vault's leases are 32 days at most by default; what is absurdly long counts as a year.
        let lease = lease.min(Duration::from_secs(365 * 86_400));
        Self { granted: lease, ends_at: now + lease, renew_at: now + lease * 2 / 3, renewable }
    }
}

/// What a login and a renewal answer.
#[derive(Deserialize)]
struct AuthReply<'a> {
    #[serde(borrow)]
    auth: AuthData<'a>,
}

#[derive(Deserialize)]
struct AuthData<'a> {
    #[serde(borrow)]
    client_token: Option<&'a str>,
    lease_duration: u64,
    renewable: bool,
}

#[derive(Deserialize)]
struct LookupReply {
    data: LookupData,
}

#[derive(Deserialize)]
struct LookupData {
    ttl: u64,
    renewable: bool,
}
