//! The accept loop: HTTP/1.1 over TCP, with a bound on everything that a client could hold on to.
//!
//! **Owns** the listener and its connections. **When it stops** it accepts no more, lets what is in
//! flight finish until [`Limits::drain_time`] is over, and returns when no connection is left.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router as Routes;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service as HyperService;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tower::Service;

use crate::http::failure_limit::Peer;
use crate::http::limits::Limits;
use crate::seams::{tasks, time};
use crate::telemetry::Metrics;

/// Pause after a failed accept: it is nearly always a lack of file descriptors, which another
/// connection must give back first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a connection is not read after a refusal for lack of capacity. Far less than the second
/// that `Retry-After` asks for, so nobody who heeds it waits.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Marks a response that refuses for lack of capacity.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoCapacity;

/// Serves until `stop` is done, then until what is in flight is done or its time is over.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    limits: Limits,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let stopping = watch::Sender::new(false);
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            // Ended connections are taken out of the set, or it would grow for ever.
            Some(_ended) = connections.join_next() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, peer, place)) = accepted else { continue };
        let connection = Connection {
            routes: routes.clone(),
            limits: limits.clone(),
            metrics: metrics.clone(),
            stopping: stopping.subscribe(),
            peer,
            _place: place,
        };
        tasks::spawn_in(&mut connections, connection.run(stream));
    }
    drop(listener);
    stopping.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if time::timeout(limits.drain_time, drained).await.is_err() {
        tracing::warn!(left = connections.len(), "connections cut at the end of the drain time");
        connections.shutdown().await;
    }
}

/// The next connection and its place. Without a free place nothing is accepted: the kernel's queue
/// is where the others wait.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, Peer, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, Peer(peer.ip()), place)),
        Err(error) => {
            tracing::debug!(%error, "accept failed");
            time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

struct Connection {
    routes: Routes,
    limits: Limits,
    metrics: Arc<Metrics>,
    stopping: watch::Receiver<bool>,
    peer: Peer,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        let _counted = Counted::new(self.metrics.clone());
        // Responses are written whole: waiting for more to send would only delay them.
        let _ = stream.set_nodelay(true);
        let refused = Arc::new(AtomicBool::new(false));
        let guard = StallGuard::new(stream, self.limits.write_stall, refused.clone());
        let io = TokioIo::new(guard);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_time)
            .max_header_size(self.limits.head_bytes)
            .max_buf_size(self.limits.head_bytes.max(MIN_BUFFER_BYTES))
            .serve_connection(io, Handler { routes: self.routes, peer: self.peer, refused });
        let mut connection = std::pin::pin!(connection);
        let mut stopping = self.stopping;
        let stopped = async { stopping.wait_for(|stopping| *stopping).await.is_ok() };
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            _ = stopped => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended early");
        }
    }
}

/// Below this hyper refuses to work; above it a body is read in larger pieces.
pub(crate) const MIN_BUFFER_BYTES: usize = 64 * 1024;

/// The routes as hyper calls them.
struct Handler {
    routes: Routes,
    peer: Peer,
    /// Set when a request was refused for lack of capacity.
    refused: Arc<AtomicBool>,
}

impl HyperService<hyper::Request<Incoming>> for Handler {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        let mut request = request.map(axum::body::Body::new);
        // Only writes ask for it, and all of `/v1`, where requests are counted; the other reads need
        // not pay for it.
        if !request.method().is_safe() || request.uri().path().starts_with("/v1/") {
            request.extensions_mut().insert(self.peer);
        }
        let handled = self.routes.clone().call(request);
        let refused = self.refused.clone();
        Box::pin(async move {
            let response = handled.await?;
            if response.extensions().get::<NoCapacity>().is_some() {
                refused.store(true, Ordering::Relaxed);
            }
            Ok(response)
        })
    }
}

/// Counts a connection for as long as it lives, however it ends.
struct Counted(Arc<Metrics>);

impl Counted {
    fn new(metrics: Arc<Metrics>) -> Self {
        metrics.connections.inc();
        Self(metrics)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}

/// A stream that fails when its peer takes nothing for too long: a client that does not read would
/// otherwise hold its place, and the response, for ever. Costs nothing while writes go through.
///
/// After a refusal for lack of capacity it is not read for [`REFUSED_PAUSE`]: who was told to come
/// back later and asks again at once waits in the kernel, instead of taking the time of those who
/// are served. (Refusing costs nearly as much as a small read.)
struct StallGuard {
    stream: TcpStream,
    limit: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    refused: Arc<AtomicBool>,
    paused: Option<Pin<Box<Sleep>>>,
}

impl StallGuard {
    fn new(stream: TcpStream, limit: Duration, refused: Arc<AtomicBool>) -> Self {
        Self { stream, limit, stalled: None, refused, paused: None }
    }

    fn guard<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(time::sleep(limit)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for StallGuard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.refused.swap(false, Ordering::Relaxed) {
            self.paused = Some(Box::pin(time::sleep(REFUSED_PAUSE)));
        }
        if let Some(pause) = &mut self.paused {
            std::task::ready!(pause.as_mut().poll(context));
            self.paused = None;
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for StallGuard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.guard(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.guard(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
