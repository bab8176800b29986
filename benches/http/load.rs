//! The load generator: HTTP/1.1 over kept-alive connections, one thread, epoll, as little work per
//! request as it gets. Closed loop, or open loop at a rate.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use crate::histogram::Histogram;
use crate::machine::cpu_time;

const NO_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// Read at once; larger than any response here.
const READ_BYTES: usize = 128 * 1024;
/// A server that answers nothing for so long is stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a request counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The operation that is measured.
    Measured,
    /// Mixed in.
    Other,
}

/// Makes requests.
pub trait Source {
    /// Writes the next request into the buffer; `None` when there is none left, and the run ends as
    /// soon as all others are answered.
    fn next(&mut self, request: &mut Vec<u8>) -> Option<Class>;
}

/// How to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where the server listens.
    pub address: SocketAddr,
    /// Its process.
    pub pid: u32,
    /// Kept-alive connections.
    pub connections: usize,
    /// Before anything is measured.
    pub warm_up: Duration,
    /// What is measured.
    pub duration: Duration,
    /// Requests per second of an open loop: latency then counts from the time at which a request
    /// was due. `None` is a closed loop.
    pub rate: Option<f64>,
}

/// What came out.
#[derive(Default, Clone)]
pub struct Outcome {
    /// Latencies of the measured operation.
    pub measured: Histogram,
    /// Latencies of what was mixed in.
    pub other: Histogram,
    /// Answers with another status than 2xx.
    pub failed: u64,
    /// The first of them, to show.
    pub failure: Option<String>,
    /// How long it really was.
    pub elapsed: Duration,
    /// CPU time of the server.
    pub cpu: Duration,
}

impl Outcome {
    /// Requests of any kind.
    pub fn requests(&self) -> u64 {
        self.measured.total() + self.other.total()
    }

    /// Requests of any kind per second.
    pub fn rate(&self) -> f64 {
        self.requests() as f64 / self.elapsed.as_secs_f64()
    }

    /// CPU time of the server per request of any kind, in microseconds.
    pub fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.requests().max(1) as f64
    }
}

struct Connection {
    stream: TcpStream,
    class: Class,
    began: Instant,
    /// Start of a response whose head is not complete yet.
    head: Vec<u8>,
    /// Bytes of the body that are still to come.
    missing: usize,
    status: u16,
}

/// Runs a plan.
///
/// # Errors
/// When the server cannot be reached, hangs up, or is stuck.
pub fn run(plan: &Plan, source: &mut dyn Source) -> io::Result<Outcome> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections = Vec::with_capacity(plan.connections);
    for number in 0..plan.connections {
        let stream = TcpStream::connect(plan.address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&poll, &stream, data, epoll::EventFlags::IN)?;
        let began = Instant::now();
        let class = Class::Other;
        let head = Vec::new();
        connections.push(Connection { stream, class, began, head, missing: 0, status: 0 });
    }
    let mut run = Run {
        source,
        idle: (0..connections.len()).collect(),
        connections,
        request: Vec::with_capacity(16 * 1024),
        buffer: vec![0; READ_BYTES],
        outcome: Outcome::default(),
        is_over: false,
        due: plan.rate.map(|rate| (Instant::now(), Duration::from_secs_f64(1.0 / rate))),
    };
    run.until(&poll, Instant::now() + plan.warm_up)?;
    run.outcome = Outcome::default();
    let (began, used) = (Instant::now(), cpu_time(plan.pid));
    run.until(&poll, began + plan.duration)?;
    run.outcome.elapsed = began.elapsed();
    run.outcome.cpu = cpu_time(plan.pid).saturating_sub(used);
    Ok(run.outcome)
}

struct Run<'a> {
    source: &'a mut dyn Source,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    request: Vec<u8>,
    buffer: Vec<u8>,
    outcome: Outcome,
    /// There is no request left.
    is_over: bool,
    /// When the next request of an open loop is due, and the pause between two.
    due: Option<(Instant, Duration)>,
}

impl Run<'_> {
    fn until(&mut self, poll: &impl std::os::fd::AsFd, end: Instant) -> io::Result<()> {
        let mut events = Vec::with_capacity(1024);
        let mut heard = Instant::now();
        loop {
            let now = Instant::now();
            let is_done = self.is_over && self.idle.len() == self.connections.len();
            if now >= end || is_done {
                return Ok(());
            }
            self.send_idle(now)?;
            events.clear();
            // It never sleeps: it has a core of its own, an open loop must not oversleep, and waking
            // it would be charged to the server, to a slow one for every answer and to a fast one,
            // which always has more for it, never.
            epoll::wait(poll, rustix::buffer::spare_capacity(&mut events), Some(&NO_WAIT))?;
            if !events.is_empty() {
                heard = now;
            } else if now.duration_since(heard) > PATIENCE
                && self.idle.len() < self.connections.len()
            {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the server is silent"));
            }
            for event in &events {
                let event: &epoll::Event = event;
                self.receive(event.data.u64() as usize)?;
            }
        }
    }

    fn send_idle(&mut self, now: Instant) -> io::Result<()> {
        while !self.idle.is_empty() && !self.is_over {
            let began = match &mut self.due {
                None => Instant::now(),
                Some((due, _)) if *due > now => return Ok(()),
                Some((due, pause)) => {
                    let began = *due;
                    *due += *pause;
                    began
                }
            };
            let number = self.idle.pop_front().expect("it is not empty");
            self.send(number, began)?;
        }
        Ok(())
    }

    fn send(&mut self, number: usize, began: Instant) -> io::Result<()> {
        self.request.clear();
        let Some(class) = self.source.next(&mut self.request) else {
            self.is_over = true;
            self.idle.push_back(number);
            return Ok(());
        };
        let connection = &mut self.connections[number];
        connection.class = class;
        connection.began = began;
        let mut rest = self.request.as_slice();
        while !rest.is_empty() {
            match connection.stream.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn receive(&mut self, number: usize) -> io::Result<()> {
        let connection = &mut self.connections[number];
        let read = match connection.stream.read(&mut self.buffer) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "hung up")),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        if !connection.take(&self.buffer[..read])? {
            return Ok(());
        }
        let latency = connection.began.elapsed();
        if !(200..300).contains(&connection.status) {
            self.outcome.failed += 1;
            let text = String::from_utf8_lossy(&self.buffer[..read.min(400)]);
            self.outcome.failure.get_or_insert_with(|| text.into_owned());
        }
        match connection.class {
            Class::Measured => self.outcome.measured.record(latency),
            Class::Other => self.outcome.other.record(latency),
        }
        match self.due {
            None => self.send(number, Instant::now()),
            Some(_) => {
                self.idle.push_back(number);
                Ok(())
            }
        }
    }
}

impl Connection {
    /// Takes bytes of a response; whether it is complete.
    fn take(&mut self, bytes: &[u8]) -> io::Result<bool> {
        if self.missing > 0 {
            self.missing = self.missing.saturating_sub(bytes.len());
            return Ok(self.missing == 0);
        }
        let joined;
        let bytes = if self.head.is_empty() {
            bytes
        } else {
            self.head.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.head);
            joined.as_slice()
        };
        let Some(end) = find(bytes, b"\r\n\r\n") else {
            self.head = bytes.to_vec();
            return Ok(false);
        };
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed response");
        let status = bytes.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
        self.status = status.and_then(|digits| digits.parse().ok()).ok_or_else(malformed)?;
        let length = content_length(&bytes[..end]).ok_or_else(malformed)?;
        self.missing = (end + 4 + length).saturating_sub(bytes.len());
        Ok(self.missing == 0)
    }
}

/// The length of the body; an answer without one is taken to have none.
fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    for line in head.split(|byte| *byte == b'\n') {
        if line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME) {
            return std::str::from_utf8(&line[NAME.len()..]).ok()?.trim().parse().ok();
        }
    }
    Some(0)
}

/// Where a short needle stands. The head is near the start, so nothing clever is needed.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

/// Asks once, on a connection of its own, and returns status and body.
///
/// # Errors
/// When the server cannot be reached or answers nonsense.
pub fn ask(address: SocketAddr, request: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    Session::open(address)?.ask(request)
}

/// A connection on which one thing is asked after the other.
pub struct Session {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Session {
    /// Connects.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: vec![0; 16 * 1024] })
    }

    /// Asks, and returns status and body.
    ///
    /// # Errors
    /// When the server hangs up or answers nonsense.
    pub fn ask(&mut self, request: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let Self { stream, buffer } = self;
        stream.write_all(request)?;
        let mut bytes = Vec::new();
        loop {
            let read = stream.read(buffer)?;
            bytes.extend_from_slice(&buffer[..read]);
            let end = find(&bytes, b"\r\n\r\n");
            let length =
                end.and_then(|end| content_length(&bytes[..end]).map(|length| (end, length)));
            if let Some((end, length)) = length
                && bytes.len() >= end + 4 + length
            {
                if bytes.len() > end + 4 + length {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "more than an answer"));
                }
                let status = std::str::from_utf8(&bytes[9..12]);
                let status = status.ok().and_then(|text| text.parse().ok());
                return Ok((status.unwrap_or(0), bytes.split_off(end + 4)));
            }
            if read == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "hung up"));
            }
        }
    }
}
