//! The scratch folder of a `command`: its `HOME` and its `TMPDIR`.
//!
//! The path must be short: a program may create a Unix socket in the folder, a socket's path is
//! limited to 107 bytes (103 on macOS), and Python's `multiprocessing` adds 32. The folder is
//! therefore `repro-UID/N` below the system's temporary folder, not in the cache.
//!
//! Folders are numbered and reused: a command locks the first free one, so a single command at a
//! time always gets the same path and no new inode. The folder is emptied when it is locked and
//! when the command ends, so no command sees the files of another, even after a crash. The lock is
//! a `flock` of the folder, inherited by the program: it is held while any process is alive that
//! may write to the folder. `systemd-tmpfiles` skips locked folders.

use crate::fs;
use anyhow::{Context as _, Result, bail};
use std::fs::{File, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The longest usable path of the system's temporary folder, in bytes.
const MAX_PARENT: usize = 55;

/// The maximum number of scratch folders; if all are locked, a command gets a folder with a long
/// path.
const MAX_FOLDERS: usize = 512;

/// A folder for the exclusive use of one command, initially empty.
pub(super) struct Scratch {
    path: PathBuf,
    lock: ScratchLock,
}

/// How the folder is kept from other commands.
enum ScratchLock {
    /// A locked folder, reused by later commands.
    Numbered(File),
    /// A folder with a unique name, removed afterwards.
    Unique(#[expect(dead_code, reason = "removes the folder when dropped")] TempDir),
}

impl Scratch {
    /// Locks a folder below the system's temporary folder, or creates one in `workspace` if there
    /// is none.
    pub(super) fn lock_exclusive(workspace: &Path) -> Result<Scratch> {
        Scratch::below_any(&[std::env::temp_dir(), PathBuf::from("/tmp")], workspace)
    }

    fn below_any(parents: &[PathBuf], workspace: &Path) -> Result<Scratch> {
        let short = parents.iter().filter(|parent| parent.as_os_str().len() <= MAX_PARENT);
        if let Some(scratch) =
            short.filter(|parent| parent.is_absolute()).find_map(|parent| Scratch::below(parent))
        {
            return Ok(scratch);
        }
        let folder = fs::temporary_folder(workspace).context("cannot create a temporary folder")?;
        Ok(Scratch { path: folder.path().to_owned(), lock: ScratchLock::Unique(folder) })
    }

    fn below(parent: &Path) -> Option<Scratch> {
        let folder = parent.join(format!("repro-{}", rustix::process::geteuid().as_raw()));
        make_private(&folder).ok()?;
        (0..MAX_FOLDERS).map(|n| folder.join(n.to_string())).find_map(|path| {
            let lock = ScratchLock::Numbered(lock_and_empty(&path).ok()?);
            Some(Scratch { path, lock })
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets programs started from now on inherit the lock.
    pub(super) fn inherit_lock(&self) -> Result<()> {
        match &self.lock {
            ScratchLock::Numbered(lock) => {
                Ok(rustix::io::fcntl_setfd(lock, rustix::io::FdFlags::empty())?)
            }
            ScratchLock::Unique(_) => Ok(()),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let ScratchLock::Numbered(_) = self.lock {
            // The next command empties the folder too, and skips it if that fails.
            let _ = empty(&self.path);
        }
    }
}

/// Locks and empties the folder at `path`; an error if another process holds the lock.
fn lock_and_empty(path: &Path) -> Result<File> {
    make_private(path)?;
    let lock = File::open(path)?;
    lock.try_lock()?;
    let (locked, present) = (lock.metadata()?, std::fs::symlink_metadata(path)?);
    if (locked.dev(), locked.ino()) != (present.dev(), present.ino()) {
        bail!("`{}` was replaced", path.display());
    }
    empty(path)?;
    Ok(lock)
}

/// Creates a folder, or checks that an existing one belongs to this user, and removes the access of
/// other users: its parent may be writable by everyone.
fn make_private(path: &Path) -> Result<()> {
    // An error is ignored: the folder may exist, and the next line detects any other failure.
    let _ = std::fs::DirBuilder::new().mode(0o700).create(path);
    let meta = std::fs::symlink_metadata(path)?;
    if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() {
        bail!("`{}` is not a folder of this user", path.display());
    }
    if meta.mode() & 0o777 != 0o700 {
        std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Removes everything in a folder, regardless of permissions.
fn empty(folder: &Path) -> Result<()> {
    make_private(folder)?;
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
    fn consecutive_commands_reuse_one_empty_folder_and_concurrent_ones_get_two() {
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
    fn files_left_by_a_killed_command_are_removed_before_the_next_one_starts() {
        let parent = tempfile::tempdir().unwrap();
        let path = Scratch::below(parent.path()).unwrap().path().to_owned();
        fs::write(&path.join("left"), "").unwrap();
        let next = Scratch::below(parent.path()).unwrap();
        assert_eq!((next.path(), names(next.path())), (path.as_path(), Vec::new()));
    }

    #[test]
    fn a_folder_stays_locked_while_a_process_of_its_command_is_alive() {
        let parent = tempfile::tempdir().unwrap();
        let first = Scratch::below(parent.path()).unwrap();
        first.inherit_lock().unwrap();
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let path = first.path().to_owned();
        drop(first);
        let other = Scratch::below(parent.path()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_ne!(other.path(), path);
    }

    #[test]
    fn a_symbolic_link_in_place_of_a_folder_is_not_followed() {
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
    fn without_a_system_temporary_folder_the_workspace_is_used() {
        let workspace = tempfile::tempdir().unwrap();
        let parents = ["/nowhere", "/dev/full", "relative"].map(PathBuf::from);
        let scratch = Scratch::below_any(&parents, workspace.path()).unwrap();
        assert_eq!(scratch.path().parent(), Some(workspace.path()));
        drop(scratch);
        assert_eq!(names(workspace.path()), [""; 0]);
    }
}
