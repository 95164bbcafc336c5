//! Reading regular files and metadata.

use super::{at, if_exists, is_errno, operation};
use anyhow::Result;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The path is neither a file nor a folder.
#[derive(Debug, thiserror::Error)]
#[error("it is not a regular file")]
pub(super) struct NotRegular;

/// The flags for opening a path that may be a FIFO or a terminal, without waiting for a writer.
pub(super) const NO_WAIT: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY);

/// Opens a regular file for reading. Links are followed.
pub(super) fn open_regular(path: &Path) -> io::Result<(File, Metadata)> {
    let opened = File::options().read(true).custom_flags(NO_WAIT.bits().cast_signed()).open(path);
    let file = opened.map_err(|error| match is_errno(&error, Errno::NXIO) {
        // Opening a socket fails.
        true => io::Error::other(NotRegular),
        false => error,
    })?;
    let meta = file.metadata()?;
    match meta.file_type() {
        kind if kind.is_file() => Ok((file, meta)),
        kind if kind.is_dir() => Err(Errno::ISDIR.into()),
        _ => Err(io::Error::other(NotRegular)),
    }
}

fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let (file, meta) = open_regular(path)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(usize::try_from(meta.len()).unwrap_or(usize::MAX))?;
    file.take(meta.len()).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a file for reading.
pub fn open(path: &Path) -> Result<File> {
    at("open", path, operation(|| open_regular(path))).map(|(file, _)| file)
}

/// Reads a whole file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    at("read", path, operation(|| read_regular(path)))
}

/// Reads a whole file as UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    let not_utf_8 = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8");
    let read = || String::from_utf8(read_regular(path)?).map_err(not_utf_8);
    at("read", path, operation(read))
}

/// Reads a whole file; `None` if it does not exist.
pub fn read_if_exists(path: &Path) -> Result<Option<Vec<u8>>> {
    at("read", path, if_exists(operation(|| read_regular(path))))
}

/// Reads a whole file; `None` if it does not exist, or is a FIFO, a socket or a device.
pub fn read_if_regular(path: &Path) -> Result<Option<Vec<u8>>> {
    let is_not_regular =
        |error: &io::Error| error.get_ref().is_some_and(|cause| cause.is::<NotRegular>());
    match read_if_exists(path) {
        Err(error) if error.downcast_ref().is_some_and(is_not_regular) => Ok(None),
        read => read,
    }
}

/// A file's metadata; `None` if it does not exist. Links are not followed.
pub fn metadata_if_exists(path: &Path) -> Result<Option<Metadata>> {
    match operation(|| fs::symlink_metadata(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
        meta => at("read the metadata of", path, if_exists(meta)),
    }
}

/// The time of the last change to a file's content, metadata or name.
pub fn changed_at(meta: &Metadata) -> SystemTime {
    let seconds = Duration::from_secs(meta.ctime().unsigned_abs());
    let since = seconds + Duration::from_nanos(meta.ctime_nsec().unsigned_abs());
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{copy, create, hash, list, remove_if_exists, seal, sync, write};

    #[test]
    fn an_error_names_the_path() {
        let error = read(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot read `/nowhere/at/all`: "));
    }

    #[test]
    fn only_regular_files_are_read_and_no_other_kind_blocks() {
        use std::os::unix::{fs::symlink, net::UnixListener};
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, path("fifo"), mode).unwrap();
        let _listener = UnixListener::bind(path("socket")).unwrap();
        symlink("/dev/zero", path("device")).unwrap();
        symlink(path("fifo"), path("link")).unwrap();
        write(&path("file"), "text").unwrap();
        symlink(path("file"), path("good")).unwrap();
        for name in ["link", "fifo", "socket", "device"] {
            let path = path(name);
            let errors = [
                read(&path).map(drop),
                read_text(&path).map(drop),
                read_if_exists(&path).map(drop),
                open(&path).map(drop),
                hash(&path).map(drop),
                sync(&path),
                seal(&path, SystemTime::now()),
                copy(&path, &dir.path().join("copy")),
            ]
            .map(|attempt| format!("{:#}", attempt.unwrap_err()));
            for error in errors {
                let named = error.contains(&format!("`{}`", path.display()));
                assert!(named && error.ends_with(": it is not a regular file"), "{error}");
            }
            assert_eq!(read_if_regular(&path).unwrap(), None);
            create(&path).unwrap();
            assert!(fs::symlink_metadata(&path).unwrap().is_file(), "{name} is replaced");
        }
        assert_eq!(read_text(&path("good")).unwrap(), "text");
        assert!(read_if_regular(dir.path()).is_err(), "a rename cannot replace a folder");
    }

    #[test]
    fn a_missing_file_is_none_and_a_missing_folder_is_empty() {
        let nowhere = Path::new("/nowhere/at/all");
        assert_eq!(list(nowhere).unwrap(), Vec::<String>::new());
        assert_eq!(read_if_exists(nowhere).unwrap(), None);
        remove_if_exists(nowhere).unwrap();
    }
}
