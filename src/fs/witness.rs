//! Recognizing unchanged files by their metadata.

use serde::{Deserialize, Serialize};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

/// The metadata that identifies an unchanged file. Times are in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stat {
    /// The mount of the file; 0 is the file system of the index itself.
    mount: u64,
    inode: u64,
    size: u64,
    mtime: i128,
    ctime: i128,
}

/// Recognizes unchanged files by their metadata, for an index of files that were read before.
///
/// Equal [`Stat`]s mean equal bytes under three conditions:
///
/// - **The mount is the same.** Another image mounted in its place may have equal inodes and times.
///   On the file system of the index, mounts are not compared: another file system there has
///   another index. On other file systems, the kernel must number mounts without reuse (Linux 6.8);
///   otherwise no file is recognized.
/// - **The file system updates the times.** On Linux, ext2 to ext4, XFS, Btrfs and F2FS update both
///   times on every write, and on the first write to each clean page of a memory map. Other file
///   systems are not trusted, and their files are read each time: tmpfs updates the times only at
///   the first write to a page, network file systems and FUSE report times late, FAT rounds them,
///   and an overlay depends on the file system below it.
/// - **The times are old enough.** Further writes through a memory map leave no trace until the
///   kernel has written the page to disk. Linux does so [`dirty_expire_centisecs`] later, give or
///   take [`dirty_writeback_centisecs`]. The witness waits twice as long, because the write takes
///   time too: 70 s with the default settings.
///
/// [`dirty_expire_centisecs`]:
/// https://docs.kernel.org/admin-guide/sysctl/vm.html#dirty-expire-centisecs
/// [`dirty_writeback_centisecs`]:
/// https://docs.kernel.org/admin-guide/sysctl/vm.html#dirty-writeback-centisecs
#[derive(Clone, Copy, Debug)]
pub struct Witness {
    /// The device of the index.
    home: Option<u64>,
    settling: Option<Duration>,
    updates_times: fn(&Path) -> bool,
}

impl Default for Witness {
    /// A witness that recognizes no file.
    fn default() -> Witness {
        Witness { home: None, settling: None, updates_times }
    }
}

impl Witness {
    /// The witness for an index in `folder`, which may not exist yet.
    pub fn at(folder: &Path) -> Witness {
        let home =
            folder.ancestors().find_map(|folder| fs::metadata(folder).ok()).map(|meta| meta.dev());
        let setting = |name: &str| fs::read_to_string(format!("/proc/sys/vm/{name}")).ok();
        let settling =
            settling(setting("dirty_expire_centisecs"), setting("dirty_writeback_centisecs"));
        Witness { home, settling, ..Witness::default() }
    }

    /// A witness that trusts every file system, without waiting.
    #[cfg(test)]
    pub(crate) fn trusting(folder: &Path) -> Witness {
        Witness { settling: Some(Duration::ZERO), updates_times: |_| true, ..Witness::at(folder) }
    }

    /// The age from which the times of a file are trusted; `None` if they never are.
    pub fn settling(&self) -> Option<Duration> {
        self.settling
    }

    /// The [`Stat`] of the file at `path`, which has this metadata; `None` if it cannot be
    /// recognized.
    pub fn stat(&self, path: &Path, meta: &Metadata) -> Option<Stat> {
        let mount = if self.home == Some(meta.dev()) { 0 } else { mount(path)? };
        let nanoseconds =
            |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        let (inode, size) = (meta.ino(), meta.size());
        let mtime = nanoseconds(meta.mtime(), meta.mtime_nsec());
        let ctime = nanoseconds(meta.ctime(), meta.ctime_nsec());
        meta.is_file().then_some(Stat { mount, inode, size, mtime, ctime })
    }

    /// Whether every change to the file at `path` from `now` on will change its `stat`.
    pub fn trusts(&self, path: &Path, stat: &Stat, now: SystemTime) -> bool {
        self.settling.is_some_and(|settling| stat.is_older(settling, now))
            && (self.updates_times)(path)
    }
}

impl Stat {
    /// Whether both times are at least `age` before `now`.
    fn is_older(&self, age: Duration, now: SystemTime) -> bool {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let last = self.mtime.max(self.ctime) + age.as_nanos() as i128;
        i128::try_from(now.as_nanos()).is_ok_and(|now| last <= now)
    }
}

/// The coarsest resolution of file times.
const GRANULARITY: Duration = Duration::from_secs(2);

/// The longest time that a dirty page may stay in memory, from the two kernel settings, or from
/// their defaults if they cannot be read; `None` if there is no limit.
fn settling(expire: Option<String>, writeback: Option<String>) -> Option<Duration> {
    let centisecs = |setting: Option<String>, default| match setting {
        Some(text) => text.trim().parse().ok(),
        None => Some(default),
    };
    let (expire, writeback): (u64, u64) = (centisecs(expire, 3_000)?, centisecs(writeback, 500)?);
    let wait = expire.checked_add(writeback)?.checked_mul(2 * 10).map(Duration::from_millis)?;
    (writeback > 0).then_some(wait.max(GRANULARITY))
}

/// Whether the file system of `path` updates the times of a file whenever its bytes change.
#[cfg(target_os = "linux")]
fn updates_times(path: &Path) -> bool {
    /// ext2 to ext4, XFS, Btrfs, F2FS, by the kernel's numbers.
    const TRUSTED: [u32; 4] = [0xEF53, 0x5846_5342, 0x9123_683E, 0xF2F5_2010];
    rustix::fs::statfs(path).is_ok_and(|disk| TRUSTED.contains(&(disk.f_type as u32)))
}

#[cfg(not(target_os = "linux"))]
fn updates_times(_: &Path) -> bool {
    false
}

/// A number of the mount that is never reused; `None` if the kernel has none.
#[cfg(target_os = "linux")]
fn mount(path: &Path) -> Option<u64> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    /// `STATX_MNT_ID_UNIQUE`: unlike `STATX_MNT_ID`, not reused before the next boot.
    const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    let found = statx(CWD, path, AtFlags::empty(), UNIQUE).ok()?;
    if found.stx_mask & UNIQUE.bits() == 0 {
        return None;
    }
    let boot =
        BOOT.get_or_init(|| fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()).as_ref()?;
    let hash = blake3::hash(format!("{boot} {}", found.stx_mnt_id).as_bytes());
    hash.as_bytes().first_chunk().map(|first| u64::from_le_bytes(*first))
}

#[cfg(not(target_os = "linux"))]
fn mount(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::super::write;
    use super::*;

    #[test]
    fn times_are_trusted_once_both_are_older_than_the_settling_time() {
        let second = 1_000_000_000;
        let is_older = |mtime: i128, ctime: i128, age: u64, now: u64| {
            let stat =
                Stat { mount: 0, inode: 1, size: 1, mtime: mtime * second, ctime: ctime * second };
            stat.is_older(
                Duration::from_secs(age),
                SystemTime::UNIX_EPOCH + Duration::from_secs(now),
            )
        };
        assert!(is_older(30, 30, 70, 100) && is_older(-5, 0, 70, 100));
        for (mtime, ctime) in [(31, 1), (1, 31), (100, 100), (200, 1)] {
            assert!(!is_older(mtime, ctime, 70, 100), "{mtime} {ctime}");
        }
        assert!(!is_older(30, 30, 70, 0), "the clock was set back");
    }

    #[test]
    fn the_settling_time_follows_from_the_kernel_settings() {
        let of =
            |expire: &str, writeback: &str| settling(Some(expire.into()), Some(writeback.into()));
        assert_eq!(settling(None, None), Some(Duration::from_secs(70)));
        assert_eq!(of("3000\n", "500\n"), Some(Duration::from_secs(70)));
        assert_eq!(of("6000", "6000"), Some(Duration::from_secs(240)), "a laptop on battery");
        assert_eq!(of("1", "1"), Some(GRANULARITY), "not below the resolution of file times");
        for never in [("3000", "0"), ("", "500"), ("x", "500"), ("18446744073709551615", "500")] {
            assert_eq!(of(never.0, never.1), None, "{never:?}");
        }
    }

    #[test]
    fn only_regular_files_are_recognized_by_mount_inode_size_and_times() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write(&path, "bytes").unwrap();
        let stat =
            |witness: &Witness, path: &Path| witness.stat(path, &fs::metadata(path).unwrap());
        let home = Witness::trusting(dir.path());
        let known = stat(&home, &path).unwrap();
        assert_eq!(stat(&home, &path), Some(known));
        assert_eq!(stat(&Witness::trusting(&dir.path().join("not/yet")), &path), Some(known));
        let far = stat(&Witness { home: None, ..home }, &path);
        assert!(far != Some(known), "another file system is identified by its mount");
        assert_eq!(stat(&Witness { home: None, ..home }, &path), far);
        assert_eq!(stat(&home, dir.path()), None);
        assert!(home.trusts(&path, &known, SystemTime::now() + Duration::from_secs(1)));
        assert!(!Witness { updates_times: |_| false, ..home }.trusts(
            &path,
            &known,
            SystemTime::now()
        ));
        assert!(!Witness::at(dir.path()).trusts(&path, &known, SystemTime::now()), "just written");
        write(&path, "others").unwrap();
        assert_ne!(stat(&home, &path), Some(known));
    }
}
