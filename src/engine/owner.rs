//! A process, named so that another one can tell whether it still lives.
//!
//! A process id alone comes round again; together with the boot of its host and its own start it does not. Of a process on
//! another host nothing can be told from here: there, only a heartbeat helps (see [`super::lease`]).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::OnceLock;

/// A process on some host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The host's name, what a file's name cannot hold replaced.
    pub host: String,
    /// Names the time between two starts of the host; empty where the system does not tell.
    pub boot: String,
    /// The process's id.
    pub pid: u32,
    /// When it began, in the system's own count; 0 where that is not told.
    pub started: u64,
}

impl Owner {
    /// This process.
    pub fn this() -> &'static Owner {
        static THIS: OnceLock<Owner> = OnceLock::new();
        THIS.get_or_init(|| {
            let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '-' };
            let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
            let pid = std::process::id();
            Owner {
                host: host().chars().map(plain).collect(),
                boot: boot.chars().filter(char::is_ascii_hexdigit).take(12).collect(),
                pid,
                started: started(pid).unwrap_or(0),
            }
        })
    }

    /// Whether it lives; `None` if that cannot be told from this host.
    pub fn lives(&self) -> Option<bool> {
        let this = Owner::this();
        (self.host == this.host).then(|| self.boot == this.boot && started(self.pid) == Some(self.started))
    }

    /// A file name that says it all; [`Owner::from_tag`] reads it back.
    pub fn tag(&self) -> String {
        let Owner { host, boot, pid, started } = self;
        format!("{host}+{boot}+{pid}+{started}")
    }

    /// The owner that `tag` names, if it is one.
    pub fn from_tag(tag: &str) -> Option<Owner> {
        let mut parts = tag.split('+');
        let mut next = || parts.next();
        let (host, boot) = (next()?.to_owned(), next()?.to_owned());
        let owner = Owner { host, boot, pid: next()?.parse().ok()?, started: next()?.parse().ok()? };
        parts.next().is_none().then_some(owner)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)
    }
}

/// This host's name.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// When process `pid` began; `None` if there is none, or if it has ended and only waits to be buried.
#[cfg(target_os = "linux")]
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in brackets, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// As above, where only whether there is such a process is told.
#[cfg(not(target_os = "linux"))]
fn started(pid: u32) -> Option<u64> {
    let pid = rustix::process::Pid::from_raw(pid.try_into().ok()?)?;
    rustix::process::test_kill_process(pid).is_ok().then_some(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn this_process_lives_and_its_tag_reads_back() {
        let this = Owner::this();
        assert_eq!(this.lives(), Some(true));
        assert_eq!(Owner::from_tag(&this.tag()).as_ref(), Some(this));
        assert!(!this.tag().contains(['/', '\0']));
    }

    #[test]
    fn what_is_no_tag_names_nobody() {
        for tag in ["", "a", "a+b+c+1", "a+b+1", "a+b+1+1+1", ".tmp1234"] {
            assert_eq!(Owner::from_tag(tag), None, "{tag}");
        }
    }

    #[test]
    fn a_process_that_has_ended_does_not_live_even_before_it_is_waited_for() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let owner = Owner { pid: child.id(), started: started(child.id()).unwrap(), ..Owner::this().clone() };
        assert_eq!(owner.lives(), Some(true));
        child.kill().unwrap();
        while owner.lives() == Some(true) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert_eq!(owner.lives(), Some(false));
    }

    #[test]
    fn another_process_under_the_same_id_is_not_the_owner() {
        let this = Owner::this();
        assert_eq!(Owner { started: this.started + 1, ..this.clone() }.lives(), Some(false));
        assert_eq!(Owner { boot: "earlier".into(), ..this.clone() }.lives(), Some(false));
        assert_eq!(Owner { host: "elsewhere".into(), ..this.clone() }.lives(), None);
    }
}
