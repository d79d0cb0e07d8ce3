//! With which code the process ends, so that whoever runs it knows what to do. README.md has the
//! table.

use std::fmt;

use deploy::config::ConfigError;
use raft_store::member::{FailureKind, StartError};

/// Something failed that may pass.
const FAILED: u8 = 1;
/// The command line or the settings are wrong. clap ends with the same code.
const SETTINGS: u8 = 2;
/// The data directory cannot be used as it is.
const DIRECTORY: u8 = 3;
/// The cluster has removed the member.
const REMOVED: u8 = 4;

/// A member stopped by itself; its log says why.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub(crate) kind: FailureKind,
    pub(crate) reason: String,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Stopped {}

/// An error that is in the log: it is not said again.
#[derive(Debug)]
pub(crate) struct Said {
    code: u8,
}

impl Said {
    pub(crate) fn new(error: &anyhow::Error) -> Said {
        Said { code: code(error) }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("see the log")
    }
}

impl std::error::Error for Said {}

/// The code of a process that ends with this error.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    let found = error.chain().find_map(|cause| {
        if let Some(said) = cause.downcast_ref::<Said>() {
            return Some(said.code);
        }
        if cause.is::<ConfigError>() {
            return Some(SETTINGS);
        }
        let stopped = cause.downcast_ref::<Stopped>().map(|stopped| stopped.kind);
        let kind = stopped.or_else(|| Some(cause.downcast_ref::<StartError>()?.kind()));
        kind.map(code_of)
    });
    found.unwrap_or(FAILED)
}

fn code_of(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::Passing => FAILED,
        FailureKind::Settings => SETTINGS,
        FailureKind::Directory => DIRECTORY,
        FailureKind::Removed => REMOVED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_survives_its_context() {
        let start = |error: StartError| anyhow::Error::new(error).context("did not start");
        assert_eq!(code(&start(StartError::Config("no".into()))), SETTINGS);
        let damaged = start(StartError::Directory("damaged".into()));
        assert_eq!(code(&damaged), DIRECTORY);
        assert_eq!(code(&anyhow::Error::new(Said::new(&damaged))), DIRECTORY);
        let removed = Stopped {
            kind: FailureKind::Removed,
            reason: "removed".into(),
        };
        assert_eq!(code(&removed.into()), REMOVED);
        assert_eq!(code(&start(StartError::InUse("by another".into()))), FAILED);
        assert_eq!(code(&anyhow::anyhow!("anything else")), FAILED);
    }
}
