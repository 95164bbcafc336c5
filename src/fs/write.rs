//! Writing, copying, renaming, linking and removing files, and syncing them to disk.

use super::read::{NO_WAIT, NotRegular, open_regular};
use super::{at, between, if_exists, operation};
use anyhow::Result;
use rustix::fs::{CWD, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::SystemTime;
use tempfile::NamedTempFile;

/// Writes a file in place, for folders that no other process reads yet.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    at("write", path, operation(|| fs::write(path, bytes)))
}

/// A temporary file with these bytes in `folder`. It has the permissions of any new file:
/// `tempfile` would create it for its owner only, and a rename would keep that.
fn temporary_file(folder: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let permissions = Permissions::from_mode(0o666);
    let new = || tempfile::Builder::new().permissions(permissions).tempfile_in(folder);
    let mut file = operation(new)?;
    operation(|| file.write_all(bytes))?;
    Ok(file)
}

/// Replaces a file atomically and durably: a reader sees the old content or the new one, and so
/// does the system after a crash. The temporary file is in `scratch`, on the same disk.
pub fn write_atomic(path: &Path, scratch: &Path, bytes: &[u8]) -> Result<()> {
    let attempt = || {
        let file = temporary_file(scratch, bytes)?;
        operation(|| file.as_file().sync_all())?;
        operation(|| Ok(file.persist(path)?))
    };
    at("write", path, attempt()).map(drop)
}

/// Like [`write_atomic`], with the temporary file in the folder of `path`.
pub fn write_beside(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    write_atomic(path, folder.unwrap_or(Path::new(".")), bytes)
}

/// Replaces a file atomically, without a sync: a loss of power may restore the old content or leave
/// the file empty.
pub fn replace(path: &Path, scratch: &Path, bytes: &[u8]) -> Result<()> {
    let attempt = || {
        let file = temporary_file(scratch, bytes)?;
        operation(|| Ok(file.persist(path)?))
    };
    at("write", path, attempt()).map(drop)
}

/// Like [`replace`], but keeps an existing file. Returns whether the file was written.
pub fn write_new(path: &Path, scratch: &Path, bytes: &[u8]) -> Result<bool> {
    let attempt = || {
        let file = temporary_file(scratch, bytes)?;
        if_new(operation(|| file.persist_noclobber(path).map_err(|refused| refused.error)))
    };
    at("write", path, attempt()).map(|file| file.is_some())
}

/// Turns the error that a file exists already into `None`.
fn if_new<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        result => result.map(Some),
    }
}

/// Creates or truncates a file for writing. Replaces a link or a FIFO at `path`: the link may point
/// to another user's file, and opening a FIFO may block.
pub fn create(path: &Path) -> Result<File> {
    let flags = NO_WAIT.union(OFlags::NOFOLLOW).bits().cast_signed();
    let mut options = File::options();
    options.write(true).create(true).truncate(true).custom_flags(flags);
    let attempt = || {
        if fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir()) {
            fs::remove_file(path)?;
        }
        options.open(path)
    };
    at("create", path, operation(attempt))
}

/// Creates a file for writing; `None` if it exists.
pub fn create_new(path: &Path) -> Result<Option<File>> {
    at("create", path, if_new(operation(|| File::create_new(path))))
}

/// Opens a file for appending. Creates it if it does not exist.
pub fn append(path: &Path) -> Result<File> {
    at("open", path, operation(|| File::options().append(true).create(true).open(path)))
}

/// Opens a file for reading and writing. Creates it if it does not exist. If this user may not
/// write the file, opens it for reading.
pub fn open_or_create(path: &Path) -> Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    options.custom_flags(NO_WAIT.bits().cast_signed());
    let attempt = || match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Ok(open_regular(path).map_err(|_| error)?.0)
        }
        Ok(file) if !file.metadata()?.is_file() => Err(io::Error::other(NotRegular)),
        opened => opened,
    };
    at("open", path, operation(attempt))
}

/// Renames `from` to `to`. Replaces an existing file.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    between("move", from, to, operation(|| fs::rename(from, to)))
}

/// Makes `to` a hard link to the file at `from`.
pub fn link(from: &Path, to: &Path) -> Result<()> {
    between("link", to, from, operation(|| fs::hard_link(from, to)))
}

/// Like [`link`], but keeps an existing file at `to`. Returns whether the link was created.
pub fn link_new(from: &Path, to: &Path) -> Result<bool> {
    let linked = if_new(operation(|| fs::hard_link(from, to)));
    between("link", to, from, linked).map(|linked| linked.is_some())
}

/// Moves a file to `to`, which must not exist, and sets its permissions. Returns whether it was
/// moved: a file of another user, or with other hard links, is not moved, because its bytes may
/// change later.
pub fn move_owned(from: &Path, to: &Path, mode: u32) -> Result<bool> {
    let attempt = || {
        let meta = fs::symlink_metadata(from)?;
        let user = rustix::process::geteuid().as_raw();
        if !meta.is_file() || meta.nlink() != 1 || meta.uid() != user {
            return Ok(false);
        }
        if meta.mode() & 0o7777 != mode {
            fs::set_permissions(from, Permissions::from_mode(mode))?;
        }
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // `to` is on another file system, or this file system does not support such a rename.
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS) => Ok(false),
            renamed => Ok(renamed.map(|()| true)?),
        }
    };
    between("move", from, to, operation(attempt))
}

/// Removes a file, if it exists.
pub fn remove_if_exists(path: &Path) -> Result<()> {
    at("remove", path, if_exists(operation(|| fs::remove_file(path)))).map(drop)
}

/// Copies a file to `to`, with these permissions regardless of the umask. Fails if `to` exists: on
/// a disk that ignores case or the Unicode form of a name, two files may have one name.
pub fn copy_new(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let attempt = || {
        let (source, meta) = open_regular(from)?;
        let mut target = File::create_new(to)?;
        io::copy(&mut source.take(meta.len()), &mut target)?;
        target.set_permissions(Permissions::from_mode(mode))
    };
    between("copy", from, to, operation(attempt))
}

/// Copies a file with its permissions to `to`. Replaces an existing file.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let attempt = || {
        let (source, meta) = open_regular(from)?;
        let mut target = File::create(to)?;
        io::copy(&mut source.take(meta.len()), &mut target)?;
        target.set_permissions(meta.permissions())
    };
    between("copy", from, to, operation(attempt))
}

/// Syncs a file's content to disk.
pub fn sync(path: &Path) -> Result<()> {
    at("sync", path, operation(|| open_regular(path)?.0.sync_all()))
}

/// Syncs the whole file system of `folder` to disk.
pub fn sync_disk(folder: &Path) -> Result<()> {
    let attempt = || -> io::Result<()> {
        let folder = File::open(folder)?;
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(folder)?;
        #[cfg(not(target_os = "linux"))]
        {
            drop(folder);
            rustix::fs::sync();
        }
        Ok(())
    };
    at("sync the disk of", folder, operation(attempt))
}

/// Sets a file's modification time to now.
pub fn touch(path: &Path) -> Result<()> {
    at("touch", path, operation(|| open_regular(path)?.0.set_modified(SystemTime::now())))
}

/// Whether the disk of `path` is full. Some file systems report no sizes.
pub fn is_full(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|disk| disk.f_blocks > 0 && disk.f_bavail == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{create_dir_all, list, read};

    #[test]
    fn a_copy_does_not_replace_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        write(&from, "bytes").unwrap();
        copy_new(&from, &to, 0o555).unwrap();
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o555);
        let error = copy_new(&from, &to, 0o555).unwrap_err();
        assert!(error.to_string().starts_with("cannot copy `"), "{error}");
    }

    #[test]
    fn an_atomic_write_replaces_the_file_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let (path, scratch) = (dir.path().join("file"), dir.path().join("scratch"));
        create_dir_all(&scratch).unwrap();
        write_atomic(&path, &scratch, b"old").unwrap();
        write_atomic(&path, &scratch, b"new").unwrap();
        assert_eq!(read(&path).unwrap(), b"new");
        assert_eq!(list(&scratch).unwrap(), Vec::<String>::new());
    }
}
