//! A network between a client and a server, for protocols that cannot be looked into: it delays, and it holds back what
//! clients send, as a network does: what was sent arrives later, even when its sender is gone by then.
#![expect(clippy::expect_used, reason = "a test part panics with what went wrong")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What the network does now.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    delay: Duration,
    held: bool,
}

/// A running proxy; its connections end when it is dropped.
#[derive(Debug)]
pub struct TcpProxy {
    /// Where clients connect.
    pub address: SocketAddr,
    weather: Arc<watch::Sender<Weather>>,
    _stop: DropGuard,
}

impl TcpProxy {
    /// Listens on a free loopback port before `upstream`, and changes nothing until told.
    ///
    /// # Panics
    /// When nothing can be bound.
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (weather, stop) = (Arc::new(watch::Sender::new(Weather::default())), CancellationToken::new());
        let (shared, stopped) = (Arc::clone(&weather), stop.clone());
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stopped.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((client, _)) = accepted else { continue };
                let connection = connect(client, upstream, shared.subscribe());
                let stopped = stopped.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = stopped.cancelled() => {}
                        () = connection => {}
                    }
                });
            }
        });
        Self { address, weather, _stop: stop.drop_guard() }
    }

    /// Everything takes so much longer, each way.
    pub fn delay(&self, delay: Duration) {
        self.weather.send_modify(|w| w.delay = delay);
    }

    /// From now on what clients send waits here. What servers send still arrives.
    pub fn hold(&self) {
        self.weather.send_modify(|w| w.held = true);
    }

    /// What was held goes on its way, in the rhythm in which it was sent: a server that reads a request and its sender's farewell at
    /// once may drop the request.
    pub fn release(&self) {
        self.weather.send_modify(|w| w.held = false);
    }
}

async fn connect(client: TcpStream, upstream: SocketAddr, weather: watch::Receiver<Weather>) {
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (sent, to_send) = mpsc::channel(1024);
    let (answered, to_answer) = mpsc::channel(1024);
    tokio::join!(
        read(from_client, sent),
        write(to_send, to_server, weather.clone(), Direction::Up),
        read(from_server, answered),
        write(to_answer, to_client, weather, Direction::Down),
    );
}

async fn read(mut from: OwnedReadHalf, queue: mpsc::Sender<(Instant, Bytes)>) {
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    while let Ok(1..) = from.read_buf(&mut buffer).await {
        if queue.send((Instant::now(), buffer.split().freeze())).await.is_err() {
            return;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

async fn write(
    mut queue: mpsc::Receiver<(Instant, Bytes)>,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    direction: Direction,
) {
    let mut late = Duration::ZERO;
    while let Some((at, bytes)) = queue.recv().await {
        let held = weather.borrow().held && direction == Direction::Up;
        let Ok(now) = weather.wait_for(|w| !w.held || direction == Direction::Down).await.map(|w| *w) else {
            return;
        };
        if held {
            late = late.max(at.elapsed());
        }
        tokio::time::sleep_until(at + late + now.delay).await;
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
    if direction == Direction::Up {
        // A server that hears that its client is gone may drop what it was just sent; the network does not tell at once.
        let _ = weather.wait_for(|_| false).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn server() -> (SocketAddr, mpsc::Receiver<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sent, got) = mpsc::channel(16);
        tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            while let Ok(byte) = connection.read_u8().await {
                connection.write_u8(byte).await.unwrap();
                sent.send(byte).await.unwrap();
            }
        });
        (address, got)
    }

    #[tokio::test]
    async fn what_is_held_arrives_later_even_when_its_sender_is_gone() {
        let (address, mut got) = server().await;
        let proxy = TcpProxy::start(address).await;
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        client.write_u8(1).await.unwrap();
        assert_eq!((client.read_u8().await.unwrap(), got.recv().await), (1, Some(1)));
        proxy.hold();
        client.write_u8(2).await.unwrap();
        drop(client);
        let early = tokio::time::timeout(Duration::from_millis(100), got.recv()).await;
        assert!(early.is_err(), "it is held");
        proxy.release();
        assert_eq!(got.recv().await, Some(2));
    }

    #[tokio::test]
    async fn what_was_held_arrives_in_the_rhythm_in_which_it_was_sent() {
        let (address, mut got) = server().await;
        let proxy = TcpProxy::start(address).await;
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        proxy.hold();
        client.write_u8(1).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        client.write_u8(2).await.unwrap();
        drop(client);
        proxy.release();
        assert_eq!(got.recv().await, Some(1));
        let between = Instant::now();
        assert_eq!(got.recv().await, Some(2));
        assert!(between.elapsed() >= Duration::from_millis(150), "{:?}", between.elapsed());
    }

    #[tokio::test]
    async fn a_delay_counts_each_way() {
        let (address, _got) = server().await;
        let proxy = TcpProxy::start(address).await;
        proxy.delay(Duration::from_millis(100));
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        let began = Instant::now();
        client.write_u8(1).await.unwrap();
        client.read_u8().await.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(200));
    }
}
