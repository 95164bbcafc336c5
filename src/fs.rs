//! File operations whose errors name the path, and writes that are whole or not there.
//!
//! Only regular files are read, and no more of one than it held when it was opened: a FIFO or a
//! device in the place of a file is an error that names it, and neither blocks the process nor
//! fills its memory.
//!
//! What the engine does to the cache and to reports passes here (but for file locks and heartbeats), and each operation is
//! counted on its way: a test can let the N-th one of a process fail, or end the process there, for every N (see [`arm`]).
//!
//! Knows nothing of caches or stages.

mod lock;
mod witness;

pub use lock::{NoLocks, hold, lock};
pub use witness::{Stat, Witness};

use anyhow::{Context as _, Result};
use rustix::fs::{CWD, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, SystemTime};
use tempfile::{NamedTempFile, TempDir};

/// What becomes of a process's file operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// This one fails, as on a full disk.
    Fail(u64),
    /// Before this one the process dies.
    Die(u64),
    /// None does; but there are no file locks.
    NoLocks,
}

static FAULT: OnceLock<Option<Fault>> = OnceLock::new();
static OPERATIONS: AtomicU64 = AtomicU64::new(0);

/// For tests: `fail:N` lets the N-th file operation of this process fail as on a full disk, `die:N` kills the process
/// before it, `no-locks` lets every file lock fail as on a disk that has none; anything else does nothing. Holds from the first call on.
pub fn arm(fault: &str) {
    let (what, n) = fault.split_once(':').unwrap_or_default();
    let fault = match (what, n.parse()) {
        ("fail", Ok(n)) => Some(Fault::Fail(n)),
        ("die", Ok(n)) => Some(Fault::Die(n)),
        _ => (fault == "no-locks").then_some(Fault::NoLocks),
    };
    let _ = FAULT.set(fault);
}

/// Passed before every operation.
fn step() -> io::Result<()> {
    let n = OPERATIONS.fetch_add(1, Ordering::Relaxed) + 1;
    match FAULT.get().copied().flatten() {
        Some(Fault::Fail(at)) if at == n => Err(Errno::NOSPC.into()),
        Some(Fault::Die(at)) if at == n => {
            let _ = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
            Err(Errno::INTR.into())
        }
        _ => Ok(()),
    }
}

/// Why something that is neither a file nor a folder is not read.
#[derive(Debug, thiserror::Error)]
#[error("it is not a regular file")]
struct NotRegular;

/// Opens a regular file for reading, without waiting for whoever writes to a FIFO. A link is
/// followed.
fn open_regular(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let opened = File::options().read(true).custom_flags(flags).open(path);
    // A socket cannot be opened at all.
    let no_file =
        |e: io::Error| if is_errno(&e, Errno::NXIO) { io::Error::other(NotRegular) } else { e };
    let file = opened.map_err(no_file)?;
    let meta = file.metadata()?;
    match meta.file_type() {
        kind if kind.is_file() => Ok((file, meta)),
        kind if kind.is_dir() => Err(Errno::ISDIR.into()),
        _ => Err(io::Error::other(NotRegular)),
    }
}

fn is_errno(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

fn is_not_regular(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|cause| cause.is::<NotRegular>())
}

fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let (file, meta) = open_regular(path)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(usize::try_from(meta.len()).unwrap_or(usize::MAX))?;
    file.take(meta.len()).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a whole file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    step()
        .and_then(|()| read_regular(path))
        .with_context(|| format!("cannot read `{}`", path.display()))
}

/// Reads a whole file as UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    let not_utf_8 = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8");
    let read = step().and_then(|()| String::from_utf8(read_regular(path)?).map_err(not_utf_8));
    read.with_context(|| format!("cannot read `{}`", path.display()))
}

/// Reads a whole file; `None` if there is none.
pub fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match step().and_then(|()| read_regular(path)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot read `{}`", path.display())),
    }
}

/// Reads a whole file; `None` if there is none, or if a FIFO, a socket or a device is in its place.
pub fn read_if_regular(path: &Path) -> Result<Option<Vec<u8>>> {
    match read_if_there(path) {
        Err(e) if e.downcast_ref().is_some_and(is_not_regular) => Ok(None),
        read => read,
    }
}

/// A file's metadata; `None` if there is none. Links are not followed.
pub fn metadata_if_there(path: &Path) -> Result<Option<Metadata>> {
    match step().and_then(|()| fs::symlink_metadata(path)) {
        Ok(meta) => Ok(Some(meta)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(e) => Err(e).with_context(|| format!("cannot look at `{}`", path.display())),
    }
}

/// A fresh file in `folder`, removed when dropped, with the permissions of any new file: tempfile's own are for its owner
/// alone, and these become the permissions of what others read.
fn temporary_file(folder: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o666)).tempfile_in(folder)
}

/// Writes a file in place: for workspaces, which nobody else sees yet.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    step()
        .and_then(|()| fs::write(path, bytes))
        .with_context(|| format!("cannot write `{}`", path.display()))
}

/// Writes a file so that a reader, or a crash, sees either the old content or the whole new one: a temporary file in
/// `scratch` (on the same disk), synced, then renamed to `path`.
pub fn write_atomic(path: &Path, scratch: &Path, bytes: &[u8]) -> Result<()> {
    let attempt = || -> io::Result<()> {
        let mut file = step().and_then(|()| temporary_file(scratch))?;
        step().and_then(|()| file.write_all(bytes))?;
        step().and_then(|()| file.as_file().sync_all())?;
        step()?;
        file.persist(path)?;
        Ok(())
    };
    attempt().with_context(|| format!("cannot write `{}`", path.display()))
}

/// Writes a file so that a reader sees either the old content or the whole new one. Not synced: a loss of power may take
/// the new content back, or leave the file empty.
pub fn replace(path: &Path, scratch: &Path, bytes: &[u8]) -> Result<()> {
    let attempt = || -> io::Result<()> {
        let mut file = step().and_then(|()| temporary_file(scratch))?;
        step().and_then(|()| file.write_all(bytes))?;
        step()?;
        file.persist(path)?;
        Ok(())
    };
    attempt().with_context(|| format!("cannot write `{}`", path.display()))
}

/// Writes a file that must not be there yet, as [`write_atomic`] does; gives whether it was not.
pub fn write_new(path: &Path, scratch: &Path, bytes: &[u8]) -> Result<bool> {
    let attempt = || -> io::Result<bool> {
        let mut file = step().and_then(|()| temporary_file(scratch))?;
        step().and_then(|()| file.write_all(bytes))?;
        step()?;
        match file.persist_noclobber(path) {
            Ok(_) => Ok(true),
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e.error),
        }
    };
    attempt().with_context(|| format!("cannot write `{}`", path.display()))
}

/// Writes a file for people as [`write_atomic`] does.
pub fn write_for_people(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    write_atomic(path, folder, bytes)
}

/// Makes a folder and those above it.
pub fn create_dir_all(path: &Path) -> Result<()> {
    step()
        .and_then(|()| fs::create_dir_all(path))
        .with_context(|| format!("cannot create the folder `{}`", path.display()))
}

/// Opens a file for reading.
pub fn open(path: &Path) -> Result<File> {
    let opened = step().and_then(|()| open_regular(path));
    opened.map(|(file, _)| file).with_context(|| format!("cannot open `{}`", path.display()))
}

/// Creates or empties a file for writing. What is no regular file makes way for it: a link may lead
/// to somebody else's file, and to open a FIFO may block.
pub fn create(path: &Path) -> Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let mut options = File::options();
    options.write(true).create(true).truncate(true).custom_flags(flags);
    let attempt = || {
        if fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir()) {
            fs::remove_file(path)?;
        }
        options.open(path)
    };
    step().and_then(|()| attempt()).with_context(|| format!("cannot create `{}`", path.display()))
}

/// Creates a file for writing that must not be there yet; `None` if it is.
pub fn create_new(path: &Path) -> Result<Option<File>> {
    match step().and_then(|()| File::create_new(path)) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot create `{}`", path.display())),
    }
}

/// Opens a file for writing at its end, as it is or made empty.
pub fn append(path: &Path) -> Result<File> {
    let opened = step().and_then(|()| File::options().append(true).create(true).open(path));
    opened.with_context(|| format!("cannot open `{}`", path.display()))
}

/// Opens a file for reading and writing, as it is or made empty; for reading alone, if it is another user's.
pub fn open_or_create(path: &Path) -> Result<File> {
    let attempt = || {
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
        let mut options = File::options();
        options.create(true).truncate(false).read(true).write(true).custom_flags(flags);
        match options.open(path) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                Ok(open_regular(path).map_err(|_| e)?.0)
            }
            Ok(file) if !file.metadata()?.is_file() => Err(io::Error::other(NotRegular)),
            opened => opened,
        }
    };
    step().and_then(|()| attempt()).with_context(|| format!("cannot open `{}`", path.display()))
}

/// Renames `from` to `to`, replacing what is there.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    step()
        .and_then(|()| fs::rename(from, to))
        .with_context(|| format!("cannot move `{}` to `{}`", from.display(), to.display()))
}

/// Gives the file at `from` a second name. Links are not followed.
pub fn link(from: &Path, to: &Path) -> Result<()> {
    let linked = step().and_then(|()| fs::hard_link(from, to));
    linked.with_context(|| format!("cannot link `{}` to `{}`", to.display(), from.display()))
}

/// Gives the file at `from` the name `to` besides, which must not be there yet, as [`link`] does; gives whether it was not.
pub fn link_new(from: &Path, to: &Path) -> Result<bool> {
    match step().and_then(|()| fs::hard_link(from, to)) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e)
            .with_context(|| format!("cannot link `{}` to `{}`", to.display(), from.display())),
    }
}

/// Moves a file to `to`, where none is, with these permissions, if it is wholly ours: another user's, or one that has
/// another name, stays. Gives whether it was moved.
pub fn move_ours(from: &Path, to: &Path, mode: u32) -> Result<bool> {
    let attempt = || -> io::Result<bool> {
        let meta = fs::symlink_metadata(from)?;
        let ours = meta.is_file()
            && meta.nlink() == 1
            && meta.uid() == rustix::process::geteuid().as_raw();
        if !ours {
            return Ok(false);
        }
        if meta.mode() & 0o7777 != mode {
            fs::set_permissions(from, fs::Permissions::from_mode(mode))?;
        }
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // Of another disk, that was mounted there; or one that knows no such rename.
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS) => Ok(false),
            renamed => Ok(renamed.map(|()| true)?),
        }
    };
    let moved = step().and_then(|()| attempt());
    moved.with_context(|| format!("cannot move `{}` to `{}`", from.display(), to.display()))
}

/// Removes a file; that it is not there is no error.
pub fn remove_if_there(path: &Path) -> Result<()> {
    match step().and_then(|()| fs::remove_file(path)) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e).with_context(|| format!("cannot remove `{}`", path.display())),
    }
}

/// Removes a folder with all that is in it, read-only folders too; that it is not there is no error.
pub fn remove_folder_if_there(path: &Path) -> Result<()> {
    match step().and_then(|()| remove_tree(path)) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e).with_context(|| format!("cannot remove `{}`", path.display())),
    }
}

/// Lets the owner of the folders in and below `folder` do anything there. Links are not followed.
fn open_up(folder: &Path) -> io::Result<()> {
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        let meta = fs::symlink_metadata(&folder)?;
        if !meta.is_dir() {
            continue;
        }
        let mode = meta.permissions().mode();
        if mode & 0o700 != 0o700 {
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode | 0o700))?;
        }
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Ok(())
}

/// An empty folder at `path`, whatever is there now. One that is there, empty, and as `like` says is kept. Gives its
/// metadata.
pub fn fresh_folder(path: &Path, like: Option<&Metadata>) -> Result<Metadata> {
    let attempt = || -> io::Result<Metadata> {
        let same = |meta: &Metadata| {
            like.is_some_and(|like| (like.ino(), like.mode()) == (meta.ino(), meta.mode()))
        };
        match fs::symlink_metadata(path) {
            Ok(meta) if same(&meta) && fs::read_dir(path)?.next().is_none() => return Ok(meta),
            Ok(meta) if meta.is_dir() => remove_tree(path)?,
            Ok(_) => fs::remove_file(path)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        fs::create_dir(path)?;
        fs::symlink_metadata(path)
    };
    step()
        .and_then(|()| attempt())
        .with_context(|| format!("cannot make the folder `{}`", path.display()))
}

/// Removes a folder with all that is in it, read-only folders too.
fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        removed => removed,
    }
}

/// The names in a folder, sorted, whatever bytes they are of.
pub fn entries(path: &Path) -> Result<Vec<OsString>> {
    let read = || {
        step()
            .and_then(|()| fs::read_dir(path))?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<_>>>()
    };
    let mut names = read().with_context(|| format!("cannot list `{}`", path.display()))?;
    names.sort_unstable();
    Ok(names)
}

/// Hands a file's bytes to the disk.
pub fn sync(path: &Path) -> Result<()> {
    let synced = step().and_then(|()| open_regular(path)?.0.sync_all());
    synced.with_context(|| format!("cannot sync `{}`", path.display()))
}

/// Hands everything to the disk that was written to the file system of `folder`.
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
    step()
        .and_then(|()| attempt())
        .with_context(|| format!("cannot sync the disk of `{}`", folder.display()))
}

/// When anything about a file was last changed, its name too.
pub fn changed(meta: &Metadata) -> SystemTime {
    let seconds = Duration::from_secs(meta.ctime().unsigned_abs());
    let since = seconds + Duration::from_nanos(meta.ctime_nsec().unsigned_abs());
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Sets a file's modification time to now.
pub fn touch(path: &Path) -> Result<()> {
    let touched = step().and_then(|()| open_regular(path)?.0.set_modified(SystemTime::now()));
    touched.with_context(|| format!("cannot touch `{}`", path.display()))
}

/// Makes a file read-only, for all whom the umask lets read new files, and not executable; sets its modification time.
pub fn seal(path: &Path, modified: SystemTime) -> Result<()> {
    let attempt = || {
        let (file, _) = open_regular(path)?;
        file.set_modified(modified)?;
        file.set_permissions(fs::Permissions::from_mode(0o444 & !umask()))
    };
    step().and_then(|()| attempt()).with_context(|| format!("cannot seal `{}`", path.display()))
}

/// The permissions that new files do not get; the usual ones where the system does not tell.
fn umask() -> u32 {
    static UMASK: LazyLock<u32> = LazyLock::new(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        mask.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o022)
    });
    *UMASK
}

/// Whether nothing more can be written to the disk that `path` lies on. Some disks do not tell: all their numbers are 0.
pub fn is_full(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|disk| disk.f_blocks > 0 && disk.f_bavail == 0)
}

/// A fresh folder in `folder`, removed when dropped.
pub fn temporary_folder(folder: &Path) -> Result<TempDir> {
    let new = || {
        tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o777)).tempdir_in(folder)
    };
    let made = step().and_then(|()| new());
    made.with_context(|| format!("cannot make a workspace in `{}`", folder.display()))
}

/// How many bytes are hashed at once: enough for all cores, which wait for each other then.
const PIECE: u64 = 16 << 20;

/// BLAKE3 of a file of any size, on all cores where it is large. The file is read, not mapped: of a
/// map, bytes that cannot be read or are gone meanwhile end the process by a signal.
pub fn hash(path: &Path) -> Result<blake3::Hash> {
    let attempt = || {
        let (file, meta) = open_regular(path)?;
        hash_all(file, meta.len())
    };
    step().and_then(|()| attempt()).with_context(|| format!("cannot read `{}`", path.display()))
}

/// BLAKE3 of the first `length` bytes, which must be there.
fn hash_all(mut bytes: impl io::Read, length: u64) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut piece = Vec::new();
    while hasher.count() < length {
        piece.clear();
        bytes.by_ref().take(PIECE.min(length - hasher.count())).read_to_end(&mut piece)?;
        if piece.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it was cut short meanwhile"));
        }
        if piece.len() >= LARGE && has_thread_pool() {
            hasher.update_rayon(&piece);
        } else {
            hasher.update(&piece);
        }
    }
    Ok(hasher.finalize())
}

/// From how many bytes on it pays to hash on all cores.
const LARGE: usize = 1 << 20;

/// Whether there is a pool of threads, which is made at the first call. rayon makes one by itself, but
/// panics where the system has no threads for it.
pub fn has_thread_pool() -> bool {
    static IS_MADE: LazyLock<bool> =
        LazyLock::new(|| rayon::ThreadPoolBuilder::new().build_global().is_ok());
    *IS_MADE
}

/// Whether the owner of a file may run it.
pub fn is_executable(meta: &Metadata) -> bool {
    meta.permissions().mode() & 0o100 != 0
}

/// Lets everyone who may read a file run it, or nobody.
pub fn set_executable(path: &Path, executable: bool) -> Result<()> {
    let attempt = || {
        let mode = fs::metadata(path)?.permissions().mode();
        let set = if executable { mode | ((mode & 0o444) >> 2) } else { mode & !0o111 };
        if set == mode {
            Ok(())
        } else {
            fs::set_permissions(path, fs::Permissions::from_mode(set))
        }
    };
    step()
        .and_then(|()| attempt())
        .with_context(|| format!("cannot set the permissions of `{}`", path.display()))
}

/// Copies a file's bytes to `to`, with these permissions whatever the umask. Refused if `to` is there already: a disk that
/// ignores case, or the form of accents, takes two names for one, and the second file would replace the first.
pub fn copy_new(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let attempt = || {
        let (source, meta) = open_regular(from)?;
        let mut target = File::create_new(to)?;
        io::copy(&mut source.take(meta.len()), &mut target)?;
        target.set_permissions(fs::Permissions::from_mode(mode))
    };
    step()
        .and_then(|()| attempt())
        .with_context(|| format!("cannot copy `{}` to `{}`", from.display(), to.display()))
}

/// Copies a file's bytes and permissions to `to`, which is made or replaced.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let attempt = || {
        let (file, meta) = open_regular(from)?;
        let mut copy = File::create(to)?;
        io::copy(&mut file.take(meta.len()), &mut copy)?;
        copy.set_permissions(meta.permissions())
    };
    step()
        .and_then(|()| attempt())
        .with_context(|| format!("cannot copy `{}` to `{}`", from.display(), to.display()))
}

/// The names in a folder, sorted; none if the folder is not there. Names that are not UTF-8 are not ours and are left out.
pub fn list(path: &Path) -> Result<Vec<String>> {
    let entries = match step().and_then(|()| fs::read_dir(path)) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("cannot list `{}`", path.display())),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list `{}`", path.display()))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

/// The bytes of the files in a folder and those below it. Links are not followed.
pub fn size_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for name in entries(folder)? {
        let path = folder.join(name);
        bytes += match metadata_if_there(&path)? {
            Some(meta) if meta.is_dir() => size_below(&path)?,
            Some(meta) => meta.len(),
            None => 0,
        };
    }
    Ok(bytes)
}

/// What lies in a folder and those below it, by paths from there, sorted folder by folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Below {
    /// The files.
    pub files: Vec<String>,
    /// The folders with nothing in them; a slash ends each name.
    pub empty_folders: Vec<String>,
    /// What else there is, a link say, and what is wrong with it. In a name that is not UTF-8 some of it is replaced.
    pub others: Vec<(String, &'static str)>,
}

/// Looks through a folder and those below it, except at the paths `but`.
pub fn below(folder: &Path, but: &[&str]) -> Result<Below> {
    fn walk(folder: &Path, prefix: &str, but: &[&str], found: &mut Below) -> Result<()> {
        let names = entries(folder)?;
        if names.is_empty() && !prefix.is_empty() {
            found.empty_folders.push(prefix.to_owned());
        }
        for name in names {
            let path = folder.join(&name);
            let relative = format!("{prefix}{}", name.to_string_lossy());
            if but.contains(&relative.as_str()) {
                continue;
            }
            if name.to_str().is_none() {
                found.others.push((relative, "has a name that is not UTF-8"));
                continue;
            }
            let meta = fs::symlink_metadata(&path)
                .with_context(|| format!("cannot read `{}`", path.display()))?;
            match meta {
                meta if meta.is_dir() => walk(&path, &format!("{relative}/"), but, found)?,
                meta if meta.is_file() => found.files.push(relative),
                _ => found.others.push((relative, "is neither a file nor a folder")),
            }
        }
        Ok(())
    }
    let mut found = Below::default();
    walk(folder, "", but, &mut found)?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_replaces_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        write(&from, "bytes").unwrap();
        copy_new(&from, &to, 0o555).unwrap();
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o555);
        let error = copy_new(&from, &to, 0o555).unwrap_err();
        assert!(error.to_string().starts_with("cannot copy `"), "{error}");
    }

    #[test]
    fn who_may_read_a_file_may_run_it_once_it_is_executable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write(&path, "").unwrap();
        for (before, executable, after) in [
            (0o640, true, 0o750),
            (0o444, true, 0o555),
            (0o755, false, 0o644),
            (0o600, false, 0o600),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(before)).unwrap();
            set_executable(&path, executable).unwrap();
            let meta = fs::metadata(&path).unwrap();
            assert_eq!(
                (meta.permissions().mode() & 0o777, is_executable(&meta)),
                (after, executable)
            );
        }
    }

    #[test]
    fn a_file_is_hashed_as_its_bytes_are_whatever_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for size in [0, 1, PIECE as usize, PIECE as usize + 1, 3 * PIECE as usize] {
            let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            fs::write(&path, &bytes).unwrap();
            assert_eq!(hash(&path).unwrap(), blake3::hash(&bytes), "{size}");
        }
    }

    #[test]
    fn what_cannot_be_read_or_is_cut_short_while_it_is_hashed_is_an_error() {
        struct Broken;
        impl io::Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(Errno::IO.into())
            }
        }
        let begins = || io::repeat(b'x').take(PIECE);
        assert!(hash_all(begins(), PIECE).is_ok());
        let cut = hash_all(begins(), PIECE + 1).unwrap_err();
        assert_eq!(cut.to_string(), "it was cut short meanwhile");
        let broken = hash_all(begins().chain(Broken), 2 * PIECE).unwrap_err();
        assert!(is_errno(&broken, Errno::IO));
    }

    #[test]
    fn a_file_that_others_cut_short_all_the_time_is_hashed_without_a_signal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, vec![b'x'; 8 << 20]).unwrap();
        let writer = File::options().write(true).open(&path).unwrap();
        let cutter = std::thread::spawn(move || {
            for _ in 0..200 {
                writer.set_len(1).unwrap();
                writer.set_len(8 << 20).unwrap();
            }
        });
        while !cutter.is_finished() {
            if let Err(error) = hash(&path) {
                assert!(format!("{error:#}").starts_with("cannot read `"), "{error:#}");
            }
        }
        cutter.join().unwrap();
    }

    #[test]
    fn an_error_names_the_path() {
        let error = read(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot read `/nowhere/at/all`: "));
    }

    #[test]
    fn nothing_but_a_regular_file_is_read_or_waited_for() {
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
                read_if_there(&path).map(drop),
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
            assert!(fs::symlink_metadata(&path).unwrap().is_file(), "{name} makes way");
        }
        assert_eq!(read_text(&path("good")).unwrap(), "text");
        assert!(
            read_if_regular(dir.path()).is_err(),
            "a folder is not what a rename could replace"
        );
    }

    #[test]
    fn an_atomic_write_replaces_the_file_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (path, scratch) = (dir.path().join("file"), dir.path().join("scratch"));
        create_dir_all(&scratch).unwrap();
        write_atomic(&path, &scratch, b"old").unwrap();
        write_atomic(&path, &scratch, b"new").unwrap();
        assert_eq!(read(&path).unwrap(), b"new");
        assert_eq!(list(&scratch).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_there_is_an_empty_answer() {
        let nowhere = Path::new("/nowhere/at/all");
        assert_eq!(list(nowhere).unwrap(), Vec::<String>::new());
        assert_eq!(read_if_there(nowhere).unwrap(), None);
        remove_if_there(nowhere).unwrap();
    }

    #[test]
    fn opening_a_tree_up_lets_its_owner_into_every_folder_and_changes_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode() & 0o777;
        let modes = [
            ("tree/a/b/file", 0o400),
            ("tree/a/b", 0o000),
            ("tree/a", 0o555),
            ("tree/c", 0o750),
            ("out", 0o500),
        ];
        fs::create_dir_all(path("tree/a/b")).unwrap();
        fs::create_dir_all(path("tree/c")).unwrap();
        fs::create_dir_all(path("out")).unwrap();
        fs::write(path("tree/a/b/file"), "").unwrap();
        std::os::unix::fs::symlink(path("out"), path("tree/link")).unwrap();
        for (name, mode) in modes {
            fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        open_up(&path("tree")).unwrap();
        let after = ["tree/a/b/file", "tree/a/b", "tree/a", "tree/c", "out"].map(mode);
        assert_eq!(after, [0o400, 0o700, 0o755, 0o750, 0o500]);
        remove_folder_if_there(&path("tree")).unwrap();
        assert!(!path("tree").exists() && path("out").exists());
    }

    #[test]
    fn what_is_no_file_of_ours_below_a_folder_is_told_apart_and_why() {
        use std::os::unix::{ffi::OsStrExt as _, fs::symlink};
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &[u8]| dir.path().join(std::ffi::OsStr::from_bytes(name));
        for folder in [&b"a"[..], b"b", b"\xff", b"a/empty", b"b/empty"] {
            fs::create_dir(path(folder)).unwrap();
        }
        for file in [&b"a/deep"[..], b"a/\xfe.csv", b"b/given", b"last", b"\xff/lost"] {
            fs::write(path(file), "").unwrap();
        }
        symlink("last", path(b"a/link")).unwrap();
        symlink("a", path(b"link")).unwrap();
        let [special, foreign] = ["is neither a file nor a folder", "has a name that is not UTF-8"];
        let others = [
            ("a/link", special),
            ("a/\u{fffd}.csv", foreign),
            ("link", special),
            ("\u{fffd}", foreign),
        ];
        let others = others.map(|(name, why)| (name.to_owned(), why)).into();
        let files = ["a/deep", "last"].map(str::to_owned).into();
        let empty_folders = vec!["a/empty/".to_owned()];
        assert_eq!(below(dir.path(), &["b"]).unwrap(), Below { files, empty_folders, others });
    }
}
