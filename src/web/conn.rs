//! A TCP connection that ends itself when nothing moves on it, and that lets its last words
//! arrive: closing a socket with unread bytes makes the kernel send a reset, which can overtake a
//! close frame or an error page. It knows nothing of what it carries.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::seats::Place;
use super::stats::Counted;

/// How long and how much is read away after our last word.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 16 << 20;

/// What a connection takes while it lasts.
pub struct Seat {
    _place: Place,
    _counted: Counted,
}

impl Seat {
    /// One of the `seats`, and one in the gauge.
    pub fn new(place: Place, counted: Counted) -> Self {
        Self { _place: place, _counted: counted }
    }
}

/// A connection.
pub struct Conn {
    open: Option<(TcpStream, Seat)>,
    idle: Duration,
    last_moved: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Conn {
    /// Wraps an accepted stream; it may be idle for `idle`.
    pub fn new(tcp: TcpStream, seat: Seat, idle: Duration) -> Self {
        Self {
            open: Some((tcp, seat)),
            idle,
            last_moved: Instant::now(),
            timer: Box::pin(sleep(idle)),
        }
    }

    fn tcp(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        match &mut self.open {
            Some((tcp, _)) => Ok(Pin::new(tcp)),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Passes on what a read or a write came to, unless it has waited for too long.
    fn watched<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.last_moved = Instant::now();
            return polled;
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let over = self.last_moved + self.idle;
            if over <= Instant::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.timer.as_mut().reset(over);
        }
        Poll::Pending
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = self.tcp()?.poll_read(cx, buffer);
        self.watched(cx, polled)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = self.tcp()?.poll_write(cx, bytes);
        self.watched(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.tcp()?.poll_write_vectored(cx, bytes);
        self.watched(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.open.as_ref().is_some_and(|(tcp, _)| tcp.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp()?.poll_shutdown(cx)
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        // Without a runtime everything ends anyway.
        if let (Some((tcp, seat)), Ok(runtime)) =
            (self.open.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(linger(tcp, seat));
        }
    }
}

/// Says that we are done and reads away what the other side still sends, for a bounded while. The
/// seat is kept until then, so that lingering connections are bounded in number, too.
async fn linger(mut tcp: TcpStream, seat: Seat) {
    let drained = timeout(LINGER, async {
        if tcp.shutdown().await.is_err() {
            return;
        }
        let mut away = vec![0; 16 * 1024];
        let mut total = 0;
        while total < LINGER_BYTES_MAX {
            match tcp.read(&mut away).await {
                Ok(count) if count > 0 => total += count,
                _ => return,
            }
        }
    });
    // Whether the other side was done in time changes nothing.
    let _ = drained.await;
    drop(seat);
}
