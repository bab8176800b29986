//! A small HTTP/1.1 client. It is written by hand so that a test can also send what no well-behaved
//! client would, byte by byte, and sees exactly what comes back.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No answer of the server may take longer, however slow the machine.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// One client with at most one connection, kept alive between requests.
pub struct HttpClient {
    address: SocketAddr,
    connection: Option<Connection>,
    token: Option<String>,
}

impl HttpClient {
    /// A client that is not connected yet.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, connection: None, token: None }
    }

    /// Where it sends to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on requests carry this token.
    pub fn set_token(&mut self, token: impl Into<String>) {
        self.token = Some(token.into());
    }

    /// The token that requests carry.
    pub fn token(&self) -> &str {
        self.token.as_deref().expect("the client is signed in")
    }

    pub async fn get(&mut self, path: &str) -> Response {
        self.must("GET", path, None).await
    }

    pub async fn post(&mut self, path: &str, body: &Value) -> Response {
        self.must("POST", path, Some(body)).await
    }

    /// A POST without a body, as for a favorite.
    pub async fn post_nothing(&mut self, path: &str) -> Response {
        self.must("POST", path, None).await
    }

    pub async fn put(&mut self, path: &str, body: &Value) -> Response {
        self.must("PUT", path, Some(body)).await
    }

    pub async fn delete(&mut self, path: &str) -> Response {
        self.must("DELETE", path, None).await
    }

    async fn must(&mut self, method: &str, path: &str, body: Option<&Value>) -> Response {
        let sent = self.send(method, path, body).await;
        sent.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Sends a request with these headers besides the usual ones.
    pub async fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Response {
        let sent = self.send_with(method, path, headers, body).await;
        sent.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Sends a request; an error means that nobody knows whether it had an effect.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response> {
        self.send_with(method, path, &[], body).await
    }

    async fn send_with(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Response> {
        let body = body.map(Value::to_string);
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(token) = &self.token {
            head += &format!("authorization: Token {token}\r\n");
        }
        if let Some(body) = &body {
            head +=
                &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        }
        head += "\r\n";
        head += body.as_deref().unwrap_or_default();
        self.exchange(head.as_bytes()).await
    }

    /// Sends exactly these bytes and reads one response.
    pub async fn exchange(&mut self, bytes: &[u8]) -> Result<Response> {
        let kept = self.connection.take();
        let kept = kept.and_then(|mut kept| kept.is_open().then_some(kept));
        let mut connection = match kept {
            Some(connection) => connection,
            None => Connection::open(self.address).await?,
        };
        // A server may answer, and close, before it has read everything: then the answer counts.
        let written = connection.write(bytes).await;
        let response = match connection.response().await {
            Ok(response) => response,
            Err(error) => return Err(written.err().unwrap_or(error)),
        };
        if written.is_ok() && !response.closes() {
            self.connection = Some(connection);
        }
        Ok(response)
    }
}

/// A connection that a test drives by itself.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = within("connecting", TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        within("writing", self.stream.write_all(bytes)).await
    }

    /// Whether the other side has not closed it meanwhile.
    fn is_open(&mut self) -> bool {
        let read = self.stream.try_read_buf(&mut self.buffer);
        self.buffer.is_empty()
            && matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Whether the other side has answered, or closed.
    pub fn has_ended(&mut self) -> bool {
        !self.is_open()
    }

    /// Waits until the other side closes without a further byte.
    pub async fn closed(&mut self) -> Result<()> {
        match self.fill().await {
            Ok(0) => Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
            Ok(_) => Err(Error::other("bytes came where an end was expected")),
            Err(error) => Err(error),
        }
    }

    /// Reads one response.
    pub async fn response(&mut self) -> Result<Response> {
        let head = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let rest = self.buffer.split_off(end + 4);
                break std::mem::replace(&mut self.buffer, rest);
            }
            self.fill_some().await?;
        };
        let mut response = parse_head(&head)?;
        let is_chunked =
            response.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
        if is_chunked {
            response.body = self.chunks().await?;
        } else if let Some(length) = response.header("content-length") {
            let length = length.parse().map_err(|_| malformed("content-length"))?;
            response.body = self.take(length).await?;
        } else if response.status >= 200 && ![204, 304].contains(&response.status) {
            while self.fill().await? > 0 {}
            response.body = std::mem::take(&mut self.buffer);
        }
        Ok(response)
    }

    async fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                match find(&self.buffer, b"\r\n") {
                    Some(end) => break self.take(end + 2).await?,
                    None => self.fill_some().await?,
                }
            };
            let line = std::str::from_utf8(&line[..line.len() - 2]).ok();
            let size = line.and_then(|line| usize::from_str_radix(line, 16).ok());
            let size = size.ok_or_else(|| malformed("chunk size"))?;
            let chunk = self.take(size + 2).await?;
            if size == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }

    async fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill_some().await?;
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    async fn fill_some(&mut self) -> Result<()> {
        match self.fill().await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn fill(&mut self) -> Result<usize> {
        within("reading", self.stream.read_buf(&mut self.buffer)).await
    }
}

/// What came back.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body, which must be JSON and say so.
    #[track_caller]
    pub fn json(&self) -> Value {
        let kind = self.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("application/") && kind.contains("json"), "content type {kind:?}");
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    /// The same response, if its status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "body: {}", self.text());
        self
    }

    /// Whether the connection ends with this response.
    fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

async fn within<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let done = tokio::time::timeout(ANSWER_TIME, work).await;
    done.unwrap_or_else(|_| Err(Error::new(ErrorKind::TimedOut, format!("{what} took too long"))))
}

fn parse_head(head: &[u8]) -> Result<Response> {
    let head = std::str::from_utf8(head).map_err(|_| malformed("head"))?;
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    if !first.next().is_some_and(|version| version.starts_with("HTTP/1.")) {
        return Err(malformed("version"));
    }
    let status = first.next().and_then(|status| status.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(key, value)| (key.to_ascii_lowercase(), value.trim().to_owned()));
    Ok(Response {
        status: status.ok_or_else(|| malformed("status"))?,
        headers: headers.collect(),
        body: Vec::new(),
    })
}

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("the response has a malformed {what}"))
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}
