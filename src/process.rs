//! Finds, signals, kills and waits for the descendants of this process.
//!
//! On Linux a process can be a *subreaper*: a descendant whose parent has ended becomes its child.
//! Then this module finds all descendants in `/proc`, even in another session or process group. On
//! other systems, it can only kill the process group of a child; a program that leaves the group is
//! not killed.
//!
//! Knows nothing of stages, jobs or caches.

use anyhow::{Context as _, Result, bail};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, kill_process, kill_process_group,
    wait, waitid, waitpid,
};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use wait4::Wait4 as _;

/// The signals that ask a process to end.
pub const TERMINATION_SIGNALS: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// The longest wait for killed processes to end.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// The interval at which the processes are listed again.
const PAUSE: Duration = Duration::from_millis(1);

/// The program was terminated by a signal to this process.
#[derive(Debug, thiserror::Error)]
#[error("it was terminated")]
pub struct Terminated;

/// The `signals` that this process does not ignore. `nohup`, and scripts that start this program in
/// the background, make it ignore some signals; these must stay ignored.
pub fn not_ignored(signals: &[i32]) -> Vec<i32> {
    let ignored = ignored();
    signals.iter().copied().filter(|signal| ignored & (1 << (signal - 1)) == 0).collect()
}

/// The signals that this process ignores, as a bit mask; 0 without `/proc`.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

/// Makes this process a subreaper, unless it has children already: if a shell has replaced itself
/// with this program (`exec`), the children are the shell's, and their descendants must not be
/// killed.
pub fn become_subreaper() {
    watch_children();
    let children =
        waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT);
    if matches!(children, Err(Errno::CHILD)) {
        #[cfg(target_os = "linux")]
        let _ = rustix::process::set_child_subreaper(Some(getpid()));
    }
}

/// Makes the exit status of children available: if SIGCHLD is ignored, the system discards it.
fn watch_children() {
    if not_ignored(&[SIGCHLD]).is_empty() {
        let _ = signal_hook::flag::register(SIGCHLD, Arc::default());
    }
}

/// Whether all descendants of this process remain descendants when their parents end.
#[cfg(target_os = "linux")]
pub fn is_subreaper() -> bool {
    matches!(rustix::process::child_subreaper(), Ok(Some(_)))
}

/// Whether all descendants of this process remain descendants when their parents end.
#[cfg(not(target_os = "linux"))]
pub fn is_subreaper() -> bool {
    false
}

/// A process that runs or has not been reaped.
struct Process {
    pid: Pid,
    parent: i32,
    /// Whether all its threads have ended, not only the first.
    ended: bool,
}

/// All processes in `/proc`; empty without `/proc`.
fn processes() -> Vec<Process> {
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = names.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    let process = |pid: Pid| {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        parse(pid, &String::from_utf8_lossy(&stat))
    };
    pids.filter_map(process).collect()
}

/// Parses the content of `/proc/<pid>/stat`.
fn parse(pid: Pid, stat: &str) -> Option<Process> {
    // The program's name, in parentheses, may contain any character.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
    let threads = fields.nth(15)?.parse::<u64>().ok()?;
    Some(Process { pid, parent, ended: matches!(state, "Z" | "X") && threads <= 1 })
}

/// The descendants of `roots` that have not ended.
fn descendants(roots: &[Pid]) -> Vec<Pid> {
    let processes = processes();
    let mut found: Vec<Pid> = Vec::new();
    let mut open = roots.to_vec();
    while let Some(parent) = open.pop() {
        let parent = parent.as_raw_nonzero().get();
        let children =
            processes.iter().filter(|process| process.parent == parent && !process.ended);
        let children: Vec<Pid> = children.map(|process| process.pid).collect();
        open.extend(&children);
        found.extend(children);
    }
    found
}

/// Sends SIGTERM to the leader of a process group and to its descendants. On Linux the leader
/// forwards the signal itself (see [`run`]).
pub fn terminate(leader: Pid) {
    let signalled = if cfg!(target_os = "linux") {
        Err(Errno::SRCH)
    } else {
        kill_process_group(leader, Signal::TERM)
    };
    if signalled.is_err() {
        // Fails if the process has just ended.
        let _ = kill_process(leader, Signal::TERM);
    }
}

/// Kills `leaders` and all their descendants. Each leader should be a subreaper: it is killed last,
/// so that no descendant escapes.
pub fn kill_trees(leaders: &[Pid]) {
    let until = Instant::now() + KILL_TIMEOUT;
    loop {
        let found = descendants(leaders);
        if found.is_empty() || Instant::now() >= until {
            break;
        }
        found.into_iter().for_each(kill);
        std::thread::sleep(PAUSE);
    }
    for &leader in leaders {
        let _ = kill_process_group(leader, Signal::KILL);
        kill(leader);
    }
}

fn kill(pid: Pid) {
    let _ = kill_process(pid, Signal::KILL);
}

/// Kills the children of this process other than `known`, and their descendants. If this process is
/// a subreaper, these are orphans of a killed child.
pub fn kill_orphans(known: &[Pid]) {
    let (this, until) = (getpid().as_raw_nonzero().get(), Instant::now() + KILL_TIMEOUT);
    while is_subreaper() && Instant::now() < until {
        let processes = processes().into_iter().filter(|process| process.parent == this);
        let orphans: Vec<Pid> =
            processes.map(|process| process.pid).filter(|pid| !known.contains(pid)).collect();
        if orphans.is_empty() {
            return;
        }
        for pid in orphans {
            kill(pid);
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Starts a thread. Returns an error, instead of a panic, if the system refuses it.
pub fn start_thread(work: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new().spawn(work).map(drop).context("cannot start a thread")
}

/// Fails if the system refuses this many threads, before a call of code that would panic.
pub fn check_threads(threads: usize) -> Result<()> {
    let gate = RwLock::new(());
    std::thread::scope(|scope| {
        let shut = gate.write();
        let start =
            || std::thread::Builder::new().spawn_scoped(scope, || drop(gate.read())).map(drop);
        let started = (0..threads).try_for_each(|_| start());
        drop(shut);
        started
    })
    .with_context(|| format!("cannot start {threads} threads"))
}

/// The hint for an error that a limit of the system has caused.
pub fn limit_hint(error: &anyhow::Error) -> Option<&'static str> {
    let system = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>())?;
    let errno = match system.kind() {
        std::io::ErrorKind::OutOfMemory => Errno::NOMEM,
        _ => Errno::from_raw_os_error(system.raw_os_error()?),
    };
    match errno {
        Errno::MFILE => Some("raise the limit of open files of a process, `ulimit -n`"),
        Errno::NFILE => {
            Some("all processes together have reached the system's limit of open files")
        }
        Errno::AGAIN => {
            Some("raise the limit of processes and threads, `ulimit -u`, or of memory, `ulimit -v`")
        }
        Errno::NOMEM => Some("free memory, or raise its limit, `ulimit -v`"),
        _ => None,
    }
}

/// Runs a program as the only child of this process, waits for its end, and kills its remaining
/// descendants. Forwards [`TERMINATION_SIGNALS`] to all of them, and then fails with
/// [`Terminated`], even if the program exits with zero.
pub fn run(command: &mut Command, name: &str) -> Result<ExitStatus> {
    become_subreaper();
    let terminated = forward_signals()?;
    let mut child = command.spawn().with_context(|| format!("cannot start `{name}`"))?;
    if terminated.load(Ordering::Relaxed) {
        // The signal arrived before the program was started.
        kill(Pid::from_child(&child));
    }
    let status = wait_for(&mut child).with_context(|| format!("cannot wait for `{name}`"))?;
    if is_subreaper() {
        kill_children()?;
    }
    if terminated.load(Ordering::Relaxed) {
        bail!(Terminated);
    }
    Ok(status)
}

/// From the first call on, forwards [`TERMINATION_SIGNALS`] to all descendants. Returns a flag that
/// the first signal sets. Child programs then ignore none of these signals.
fn forward_signals() -> Result<Arc<AtomicBool>> {
    static FORWARDED: Mutex<Option<Arc<AtomicBool>>> = Mutex::new(None);
    let mut forwarded = FORWARDED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(terminated) = &*forwarded {
        return Ok(Arc::clone(terminated));
    }
    let mut signals = Signals::new(TERMINATION_SIGNALS).context("cannot listen for signals")?;
    let terminated = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&terminated);
    start_thread(move || {
        for signal in signals.forever() {
            flag.store(true, Ordering::Relaxed);
            let signal = Signal::from_named_raw(signal).unwrap_or(Signal::TERM);
            descendants(&[getpid()]).into_iter().for_each(|pid| _ = kill_process(pid, signal));
        }
    })?;
    Ok(Arc::clone(forwarded.insert(terminated)))
}

/// Waits for a child. Reaps orphans that end earlier.
fn wait_for(child: &mut Child) -> std::io::Result<ExitStatus> {
    let pid = Pid::from_child(child);
    let ended =
        |id: WaitId, options| waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | options);
    loop {
        match ended(WaitId::All, WaitIdOptions::empty()) {
            Ok(_) if matches!(ended(WaitId::Pid(pid), WaitIdOptions::NOHANG), Ok(Some(_))) => {
                let used = child.wait4()?;
                PEAK.fetch_max(used.rusage.maxrss, Ordering::Relaxed);
                return Ok(used.status);
            }
            Ok(_) => {
                reap_orphans(pid);
                std::thread::sleep(PAUSE);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reaps the children of this process that have ended, except `child`.
fn reap_orphans(child: Pid) {
    let this = getpid().as_raw_nonzero().get();
    let is_orphan =
        |process: &Process| process.parent == this && process.ended && process.pid != child;
    processes()
        .into_iter()
        .filter(is_orphan)
        .for_each(|orphan| _ = waitpid(Some(orphan.pid), WaitOptions::NOHANG));
}

/// The largest peak memory of the programs of [`run`] since the last call of [`peak_memory`].
static PEAK: AtomicU64 = AtomicU64::new(0);

/// The peak resident memory, in bytes, of the largest process among this process and, since the
/// last call, the programs of [`run`] and the children that they have waited for. Systems do not
/// record the peak of the sum.
pub fn peak_memory() -> Option<u64> {
    let programs = PEAK.swap(0, Ordering::Relaxed);
    resident(getpid()).max((programs > 0).then_some(programs))
}

/// The peak resident memory of a process, from `/proc` (`VmHWM`).
fn resident(pid: Pid) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// Kills all descendants of this process and reaps its children.
fn kill_children() -> Result<()> {
    let until = Instant::now() + KILL_TIMEOUT;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => continue,
            Ok(None) => {}
            // There are no children.
            Err(_) => return Ok(()),
        }
        let left = descendants(&[getpid()]);
        if Instant::now() >= until {
            let pid = left.first().map_or_else(String::new, |pid| format!(" {pid}"));
            bail!("cannot kill the process{pid} that the program left");
        }
        left.into_iter().for_each(kill);
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stat_of_a_process_is_parsed_for_any_program_name() {
        let pid = Pid::from_raw(7).unwrap();
        for (name, state, threads, ended) in [
            ("sh", "S", 1, false),
            ("a) Z 1 (b", "R", 3, false),
            ("x\u{fffd}", "Z", 1, true),
            ("main", "Z", 2, false),
        ] {
            let process =
                parse(pid, &format!("7 ({name}) {state} 42{} 20 0 {threads} 0", " 0".repeat(13)))
                    .unwrap();
            assert_eq!((process.parent, process.ended), (42, ended), "{name}");
        }
        assert!(["", "7 (sh", "7 (sh) S 42"].iter().all(|torn| parse(pid, torn).is_none()));
    }

    #[test]
    fn an_error_due_to_a_system_limit_has_a_hint_with_the_limit() {
        for (errno, name) in [
            (Errno::MFILE, "`ulimit -n`"),
            (Errno::AGAIN, "`ulimit -u`"),
            (Errno::NOMEM, "`ulimit -v`"),
        ] {
            let error = std::io::Error::from(errno);
            let hint = limit_hint(&anyhow::Error::new(error).context("cannot start")).unwrap();
            assert!(hint.contains(name), "{hint}");
        }
        assert_eq!(limit_hint(&std::io::Error::from(Errno::NOENT).into()), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_is_killed_with_all_its_descendants() {
        let script = "sleep 1000 & setsid sleep 1000 & wait";
        let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        let root = Pid::from_child(&child);
        let until = Instant::now() + Duration::from_secs(30);
        while descendants(&[root]).len() < 2 {
            assert!(Instant::now() < until, "both children start");
            std::thread::sleep(PAUSE);
        }
        let found = descendants(&[root]);
        kill_trees(&[root]);
        child.wait().unwrap();
        while processes().iter().any(|process| found.contains(&process.pid) && !process.ended) {
            assert!(Instant::now() < until, "both children end");
            std::thread::sleep(PAUSE);
        }
    }
}
