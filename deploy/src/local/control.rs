//! What another process may ask of a supervisor: one JSON line each way over a Unix socket.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::LocalError;

/// A request; names are such as `master-2`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Starts members that are down.
    Start(Vec<String>),
    /// Stops members gracefully; they stay down.
    Stop(Vec<String>),
    /// One line per member.
    Status,
}

/// Lines for the user, or why the request was refused.
pub type Answer = Result<Vec<String>, String>;

/// A request is a few names.
const LINE_MAX: u64 = 16 * 1024;

/// How long a client may take to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A graceful stop takes its time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest path that the address of a Unix socket holds, less its closing zero.
const ADDRESS_MAX: usize = 107;

/// The socket of a cluster, under a path that is short enough to be an address.
struct Address {
    path: PathBuf,
    /// Keeps the directory open while a path leads through it.
    _dir: Option<File>,
}

fn address(dir: &Path) -> io::Result<Address> {
    let path = dir.join("control.sock");
    if path.as_os_str().len() <= ADDRESS_MAX {
        return Ok(Address { path, _dir: None });
    }
    let dir = File::open(dir)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/control.sock", dir.as_raw_fd()));
    Ok(Address {
        path,
        _dir: Some(dir),
    })
}

/// Listens in a cluster's directory, whose lock the caller holds.
pub(super) fn listen(dir: &Path) -> Result<UnixListener, LocalError> {
    remove(dir)?;
    let bind = || UnixListener::bind(address(dir)?.path);
    bind().map_err(LocalError::io("listen on", &dir.join("control.sock")))
}

/// Removes the socket, perhaps one that a dead supervisor left.
pub(super) fn remove(dir: &Path) -> Result<(), LocalError> {
    let path = dir.join("control.sock");
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LocalError::io("remove", &path)(error))
        }
        _ => Ok(()),
    }
}

/// Reads the request of a client.
pub(super) async fn receive(stream: &mut UnixStream) -> io::Result<Request> {
    let mut line = String::new();
    let mut reader = BufReader::new(stream.take(LINE_MAX));
    timeout(REQUEST_TIMEOUT, reader.read_line(&mut line)).await??;
    serde_json::from_str(&line).map_err(io::Error::other)
}

/// Answers a client.
pub(super) async fn answer(stream: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer).map_err(io::Error::other)?;
    line.push(b'\n');
    timeout(REQUEST_TIMEOUT, stream.write_all(&line)).await?
}

/// Asks the supervisor of the cluster in a directory.
///
/// # Errors
/// [`LocalError::NotRunning`] without one, [`LocalError::Refused`] if it refuses.
pub async fn ask(dir: &Path, request: &Request) -> Result<Vec<String>, LocalError> {
    let connect = async { UnixStream::connect(address(dir)?.path).await };
    let mut stream = connect.await.map_err(|_| LocalError::NotRunning {
        dir: dir.to_path_buf(),
    })?;
    let exchange = async {
        let mut line = serde_json::to_vec(request).map_err(io::Error::other)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut text = String::new();
        stream.take(LINE_MAX).read_to_string(&mut text).await?;
        serde_json::from_str::<Answer>(&text).map_err(io::Error::other)
    };
    let answer = timeout(ANSWER_TIMEOUT, exchange)
        .await
        .unwrap_or_else(|late| Err(late.into()));
    answer
        .map_err(LocalError::io(
            "ask the supervisor over",
            &dir.join("control.sock"),
        ))?
        .map_err(LocalError::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn round_trip(dir: &Path) {
        let listener = listen(dir).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = receive(&mut stream).await.unwrap();
            assert_eq!(request, Request::Start(vec!["master-1".into()]));
            answer(&mut stream, &Err("no".into())).await.unwrap();
        };
        let request = Request::Start(vec!["master-1".into()]);
        let (asked, ()) = tokio::join!(ask(dir, &request), serve);
        assert!(matches!(asked, Err(LocalError::Refused(why)) if why == "no"));
    }

    #[tokio::test]
    async fn requests_travel_and_a_stale_socket_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            ask(dir.path(), &Request::Status).await,
            Err(LocalError::NotRunning { .. })
        ));
        round_trip(dir.path()).await;
        assert!(matches!(
            ask(dir.path(), &Request::Status).await,
            Err(LocalError::NotRunning { .. })
        ));
        round_trip(dir.path()).await;
    }

    #[tokio::test]
    async fn a_long_path_works_too() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        fs::create_dir(&deep).unwrap();
        round_trip(&deep).await;
        assert!(deep.join("control.sock").exists());
    }
}
