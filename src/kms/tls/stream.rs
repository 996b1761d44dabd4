//! A TLS connection that leaves nothing of what went through it in memory.
//!
//! What arrives goes from the cipher ([`super::suites`]) to the [`Inbox`], and from there to the reader; `rustls` has zeros in its place. What goes out is
//! copied by `rustls` once, into the very record that it then encrypts in place, and that has its full length from the beginning. It would also
//! keep what is written before the handshake is over; so there is no stream to write to before that.
//!
//! All waiting ends at a deadline. An error is the end of the connection; one of `rustls` lies within the [`io::Error`].

use std::fmt;
use std::io::{self, Read, Write};
use std::time::Instant;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use super::TlsClient;
use super::inbox::Inbox;
use super::socket::TimedSocket;

/// An established connection.
pub(crate) struct TlsStream {
    socket: TimedSocket,
    tls: ClientConnection,
    inbox: Inbox,
}

impl TlsStream {
    /// Does the handshake over a connected socket, until the socket's deadline.
    pub(crate) fn connect(client: &TlsClient, name: ServerName<'static>, socket: TimedSocket) -> io::Result<Self> {
        let tls = ClientConnection::new(client.0.clone(), name).map_err(tls_error)?;
        let mut stream = Self { socket, tls, inbox: Inbox::new() };
        while stream.tls.is_handshaking() {
            stream.send()?;
            if stream.tls.is_handshaking() {
                stream.receive()?;
            }
        }
        stream.send()?;
        Ok(stream)
    }

    /// Until when it may wait from now on.
    pub(crate) fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.socket.set_deadline(deadline);
    }

    /// Whether there is something to read without waiting.
    pub(crate) fn has_unread(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Whether the peer has said nothing since its last answer: then a new request may be sent.
    pub(crate) fn is_idle(&self) -> bool {
        // It does not want to read from a peer that has said goodbye.
        !self.has_unread() && self.tls.wants_read() && self.socket.is_quiet()
    }

    fn send(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::WriteZero, "the connection takes no more")),
                Ok(_) => {}
                Err(broken) => return Err(self.last_words(broken)),
            }
        }
        Ok(())
    }

    /// Why a peer does not listen any more, if it has said so before it closed the connection.
    fn last_words(&mut self, broken: io::Error) -> io::Error {
        if !matches!(broken.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
            return broken;
        }
        // Of a connection that is closed only what has arrived is read: this does not wait.
        while self.tls.read_tls(&mut self.socket).is_ok_and(|read| read > 0) {
            if let Err(why) = self.inbox.collect(|| self.tls.process_new_packets()) {
                return tls_error(why);
            }
        }
        broken
    }

    /// Waits for something, and takes what there is.
    fn receive(&mut self) -> io::Result<()> {
        if self.tls.read_tls(&mut self.socket)? == 0 {
            let when = if self.tls.is_handshaking() { " in the handshake" } else { "" };
            let what = format!("the peer closed the connection{when}");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        let state = match self.inbox.collect(|| self.tls.process_new_packets()) {
            Ok(state) => state,
            Err(e) => {
                // Tells the peer why, if it listens.
                let _ = self.send();
                return Err(tls_error(e));
            }
        };
        self.drop_zeros(state.plaintext_bytes_to_read())?;
        // New keys of the peer have to be answered by new keys of ours.
        self.send()
    }

    /// Reads the zeros that stand for what is in the inbox.
    fn drop_zeros(&mut self, mut left: usize) -> io::Result<()> {
        let mut zeros = [0; 4096];
        while left > 0 {
            let read = self.tls.reader().read(&mut zeros)?;
            left = left.saturating_sub(read.max(1));
        }
        Ok(())
    }
}

impl Read for TlsStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        while self.inbox.is_empty() {
            self.receive()?;
        }
        Ok(self.inbox.take(into))
    }
}

impl Write for TlsStream {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        let written = self.tls.writer().write(content)?;
        self.send()?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for TlsStream {
    /// Says goodbye, but waits for nobody.
    fn drop(&mut self) {
        self.tls.send_close_notify();
        if self.socket.stop_waiting().is_ok() {
            let _ = self.tls.write_tls(&mut self.socket);
        }
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsStream")
    }
}

fn tls_error(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
#[path = "../../../tests/servers/authority.rs"]
mod authority;

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};
    use std::sync::Arc;
    use std::thread::JoinHandle;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ServerConfig, ServerConnection, SupportedCipherSuite};

    use super::super::suites::provider;
    use super::authority::Authority;
    use super::*;

    /// Sends back what comes, by one cipher suite, and with new keys for each piece where the protocol has that.
    fn echo(files: &Authority, suite: SupportedCipherSuite) -> (SocketAddr, JoinHandle<()>) {
        let cert = CertificateDer::from_pem_file(&files.cert).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
        let provider = rustls::crypto::CryptoProvider { cipher_suites: vec![suite], ..provider() };
        let config = ServerConfig::builder_with_provider(Arc::new(provider));
        let config = config.with_protocol_versions(&[suite.version()]).expect("a version").with_no_client_auth();
        let config = config.with_single_cert(vec![cert], key).expect("a configuration");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let thread = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a client");
            let mut tls = ServerConnection::new(Arc::new(config)).expect("a connection");
            let (mut inbox, mut piece) = (Inbox::new(), vec![0; 5000]);
            loop {
                let (read, written) = inbox.collect(|| tls.complete_io(&mut socket)).expect("TLS");
                let mut seen = vec![1; 1 << 16];
                let zeros = tls.reader().read(&mut seen).unwrap_or(0);
                assert!(seen[..zeros].iter().all(|byte| *byte == 0), "the library has seen data");
                while !inbox.is_empty() {
                    let len = inbox.take(&mut piece);
                    if suite.tls13().is_some() {
                        tls.refresh_traffic_keys().expect("new keys");
                    }
                    tls.writer().write_all(&piece[..len]).expect("written");
                }
                if read + written == 0 && !tls.wants_write() {
                    return;
                }
            }
        });
        (address, thread)
    }

    #[test]
    fn each_cipher_suite_carries_data_both_ways_past_the_library() {
        let dir = tempfile::tempdir().expect("a directory");
        let Some(files) = Authority::make(dir.path()) else { return };
        let client = TlsClient::new(&files.ca, None).expect("a client");
        // The server's certificate is not for RSA.
        let suites = provider().cipher_suites.into_iter();
        let suites: Vec<_> = suites.filter(|suite| !format!("{suite:?}").contains("RSA")).collect();
        assert!(
            suites.iter().any(|suite| suite.tls13().is_some()) && suites.iter().any(|suite| suite.tls13().is_none())
        );
        for suite in suites {
            let (address, server) = echo(&files, suite);
            let socket = TimedSocket::dial([address], None).expect("a connection");
            let name = ServerName::try_from("localhost").expect("a name");
            let mut stream = TlsStream::connect(&client, name, socket).expect("a handshake");
            for round in 1..=3u8 {
                let sent: Vec<u8> = (0..20_000u32).map(|n| n as u8 ^ round).collect();
                stream.write_all(&sent).expect("written");
                let mut back = vec![0; sent.len()];
                stream.read_exact(&mut back).expect("read");
                assert!(back == sent && !stream.has_unread(), "{suite:?}");
            }
            drop(stream);
            server.join().expect("it ends by a goodbye");
        }
    }

    #[test]
    fn a_connection_is_idle_until_the_peer_speaks() {
        let dir = tempfile::tempdir().expect("a directory");
        let Some(files) = Authority::make(dir.path()) else { return };
        let client = TlsClient::new(&files.ca, None).expect("a client");
        let suite = *provider().cipher_suites.iter().find(|suite| suite.tls13().is_none()).expect("TLS 1.2");
        let (address, server) = echo(&files, suite);
        let socket = TimedSocket::dial([address], None).expect("a connection");
        let name = ServerName::try_from("localhost").expect("a name");
        let mut stream = TlsStream::connect(&client, name, socket).expect("a handshake");
        assert!(stream.is_idle());
        stream.write_all(b"ab").expect("written");
        stream.read_exact(&mut [0]).expect("a byte");
        assert!(!stream.is_idle() && stream.has_unread());
        stream.read_exact(&mut [0]).expect("a byte");
        assert!(stream.is_idle());
        drop(stream);
        server.join().expect("it ends by a goodbye");
    }
}
