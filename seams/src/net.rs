//! TCP: connect and listen.
// The one place that may open sockets.
#![allow(
    clippy::disallowed_methods,
    reason = "the one place that may open sockets"
)]

use std::io;
use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A byte stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream of any transport.
pub type BoxedStream = Box<dyn Stream>;

/// A network.
#[async_trait]
pub trait Net: Send + Sync + 'static {
    /// Connects to `addr`, which is `host:port`. The caller brings the deadline.
    async fn connect(&self, addr: &str) -> io::Result<BoxedStream>;

    /// The addresses of a host, which may be one itself. The caller brings the deadline.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;

    /// Listens on `addr`, which is `host:port`; port 0 picks a free one.
    async fn listen(&self, addr: &str) -> io::Result<Box<dyn Listener>>;
}

/// A socket that accepts connections.
#[async_trait]
pub trait Listener: Send {
    /// Waits for the next connection; yields it with the address of the other side.
    async fn accept(&mut self) -> io::Result<(BoxedStream, SocketAddr)>;

    /// Where the listener is bound.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// The machine's network. Streams have `TCP_NODELAY` on: every message here waits for an answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealNet;

#[async_trait]
impl Net for RealNet {
    async fn connect(&self, addr: &str) -> io::Result<BoxedStream> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }

    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((host, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }

    async fn listen(&self, addr: &str) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(RealListener(TcpListener::bind(addr).await?)))
    }
}

struct RealListener(TcpListener);

#[async_trait]
impl Listener for RealListener {
    async fn accept(&mut self) -> io::Result<(BoxedStream, SocketAddr)> {
        let (stream, peer) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        Ok((Box::new(stream), peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn bytes_pass_in_both_directions() -> io::Result<()> {
        let mut listener = RealNet.listen("127.0.0.1:0").await?;
        let addr = listener.local_addr()?.to_string();
        let (client, accepted) = tokio::join!(RealNet.connect(&addr), listener.accept());
        let (mut client, (mut server, _)) = (client?, accepted?);
        client.write_all(b"ping").await?;
        let mut got = [0; 4];
        server.read_exact(&mut got).await?;
        server.write_all(&got).await?;
        client.read_exact(&mut got).await?;
        assert_eq!(&got, b"ping");
        Ok(())
    }
}
