//! Permissions of files.

use super::read::open_regular;
use super::{at, operation};
use anyhow::Result;
use std::fs::{self, Metadata, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::LazyLock;
use std::time::SystemTime;

/// Makes a file read-only and not executable, readable for the users that the umask allows, and
/// sets its modification time.
pub fn seal(path: &Path, modified: SystemTime) -> Result<()> {
    let sealed = operation(|| {
        let (file, _) = open_regular(path)?;
        file.set_modified(modified)?;
        file.set_permissions(Permissions::from_mode(0o444 & !umask()))
    });
    at("seal", path, sealed)
}

/// The umask of the process, or the usual one if the system does not report it. Not read with
/// `umask(2)`, which would change the umask for a moment.
fn umask() -> u32 {
    static UMASK: LazyLock<u32> = LazyLock::new(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        mask.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o022)
    });
    *UMASK
}

/// Whether the owner of a file may execute it.
pub fn is_executable(meta: &Metadata) -> bool {
    meta.permissions().mode() & 0o100 != 0
}

/// Makes a file executable for all users who may read it, or for no user.
pub fn set_executable(path: &Path, executable: bool) -> Result<()> {
    let set = operation(|| {
        let mode = fs::metadata(path)?.permissions().mode();
        let new_mode = if executable { mode | ((mode & 0o444) >> 2) } else { mode & !0o111 };
        match new_mode == mode {
            true => Ok(()),
            false => fs::set_permissions(path, Permissions::from_mode(new_mode)),
        }
    });
    at("set the permissions of", path, set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_who_may_read_a_file_may_execute_it_once_it_is_executable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        for (before, executable, after) in [
            (0o640, true, 0o750),
            (0o444, true, 0o555),
            (0o755, false, 0o644),
            (0o600, false, 0o600),
        ] {
            fs::set_permissions(&path, Permissions::from_mode(before)).unwrap();
            set_executable(&path, executable).unwrap();
            let meta = fs::metadata(&path).unwrap();
            let found = (meta.permissions().mode() & 0o777, is_executable(&meta));
            assert_eq!(found, (after, executable));
        }
    }
}
