//! Where the applied state lives: one database directory is live, named by a pointer file.
//!
//! An installed snapshot becomes live by one atomic write of the pointer, so that a crash leaves
//! either the old database or the new one, never a mixture; and an open database never shares
//! its path with another.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seams::Disk;

const POINTER: &str = "CURRENT";
const FIRST: &str = "0";

/// The directory of a member's databases.
pub(crate) fn root(data_dir: &Path) -> PathBuf {
    data_dir.join("db")
}

/// The path of the live database below the directory of databases.
pub(crate) fn live(disk: &dyn Disk, root: &Path) -> io::Result<PathBuf> {
    let pointer = root.join(POINTER);
    let name = if disk.exists(&pointer) {
        String::from_utf8(disk.read(&pointer)?)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
    } else {
        FIRST.to_owned()
    };
    if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} names no database: {name:?}", pointer.display()),
        ));
    }
    Ok(root.join(name))
}

/// The database directories of one member: `DATA/db/NAME` and `DATA/db/CURRENT`.
#[derive(Clone)]
pub struct Databases {
    root: PathBuf,
    disk: Arc<dyn Disk>,
}

impl Databases {
    /// The databases below a member's data directory.
    pub fn new(data_dir: &Path, disk: Arc<dyn Disk>) -> Self {
        Self {
            root: root(data_dir),
            disk,
        }
    }

    /// The path of the live database; a new member's is named but does not exist yet.
    pub fn live(&self) -> io::Result<PathBuf> {
        live(self.disk.as_ref(), &self.root)
    }

    /// Moves a complete directory here under `name`, or a name like it if that is taken: the
    /// database of that name may be open. It is not live yet.
    pub fn adopt(&self, complete: &Path, name: &str) -> io::Result<PathBuf> {
        let mut path = self.root.join(name);
        let mut again = 0;
        while self.disk.exists(&path) {
            again += 1;
            path = self.root.join(format!("{name}-{again}"));
        }
        self.disk.rename(complete, &path)?;
        self.disk.sync_dir(&self.root)?;
        Ok(path)
    }

    /// Makes an adopted database the live one.
    pub fn make_live(&self, path: &Path) -> io::Result<()> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or(io::ErrorKind::InvalidInput)?;
        self.disk
            .write_atomic(&self.root.join(POINTER), name.as_bytes())
    }

    /// Removes a database that was replaced and is open no more.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)?;
        self.disk.sync_dir(&self.root)
    }

    /// Removes what is not live. Call it only while no other database is open.
    pub fn sweep(&self) -> io::Result<()> {
        self.disk.create_dir_all(&self.root)?;
        let live = self.live()?;
        for name in self.disk.read_dir(&self.root)? {
            let path = self.root.join(&name);
            if name != POINTER && path != live {
                self.disk.remove_dir_all(&path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seams::FaultDisk;

    #[test]
    fn a_live_database_is_never_replaced() {
        let disk = Arc::new(FaultDisk::new(1));
        let databases = Databases::new(Path::new("/data"), disk.clone());
        databases.sweep().unwrap();
        let mut adopted = Vec::new();
        for round in 0..3 {
            let complete = Path::new("/data/incoming");
            disk.create_dir_all(complete).unwrap();
            let path = databases.adopt(complete, "3-17").unwrap();
            databases.make_live(&path).unwrap();
            assert_eq!(databases.live().unwrap(), path);
            adopted.push(path);
            for path in &adopted {
                assert!(disk.exists(path), "{} in round {round}", path.display());
            }
        }
        databases.remove(&adopted[1]).unwrap();
        assert!(!disk.exists(&adopted[1]) && disk.exists(&adopted[2]));
        databases.sweep().unwrap();
        assert!(!disk.exists(&adopted[0]) && disk.exists(&adopted[2]));
    }
}
