//! Connections: which are accepted, how long a client may take for each step, and how they end.
//!
//! A client that does nothing, or little, holds one of a limited number of places for a limited time; it holds no thread.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::Product;
use super::front::Front;
use super::patience::Patient;
use super::refusal;

/// The head of a request. Official clients send all parameters in the query, where 6 KiB of a key service's plain text take up to three times as much.
const MOST_HEAD: usize = 64 << 10;
const MOST_BODY: usize = 64 << 10;
/// How long nothing is accepted after an error such as too many open files.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For the TLS handshake.
    pub(super) handshake: Duration,
    /// For the head of a request, from the end of the one before: also how long a connection may be idle.
    pub(super) head: Duration,
    /// For a body.
    pub(super) body: Duration,
    /// For taking some of an answer.
    pub(super) write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let [short, long] = [10, 30].map(Duration::from_secs);
        Self { handshake: short, head: long, body: short, write: short }
    }
}

/// What accepting needs.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) front: Arc<Front>,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) places: Arc<Semaphore>,
    pub(super) limits: Limits,
    /// Becomes true when the server stops.
    pub(super) stop: watch::Receiver<bool>,
}

impl Door {
    /// Accepts connections until it is aborted.
    pub(super) async fn accept(self, listener: TcpListener) {
        loop {
            let (socket, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(e) => {
                    warn!("cloud API: cannot accept a connection: {e}");
                    sleep(PAUSE_AFTER_ERROR).await;
                    continue;
                }
            };
            let Ok(place) = self.places.clone().try_acquire_owned() else {
                warn!(%peer, "cloud API: a connection is refused: there are most_connections already");
                continue;
            };
            // Answers are small, and whole when they are sent; without this they are sent a little later.
            let _ = socket.set_nodelay(true);
            let door = self.clone();
            tokio::spawn(async move {
                door.serve(socket, peer).await;
                drop(place);
            });
        }
    }

    async fn serve(&self, socket: TcpStream, peer: SocketAddr) {
        let Some(tls) = &self.tls else { return self.speak(socket, peer).await };
        match timeout(self.limits.handshake, tls.accept(socket)).await {
            Ok(Ok(stream)) => self.speak(stream, peer).await,
            Ok(Err(e)) => debug!(%peer, "cloud API: no TLS handshake: {e}"),
            Err(_) => debug!(%peer, "cloud API: no TLS handshake in time"),
        }
    }

    /// Serves one request after the other; when the server stops, the one that was begun is the last.
    async fn speak(&self, stream: impl AsyncRead + AsyncWrite + Unpin, peer: SocketAddr) {
        let stream = TokioIo::new(Patient::new(stream, self.limits.write));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            .max_buf_size(MOST_HEAD)
            .serve_connection(stream, service_fn(|request| self.answer(request)));
        let (mut connection, mut stop) = (pin!(connection), self.stop.clone());
        let (mut stopping, mut told) = (pin!(stop.wait_for(|stop| *stop)), false);
        let ended = poll_fn(|cx| {
            if !told && stopping.as_mut().poll(cx).is_ready() {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            connection.as_mut().poll(cx)
        });
        if let Err(e) = ended.await {
            debug!(%peer, "cloud API: a connection ended early: {e}");
        }
    }

    /// Answers, or says nothing to a client that does not say all.
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, BodyMissing> {
        let (head, body) = request.into_parts();
        let body = match timeout(self.limits.body, Limited::new(body, MOST_BODY).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(e)) if e.is::<LengthLimitError>() => {
                let error = refusal::unreadable(format!("The body is longer than {MOST_BODY} bytes."));
                let mut response = Front::refuse(&head.headers, &error);
                // The rest of the body would be taken for the next request.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                return Ok(response);
            }
            Ok(Err(_)) | Err(_) => return Err(BodyMissing),
        };
        let request = Request::from_parts(head, body);
        let headers = request.headers().clone();
        let front = self.front.clone();
        let answered = tokio::task::spawn_blocking(move || front.answer(&request)).await;
        // A panic of the thread was reported when it happened.
        Ok(answered.unwrap_or_else(|_| Front::refuse(&headers, &refusal::internal(Product::Ecs))))
    }
}

/// A body did not come, or not in time.
#[derive(Debug, thiserror::Error)]
#[error("the body did not come")]
struct BodyMissing;
