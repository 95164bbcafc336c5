//! The processes below this one: found, signalled, ended and waited for; and the signals to heed.
//!
//! On Linux a process can be made a *subreaper*: a process below it whose own parent has ended
//! becomes its child. Then everything that it has started, and all that has started in turn, stays
//! below it and can be found in `/proc`, whatever session or process group it has moved to. On other
//! systems only the process group of a child can be ended as a whole; a program that leaves its group
//! escapes.
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
pub const REQUESTS: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// How long processes that have been killed may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait before looking for processes again.
const PAUSE: Duration = Duration::from_millis(1);

/// The program was asked to end before it had ended.
#[derive(Debug, thiserror::Error)]
#[error("it was asked to end")]
pub struct Stopped;

/// Those of `signals` that were not ignored when this process was started: `nohup`, or a script that
/// starts a job in the background, has others ignored, and they stay so.
pub fn heeded(signals: &[i32]) -> Vec<i32> {
    let ignored = ignored();
    signals.iter().copied().filter(|signal| ignored & (1 << (signal - 1)) == 0).collect()
}

/// The signals that this process ignores, a bit each; none where the system does not tell.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

/// Makes this process the subreaper of those below it, unless it has children already: a shell that
/// has replaced itself by this program may have left it some, and theirs are not ours to end.
pub fn adopt() {
    heed_children();
    let children =
        waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT);
    if matches!(children, Err(Errno::CHILD)) {
        #[cfg(target_os = "linux")]
        let _ = rustix::process::set_child_subreaper(Some(getpid()));
    }
}

/// Where the end of children is ignored, the system buries them and nobody learns how they ended.
fn heed_children() {
    if heeded(&[SIGCHLD]).is_empty() {
        let _ = signal_hook::flag::register(SIGCHLD, Arc::default());
    }
}

/// Whether all that this process starts stays below it.
#[cfg(target_os = "linux")]
pub fn adopts() -> bool {
    matches!(rustix::process::child_subreaper(), Ok(Some(_)))
}

/// Whether all that this process starts stays below it.
#[cfg(not(target_os = "linux"))]
pub fn adopts() -> bool {
    false
}

/// A process that has not been waited for.
struct Process {
    pid: Pid,
    parent: i32,
    /// Whether it has ended: all its threads, not only the first.
    ended: bool,
}

/// All processes, as `/proc` shows them; none where there is no `/proc`.
fn processes() -> Vec<Process> {
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = names.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    let process = |pid: Pid| {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        parse(pid, &String::from_utf8_lossy(&stat))
    };
    pids.filter_map(process).collect()
}

/// Reads a process's `stat`.
fn parse(pid: Pid, stat: &str) -> Option<Process> {
    // The program's name, in brackets, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
    let threads = fields.nth(15)?.parse::<u64>().ok()?;
    Some(Process { pid, parent, ended: matches!(state, "Z" | "X") && threads <= 1 })
}

/// The processes below `roots` that have not ended.
fn below(roots: &[Pid]) -> Vec<Pid> {
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

/// Asks a process that begins a group of its own to end, with all that it has started. On Linux it
/// passes that on itself ([`run`]).
pub fn request_end(leader: Pid) {
    let told = if cfg!(target_os = "linux") {
        Err(Errno::SRCH)
    } else {
        kill_process_group(leader, Signal::TERM)
    };
    if told.is_err() {
        // A process that has just ended by itself cannot be asked, and need not be.
        let _ = kill_process(leader, Signal::TERM);
    }
}

/// Ends `leaders`, and whatever is below them. Each is to be a subreaper: it goes last, so that
/// nothing can slip away from below it.
pub fn end_trees(leaders: &[Pid]) {
    let until = Instant::now() + PATIENCE;
    loop {
        let below = below(leaders);
        if below.is_empty() || Instant::now() >= until {
            break;
        }
        below.into_iter().for_each(kill);
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

/// Ends the children of this process other than `known`, and all below them: if it is a subreaper,
/// they were started by one that was killed.
pub fn end_orphans(known: &[Pid]) {
    let (this, until) = (getpid().as_raw_nonzero().get(), Instant::now() + PATIENCE);
    while adopts() && Instant::now() < until {
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

/// Starts a thread. Under a limit of the system that may fail, and is no reason to panic.
pub fn start_thread(work: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new().spawn(work).map(drop).context("cannot start a thread")
}

/// Fails if so many threads cannot be started: for what would panic then.
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

/// What would help if the system has refused something for a limit of its own.
pub fn exhausted(error: &anyhow::Error) -> Option<&'static str> {
    let system = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>())?;
    let errno = match system.kind() {
        std::io::ErrorKind::OutOfMemory => Errno::NOMEM,
        _ => Errno::from_raw_os_error(system.raw_os_error()?),
    };
    match errno {
        Errno::MFILE => Some("`ulimit -n` is how many files a process may have open; raise it"),
        Errno::NFILE => Some("all processes together have as many files open as the system allows"),
        Errno::AGAIN => Some(
            "`ulimit -u` (processes and threads) or `ulimit -v` (memory) allows no more; raise it",
        ),
        Errno::NOMEM => Some("there is no memory left, or no more than `ulimit -v` allows"),
        _ => None,
    }
}

/// Runs a program, the only one that this process has started, until it and all below it have
/// ended. What it leaves behind is killed. A signal that asks this process to end is passed on to all
/// of them; then the error is [`Stopped`], however the program ends.
pub fn run(command: &mut Command, name: &str) -> Result<ExitStatus> {
    adopt();
    let stopped = pass_requests_on()?;
    let mut child = command.spawn().with_context(|| format!("cannot start `{name}`"))?;
    if stopped.load(Ordering::Relaxed) {
        // The request came too early to reach the program.
        kill(Pid::from_child(&child));
    }
    let status = wait_for(&mut child).with_context(|| format!("cannot wait for `{name}`"))?;
    if adopts() {
        end_children()?;
    }
    if stopped.load(Ordering::Relaxed) {
        bail!(Stopped);
    }
    Ok(status)
}

/// From the first call on, passes every request to end on to all processes below this one; gives
/// whether there was any. Programs are started with none of these signals ignored.
fn pass_requests_on() -> Result<Arc<AtomicBool>> {
    static PASSED_ON: Mutex<Option<Arc<AtomicBool>>> = Mutex::new(None);
    let mut passed_on = PASSED_ON.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(stopped) = &*passed_on {
        return Ok(Arc::clone(stopped));
    }
    let mut signals = Signals::new(REQUESTS).context("cannot listen for signals")?;
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stopped);
    start_thread(move || {
        for signal in signals.forever() {
            flag.store(true, Ordering::Relaxed);
            let signal = Signal::from_named_raw(signal).unwrap_or(Signal::TERM);
            below(&[getpid()]).into_iter().for_each(|pid| _ = kill_process(pid, signal));
        }
    })?;
    Ok(Arc::clone(passed_on.insert(stopped)))
}

/// Waits for a child, and buries the orphans that end before it.
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
                bury_orphans(pid);
                std::thread::sleep(PAUSE);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Buries the children of this process that have ended, but for `child`.
fn bury_orphans(child: Pid) {
    let this = getpid().as_raw_nonzero().get();
    let is_orphan =
        |process: &Process| process.parent == this && process.ended && process.pid != child;
    processes()
        .into_iter()
        .filter(is_orphan)
        .for_each(|orphan| _ = waitpid(Some(orphan.pid), WaitOptions::NOHANG));
}

/// The most that one of the programs that [`run`] has waited for had in memory at once, since that was
/// last asked.
static PEAK: AtomicU64 = AtomicU64::new(0);

/// Peak resident memory, in bytes: that of the largest process among this one, the programs that it
/// has run since the last call, and all processes that they have waited for. Not their sum, which no
/// system keeps; without what the programs left behind.
pub fn peak_memory() -> Option<u64> {
    let programs = PEAK.swap(0, Ordering::Relaxed);
    resident(getpid()).max((programs > 0).then_some(programs))
}

/// Peak resident memory of a process, where the system tells (Linux: `VmHWM`).
fn resident(pid: Pid) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// Ends and buries whatever is below this process.
fn end_children() -> Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => continue,
            Ok(None) => {}
            // There is none left.
            Err(_) => return Ok(()),
        }
        let below = below(&[getpid()]);
        if Instant::now() >= until {
            let left = below.first().map_or_else(String::new, |pid| format!(" {pid}"));
            bail!("the process{left} that the program left behind cannot be ended");
        }
        below.into_iter().for_each(kill);
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_program_is_called() {
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
    fn what_the_system_refuses_for_a_limit_is_named() {
        for (errno, name) in [
            (Errno::MFILE, "`ulimit -n`"),
            (Errno::AGAIN, "`ulimit -u`"),
            (Errno::NOMEM, "`ulimit -v`"),
        ] {
            let refused = std::io::Error::from(errno);
            assert!(
                exhausted(&anyhow::Error::new(refused).context("cannot")).unwrap().contains(name)
            );
        }
        assert_eq!(exhausted(&std::io::Error::from(Errno::NOENT).into()), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_with_all_below_it_is_found_and_ended() {
        let script = "sleep 1000 & setsid sleep 1000 & wait";
        let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        let root = Pid::from_child(&child);
        let until = Instant::now() + Duration::from_secs(30);
        while below(&[root]).len() < 2 {
            assert!(Instant::now() < until, "both are started");
            std::thread::sleep(PAUSE);
        }
        let found = below(&[root]);
        end_trees(&[root]);
        child.wait().unwrap();
        while processes().iter().any(|process| found.contains(&process.pid) && !process.ended) {
            assert!(Instant::now() < until, "both end");
            std::thread::sleep(PAUSE);
        }
    }
}
