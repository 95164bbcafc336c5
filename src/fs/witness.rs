//! What tells a file from what it was, without its bytes.

use serde::{Deserialize, Serialize};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

/// What tells a file from what it was, short of its bytes. Times in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stat {
    /// The mount that the file is on; 0 is the file system of the index itself.
    mount: u64,
    inode: u64,
    size: u64,
    mtime: i128,
    ctime: i128,
}

/// Recognizes unchanged files without reading them, for an index of what was read of them.
///
/// Equal [`Stat`]s mean equal bytes under three conditions:
///
/// - **The mount is the same.** Another image mounted in place may have equal inodes and times. On the file system of the
///   index itself no mount is compared: whatever replaces that file system replaces the index too. Elsewhere the kernel must
///   give mounts numbers that it never uses again (Linux 6.8); without such a number a file is not recognized.
/// - **The file system moves the times.** Of those that Linux has, ext2 to ext4, XFS, Btrfs and F2FS update both times of a
///   file on every write, and through a memory map on the first write to each page that the disk has. Others are not
///   trusted: tmpfs does so for the first write to a page in memory only, network file systems and FUSE report times late,
///   FAT rounds them, an overlay is as good as what is below it. Their files are read each time.
/// - **The times have settled.** Further writes through a memory map leave no trace until the kernel has written the page to
///   disk. Linux does so [`dirty_expire_centisecs`] later, give or take [`dirty_writeback_centisecs`]; twice that is waited
///   for, since the disk takes its time too: 70 s, unless the machine is set up otherwise.
///
/// [`dirty_expire_centisecs`]: https://docs.kernel.org/admin-guide/sysctl/vm.html#dirty-expire-centisecs
/// [`dirty_writeback_centisecs`]: https://docs.kernel.org/admin-guide/sysctl/vm.html#dirty-writeback-centisecs
#[derive(Clone, Copy, Debug)]
pub struct Witness {
    /// The device of the index.
    home: Option<u64>,
    settling: Option<Duration>,
    keeps_times: fn(&Path) -> bool,
}

impl Default for Witness {
    /// Recognizes nothing.
    fn default() -> Witness {
        Witness { home: None, settling: None, keeps_times }
    }
}

impl Witness {
    /// For an index that is, or is going to be, in `folder`.
    pub fn at(folder: &Path) -> Witness {
        let home =
            folder.ancestors().find_map(|folder| fs::metadata(folder).ok()).map(|meta| meta.dev());
        let setting = |name: &str| fs::read_to_string(format!("/proc/sys/vm/{name}")).ok();
        let settling =
            settling(setting("dirty_expire_centisecs"), setting("dirty_writeback_centisecs"));
        Witness { home, settling, ..Witness::default() }
    }

    /// One that trusts every file system at once.
    #[cfg(test)]
    pub(crate) fn trusting(folder: &Path) -> Witness {
        Witness { settling: Some(Duration::ZERO), keeps_times: |_| true, ..Witness::at(folder) }
    }

    /// How old the times of a file are when it has settled; `None` if no age is enough.
    pub fn settling(&self) -> Option<Duration> {
        self.settling
    }

    /// What tells the file at `path`, which has these metadata, from what it was; `None` if nothing does.
    pub fn stat(&self, path: &Path, meta: &Metadata) -> Option<Stat> {
        let mount = if self.home == Some(meta.dev()) { 0 } else { mount(path)? };
        let nanoseconds =
            |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        let (inode, size) = (meta.ino(), meta.size());
        let mtime = nanoseconds(meta.mtime(), meta.mtime_nsec());
        let ctime = nanoseconds(meta.ctime(), meta.ctime_nsec());
        meta.is_file().then_some(Stat { mount, inode, size, mtime, ctime })
    }

    /// Whether every change at `now` or later to the file at `path`, which is `stat`, makes another [`Stat`] of it.
    pub fn trusts(&self, path: &Path, stat: &Stat, now: SystemTime) -> bool {
        self.settling.is_some_and(|settling| stat.is_older(settling, now))
            && (self.keeps_times)(path)
    }
}

impl Stat {
    /// Whether both times were at least `age` ago.
    fn is_older(&self, age: Duration, now: SystemTime) -> bool {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let last = self.mtime.max(self.ctime) + age.as_nanos() as i128;
        i128::try_from(now.as_nanos()).is_ok_and(|now| last <= now)
    }
}

/// How coarse the times of files may be.
const GRANULARITY: Duration = Duration::from_secs(2);

/// How long a page may wait for the disk, from the kernel's two settings, at their defaults where they cannot be read;
/// `None` if pages may wait for ever.
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
fn keeps_times(path: &Path) -> bool {
    /// ext2 to ext4, XFS, Btrfs, F2FS, by the kernel's numbers.
    const TRUSTED: [u32; 4] = [0xEF53, 0x5846_5342, 0x9123_683E, 0xF2F5_2010];
    rustix::fs::statfs(path).is_ok_and(|disk| TRUSTED.contains(&(disk.f_type as u32)))
}

#[cfg(not(target_os = "linux"))]
fn keeps_times(_: &Path) -> bool {
    false
}

/// A number that this machine gives to no other mount; `None` if the kernel has no such numbers.
#[cfg(target_os = "linux")]
fn mount(path: &Path) -> Option<u64> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    /// `STATX_MNT_ID_UNIQUE`: unlike `STATX_MNT_ID`, never used again before the next boot.
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
    fn times_are_trusted_only_when_both_lie_longer_back_than_a_page_waits_for_the_disk() {
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
        assert!(!is_older(30, 30, 70, 0), "a clock that was set back");
    }

    #[test]
    fn a_page_waits_for_the_disk_as_long_as_the_machine_is_set_up_to_let_it() {
        let of =
            |expire: &str, writeback: &str| settling(Some(expire.into()), Some(writeback.into()));
        assert_eq!(settling(None, None), Some(Duration::from_secs(70)));
        assert_eq!(of("3000\n", "500\n"), Some(Duration::from_secs(70)));
        assert_eq!(of("6000", "6000"), Some(Duration::from_secs(240)), "a laptop on battery");
        assert_eq!(of("1", "1"), Some(GRANULARITY), "no less than times are coarse");
        for never in [("3000", "0"), ("", "500"), ("x", "500"), ("18446744073709551615", "500")] {
            assert_eq!(of(never.0, never.1), None, "{never:?}");
        }
    }

    #[test]
    fn a_file_is_recognized_by_its_mount_inode_size_and_times_and_nothing_but_a_file_is() {
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
        assert!(far != Some(known), "from another file system it is known by its mount, if at all");
        assert_eq!(stat(&Witness { home: None, ..home }, &path), far);
        assert_eq!(stat(&home, dir.path()), None);
        assert!(home.trusts(&path, &known, SystemTime::now() + Duration::from_secs(1)));
        assert!(!Witness { keeps_times: |_| false, ..home }.trusts(
            &path,
            &known,
            SystemTime::now()
        ));
        assert!(!Witness::at(dir.path()).trusts(&path, &known, SystemTime::now()), "just written");
        write(&path, "others").unwrap();
        assert_ne!(stat(&home, &path), Some(known));
    }
}
