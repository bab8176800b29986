//! A data directory to work on: through the node that runs there, or by itself.

use crate::cli::client::OpsClient;
use crate::cli::failure::Failure;
use crate::cli::serve::ended;
use crate::config::Config;
use crate::http::operator::OperatorKey;
use crate::node::data_dir::{ops_address, signing_key};
use crate::node::{Node, NodeError};
use crate::seams::Seams;
use crate::store::error::StoreError;

/// How to get at the data.
pub(super) enum Data {
    /// No node runs there: this one does now, without listeners.
    Stopped(Box<Node>),
    /// A node runs there.
    Running(OpsClient),
}

impl Data {
    /// Opens the directory, or makes it.
    pub(super) async fn open(config: &Config) -> Result<Self, Failure> {
        match Node::start_offline(config, Seams::system()).await {
            Ok(node) => {
                node.wait_ready().await?;
                Ok(Self::Stopped(Box::new(node)))
            }
            Err(NodeError::Store(locked @ StoreError::Locked { .. })) => {
                // Another command may hold it, which has no listener.
                let Some(address) = ops_address(&config.data_dir) else {
                    return Err(locked.into());
                };
                let key = OperatorKey::of_secret(&signing_key(&config.data_dir)?);
                Ok(Self::Running(OpsClient::with_key(address, key)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a directory that is there.
    pub(super) async fn open_existing(config: &Config) -> Result<Self, Failure> {
        let path = &config.data_dir;
        if !path.is_dir() {
            return Err(Failure::usage(format!(
                "there is no data directory `{}`: name it with --data-dir",
                path.display()
            )));
        }
        Self::open(config).await
    }

    /// Waits until the node of this command ends by itself, and tells why; for ever, if it is another
    /// process's. Then there is nothing left to close.
    pub(super) async fn ended(&self) -> Failure {
        match self {
            Self::Stopped(node) => ended(node).await,
            Self::Running(_) => std::future::pending().await,
        }
    }

    /// Writes a checkpoint and lets the directory go.
    pub(super) async fn close(self) -> Result<(), Failure> {
        match self {
            Self::Stopped(node) => Ok(node.stop().await?),
            Self::Running(_) => Ok(()),
        }
    }
}
