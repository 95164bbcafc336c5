//! The scratch folder of a `command`: its `HOME` and its `TMPDIR`.
//!
//! Its path is short: a program may make a Unix socket there, whose path may have 107 bytes (103 on
//! macOS), and Python's `multiprocessing` makes one 32 bytes deeper. So the folder is not in the cache
//! but below the system's temporary folder, as `repro-UID/N`.
//!
//! Folders are kept and numbered: a command takes the first one that no other holds, so one command at
//! a time always has the same path, and none costs a new inode. A folder is emptied when a command
//! takes it and when the command ends, so no command sees the files of another, even after a crash. The
//! lock is a `flock` of the folder. The program inherits it: a folder stays taken as long as any process
//! lives that may write to it. (`systemd-tmpfiles` leaves alone what is locked so.)

use crate::fs;
use anyhow::{Context as _, Result, bail};
use std::fs::{File, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// How long the path of the system's temporary folder may be, in bytes.
const SHORT: usize = 55;

/// How many folders there are at most. A command that finds all taken runs with a deep path.
const FOLDERS: usize = 512;

/// A folder that one command has to itself, empty at first.
pub(super) struct Scratch {
    path: PathBuf,
    hold: Hold,
}

/// What keeps others out.
enum Hold {
    /// The lock of a folder that is kept.
    Lock(File),
    /// A name that nobody knows.
    Unique(#[expect(dead_code, reason = "removes the folder when dropped")] TempDir),
}

impl Scratch {
    /// Takes a folder below the system's temporary folder; one in `workspace` if there is none to be
    /// had.
    pub(super) fn take(workspace: &Path) -> Result<Scratch> {
        Scratch::among(&[std::env::temp_dir(), PathBuf::from("/tmp")], workspace)
    }

    fn among(parents: &[PathBuf], workspace: &Path) -> Result<Scratch> {
        let short = parents.iter().filter(|parent| parent.as_os_str().len() <= SHORT);
        if let Some(scratch) =
            short.filter(|parent| parent.is_absolute()).find_map(|parent| Scratch::below(parent))
        {
            return Ok(scratch);
        }
        let folder =
            fs::temporary_folder(workspace).context("cannot make a folder for temporary files")?;
        Ok(Scratch { path: folder.path().to_owned(), hold: Hold::Unique(folder) })
    }

    fn below(parent: &Path) -> Option<Scratch> {
        let folder = parent.join(format!("repro-{}", rustix::process::geteuid().as_raw()));
        own(&folder).ok()?;
        (0..FOLDERS).map(|n| folder.join(n.to_string())).find_map(|path| {
            let lock = lock(&path).ok()?;
            Some(Scratch { path, hold: Hold::Lock(lock) })
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets the programs that this process starts from now on hold the folder too.
    pub(super) fn share(&self) -> Result<()> {
        match &self.hold {
            Hold::Lock(lock) => Ok(rustix::io::fcntl_setfd(lock, rustix::io::FdFlags::empty())?),
            Hold::Unique(_) => Ok(()),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Hold::Lock(_) = self.hold {
            // Whoever takes the folder next empties it too, and takes another one if it cannot.
            let _ = empty(&self.path);
        }
    }
}

/// Takes the folder at `path`, unless another process holds it.
fn lock(path: &Path) -> Result<File> {
    own(path)?;
    let lock = File::open(path)?;
    lock.try_lock()?;
    let (locked, there) = (lock.metadata()?, std::fs::symlink_metadata(path)?);
    if (locked.dev(), locked.ino()) != (there.dev(), there.ino()) {
        bail!("`{}` was replaced", path.display());
    }
    empty(path)?;
    Ok(lock)
}

/// Makes a folder, or sees that the one that is there is this user's, and this user's alone: its parent
/// may be open to everyone.
fn own(path: &Path) -> Result<()> {
    // That it is there already is no error, and every other one shows in the next line.
    let _ = std::fs::DirBuilder::new().mode(0o700).create(path);
    let meta = std::fs::symlink_metadata(path)?;
    if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() {
        bail!("`{}` is not this user's folder", path.display());
    }
    if meta.mode() & 0o777 != 0o700 {
        std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Removes all that is in a folder, whatever its permissions.
fn empty(folder: &Path) -> Result<()> {
    own(folder)?;
    for name in fs::entries(folder)? {
        let path = folder.join(name);
        match fs::metadata_if_exists(&path)? {
            Some(meta) if meta.is_dir() => fs::remove_folder_if_exists(&path)?,
            _ => fs::remove_if_exists(&path)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::list(folder).unwrap()
    }

    #[test]
    fn one_command_after_another_has_the_same_empty_folder_and_two_at_once_have_two() {
        let parent = tempfile::tempdir().unwrap();
        let first = Scratch::below(parent.path()).unwrap();
        let second = Scratch::below(parent.path()).unwrap();
        assert_ne!(first.path(), second.path());
        let path = first.path().to_owned();
        fs::create_dir_all(&path.join("deep/er")).unwrap();
        fs::write(&path.join("deep/er/file"), "left").unwrap();
        std::fs::set_permissions(path.join("deep"), Permissions::from_mode(0o000)).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
        drop(first);
        assert_eq!(names(&path), [""; 0], "emptied at the end");
        assert_eq!(Scratch::below(parent.path()).unwrap().path(), path);
    }

    #[test]
    fn what_a_killed_command_left_is_gone_before_the_next_one_begins() {
        let parent = tempfile::tempdir().unwrap();
        let path = Scratch::below(parent.path()).unwrap().path().to_owned();
        fs::write(&path.join("left"), "by a process that had no time to clean up").unwrap();
        let next = Scratch::below(parent.path()).unwrap();
        assert_eq!((next.path(), names(next.path())), (path.as_path(), Vec::new()));
    }

    #[test]
    fn a_folder_is_taken_as_long_as_a_process_of_its_command_lives() {
        let parent = tempfile::tempdir().unwrap();
        let first = Scratch::below(parent.path()).unwrap();
        first.share().unwrap();
        let mut left = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let path = first.path().to_owned();
        drop(first);
        let other = Scratch::below(parent.path()).unwrap();
        left.kill().unwrap();
        left.wait().unwrap();
        assert_ne!(other.path(), path);
    }

    #[test]
    fn a_link_in_the_place_of_a_folder_is_not_followed() {
        let (parent, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(&target.path().join("precious"), "").unwrap();
        let path = Scratch::below(parent.path()).unwrap().path().to_owned();
        std::fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink(target.path(), &path).unwrap();
        assert_ne!(Scratch::below(parent.path()).unwrap().path(), path);
        let all = path.parent().unwrap();
        fs::remove_folder_if_exists(all).unwrap();
        std::os::unix::fs::symlink(target.path(), all).unwrap();
        assert!(Scratch::below(parent.path()).is_none());
        assert_eq!(names(target.path()), ["precious"]);
    }

    #[test]
    fn without_a_temporary_folder_a_command_has_one_in_its_workspace() {
        let workspace = tempfile::tempdir().unwrap();
        let parents = ["/nowhere", "/dev/full", "relative"].map(PathBuf::from);
        let scratch = Scratch::among(&parents, workspace.path()).unwrap();
        assert_eq!(scratch.path().parent(), Some(workspace.path()));
        drop(scratch);
        assert_eq!(names(workspace.path()), [""; 0]);
    }
}
