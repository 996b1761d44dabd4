//! Listening sockets: made with care, and removed at the end.
//!
//! A unix socket is never anybody else's than its owner's, not even for a moment: its mode is set before it has a name (on Linux the mode of the
//! unbound socket is the mode of the file that bind(2) makes). A socket file that a dead server left is replaced; one on which a server answers,
//! and every other file, is left alone.
#![allow(unsafe_code)]

use std::fs::{self, File, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::{ListenAddress, ListenError};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// Bytes in the path of a unix socket at most: `sun_path` without the zero at its end (unix(7)).
pub(crate) const LONGEST_PATH: usize = size_of::<libc::sockaddr_un>() - size_of::<libc::sa_family_t>() - 1;
/// Asked of the kernel for each direction of a unix socket; it gives what `net.core.wmem_max` allows.
const UNIX_SOCKET_BUFFER: libc::c_int = 4 << 20;

/// A socket that clients connect to.
pub(crate) struct Listener {
    address: ListenAddress,
    socket: Bound,
    _file: Option<SocketFile>,
}

enum Bound {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// The name of a unix socket; removed when dropped, if it is still the same file.
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl Listener {
    pub(crate) fn bind(address: &ListenAddress) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Listen { address: address.to_string(), source };
        match address {
            ListenAddress::Tcp(socket) => {
                let listener = TcpListener::bind(socket).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                let address = ListenAddress::Tcp(listener.local_addr().map_err(failed)?);
                Ok(Self { address, socket: Bound::Tcp(listener), _file: None })
            }
            ListenAddress::Unix(path) => {
                make_room(path)?;
                let listener = bind_private(path).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                let meta = fs::symlink_metadata(path).map_err(failed)?;
                let file = SocketFile { path: path.clone(), inode: (meta.dev(), meta.ino()) };
                Ok(Self { address: address.clone(), socket: Bound::Unix(listener), _file: Some(file) })
            }
        }
    }

    /// The address with the actual port.
    pub(crate) fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// The address, if it is one of TCP.
    pub(crate) fn tcp_address(&self) -> Option<SocketAddr> {
        match self.address {
            ListenAddress::Tcp(address) => Some(address),
            ListenAddress::Unix(_) => None,
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Bound::Unix(listener) => listener.as_fd(),
            Bound::Tcp(listener) => listener.as_fd(),
        }
    }

    /// The next connection, who it is, and over TCP the address at which it reached us.
    pub(crate) fn accept(&self) -> io::Result<(OwnedFd, String, Option<SocketAddr>)> {
        match &self.socket {
            Bound::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                let peer = unix_peer(&stream);
                for option in [libc::SO_SNDBUF, libc::SO_RCVBUF] {
                    // A socket with the kernel's usual buffers serves as well, only slower.
                    let _ = set_socket_buffer(&stream, option);
                }
                Ok((stream.into(), peer, None))
            }
            Bound::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                stream.set_nodelay(true)?;
                let reached = stream.local_addr()?;
                Ok((stream.into(), format!("tcp {peer}"), Some(reached)))
            }
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.inode) {
            // A name that cannot be removed is replaced at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the socket file of a server that is gone; anything else there is refused, and stays.
pub(crate) fn make_room(path: &Path) -> Result<(), ListenError> {
    let occupied = |by: &str| ListenError::Occupied { path: path.to_owned(), by: by.to_owned() };
    let meta = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(ListenError::Listen { address: path.display().to_string(), source }),
        Ok(meta) => meta,
    };
    if !meta.file_type().is_socket() {
        return Err(occupied("a file that is no socket"));
    }
    match UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|source| ListenError::Listen { address: format!("unix:{}", path.display()), source }),
        Err(e) => Err(occupied(&format!("a socket that cannot be examined ({e})"))),
        Ok(_) => Err(occupied("a server that answers")),
    }
}

fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let name = path.as_os_str().as_bytes();
    // SAFETY: all-zero is a valid address.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    if name.len() > LONGEST_PATH || name.contains(&0) {
        let what = format!("the path of a socket has at most {LONGEST_PATH} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    address.sun_family = libc::AF_UNIX as _;
    for (to, from) in address.sun_path.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    // SAFETY: the call touches no memory of ours.
    let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: socket gave us this descriptor, which nobody else has.
    let socket = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    socket.set_permissions(Permissions::from_mode(0o600))?;
    let size = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: the address is valid and of the size given; the second call touches no memory of ours.
    let bound = unsafe { libc::bind(fd, (&raw const address).cast(), size) == 0 && libc::listen(fd, BACKLOG) == 0 };
    if bound { Ok(UnixListener::from(OwnedFd::from(socket))) } else { Err(io::Error::last_os_error()) }
}

fn set_socket_buffer(stream: &UnixStream, option: libc::c_int) -> io::Result<()> {
    let size = UNIX_SOCKET_BUFFER;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option takes one int.
    let set = unsafe { libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const size).cast(), len) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The process at the other end (`SO_PEERCRED`, unix(7)).
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the option fills one ucred of the length given.
    let got = unsafe {
        let to = (&raw mut credentials).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, to, &mut len)
    };
    if got == 0 { Ok(credentials) } else { Err(io::Error::last_os_error()) }
}

fn unix_peer(stream: &UnixStream) -> String {
    match peer_credentials(stream.as_fd()) {
        Ok(credentials) => format!("unix pid {} uid {}", credentials.pid, credentials.uid),
        Err(_) => "unix".to_owned(),
    }
}
