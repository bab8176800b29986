//! What can go wrong below the services.

use std::path::PathBuf;

use crate::store::codec::CodecError;

/// A failure of the storage layer. None of them is the caller's fault.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the data directory.
    #[error("`{path}` is in use by another process: stop that node, or choose another --data-dir")]
    Locked {
        /// What is locked.
        path: PathBuf,
    },
    /// The files were written by a newer program.
    #[error("`{path}` has format {found}, this program knows up to {known}: use the newer program")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest format this program can read.
        known: u32,
    },
    /// A file is not what it must be.
    #[error("`{path}` is damaged ({detail}): restore it from a backup")]
    Damaged {
        /// The file; empty where only its content is known, until somebody puts it in.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The directory or file may not be written.
    #[error("`{path}` cannot be written: check its owner and mode, or choose another --data-dir")]
    ReadOnly {
        /// The file or directory.
        path: PathBuf,
    },
    /// No space is left on the device.
    #[error("no space left on the device that holds the data")]
    Full,
    /// The operating system refused; the text is its own.
    #[error("storage failed: {0}")]
    Io(String),
    /// The handle was replaced by a successor's; its owner must stop.
    #[error("this handle was replaced by a newer one")]
    Fenced,
    /// The part of the store that would have answered has stopped.
    #[error("the store has stopped")]
    Stopped,
}

impl StoreError {
    /// Whether it stays as it is however often the same is tried again. A full disk is waited for, and
    /// what the system calls an I/O error may be gone after the file was opened again.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::ReadOnly { .. } => true,
            Self::Locked { .. }
            | Self::Newer { .. }
            | Self::Full
            | Self::Io(_)
            | Self::Fenced
            | Self::Stopped => false,
        }
    }
}

impl From<CodecError> for StoreError {
    fn from(error: CodecError) -> Self {
        Self::Damaged { path: PathBuf::new(), detail: error.to_string() }
    }
}
