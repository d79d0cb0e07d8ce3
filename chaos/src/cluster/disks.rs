//! What members' data lies on: the machine's disk, one that fills soon, or one that forgets
//! what was not synced when the power fails.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::sandbox::system;

/// Disks of members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disks {
    /// The machine's.
    Shared,
    /// A tmpfs of so many bytes for each.
    Small(u64),
    /// A file system in a file of so many bytes for each. Its cache is lost with the power.
    Mortal(u64),
}

impl Disks {
    /// Whether they are so small that they fill.
    pub fn fill(self) -> bool {
        matches!(self, Disks::Small(_))
    }

    /// Makes a member's disk at its data directory.
    pub(super) fn make(self, data: &Path) -> Result<()> {
        fs::create_dir_all(data)?;
        match self {
            Disks::Shared => {}
            Disks::Small(bytes) => {
                let size = format!("size={bytes}");
                let at = text(data)?;
                system("mount", &["-t", "tmpfs", "-o", &size, "chaos", at])?;
            }
            Disks::Mortal(bytes) => {
                let image = image(data);
                File::create(&image)?.set_len(bytes)?;
                // What is left for later would be done while members run.
                let lazy = "lazy_itable_init=1,lazy_journal_init=1";
                system("mkfs.ext4", &["-q", "-E", lazy, text(&image)?])?;
                mount(&image, data)?;
                // Not every store likes what mkfs puts there.
                fs::remove_dir(data.join("lost+found"))?;
                system("sync", &["-f", text(data)?])?;
            }
        }
        Ok(())
    }

    /// Removes it with all data.
    pub(super) fn unmake(self, data: &Path) -> Result<()> {
        if self != Disks::Shared {
            system("umount", &[text(data)?])?;
        }
        if let Disks::Mortal(_) = self {
            fs::remove_file(image(data))?;
        }
        Ok(fs::remove_dir_all(data)?)
    }

    /// From now on nothing more reaches the disk, not even what was written before and waits.
    pub(super) fn freeze(self, data: &Path) -> Result<()> {
        if !matches!(self, Disks::Mortal(_)) {
            bail!("only a disk of its own can lose its power");
        }
        // ext4 and XFS share this request; 2 means that the journal is not written either.
        // Perl is a part of every Debian, and this crate makes no system calls of its own.
        let script = r#"open(my $dir, "<", $ARGV[0]) or die "open: $!";
            my $how = pack("L", 2);
            ioctl($dir, 0x8004587d, $how) or die "ioctl: $!";"#;
        system("perl", &["-e", script, text(data)?]).map(drop)
    }

    /// Brings back what reached a frozen disk. Nobody may use it meanwhile.
    pub(super) fn revive(self, data: &Path) -> Result<()> {
        system("umount", &[text(data)?])?;
        mount(&image(data), data)
    }
}

fn mount(image: &Path, data: &Path) -> Result<()> {
    system("mount", &["-o", "loop", text(image)?, text(data)?]).map(drop)
}

fn image(data: &Path) -> PathBuf {
    data.with_extension("img")
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not text")
}
