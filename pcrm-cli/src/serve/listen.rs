//! Connections: accepted within limits, served with timeouts, and drained at the end.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::app::App;
use super::tls::Tls;

/// The limits of connections.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// The most open connections; others wait to be accepted.
    pub most: usize,
    /// The time limit for a request's head and for an idle connection.
    pub head_time: Duration,
    /// The time limit for requests in flight when the server stops.
    pub drain_time: Duration,
}

/// The largest head of a request, in bytes.
const HEAD_BYTES: usize = 64 << 10;
/// The time for clients to close open connections after they were asked to.
const FAREWELL: Duration = Duration::from_secs(1);
/// The time without a new connection after which none is expected.
const QUIET: Duration = Duration::from_millis(20);

/// Serves connections until `stop` completes, then finishes the requests in flight. Returns false if some
/// were unanswered when their time was over.
pub async fn serve(
    listener: TcpListener,
    app: Arc<App>,
    router: Router,
    tls: Option<Arc<Tls>>,
    limits: Connections,
    stop: impl Future<Output = ()>,
) -> bool {
    let doors = Doors { app: Arc::clone(&app), router, tls, limits, graceful: GracefulShutdown::new() };
    let free = Arc::new(Semaphore::new(limits.most));
    let mut stop = std::pin::pin!(stop);
    loop {
        let next = tokio::select! {
            biased;
            () = &mut stop => break,
            next = accepted(&listener, &free) => next,
        };
        doors.open(next);
    }
    app.stopping.store(true, Ordering::Relaxed);
    // Clients that the system has already accepted are also served; later ones find no server.
    let until = Instant::now() + FAREWELL.min(limits.drain_time);
    while let Ok(next) = timeout_at(until.min(Instant::now() + QUIET), accepted(&listener, &free)).await {
        doors.open(next);
    }
    drop(listener);
    // From now on responses close their connections, so that no client sends a request into a closing one.
    tokio::time::sleep_until(until).await;
    timeout(limits.drain_time, doors.graceful.shutdown()).await.is_ok()
}

/// Waits for a connection and for a free slot.
async fn accepted(
    listener: &TcpListener,
    free: &Arc<Semaphore>,
) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    let permit = Arc::clone(free).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) => {
                // The client is already gone, or the system has no free file descriptors.
                tracing::warn!("cannot accept a connection: {error}");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// The state given to new connections.
struct Doors {
    app: Arc<App>,
    router: Router,
    tls: Option<Arc<Tls>>,
    limits: Connections,
    graceful: GracefulShutdown,
}

impl Doors {
    fn open(&self, (stream, permit): (TcpStream, Option<OwnedSemaphorePermit>)) {
        let _ = stream.set_nodelay(true);
        let (app, router, head_time) = (Arc::clone(&self.app), self.router.clone(), self.limits.head_time);
        let watcher = self.graceful.watcher();
        let acceptor = self.tls.as_ref().map(|tls| tls.acceptor());
        tokio::spawn(async move {
            app.metrics.connections.fetch_add(1, Ordering::Relaxed);
            match acceptor {
                None => serve_one(stream, router, head_time, watcher).await,
                Some(acceptor) => {
                    if let Ok(Ok(stream)) = timeout(head_time, acceptor.accept(stream)).await {
                        serve_one(stream, router, head_time, watcher).await;
                    }
                }
            }
            app.metrics.connections.fetch_sub(1, Ordering::Relaxed);
            drop(permit);
        });
    }
}

async fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    head_time: Duration,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(head_time).max_buf_size(HEAD_BYTES);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!("a connection ended: {error}");
    }
}
