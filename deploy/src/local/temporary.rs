//! Clusters whose directory goes when they stop: those that nobody asked to keep. A mark in the
//! directory says so, which only a new cluster gets, so that nothing that was kept once is ever removed.

use std::fs;
use std::io;
use std::path::Path;

use super::LocalError;
use crate::files;

const MARK: &str = "temporary";

/// Marks the directory of a cluster that is yet to be made.
///
/// # Errors
/// If it cannot be made.
pub fn mark(dir: &Path) -> Result<(), LocalError> {
    if dir.join("cluster.yaml").exists() {
        return Ok(());
    }
    files::private_dir(dir).map_err(LocalError::io("create", dir))?;
    let path = dir.join(MARK);
    files::replace(
        &path,
        b"removed by `trireme dev` when it stops\n",
        files::PUBLIC,
    )
    .map_err(LocalError::io("write", &path))
}

/// Keeps a cluster that was temporary.
///
/// # Errors
/// If its mark cannot be removed.
pub fn keep(dir: &Path) -> Result<(), LocalError> {
    let path = dir.join(MARK);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LocalError::io("remove", &path)(error))
        }
        _ => Ok(()),
    }
}

/// Whether the directory goes when its cluster stops.
pub fn is(dir: &Path) -> bool {
    dir.join(MARK).exists()
}

/// Removes the directory of a cluster that has stopped, if it is temporary.
///
/// # Errors
/// If it cannot be removed.
pub fn remove(dir: &Path) -> Result<(), LocalError> {
    match is(dir) {
        true => fs::remove_dir_all(dir).map_err(LocalError::io("remove", dir)),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_new_and_not_kept_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a");
        mark(&dir).unwrap();
        fs::write(dir.join("cluster.yaml"), "").unwrap();
        remove(&dir).unwrap();
        assert!(!dir.exists());

        mark(&dir).unwrap();
        fs::write(dir.join("cluster.yaml"), "").unwrap();
        keep(&dir).unwrap();
        // It holds a cluster now, which stays whatever later starts say.
        mark(&dir).unwrap();
        assert!(!is(&dir));
        remove(&dir).unwrap();
        assert!(dir.join("cluster.yaml").exists());
    }
}
