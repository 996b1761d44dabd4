//! One request from its arrival to its answer: understood, authenticated, counted, carried out, written down in the log.
//!
//! All of it may block, and runs on a thread that may.

use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Request as HttpRequest, Response, StatusCode};
use tracing::{debug, warn};
use uuid::Uuid;

use crate::cloud::ApiError;

use super::config::CloudHttpError;
use super::envelope::Shape;
use super::refusal;
use super::replay::Nonces;
use super::request::{Request, host};
use super::signature::Claim;
use super::throttle::Throttle;
use super::{Caller, Product, Service};

/// What all connections share.
pub(super) struct Front {
    service: Arc<dyn Service>,
    nonces: Nonces,
    throttle: Throttle,
    /// What nobody signs with: requests under unknown keys are checked with it, so that they take as long as others.
    decoy: [u8; 30],
}

/// What the log says of a request.
#[derive(Default)]
struct Trace {
    action: Option<String>,
    account: Option<String>,
}

impl Front {
    /// Nonces are remembered in this folder.
    pub(super) fn open(service: Arc<dyn Service>, state: &Path, per_second: u32) -> Result<Self, CloudHttpError> {
        let nonces = Nonces::open(state, now_ms()).map_err(|(path, source)| CloudHttpError::Nonces { path, source })?;
        let mut decoy = [0; 30];
        rand::fill(&mut decoy).map_err(|_| CloudHttpError::Config("there is no randomness".to_owned()))?;
        Ok(Self { service, nonces, throttle: Throttle::new(per_second), decoy })
    }

    /// Answers a request.
    pub(super) fn answer(&self, http: &HttpRequest<Bytes>) -> Response<Full<Bytes>> {
        let id = request_id();
        let mut trace = Trace::default();
        let (shape, done) = match Request::read(http) {
            Ok(request) => (request.shape(), self.carry_out(request, &id, &mut trace)),
            Err(error) => (Shape::UNKNOWN, Err(error)),
        };
        // Neither parameters nor messages: keys may be in both.
        let code = done.as_ref().map_or_else(|error| error.code.as_ref(), |_| "OK");
        debug!(action = trace.action, account = trace.account, code, request_id = id, "cloud API");
        match done {
            Ok(body) => response(shape, 200, &id, body),
            Err(error) => response(shape, error.status, &id, shape.error(&id, host(http.headers()), &error)),
        }
    }

    /// Answers what did not become a request.
    pub(super) fn refuse(headers: &HeaderMap, error: &ApiError) -> Response<Full<Bytes>> {
        let id = request_id();
        debug!(code = error.code.as_ref(), request_id = id, "cloud API");
        response(Shape::UNKNOWN, error.status, &id, Shape::UNKNOWN.error(&id, host(headers), error))
    }

    fn carry_out(&self, request: Request<'_>, id: &str, trace: &mut Trace) -> Result<String, ApiError> {
        let (product, action) = request.target()?;
        let action = action.to_owned();
        trace.action = Some(action.clone());
        let caller = self.authenticate(&request, product)?;
        trace.account = Some(caller.account.clone());
        if !self.throttle.admits(&caller.account, Instant::now()) {
            return Err(refusal::throttled());
        }
        if !self.service.knows(product, &action) {
            return Err(refusal::no_such_action());
        }
        let shape = request.shape();
        let answer = self.service.call(&caller, product, &action, &request.into_params())?;
        Ok(shape.success(&action, id, answer))
    }

    /// Who has signed the request. A nonce counts as used only if the signature holds: otherwise anybody could use up those of others.
    fn authenticate(&self, request: &Request<'_>, product: Product) -> Result<Caller, ApiError> {
        let now_ms = now_ms();
        let claim = Claim::of(request, product)?;
        claim.check_time(now_ms)?;
        let key = self.service.access_key(&claim.access_key)?;
        let secret = key.as_ref().map_or(&self.decoy[..], |key| key.secret.as_bytes());
        let holds = claim.is_signed_with(secret);
        let key = key.ok_or_else(|| refusal::no_such_key(product))?;
        if !holds {
            return Err(claim.mismatch());
        }
        if !key.enabled {
            return Err(refusal::disabled(product));
        }
        if let Some(nonce) = &claim.nonce {
            self.nonces.use_once(&claim.access_key, nonce, claim.signed_at, now_ms)?;
        }
        Ok(Caller { account: key.account, access_key: claim.access_key })
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX / 2)
}

fn request_id() -> String {
    Uuid::new_v4().hyphenated().to_string().to_uppercase()
}

fn response(shape: Shape, status: u16, request_id: &str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_else(|_| {
        warn!(status, "cloud API: an operation was refused with a status that HTTP does not have");
        StatusCode::INTERNAL_SERVER_ERROR
    });
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(shape.format.content_type()));
    headers.insert("x-acs-request-id", HeaderValue::from_str(request_id).expect("a UUID is text"));
    response
}
