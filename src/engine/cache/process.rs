//! A process, named so that another one can tell whether it still lives.
//!
//! A process id alone comes round again; together with the boot of its machine, its namespace and
//! its own start it does not. Machines are told apart by their machine id and boot id: two of them
//! may have one name, and clones of one image have one machine id. Nothing can be told from here of
//! a process of another machine or of an earlier boot, nor of one in another container, nor of
//! another user's where the system hides those: there, only a heartbeat helps (see
//! [`super::lease`]).

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::sync::OnceLock;

/// A process on some host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessId {
    /// The host's name, what a file's name cannot hold replaced.
    pub host: String,
    /// A hash of the machine's id; empty where the system does not tell.
    pub machine: String,
    /// Names the time between two starts of the host; empty where the system does not tell.
    pub boot: String,
    /// The namespace that its id is of: a container has its own; 0 where that is not told.
    pub namespace: u64,
    /// The process's id.
    pub pid: u32,
    /// When it began, in the system's own count; 0 where that is not told.
    pub started: u64,
}

impl ProcessId {
    /// This process.
    pub fn this() -> &'static ProcessId {
        static THIS: OnceLock<ProcessId> = OnceLock::new();
        THIS.get_or_init(|| {
            let plain =
                |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '-' };
            let boot =
                std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
            let pid = std::process::id();
            ProcessId {
                host: host().chars().map(plain).collect(),
                machine: machine(),
                boot: boot.chars().filter(char::is_ascii_hexdigit).take(12).collect(),
                namespace: std::fs::metadata("/proc/self/ns/pid")
                    .map_or(0, |namespace| namespace.ino()),
                pid,
                started: if let Liveness::Began(at) = look(pid) { at } else { 0 },
            }
        })
    }

    /// Whether it lives; `None` if that cannot be told from here.
    pub fn is_alive(&self) -> Option<bool> {
        let this = ProcessId::this();
        if self == this {
            return Some(true);
        }
        let is_here = ProcessId { pid: this.pid, started: this.started, ..self.clone() } == *this;
        // Without a boot id, another machine of this name could not be told from this one.
        if !is_here || this.boot.is_empty() {
            return None;
        }
        match look(self.pid) {
            Liveness::Gone => Some(false),
            Liveness::Began(at) => Some(at == self.started),
            Liveness::Hidden => None,
        }
    }

    /// Whether its machine, this one, has been started anew since.
    pub fn is_of_an_earlier_boot(&self) -> bool {
        let this = ProcessId::this();
        let is_told = [&self.machine, &self.boot, &this.boot].iter().all(|name| !name.is_empty());
        is_told
            && (&self.host, &self.machine) == (&this.host, &this.machine)
            && self.boot != this.boot
    }

    /// A file name that says it all; [`ProcessId::from_tag`] reads it back.
    pub fn tag(&self) -> String {
        let ProcessId { host, machine, boot, namespace, pid, started } = self;
        format!("{host}+{machine}+{boot}+{namespace}+{pid}+{started}")
    }

    /// The owner that `tag` names, if it is one.
    pub fn from_tag(tag: &str) -> Option<ProcessId> {
        let mut parts = tag.split('+');
        let mut next = || parts.next();
        let (host, machine, boot) = (next()?.to_owned(), next()?.to_owned(), next()?.to_owned());
        let (namespace, pid) = (next()?.parse().ok()?, next()?.parse().ok()?);
        let process =
            ProcessId { host, machine, boot, namespace, pid, started: next()?.parse().ok()? };
        parts.next().is_none().then_some(process)
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)
    }
}

/// This host's name.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A short hash of this machine's id, which is not for everyone to know.
fn machine() -> String {
    let read = |path: &&str| std::fs::read_to_string(path).ok().filter(|id| !id.trim().is_empty());
    let id = ["/etc/machine-id", "/var/lib/dbus/machine-id"].iter().find_map(read);
    let hash = |id: String| {
        blake3::Hash::from(blake3::derive_key("repro machine id v1", id.trim().as_bytes()))
    };
    id.map(|id| hash(id).to_hex()[..12].to_owned()).unwrap_or_default()
}

/// What the system tells of a process.
#[derive(Debug, PartialEq)]
enum Liveness {
    /// There is none, or it has ended and only waits to be buried.
    Gone,
    /// It began then, in the system's own count; 0 where that is not told.
    Began(u64),
    /// It is there, and nothing else is told: another user's.
    Hidden,
}

#[cfg(target_os = "linux")]
fn look(pid: u32) -> Liveness {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    read(stat.ok().as_deref(), reach(pid) != Err(Errno::SRCH))
}

/// Reads a process's `stat`. Where that is not for us to see, the process may exist all the same.
#[cfg(target_os = "linux")]
fn read(stat: Option<&str>, exists: bool) -> Liveness {
    let Some(stat) = stat else { return if exists { Liveness::Hidden } else { Liveness::Gone } };
    // The program's name, in brackets, may hold anything.
    let mut fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    match fields.next() {
        None | Some("Z" | "X") => Liveness::Gone,
        Some(_) => {
            fields.nth(18).and_then(|at| at.parse().ok()).map_or(Liveness::Gone, Liveness::Began)
        }
    }
}

/// As above, where only whether there is such a process is told.
#[cfg(not(target_os = "linux"))]
fn look(pid: u32) -> Liveness {
    match reach(pid) {
        Ok(()) => Liveness::Began(0),
        Err(Errno::PERM) => Liveness::Hidden,
        Err(_) => Liveness::Gone,
    }
}

/// Whether a signal would reach process `pid`.
fn reach(pid: u32) -> Result<(), Errno> {
    pid.try_into().ok().and_then(Pid::from_raw).map_or(Err(Errno::SRCH), test_kill_process)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn this_process_lives_and_its_tag_reads_back() {
        let this = ProcessId::this();
        assert_eq!(this.is_alive(), Some(true));
        assert_eq!(ProcessId::from_tag(&this.tag()).as_ref(), Some(this));
        assert!(!this.tag().contains(['/', '\0']));
    }

    #[test]
    fn what_is_no_tag_names_nobody() {
        for tag in ["", "a", "a+m+b+1+c+1", "a+m+b+1+1", "a+m+b+1+1+1+1", ".tmp1234"] {
            assert_eq!(ProcessId::from_tag(tag), None, "{tag}");
        }
    }

    #[test]
    fn a_process_that_has_ended_does_not_live_even_before_it_is_waited_for() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let Liveness::Began(started) = look(child.id()) else { panic!("it has begun") };
        let process = ProcessId { pid: child.id(), started, ..ProcessId::this().clone() };
        assert_eq!(process.is_alive(), Some(true));
        child.kill().unwrap();
        while process.is_alive() == Some(true) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert_eq!(process.is_alive(), Some(false));
    }

    #[test]
    fn another_process_under_the_same_id_is_not_the_owner() {
        let this = ProcessId::this();
        assert_eq!(ProcessId { started: this.started + 1, ..this.clone() }.is_alive(), Some(false));
        assert_eq!(ProcessId { pid: u32::MAX, ..this.clone() }.is_alive(), Some(false));
    }

    #[test]
    fn nothing_is_told_of_a_process_on_another_host_or_in_another_container() {
        let this = ProcessId::this();
        let gone = ProcessId { pid: u32::MAX, ..this.clone() };
        assert_eq!(ProcessId { host: "elsewhere".into(), ..gone.clone() }.is_alive(), None);
        assert_eq!(
            ProcessId { machine: "another of this name".into(), ..gone.clone() }.is_alive(),
            None
        );
        assert_eq!(
            ProcessId { boot: "earlier, or that of a clone".into(), ..gone }.is_alive(),
            None
        );
        let container = ProcessId { namespace: this.namespace + 1, ..this.clone() };
        assert_eq!(
            container.is_alive(),
            None,
            "under its id there may be another process here, or none"
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_the_system_hides_from_us_is_not_taken_for_dead() {
        assert_eq!(read(None, true), Liveness::Hidden);
        assert_eq!(read(None, false), Liveness::Gone);
        let stat = |state: &str| format!("7 (a) b) {state} 1{} 4711 0", " 0".repeat(17));
        assert_eq!(read(Some(&stat("S")), true), Liveness::Began(4711));
        assert_eq!(read(Some(&stat("Z")), true), Liveness::Gone);
        assert!(matches!(reach(1), Ok(()) | Err(Errno::PERM)), "the first process is always there");
        assert_eq!([0, u32::MAX].map(reach), [Err(Errno::SRCH); 2]);
    }
}
