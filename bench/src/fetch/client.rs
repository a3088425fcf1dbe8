//! Those who fetch: HTTP/1.1 by hand, so that reading costs as little as it can and is the same for both servers.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::kernel;

/// Read at a time.
const PIECE_BYTES: usize = 64 * 1024;
const LOOK_EVERY: Duration = Duration::from_millis(50);
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A server to fetch from.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process.
    pub pid: u32,
    /// `Authorization`, or nothing.
    pub bearer: String,
    /// What can be fetched.
    pub paths: Vec<String>,
}

/// What came of fetching for a while.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    /// Of bodies.
    pub bytes: u64,
    /// How long.
    pub elapsed: Duration,
    /// The server's processor time.
    pub cpu: Duration,
    /// By how much its resident memory grew at most, bytes.
    pub grown: u64,
}

/// Fetches with so many at once, again and again, for so long.
pub async fn load(target: &Target, fetches: usize, length: Duration) -> Result<Loaded> {
    let bytes = Arc::new(AtomicU64::new(0));
    let before = kernel::resident_bytes_of(target.pid)?;
    let cpu_before = kernel::process_time_of(target.pid)?;
    let begun = Instant::now();
    let deadline = begun + length;
    let mut readers = tokio::task::JoinSet::new();
    for number in 0..fetches {
        let (target, bytes) = (target.clone(), Arc::clone(&bytes));
        readers.spawn(async move {
            let paths = target.paths.iter().cycle().skip(number);
            for path in paths.take_while(|_| Instant::now() < deadline) {
                fetch(&target, path, &bytes, deadline).await?;
            }
            anyhow::Ok(())
        });
    }
    let mut most = before;
    while Instant::now() < deadline {
        most = most.max(kernel::resident_bytes_of(target.pid)?);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let (elapsed, cpu) = (begun.elapsed(), kernel::process_time_of(target.pid)?);
    let loaded = Loaded {
        bytes: bytes.load(Ordering::Relaxed),
        elapsed,
        cpu: cpu.saturating_sub(cpu_before),
        grown: most - before,
    };
    while let Some(read) = readers.join_next().await {
        read??;
    }
    Ok(loaded)
}

/// Fetches one file, up to the deadline.
async fn fetch(target: &Target, path: &str, bytes: &AtomicU64, deadline: Instant) -> Result<()> {
    let (mut stream, length, first) = ask(target, path, "").await?;
    let first = first.len() as u64;
    let mut left = length - first;
    bytes.fetch_add(first, Ordering::Relaxed);
    let mut piece = vec![0; PIECE_BYTES];
    while left > 0 && Instant::now() < deadline {
        let count = stream.read(&mut piece).await?;
        ensure!(count > 0, "{path} ends {left} bytes early");
        let count = count as u64;
        bytes.fetch_add(count, Ordering::Relaxed);
        left = left.saturating_sub(count);
    }
    Ok(())
}

/// Milliseconds from asking, connection included, to the first byte of audio from this offset on.
pub async fn first_byte(target: &Target, path: &str, offset: u64) -> Result<f64> {
    let begun = Instant::now();
    let (mut stream, _, first) = ask(target, path, &range_line(&format!("{offset}-"))).await?;
    if first.is_empty() {
        stream.read_u8().await.context("no audio comes")?;
    }
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}

/// The bytes of a range of a file.
pub async fn range(target: &Target, path: &str, range: Range<u64>) -> Result<Vec<u8>> {
    let bytes = format!("{}-{}", range.start, range.end - 1);
    let (mut stream, length, mut read) = ask(target, path, &range_line(&bytes)).await?;
    ensure!(length == range.end - range.start, "{path}: {length} bytes for {bytes}");
    stream.read_to_end(&mut read).await?;
    ensure!(read.len() as u64 == length, "{path} ends early");
    Ok(read)
}

fn range_line(bytes: &str) -> String {
    format!("Range: bytes={bytes}\r\n")
}

/// The connection behind an answer's head, the length of its body, and what of that came with the head.
async fn ask(target: &Target, path: &str, range: &str) -> Result<(TcpStream, u64, Vec<u8>)> {
    let mut stream = TcpStream::connect(target.address).await?;
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\n{range}Connection: close\r\n\r\n",
        target.address, target.bearer
    );
    stream.write_all(head.as_bytes()).await?;
    let mut read = Vec::with_capacity(PIECE_BYTES);
    loop {
        ensure!(stream.read_buf(&mut read).await? > 0, "no answer to {path}");
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
            let status = head.split(' ').nth(1).unwrap_or_default();
            ensure!(matches!(status, "200" | "206"), "{path}: {head}");
            let line = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length = line.context("no length")?.trim().parse()?;
            return Ok((stream, length, read.split_off(end + 4)));
        }
        ensure!(read.len() < HEAD_BYTES_MAX, "the head of {path} does not end");
    }
}
