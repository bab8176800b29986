//! The actor of a listener.
//!
//! **Owns** the accept loop and its connections. **Receives** only the end of the loop.
//! **Started by** the `http` supervisor, last, and so stopped first.
//! **When it fails** its connections are cut; the socket stays open with the node, so that clients
//! that connect meanwhile wait in the kernel's queue for the successor.

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router as Routes;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::http::limits::Limits;
use crate::http::serve::serve;
use crate::seams::tasks;
use crate::telemetry::Metrics;

/// What a listener actor receives.
pub enum ListenerMessage {
    /// The accept loop has ended, though nobody asked for it.
    Ended,
}

/// A bound socket. It outlives the actors that accept on it, until it is closed for good.
#[derive(Clone)]
pub struct Socket(Arc<Mutex<Option<TcpListener>>>);

impl Socket {
    /// Keeps a socket open.
    pub fn new(listener: TcpListener) -> Self {
        Self(Arc::new(Mutex::new(Some(listener))))
    }

    /// Once the actor has stopped, too, clients are refused and no longer wait in the kernel's
    /// queue for a successor.
    pub fn close(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Whether only this machine can connect.
    pub fn is_loopback(&self) -> bool {
        let listener = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        address.is_some_and(|address| address.ip().to_canonical().is_loopback())
    }

    fn duplicate(&self) -> io::Result<TcpListener> {
        let listener = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listener.as_ref().ok_or(io::ErrorKind::NotConnected)?.try_clone()
    }
}

/// All that a restart needs.
#[derive(Clone)]
pub struct Arguments {
    /// The bound socket; each generation accepts on a duplicate of it.
    pub socket: Socket,
    /// What is served.
    pub routes: Routes,
    /// What a client may hold on to.
    pub limits: Limits,
    /// Where connections are counted.
    pub metrics: Arc<Metrics>,
}

/// The actor; its state is in [`State`].
pub struct ListenerActor;

/// Ends the loop when it is dropped, also when the actor is killed.
pub struct State {
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<()>>,
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(served) = &self.served {
            served.abort();
        }
    }
}

impl Actor for ListenerActor {
    type Msg = ListenerMessage;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ListenerMessage>,
        arguments: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let Arguments { socket, routes, limits, metrics } = arguments;
        let socket = socket.duplicate()?;
        socket.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(socket)?;
        let (stop, stopped) = oneshot::channel();
        let served = tasks::spawn(async move {
            let stopped = async { drop(stopped.await) };
            let served = tasks::spawn(serve(listener, routes, limits, metrics, stopped));
            let _guard = AbortOnDrop(served.abort_handle());
            let _ = served.await;
            let _ = myself.cast(ListenerMessage::Ended);
        });
        Ok(State { stop: Some(stop), served: Some(served) })
    }

    async fn handle(
        &self,
        _myself: ActorRef<ListenerMessage>,
        message: ListenerMessage,
        _state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ListenerMessage::Ended => Err("the accept loop ended".into()),
        }
    }

    /// Waits for what is in flight, as long as [`Limits::drain_time`] allows.
    async fn post_stop(
        &self,
        _myself: ActorRef<ListenerMessage>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        drop(state.stop.take());
        if let Some(served) = state.served.take() {
            served.await?;
        }
        Ok(())
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
