//! Container output as Docker's multiplexed stream: stream number, three zeros, big-endian length, bytes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::container::Container;

/// How long a follower waits at the end of the file: short against what a person or a log group notices.
const FOLLOW_EVERY: Duration = Duration::from_millis(100);

/// The whole output, the last `tail` lines, and with `follow` what comes until the container ends.
pub(super) fn stream(
    container: Arc<Container>,
    follow: bool,
    tail: Option<usize>,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    futures::stream::try_unfold(Reader { container, follow, tail, file: None }, Reader::next)
}

/// Output outlives its container, because that is when a person asks for it; only so many are kept.
const KEPT: usize = 100;

/// Removes all but the newest logs of earlier runs.
pub(super) fn prune(run_dir: &Path) -> std::io::Result<()> {
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(run_dir)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            logs.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    logs.sort();
    let old = logs.len().saturating_sub(KEPT);
    logs[..old].iter().try_for_each(|(_, path)| std::fs::remove_file(path))
}

struct Reader {
    container: Arc<Container>,
    follow: bool,
    tail: Option<usize>,
    file: Option<tokio::fs::File>,
}

impl Reader {
    async fn next(mut self) -> std::io::Result<Option<(Bytes, Self)>> {
        loop {
            // Read before the data: what is written later is not missed.
            let running = self.container.state().is_running();
            if let Some(data) = self.read().await? {
                return Ok(Some((frame(&data), self)));
            }
            if !self.follow || !running {
                return Ok(None);
            }
            tokio::time::sleep(FOLLOW_EVERY).await;
        }
    }

    async fn read(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        if self.file.is_none() {
            self.file = open(&self.container.log_file(), self.tail).await?;
        }
        let Some(file) = &mut self.file else { return Ok(None) };
        let mut buffer = vec![0; 16 * 1024];
        let length = file.read(&mut buffer).await?;
        buffer.truncate(length);
        Ok((length > 0).then_some(buffer))
    }
}

async fn open(path: &Path, tail: Option<usize>) -> std::io::Result<Option<tokio::fs::File>> {
    let mut file = match tokio::fs::File::open(path).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    if let Some(lines) = tail {
        let text = tokio::fs::read(path).await?;
        let start = u64::try_from(tail_start(&text, lines)).unwrap_or_default();
        file.seek(std::io::SeekFrom::Start(start)).await?;
    }
    Ok(Some(file))
}

/// Where the last `lines` lines begin.
fn tail_start(text: &[u8], lines: usize) -> usize {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    if lines == 0 {
        return text.len();
    }
    let newlines = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    newlines.map(|(at, _)| at + 1).nth(lines - 1).unwrap_or(0)
}

/// Output and errors share one file in the order of writing, so all of it is stream 1.
fn frame(data: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(data.len() + 8);
    frame.put_slice(&[1, 0, 0, 0]);
    frame.put_u32(u32::try_from(data.len()).expect("a read of at most 16 KiB"));
    frame.put_slice(data);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_logs_are_kept() {
        let dir = std::env::temp_dir().join(format!("dw-logs-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&dir).unwrap();
        let epoch = std::time::SystemTime::UNIX_EPOCH;
        for number in 0..KEPT as u64 + 2 {
            let file = std::fs::File::create(dir.join(format!("{number}.log"))).unwrap();
            file.set_modified(epoch + Duration::from_secs(number)).unwrap();
        }
        prune(&dir).unwrap();
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), KEPT);
        assert!(!dir.join("1.log").exists() && dir.join("2.log").exists());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn frames_carry_stream_and_length() {
        assert_eq!(&frame(b"hi")[..], [1, 0, 0, 0, 0, 0, 0, 2, b'h', b'i']);
    }

    #[test]
    fn tail_counts_lines() {
        let text = b"a\nb\nc\n";
        for (lines, rest) in
            [(0, &b""[..]), (1, b"c\n"), (2, b"b\nc\n"), (3, b"a\nb\nc\n"), (9, b"a\nb\nc\n")]
        {
            assert_eq!(&text[tail_start(text, lines)..], rest, "{lines} lines");
        }
    }
}
