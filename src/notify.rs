//! What a service manager hears of a process (systemd's `Type=notify`).

use std::env;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The process serves.
pub(crate) fn ready() {
    send(env::var_os("NOTIFY_SOCKET").as_deref(), b"READY=1");
}

/// The process has begun to stop.
pub(crate) fn stopping() {
    send(env::var_os("NOTIFY_SOCKET").as_deref(), b"STOPPING=1");
}

/// Without a manager, or with one that does not listen, nothing happens.
fn send(socket: Option<&OsStr>, message: &[u8]) {
    let Some(name) = socket.map(OsStr::as_bytes) else {
        return;
    };
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(OsStr::from_bytes(name)),
    };
    let Ok(address) = address else {
        return;
    };
    if let Ok(sender) = UnixDatagram::unbound() {
        // A manager that is gone needs no news.
        let _ = sender.send_to_addr(message, &address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_hears() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        send(Some(path.as_os_str()), b"READY=1");
        let mut heard = [0; 16];
        let length = manager.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"READY=1");
        send(None, b"READY=1");
        send(Some(OsStr::new("/nonexistent/socket")), b"READY=1");
    }
}
