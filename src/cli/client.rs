//! Talks to the operations listener of a running node.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::cli::failure::Failure;
use crate::http::operator::OperatorKey;
use crate::seams::Clock;
use crate::seams::{tasks, time};

const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Longer than the node itself gives a chunk of an import.
const ANSWER_TIME: Duration = Duration::from_secs(180);
/// Largest answer that is read whole. (An export is read piece by piece.)
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A client of one operations listener. It connects anew for each request: they are few and large.
pub(super) struct OpsClient {
    address: SocketAddr,
    key: Option<OperatorKey>,
}

impl OpsClient {
    /// A client that can only look.
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, key: None }
    }

    /// A client with the operator's credential.
    pub(super) fn with_key(address: SocketAddr, key: OperatorKey) -> Self {
        Self { address, key: Some(key) }
    }

    /// The body behind a path.
    pub(super) async fn get(&self, path: &str) -> Result<Bytes, Failure> {
        self.whole(self.send(Method::GET, path, Bytes::new()).await?).await
    }

    /// The answer to a body.
    pub(super) async fn post(&self, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        self.whole(self.open(path, body).await?).await
    }

    /// The same, to be read piece by piece.
    pub(super) async fn open(
        &self,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        self.send(Method::POST, path, body).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string());
        if let Some(key) = &self.key {
            let credential = key.sign(Clock::system().now());
            request = request.header(header::AUTHORIZATION, format!("Bearer {credential}"));
        }
        let request = request.body(Full::new(body)).map_err(|error| self.failed(&error))?;
        let stream = time::timeout(CONNECT_TIME, TcpStream::connect(self.address)).await;
        let stream = match stream {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.failed(&error)),
            Err(elapsed) => return Err(self.failed(&elapsed)),
        };
        let connected = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = connected.map_err(|error| self.failed(&error))?;
        tasks::spawn(connection);
        match time::timeout(ANSWER_TIME, sender.send_request(request)).await {
            Ok(Ok(response)) => self.good(response).await,
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(elapsed) => Err(self.failed(&elapsed)),
        }
    }

    async fn good(&self, response: Response<Incoming>) -> Result<Response<Incoming>, Failure> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.whole(response).await.unwrap_or_default();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let wrong = &problem["errors"][0];
        let detail = match wrong.is_null() {
            true => text(&problem["detail"]),
            false => format!("{} {}", text(&wrong["pointer"]), text(&wrong["detail"])),
        };
        Err(Failure::runtime(match status {
            StatusCode::UNAUTHORIZED => format!(
                "the node at {} has another data directory: name the right one with --data-dir",
                self.address
            ),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => format!(
                "the node at {} cannot do this at the moment: give the same command again",
                self.address
            ),
            _ => format!("the node at {} answered {status}: {detail}", self.address),
        }))
    }

    async fn whole(&self, response: Response<Incoming>) -> Result<Bytes, Failure> {
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        match time::timeout(ANSWER_TIME, body).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) => Err(self.failed(&*error)),
            Err(elapsed) => Err(self.failed(&elapsed)),
        }
    }

    /// No answer, or a broken one.
    pub(super) fn failed(&self, error: &dyn std::error::Error) -> Failure {
        Failure::runtime(format!(
            "no answer from the operations listener at {} ({error}): see whether the node runs, and give the same command again",
            self.address
        ))
    }
}
