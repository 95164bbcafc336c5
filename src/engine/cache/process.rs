//! Identities of processes across hosts, and whether a process is alive.
//!
//! Pids are reused. A pid is unique together with the boot of its machine, its namespace and its
//! start time. Machines are identified by machine id and boot id: two machines may share a name,
//! and clones of an image share a machine id. Whether a process is alive is unknown if the process
//! is on another machine, from an earlier boot, in another container, or belongs to another user on
//! a system that hides such processes. A heartbeat decides then (see [`super::lease`]).

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::sync::OnceLock;

/// The identity of a process on some host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessId {
    /// The host's name, with characters replaced that a file name cannot have.
    pub host: String,
    /// A hash of the machine id; empty if unknown.
    pub machine: String,
    /// The boot id; empty if unknown.
    pub boot: String,
    /// The pid namespace, which differs between containers; 0 if unknown.
    pub namespace: u64,
    /// The pid.
    pub pid: u32,
    /// The start time, in the system's own unit; 0 if unknown.
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
                started: if let Liveness::Started(at) = liveness(pid) { at } else { 0 },
            }
        })
    }

    /// The process `pid` of this host.
    #[cfg(test)]
    pub(super) fn of(pid: u32) -> ProcessId {
        let Liveness::Started(started) = liveness(pid) else { panic!("there is no such process") };
        ProcessId { pid, started, ..ProcessId::this().clone() }
    }

    /// Whether the process is alive; `None` if this process cannot know.
    pub fn is_alive(&self) -> Option<bool> {
        let this = ProcessId::this();
        if self == this {
            return Some(true);
        }
        let is_here = ProcessId { pid: this.pid, started: this.started, ..self.clone() } == *this;
        // Without a boot id, another machine with this name cannot be distinguished from this one.
        if !is_here || this.boot.is_empty() {
            return None;
        }
        match liveness(self.pid) {
            Liveness::Gone => Some(false),
            Liveness::Started(at) => Some(at == self.started),
            Liveness::Hidden => None,
        }
    }

    /// Whether the process ran on this machine before its last reboot.
    pub fn is_of_earlier_boot(&self) -> bool {
        let this = ProcessId::this();
        let is_known = [&self.machine, &self.boot, &this.boot].iter().all(|name| !name.is_empty());
        is_known
            && (&self.host, &self.machine) == (&this.host, &this.machine)
            && self.boot != this.boot
    }

    /// The identity as a file name; [`ProcessId::from_tag`] parses it.
    pub fn tag(&self) -> String {
        let ProcessId { host, machine, boot, namespace, pid, started } = self;
        format!("{host}+{machine}+{boot}+{namespace}+{pid}+{started}")
    }

    /// Parses a tag; `None` if the text is not a tag.
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

/// A short hash of this machine's id; the id itself is confidential (machine-id(5)).
fn machine() -> String {
    let read = |path: &&str| std::fs::read_to_string(path).ok().filter(|id| !id.trim().is_empty());
    let id = ["/etc/machine-id", "/var/lib/dbus/machine-id"].iter().find_map(read);
    let hash = |id: String| {
        blake3::Hash::from(blake3::derive_key("repro machine id v1", id.trim().as_bytes()))
    };
    id.map(|id| hash(id).to_hex()[..12].to_owned()).unwrap_or_default()
}

/// The state of a process, as reported by the system.
#[derive(Debug, PartialEq)]
enum Liveness {
    /// The process does not exist, or is a zombie.
    Gone,
    /// The process exists and has this start time, in the system's own unit; 0 if unknown.
    Started(u64),
    /// The process exists and belongs to another user; nothing else is known.
    Hidden,
}

#[cfg(target_os = "linux")]
fn liveness(pid: u32) -> Liveness {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    parse(stat.ok().as_deref(), probe(pid) != Err(Errno::SRCH))
}

/// Reads `/proc/<pid>/stat`. A process may exist although this file cannot be read.
#[cfg(target_os = "linux")]
fn parse(stat: Option<&str>, exists: bool) -> Liveness {
    let Some(stat) = stat else { return if exists { Liveness::Hidden } else { Liveness::Gone } };
    // The program's name, in parentheses, may contain spaces and parentheses.
    let mut fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    match fields.next() {
        None | Some("Z" | "X") => Liveness::Gone,
        Some(_) => {
            fields.nth(18).and_then(|at| at.parse().ok()).map_or(Liveness::Gone, Liveness::Started)
        }
    }
}

/// The same on systems without `/proc`.
#[cfg(not(target_os = "linux"))]
fn liveness(pid: u32) -> Liveness {
    match probe(pid) {
        Ok(()) => Liveness::Started(0),
        Err(Errno::PERM) => Liveness::Hidden,
        Err(_) => Liveness::Gone,
    }
}

/// Whether a signal could be sent to process `pid`.
fn probe(pid: u32) -> Result<(), Errno> {
    pid.try_into().ok().and_then(Pid::from_raw).map_or(Err(Errno::SRCH), test_kill_process)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn this_process_is_alive_and_its_tag_is_read_back() {
        let this = ProcessId::this();
        assert_eq!(this.is_alive(), Some(true));
        assert_eq!(ProcessId::from_tag(&this.tag()).as_ref(), Some(this));
        assert!(!this.tag().contains(['/', '\0']));
    }

    #[test]
    fn a_text_that_is_no_tag_is_refused() {
        for tag in ["", "a", "a+m+b+1+c+1", "a+m+b+1+1", "a+m+b+1+1+1+1", ".tmp1234"] {
            assert_eq!(ProcessId::from_tag(tag), None, "{tag}");
        }
    }

    #[test]
    fn a_killed_process_is_not_alive_even_as_a_zombie() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let process = ProcessId::of(child.id());
        assert_eq!(process.is_alive(), Some(true));
        child.kill().unwrap();
        while process.is_alive() == Some(true) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert_eq!(process.is_alive(), Some(false));
    }

    #[test]
    fn another_process_with_the_same_pid_is_another_process() {
        let this = ProcessId::this();
        assert_eq!(ProcessId { started: this.started + 1, ..this.clone() }.is_alive(), Some(false));
        assert_eq!(ProcessId { pid: u32::MAX, ..this.clone() }.is_alive(), Some(false));
    }

    #[test]
    fn liveness_is_unknown_on_another_host_and_in_another_container() {
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
        assert_eq!(container.is_alive(), None, "its pid means another process here, or none");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_the_system_hides_is_not_taken_for_dead() {
        assert_eq!(parse(None, true), Liveness::Hidden);
        assert_eq!(parse(None, false), Liveness::Gone);
        let stat = |state: &str| format!("7 (a) b) {state} 1{} 4711 0", " 0".repeat(17));
        assert_eq!(parse(Some(&stat("S")), true), Liveness::Started(4711));
        assert_eq!(parse(Some(&stat("Z")), true), Liveness::Gone);
        assert!(matches!(probe(1), Ok(()) | Err(Errno::PERM)), "process 1 always exists");
        assert_eq!([0, u32::MAX].map(probe), [Err(Errno::SRCH); 2]);
    }
}
