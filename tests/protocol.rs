//! A model of the cache's protocol, checked in every state within a budget of faults.
//!
//! Leases, publication, quarantine, `gc`, takeover and adoption decide whether work is lost. Random
//! faults cannot show that none is. The model checker `stateright` takes the steps of three
//! processes on two hosts, and of the jobs that they start, in every order, with every crash, stop,
//! clock jump and damaged object that the budget allows. `docs/protocol.md` describes the actors,
//! steps, properties, budgets and the number of states.
//!
//! **Modelled:** two keys, `UP` and `DOWN`, which is computed from the object of `UP`; an old entry
//! that no pipeline needs and that names the object of `UP` too; the file locks `lock` and
//! `leases/removal.lock`; leases with the age of their heartbeat. A step is one operation that
//! other processes can observe, and is named after its function ([`Step::function`]).
//!
//! **Left out:** the content of files, recipes, logs, histories, the index of entries, fallbacks,
//! retries, `--force`, workspaces; a loss of power that undoes a rename; a disk whose file locks do
//! not reach the other host (a mutant shows why they must); damage to an input while a stage reads
//! it; a remote cache.
//!
//! A mutant is the model with one step broken on purpose ([`Variant`]). The checker must find a
//! counterexample in each: a property that no mutant violates proves nothing.

use stateright::{Checker, HasDiscoveries, Model, Property};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::path::Path;

/// The number of ticks without a heartbeat after which a lease expires.
const EXPIRY: u8 = 2;

/// The two keys; the object of a key has the same index.
const UP: usize = 0;
const DOWN: usize = 1;
const KEYS: [usize; 2] = [UP, DOWN];

/// The number of processes that a user starts; the job of run `p` is process `p + STARTED`.
const STARTED: usize = 3;

/// The next step of a process: of a run, of its job, of `gc` or of `verify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// The process has not been started.
    Absent,
    /// The process has ended.
    Ended(Outcome),

    /// Locks the cache, shared.
    LockShared,
    /// Locks removals and reads the lease of a key.
    Sweep,
    /// Removes that stale lease and unlocks removals.
    SweepRemove,
    /// Looks a key up.
    Check,
    /// Reads the key's lease; starts a job if no process holds it.
    ActOn,
    /// Waits for its job, then looks the key up.
    JobEnded,
    /// Waits until the lease of another process ends.
    PollRunning,
    /// Looks up what that process has published.
    LookupAfterPoll,

    /// Locks the cache, shared.
    Exec,
    /// Creates the lease, or reads the existing one.
    Claim,
    /// Locks removals and reads the lease again.
    BreakStale,
    /// Removes that stale lease and unlocks removals.
    BreakStaleRemove,
    /// Looks the key up under its lease.
    Lookup,
    /// Checks the inputs and starts to compute.
    PlaceInputs,
    /// Looks for an object with the bytes that it computed.
    Ingest,
    /// Moves a damaged object to the quarantine.
    MoveToQuarantine,
    /// Renames its output to the object.
    Rename,
    /// Renames the entry to its path.
    Publish,
    /// Releases the lease.
    Drop(Outcome),
    /// Removes the lease that it has found to be its own.
    DropRemove(Outcome),

    /// Locks the cache exclusively.
    LockExclusive,
    /// Finds the entries and objects that no root needs.
    FindGarbage,
    /// Stops if a process holds a lease.
    ActiveProcess,
    /// Removes an entry.
    RemoveResult,
    /// Removes an object.
    RemoveObject,

    /// Hashes an object.
    Verify,
    /// Locks the cache exclusively, if it is not locked.
    Quarantine,
    /// Hashes a damaged object again, and moves it to the quarantine.
    QuarantineObject,
}

/// The outcome of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Outcome {
    Done,
    Failed,
    /// The job found that another process computes the key or has computed it.
    AlreadyRunning,
    /// Another process uses the cache.
    Locked,
    /// The process crashed.
    Killed,
}

use Outcome::{AlreadyRunning, Done, Failed, Killed, Locked};

impl Step {
    /// The function that performs the operation, and its file below `src`.
    fn function(self) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Step::Absent | Step::Ended(_) => return None,
            Step::LockShared => ("lock_shared", "engine/cache/lock.rs"),
            Step::Sweep | Step::SweepRemove => ("sweep", "engine/cache/workspace.rs"),
            Step::Check => ("check", "engine/run/status.rs"),
            Step::ActOn => ("act_on", "engine/run/schedule.rs"),
            Step::JobEnded => ("job_ended", "engine/run/schedule.rs"),
            Step::PollRunning | Step::LookupAfterPoll => {
                ("poll_already_running", "engine/run/schedule.rs")
            }
            Step::Exec => ("exec", "cli/exec.rs"),
            Step::Claim => ("claim", "engine/cache/lease.rs"),
            Step::BreakStale | Step::BreakStaleRemove => ("break_stale", "engine/cache/lease.rs"),
            Step::Lookup => ("lookup", "engine/cache/local.rs"),
            Step::PlaceInputs => ("place_inputs", "engine/run/worker.rs"),
            Step::Ingest | Step::Rename => ("ingest", "engine/cache/local.rs"),
            Step::MoveToQuarantine => ("move_to_quarantine", "engine/cache/local.rs"),
            Step::Publish => ("publish", "engine/cache/local.rs"),
            Step::Drop(_) | Step::DropRemove(_) => ("drop", "engine/cache/lease.rs"),
            Step::LockExclusive => ("lock_exclusive", "engine/cache/lock.rs"),
            Step::FindGarbage => ("find", "engine/cache/gc.rs"),
            Step::ActiveProcess => ("active_process", "engine/cache/lease.rs"),
            Step::RemoveResult => ("remove_result", "engine/cache/gc.rs"),
            Step::RemoveObject => ("remove_object", "engine/cache/gc.rs"),
            Step::Verify => ("verify", "engine/cache/verify.rs"),
            Step::Quarantine | Step::QuarantineObject => ("quarantine", "engine/cache/verify.rs"),
        })
    }
}

/// How a process holds the cache's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LockMode {
    Unlocked,
    Shared,
    Exclusive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Role {
    Run,
    Exec,
    Gc,
    Verify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Process {
    role: Role,
    host: u8,
    step: Step,
    /// The key or the object of the step.
    key: usize,
    /// The entries and objects that `gc` or `verify` has found and not moved yet, as bits.
    found: u8,
    /// Ticks since it read the time to compare a heartbeat with.
    since: u8,
    /// Whether its lease has expired while it was running.
    late: bool,
}

impl Process {
    fn new(role: Role, host: u8, step: Step) -> Process {
        Process { role, host, step, key: UP, found: 0, since: 0, late: false }
    }

    fn has_ended(&self) -> bool {
        matches!(self.step, Step::Absent | Step::Ended(_))
    }

    fn lock_mode(&self) -> LockMode {
        match self.step {
            Step::Absent | Step::Ended(_) => LockMode::Unlocked,
            Step::LockShared
            | Step::Exec
            | Step::LockExclusive
            | Step::Verify
            | Step::Quarantine => LockMode::Unlocked,
            _ if matches!(self.role, Role::Run | Role::Exec) => LockMode::Shared,
            _ => LockMode::Exclusive,
        }
    }

    /// Whether it updates the heartbeat of its key's lease.
    fn has_heartbeat(&self) -> bool {
        let before = matches!(self.step, Step::Lookup | Step::PlaceInputs);
        before || self.computes() || matches!(self.step, Step::Drop(_) | Step::DropRemove(_))
    }

    /// Whether it computes its key, or has not published the result yet.
    fn computes(&self) -> bool {
        matches!(self.step, Step::Ingest | Step::MoveToQuarantine | Step::Rename | Step::Publish)
    }

    fn go(&mut self, step: Step) {
        (self.step, self.since) = (step, 0);
    }

    fn end(&mut self, outcome: Outcome) {
        *self = Process::new(self.role, self.host, Step::Ended(outcome));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Object {
    /// Never written, or removed by the engine.
    Absent,
    Intact,
    /// Edited, with a new modification time.
    Damaged,
    /// Removed by a fault, or moved to `quarantine/` when damaged.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Entry {
    Absent,
    Published,
    /// Removed by the engine.
    Removed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Lease {
    holder: usize,
    /// Ticks since its last heartbeat.
    age: u8,
}

/// The processes that have received SIGSTOP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stopped {
    None,
    Process(usize),
    Host(u8),
}

/// The faults that are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Budget {
    /// Of all kinds in total.
    faults: u8,
    crashes: u8,
    stops: u8,
    jumps: u8,
    damages: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    processes: [Process; 2 * STARTED],
    entries: [Entry; 2],
    /// Whether the entry exists that no pipeline needs; it names the object of `UP`.
    old: bool,
    objects: [Object; 2],
    leases: [Option<Lease>; 2],
    stopped: Stopped,
    budget: Budget,
    /// Whether a key was computed while another process computed it or although it had a result,
    /// and no lease had expired.
    twice: bool,
    /// Whether a key was computed from a damaged input.
    tainted: bool,
}

impl State {
    fn is_stopped(&self, p: usize) -> bool {
        match self.stopped {
            Stopped::None => false,
            Stopped::Process(q) => p == q,
            Stopped::Host(host) => self.processes[p].host == host,
        }
    }

    fn runs(&self, p: usize) -> bool {
        !self.processes[p].has_ended() && !self.is_stopped(p)
    }

    fn all_ended(&self) -> bool {
        self.processes.iter().all(Process::has_ended)
    }

    /// Whether a running process updates the heartbeat of this key's lease: its holder, or a
    /// process that has not noticed that it lost the lease.
    fn is_beating(&self, key: usize) -> bool {
        let is_beating = |q: &Process| q.key == key && q.has_heartbeat();
        (STARTED..2 * STARTED).any(|p| is_beating(&self.processes[p]) && self.runs(p))
    }

    /// Whether the workspace of a process on another host than `p` has a heartbeat.
    fn is_used_from_other_host(&self, p: usize) -> bool {
        let host = self.processes[p].host;
        let works = |&q: &usize| self.processes[q].lock_mode() == LockMode::Shared && self.runs(q);
        (0..2 * STARTED).filter(works).any(|q| self.processes[q].host != host)
    }

    /// `Store::lookup`: an entry whose object is intact.
    fn has(&self, key: usize) -> bool {
        self.is_published(key) && self.objects[key] == Object::Intact
    }

    fn is_published(&self, key: usize) -> bool {
        self.entries[key] == Entry::Published
    }

    /// `LocalFolder::move_to_quarantine`.
    fn move_to_quarantine(&mut self, object: usize) {
        self.objects[object] = match self.objects[object] {
            Object::Intact | Object::Absent => Object::Absent,
            Object::Damaged | Object::Lost => Object::Lost,
        };
    }

    /// Whether another process computes the key of `p` already, and no lease has expired.
    fn repeats(&self, p: usize) -> bool {
        let Process { key, late, .. } = self.processes[p];
        let same = |q: &Process| q.role == Role::Exec && q.key == key && q.computes() && !q.late;
        !late && self.processes.iter().any(same)
    }

    /// The key of `p` has a result: continues with the next key.
    fn complete(&mut self, p: usize) {
        if self.processes[p].key == UP {
            self.processes[p].key = DOWN;
            self.processes[p].go(Step::Check);
        } else {
            self.processes[p].end(Done);
        }
    }

    /// `Run::submit`: starts the job of run `p`.
    fn submit(&mut self, p: usize) {
        let Process { host, key, .. } = self.processes[p];
        self.processes[p + STARTED] = Process { key, ..Process::new(Role::Exec, host, Step::Exec) };
        self.processes[p].go(Step::JobEnded);
    }

    /// `Store::sweep` from the lease of `key` on, and the step after the last lease.
    fn sweep(&mut self, p: usize, key: usize) {
        let process = &mut self.processes[p];
        match (KEYS[key..].iter().find(|&&key| self.leases[key].is_some()), process.role) {
            (Some(&key), _) => {
                process.key = key;
                process.go(Step::Sweep);
            }
            (None, Role::Gc) => process.end(Done),
            (None, _) => {
                process.key = UP;
                process.go(Step::Check);
            }
        }
    }

    /// The next removal of `Garbage::remove`: entries before objects.
    fn collect(&mut self, p: usize) {
        match self.processes[p].found {
            0 => self.sweep(p, UP),
            found if found & ENTRIES != 0 => self.processes[p].go(Step::RemoveResult),
            _ => self.processes[p].go(Step::RemoveObject),
        }
    }

    /// Sets the age of each lease. A process whose lease expires is late.
    fn age(&mut self, age: impl Fn(usize, u8) -> u8) {
        for key in KEYS {
            let Some(lease) = &mut self.leases[key] else { continue };
            lease.age = age(key, lease.age);
            let holder = &mut self.processes[lease.holder];
            holder.late |= lease.age == EXPIRY && !holder.has_ended();
        }
    }

    /// Whether a process is about to remove the lease of a holder that satisfies `condition`.
    fn takes_over(&self, condition: fn(&Process) -> bool) -> bool {
        let removes = |p: &&Process| p.step == Step::BreakStaleRemove;
        let holder = |p: &Process| self.leases[p.key].map(|lease| self.processes[lease.holder]);
        self.processes.iter().filter(removes).filter_map(holder).any(|holder| condition(&holder))
    }

    /// Merges states that differ only in values that no later step reads.
    fn canonical(mut self) -> State {
        for p in 0..STARTED {
            let (run, job) = self.processes.split_at_mut(STARTED);
            if run[p].has_ended() && job[p].has_ended() {
                job[p] = Process::new(Role::Exec, run[p].host, Step::Absent);
            }
        }
        if !(0..2 * STARTED).any(|p| self.is_stopped(p) && !self.processes[p].has_ended()) {
            self.stopped = Stopped::None;
        }
        self
    }
}

/// The bits of `Process::found` for entries; the bit of an object is its index.
const OLD_ENTRY: u8 = 4;
const DOWN_ENTRY: u8 = 8;
const ENTRIES: u8 = OLD_ENTRY | DOWN_ENTRY;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// A process performs its next step.
    Takes(usize, Step),
    /// Half the expiry of a lease passes. Running processes have updated their heartbeats.
    Tick,
    /// The holder of this key's lease updates its heartbeat.
    Beat(usize),
    /// SIGKILL.
    Crash(usize),
    /// All processes of a host end at once.
    CrashHost(u8),
    /// SIGSTOP.
    Suspend(Stopped),
    /// SIGCONT.
    Continue,
    /// The clock of the disk jumps: every heartbeat is far from the current time.
    Jump,
    /// A user edits an object, or removes it.
    Damage(usize, Object),
}

/// The protocol as implemented, or with one step broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Correct,
    /// `exec` publishes the entry before its objects.
    EntryBeforeObjects,
    /// `exec` does not look the key up under its lease.
    NoLookupUnderLease,
    /// `gc` does not lock the cache.
    GcWithoutLock,
    /// `gc` keeps only keys whose inputs are intact.
    GcIgnoresLostInputs,
    /// `break_stale` does not lock removals.
    BreakWithoutLock,
    /// `break_stale` does not read the lease again under the lock.
    BreakWithoutRecheck,
    /// A lease is released without the removal lock.
    DropWithoutLock,
    /// `state` treats every lease as held.
    LeasesNeverExpire,
    /// `is_beating` reads the time first, and the heartbeat later.
    TimeReadTooEarly,
    /// `ingest` moves a damaged object away before it renames an intact one to its path.
    DamagedObjectMovedFirst,
    /// `place_inputs` does not check whether an input is damaged.
    InputsNotChecked,
    /// `quarantine` does not hash an object again under the lock.
    QuarantineWithoutRecheck,
    /// A file lock does not reach other hosts.
    LocksReachOneHost,
    /// A run treats a job that is running in another process as done.
    AlreadyRunningIsDone,
    /// A run treats such a job as failed.
    AlreadyRunningIsFailed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cache {
    Empty,
    /// The entry that no pipeline needs, and its object.
    Old,
    /// The results of both keys.
    Full,
}

/// The processes, their hosts, and the cache before they start.
#[derive(Clone, Copy)]
struct Scenario([(Role, u8); STARTED], Cache);

struct Protocol {
    variant: Variant,
    budget: Budget,
    scenarios: Vec<Scenario>,
}

impl Protocol {
    fn is(&self, variant: Variant) -> bool {
        self.variant == variant
    }

    /// Whether a file lock of one process reaches the other.
    fn reaches(&self, one: &Process, other: &Process) -> bool {
        one.host == other.host || !self.is(Variant::LocksReachOneHost)
    }

    /// Whether `p` can lock the cache.
    fn can_lock(&self, state: &State, p: usize, exclusive: bool) -> bool {
        let this = &state.processes[p];
        let has_gc = |other: &Process| [this, other].iter().any(|q| q.role == Role::Gc);
        let conflicts = |other: &Process| match other.lock_mode() {
            LockMode::Unlocked => false,
            _ if self.is(Variant::GcWithoutLock) && has_gc(other) => false,
            LockMode::Shared => exclusive && self.reaches(this, other),
            LockMode::Exclusive => self.reaches(this, other),
        };
        !state.processes.iter().any(conflicts)
    }

    /// Whether `p` can lock removals.
    fn can_lock_removal(&self, state: &State, p: usize) -> bool {
        let removes =
            |other: &Process| matches!(other.step, Step::BreakStaleRemove | Step::SweepRemove);
        let conflicts =
            |other: &Process| removes(other) && self.reaches(&state.processes[p], other);
        self.is(Variant::BreakWithoutLock) || !state.processes.iter().any(conflicts)
    }

    /// `Leases::state`, as `p` reads it.
    fn is_held(&self, state: &State, p: usize, key: usize) -> bool {
        let Some(lease) = state.leases[key] else { return false };
        let (holder, this) = (&state.processes[lease.holder], &state.processes[p]);
        self.is(Variant::LeasesNeverExpire)
            || match holder.host == this.host {
                true => !holder.has_ended(),
                false => lease.age.abs_diff(this.since) < EXPIRY,
            }
    }

    /// The result of `Garbage::find`, with both keys as roots.
    fn garbage(&self, state: &State) -> u8 {
        let mut found = if state.old { OLD_ENTRY } else { 0 };
        let mut entries = state.entries.map(|entry| entry == Entry::Published);
        if self.is(Variant::GcIgnoresLostInputs) && !state.has(UP) && entries[DOWN] {
            found |= DOWN_ENTRY;
            entries[DOWN] = false;
        }
        // `UP` is an input of `DOWN`.
        let live = [entries[UP] || entries[DOWN], entries[DOWN]];
        for object in KEYS {
            if !live[object] && matches!(state.objects[object], Object::Intact | Object::Damaged) {
                found |= 1 << object;
            }
        }
        found
    }

    /// The state after the step of `p`; `None` if `p` must wait.
    fn step(&self, state: &State, p: usize) -> Option<State> {
        let mut next = state.clone();
        let this = &mut next.processes[p];
        let Process { key, step, found, .. } = *this;
        match step {
            Step::Absent | Step::Ended(_) => return None,

            Step::LockShared => {
                self.can_lock(state, p, false).then_some(())?;
                next.sweep(p, UP);
            }
            Step::Sweep => {
                self.can_lock_removal(state, p).then_some(())?;
                match state.leases[key].is_some() && !self.is_held(state, p, key) {
                    true => this.go(Step::SweepRemove),
                    false => next.sweep(p, key + 1),
                }
            }
            Step::SweepRemove => {
                next.leases[key] = None;
                next.sweep(p, key + 1);
            }
            Step::Check if state.has(key) => next.complete(p),
            Step::Check => this.go(Step::ActOn),
            Step::ActOn if self.is_held(state, p, key) => this.go(Step::PollRunning),
            Step::ActOn => next.submit(p),
            Step::JobEnded => {
                let Step::Ended(outcome) = state.processes[p + STARTED].step else { return None };
                match outcome {
                    Done if state.has(key) => next.complete(p),
                    AlreadyRunning if self.is(Variant::AlreadyRunningIsDone) => next.complete(p),
                    AlreadyRunning if !self.is(Variant::AlreadyRunningIsFailed) => {
                        this.go(Step::PollRunning)
                    }
                    _ => this.end(Failed),
                }
                next.processes[p + STARTED].step = Step::Absent;
            }
            Step::PollRunning => {
                (!self.is_held(state, p, key)).then_some(())?;
                this.go(Step::LookupAfterPoll);
            }
            Step::LookupAfterPoll if state.has(key) => next.complete(p),
            Step::LookupAfterPoll => next.submit(p),

            Step::Exec => {
                self.can_lock(state, p, false).then_some(())?;
                this.go(Step::Claim);
            }
            Step::Claim if state.leases[key].is_none() => {
                next.leases[key] = Some(Lease { holder: p, age: 0 });
                this.go(Step::Lookup);
            }
            Step::Claim if self.is_held(state, p, key) => this.end(AlreadyRunning),
            Step::Claim => this.go(Step::BreakStale),
            Step::BreakStale => {
                self.can_lock_removal(state, p).then_some(())?;
                let held = self.is_held(state, p, key) && !self.is(Variant::BreakWithoutRecheck);
                let stale = state.leases[key].is_some() && !held;
                this.go(if stale { Step::BreakStaleRemove } else { Step::Claim });
            }
            Step::BreakStaleRemove => {
                next.leases[key] = None;
                this.go(Step::Claim);
            }
            Step::Lookup => {
                let hit = state.has(key) && !self.is(Variant::NoLookupUnderLease);
                this.go(if hit { Step::Drop(AlreadyRunning) } else { Step::PlaceInputs });
            }
            Step::PlaceInputs => {
                let input = if key == UP { Object::Intact } else { state.objects[UP] };
                let trusted = input == Object::Damaged && self.is(Variant::InputsNotChecked);
                let placed = input == Object::Intact || trusted;
                this.go(if placed { Step::Ingest } else { Step::Drop(Failed) });
                next.tainted |= trusted;
                let no_fault_yet = state.budget == self.budget;
                next.twice |= placed && (state.repeats(p) || no_fault_yet && state.has(key));
            }
            Step::Ingest if self.is(Variant::EntryBeforeObjects) && !state.is_published(key) => {
                next.entries[key] = Entry::Published;
            }
            Step::Ingest => this.go(match state.objects[key] {
                Object::Intact => Step::Publish,
                Object::Damaged if self.is(Variant::DamagedObjectMovedFirst) => {
                    Step::MoveToQuarantine
                }
                Object::Damaged | Object::Absent | Object::Lost => Step::Rename,
            }),
            Step::MoveToQuarantine
                if matches!(state.objects[key], Object::Absent | Object::Lost) =>
            {
                this.go(Step::Drop(Failed));
            }
            Step::MoveToQuarantine => {
                this.go(Step::Rename);
                next.move_to_quarantine(key);
            }
            Step::Rename => {
                this.go(Step::Publish);
                next.objects[key] = Object::Intact;
            }
            Step::Publish => {
                this.go(Step::Drop(Done));
                next.entries[key] = Entry::Published;
            }
            Step::Drop(outcome) => {
                let owns = state.leases[key].is_some_and(|lease| lease.holder == p);
                if owns && self.is(Variant::DropWithoutLock) {
                    this.go(Step::DropRemove(outcome));
                } else {
                    self.can_lock_removal(state, p).then_some(())?;
                    this.end(outcome);
                    next.leases[key] = next.leases[key].filter(|_| !owns);
                }
            }
            Step::DropRemove(outcome) => {
                this.end(outcome);
                next.leases[key] = None;
            }

            Step::LockExclusive => {
                self.can_lock(state, p, true).then_some(())?;
                this.go(Step::FindGarbage);
            }
            Step::FindGarbage => {
                this.found = self.garbage(state);
                this.go(Step::ActiveProcess);
            }
            Step::ActiveProcess => {
                let held = KEYS.iter().any(|&key| self.is_held(state, p, key));
                match held || state.is_used_from_other_host(p) {
                    true => this.end(Locked),
                    false => next.collect(p),
                }
            }
            Step::RemoveResult => {
                if found & OLD_ENTRY != 0 {
                    this.found &= !OLD_ENTRY;
                    next.old = false;
                } else {
                    this.found &= !DOWN_ENTRY;
                    next.entries[DOWN] = Entry::Removed;
                }
                next.collect(p);
            }
            Step::RemoveObject => {
                let object = found.trailing_zeros() as usize;
                this.found &= found - 1;
                next.objects[object] = Object::Absent;
                next.collect(p);
            }

            Step::Verify => {
                this.found |= u8::from(state.objects[key] == Object::Damaged) << key;
                match key {
                    UP => this.key = DOWN,
                    _ if this.found == 0 => this.end(Done),
                    _ => this.go(Step::Quarantine),
                }
            }
            Step::Quarantine if self.can_lock(state, p, true) => this.go(Step::QuarantineObject),
            Step::Quarantine => this.end(Locked),
            Step::QuarantineObject => {
                let object = found.trailing_zeros() as usize;
                this.found &= found - 1;
                if this.found == 0 {
                    this.end(Done);
                }
                let without_recheck = self.is(Variant::QuarantineWithoutRecheck);
                if state.objects[object] == Object::Damaged || without_recheck {
                    next.move_to_quarantine(object);
                }
            }
        }
        Some(next)
    }

    /// The faults that are left in the budget of `state`.
    fn faults(&self, state: &State, actions: &mut Vec<Action>) {
        let Budget { faults, crashes, stops, jumps, damages } = state.budget;
        if faults == 0 {
            return;
        }
        let on =
            |host: u8| state.processes.iter().filter(move |q| !q.has_ended() && q.host == host);
        for p in (0..2 * STARTED).filter(|&p| !state.processes[p].has_ended()) {
            actions.extend((crashes > 0).then_some(Action::Crash(p)));
            let stops = stops > 0 && state.stopped == Stopped::None;
            actions.extend(stops.then_some(Action::Suspend(Stopped::Process(p))));
        }
        for host in [0, 1].into_iter().filter(|&host| on(host).count() > 1) {
            actions.extend((crashes > 0).then_some(Action::CrashHost(host)));
            let stops = stops > 0 && state.stopped == Stopped::None;
            actions.extend(stops.then_some(Action::Suspend(Stopped::Host(host))));
        }
        let young = state.leases.iter().flatten().any(|lease| lease.age < EXPIRY);
        actions.extend((jumps > 0 && young).then_some(Action::Jump));
        let intact = |&object: &usize| damages > 0 && state.objects[object] == Object::Intact;
        for object in KEYS.into_iter().filter(intact) {
            actions.extend([Object::Damaged, Object::Lost].map(|to| Action::Damage(object, to)));
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let state = |Scenario(roles, cache): &Scenario| {
            let first = |role| match role {
                Role::Run => Step::LockShared,
                Role::Exec => Step::Absent,
                Role::Gc => Step::LockExclusive,
                Role::Verify => Step::Verify,
            };
            let process = |p: usize| {
                let role = if p < STARTED { roles[p].0 } else { Role::Exec };
                Process::new(role, roles[p % STARTED].1, first(role))
            };
            let (full, old) = (*cache == Cache::Full, *cache == Cache::Old);
            let object = |present| if present { Object::Intact } else { Object::Absent };
            State {
                processes: std::array::from_fn(process),
                entries: [if full { Entry::Published } else { Entry::Absent }; 2],
                old,
                objects: [full || old, full].map(object),
                leases: [None; 2],
                stopped: Stopped::None,
                budget: self.budget,
                twice: false,
                tainted: false,
            }
        };
        self.scenarios.iter().map(state).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.all_ended() {
            return;
        }
        let takes = |p: usize| state.runs(p).then(|| Action::Takes(p, state.processes[p].step));
        actions.extend((0..2 * STARTED).filter_map(takes));
        let looks =
            |q: &Process| matches!(q.step, Step::BreakStale | Step::Sweep) && q.since < EXPIRY;
        let early = self.is(Variant::TimeReadTooEarly) && state.processes.iter().any(looks);
        let is_of = |key: usize, ages: std::ops::Range<u8>| {
            state.leases[key].is_some_and(|lease| ages.contains(&lease.age))
        };
        if early || KEYS.iter().any(|&key| is_of(key, 0..EXPIRY) && !state.is_beating(key)) {
            actions.push(Action::Tick);
        }
        let aged = |&key: &usize| is_of(key, 1..EXPIRY + 1) && state.is_beating(key);
        actions.extend(KEYS.into_iter().filter(aged).map(Action::Beat));
        actions.extend((state.stopped != Stopped::None).then_some(Action::Continue));
        self.faults(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Takes(p, _) => next = self.step(state, p)?,
            Action::Tick => {
                next.age(|key, age| if state.is_beating(key) { 0 } else { EXPIRY.min(age + 1) });
                let early = self.is(Variant::TimeReadTooEarly);
                let looks =
                    |q: &&mut Process| early && matches!(q.step, Step::BreakStale | Step::Sweep);
                for process in next.processes.iter_mut().filter(looks) {
                    process.since = EXPIRY.min(process.since + 1);
                }
            }
            Action::Beat(key) => {
                next.leases[key] = state.leases[key].map(|lease| Lease { age: 0, ..lease });
            }
            Action::Continue => next.stopped = Stopped::None,
            Action::Crash(p) => {
                next.processes[p].end(Killed);
                next.budget.crashes -= 1;
            }
            Action::CrashHost(host) => {
                let on_host = |q: &&mut Process| q.host == host && !q.has_ended();
                next.processes.iter_mut().filter(on_host).for_each(|q| q.end(Killed));
                next.budget.crashes -= 1;
            }
            Action::Suspend(stopped) => {
                next.stopped = stopped;
                next.budget.stops -= 1;
            }
            Action::Jump => {
                next.age(|_, _| EXPIRY);
                next.budget.jumps -= 1;
            }
            Action::Damage(object, damaged) => {
                next.objects[object] = damaged;
                next.budget.damages -= 1;
            }
        }
        match action {
            Action::Takes(..) | Action::Tick | Action::Beat(_) | Action::Continue => {}
            _ => next.budget.faults -= 1,
        }
        Some(next.canonical())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(OBJECTS, |_, state: &State| {
                let named = [state.old || state.is_published(UP), state.is_published(DOWN)];
                KEYS.iter().all(|&key| !named[key] || state.objects[key] != Object::Absent)
            }),
            Property::always(KEPT, |_, state: &State| !state.entries.contains(&Entry::Removed)),
            Property::always(ONCE, |_, state: &State| !state.twice),
            Property::always(INTACT_INPUTS, |_, state: &State| !state.tainted),
            Property::always(COMPLETE, |_, state: &State| {
                let done = |p: &Process| p.role == Role::Run && p.step == Step::Ended(Done);
                !state.processes.iter().any(done) || state.entries == [Entry::Published; 2]
            }),
            Property::always(FAILS_FOR_A_REASON, |model: &Protocol, state: &State| {
                let failed = |p: &Process| p.role == Role::Run && p.step == Step::Ended(Failed);
                let left = |Budget { crashes, damages, .. }: Budget| crashes + damages;
                !state.processes.iter().any(failed) || left(state.budget) < left(model.budget)
            }),
            Property::eventually(ENDS, |_, state: &State| state.all_ended()),
            Property::sometimes(DEAD_TAKEN_OVER, |_, state: &State| {
                state.takes_over(|holder| holder.has_ended())
            }),
            Property::sometimes(LIVE_TAKEN_OVER, |_, state: &State| {
                state.takes_over(|holder| holder.late)
            }),
            Property::sometimes(ADOPTED, |_, state: &State| {
                let [one, two, ..] = state.processes;
                let waited = two.step == Step::LookupAfterPoll && state.has(two.key);
                one.step == Step::Ended(Killed) && waited
            }),
            Property::sometimes(COLLECTED, |_, state: &State| {
                let gc = |p: &Process| p.role == Role::Gc && p.step == Step::Ended(Done);
                !state.old && state.objects[UP] == Object::Absent && state.processes.iter().any(gc)
            }),
            Property::sometimes(REPAIRED, |_, state: &State| {
                let verified = |p: &Process| p.role == Role::Verify && p.step == Step::Ended(Done);
                let repairs = |p: &Process| p.step == Step::Publish && state.is_published(p.key);
                let any = |is: &dyn Fn(&Process) -> bool| state.processes.iter().any(is);
                state.budget.damages == 0 && any(&verified) && any(&repairs)
            }),
        ]
    }
}

const OBJECTS: &str = "an entry implies its objects";
const KEPT: &str = "a published result is not lost while something needs it";
const ONCE: &str = "no key is computed twice unless a lease expired";
const INTACT_INPUTS: &str = "no key is computed from a damaged input";
const COMPLETE: &str = "a run that succeeds has its results";
const FAILS_FOR_A_REASON: &str = "a run fails only after a crash or damage";
const ENDS: &str = "every run ends";

const DEAD_TAKEN_OVER: &str = "a lease of a dead process is taken over";
const LIVE_TAKEN_OVER: &str = "an expired lease of a live process is taken over";
const ADOPTED: &str = "the result of a crashed run's job is adopted";
const COLLECTED: &str = "gc removes an entry and its object";
const REPAIRED: &str = "a damaged object is quarantined and computed again";

/// The scenarios that are checked; `docs/protocol.md` gives the purpose of each.
fn scenarios() -> Vec<Scenario> {
    use Role::{Gc, Run, Verify};
    vec![
        Scenario([(Run, 0), (Run, 1), (Gc, 0)], Cache::Old),
        Scenario([(Run, 0), (Run, 1), (Gc, 0)], Cache::Full),
        Scenario([(Run, 0), (Gc, 1), (Verify, 0)], Cache::Old),
        Scenario([(Run, 0), (Run, 1), (Verify, 0)], Cache::Empty),
        Scenario([(Run, 0), (Run, 1), (Verify, 0)], Cache::Full),
        Scenario([(Run, 0), (Run, 1), (Run, 0)], Cache::Empty),
    ]
}

fn protocol(variant: Variant, faults: u8) -> Protocol {
    let budget = Budget { faults, crashes: faults.min(2), stops: 1, jumps: 1, damages: 1 };
    Protocol { variant, budget, scenarios: scenarios() }
}

/// Visits all states, or stops at these discoveries.
fn check(protocol: Protocol, enough: HasDiscoveries) -> impl Checker<Protocol> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    protocol.checker().threads(threads).finish_when(enough).spawn_dfs().join()
}

fn project(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()))
}

/// `1234567` as `1 234 567`.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let from_end = |(i, digit): (usize, char)| {
        let space = i > 0 && (digits.len() - i).is_multiple_of(3);
        space.then_some(' ').into_iter().chain([digit])
    };
    digits.chars().enumerate().flat_map(from_end).collect()
}

#[test]
#[expect(clippy::print_stderr, reason = "the larger budget serves to count the states")]
fn every_state_within_the_budget_satisfies_the_properties_and_the_page_has_their_number() {
    let is_large = std::env::var("REPRO_MODEL_BUDGET").is_ok_and(|budget| budget == "large");
    let faults = if is_large { 3 } else { 2 };
    let checked = check(protocol(Variant::Correct, faults), HasDiscoveries::AnyFailures);
    checked.assert_properties();
    let row = format!("| {faults} | {} |", grouped(checked.unique_state_count()));
    eprintln!("{row}");
    let is_counted = project("docs/protocol.md").contains(&row);
    assert!(is_counted || is_large, "docs/protocol.md lacks `{row}`");
}

/// Visits every state of the correct protocol, depth first; panics if the states have a cycle.
fn walk(faults: u8, mut visit: impl FnMut(&State)) {
    let model = protocol(Variant::Correct, faults);
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let mut is_on_path: HashMap<u64, bool> = HashMap::new();
    let mut path: Vec<(u64, Vec<State>)> = vec![(0, model.init_states())];
    while let Some((from, open)) = path.last_mut() {
        let Some(state) = open.pop() else {
            is_on_path.insert(*from, false);
            path.pop();
            continue;
        };
        let print = hasher.hash_one(&state);
        match is_on_path.get(&print) {
            Some(true) => panic!("a cycle through {state:?}"),
            Some(false) => continue,
            None => _ = is_on_path.insert(print, true),
        }
        visit(&state);
        path.push((print, model.next_states(&state)));
    }
}

#[test]
fn the_state_space_has_no_cycle() {
    let mut visited = 0;
    walk(1, |_| visited += 1);
    assert!(visited > 500_000, "{visited}");
}

#[test]
fn the_function_of_every_step_exists_and_is_on_the_page() {
    let mut steps: HashSet<Step> = HashSet::new();
    walk(1, |state| steps.extend(state.processes.iter().map(|process| process.step)));
    let functions: HashSet<_> = steps.into_iter().filter_map(Step::function).collect();
    assert!(functions.len() > 20, "{functions:?}");
    let page = project("docs/protocol.md");
    for (function, file) in functions {
        let source = project(&format!("src/{file}"));
        let begins = ["(", "<"].map(|next| format!("fn {function}{next}"));
        assert!(begins.iter().any(|begin| source.contains(begin)), "src/{file} lacks `{function}`");
        let names = [function, file].map(|name| format!("`{name}`"));
        let row = |line: &str| names.iter().all(|name| line.contains(name));
        assert!(page.lines().any(row), "docs/protocol.md lacks `{function}` of `{file}`");
    }
}

/// Asserts that a mutant violates `property` within a number of faults.
#[track_caller]
fn finds_counterexample(property: &'static str, mutant: Variant, faults: u8) {
    let checked = check(protocol(mutant, faults), HasDiscoveries::AnyOf([property].into()));
    let visited = checked.unique_state_count();
    assert!(checked.discovery(property).is_some(), "{mutant:?}: none in {visited} states");
}

#[test]
fn the_checker_finds_an_entry_published_before_its_objects() {
    finds_counterexample(OBJECTS, Variant::EntryBeforeObjects, 0);
}

#[test]
fn the_checker_finds_a_job_that_does_not_look_its_key_up_under_its_lease() {
    finds_counterexample(ONCE, Variant::NoLookupUnderLease, 0);
}

#[test]
fn the_checker_finds_a_gc_that_does_not_lock_the_cache() {
    finds_counterexample(OBJECTS, Variant::GcWithoutLock, 0);
}

#[test]
fn the_checker_finds_a_gc_that_removes_results_downstream_of_a_damaged_object() {
    finds_counterexample(KEPT, Variant::GcIgnoresLostInputs, 1);
}

#[test]
fn the_checker_finds_a_stale_lease_that_is_removed_without_a_lock() {
    finds_counterexample(ONCE, Variant::BreakWithoutLock, 1);
}

#[test]
fn the_checker_finds_a_stale_lease_that_is_removed_without_a_second_check() {
    finds_counterexample(ONCE, Variant::BreakWithoutRecheck, 1);
}

#[test]
fn the_checker_finds_a_late_process_that_removes_the_lease_of_another() {
    finds_counterexample(ONCE, Variant::DropWithoutLock, 2);
}

#[test]
fn the_checker_finds_leases_that_never_expire() {
    finds_counterexample(ENDS, Variant::LeasesNeverExpire, 1);
}

#[test]
fn the_checker_finds_a_time_that_is_read_before_the_heartbeat() {
    finds_counterexample(ONCE, Variant::TimeReadTooEarly, 0);
}

#[test]
fn the_checker_finds_a_damaged_object_that_is_moved_away_before_it_is_replaced() {
    finds_counterexample(OBJECTS, Variant::DamagedObjectMovedFirst, 2);
}

#[test]
fn the_checker_finds_a_job_that_does_not_check_its_inputs() {
    finds_counterexample(INTACT_INPUTS, Variant::InputsNotChecked, 1);
}

#[test]
fn the_checker_finds_a_quarantine_that_does_not_hash_again() {
    finds_counterexample(OBJECTS, Variant::QuarantineWithoutRecheck, 1);
}

#[test]
fn the_checker_finds_locks_that_do_not_reach_the_other_host() {
    finds_counterexample(OBJECTS, Variant::LocksReachOneHost, 0);
}

#[test]
fn the_checker_finds_a_run_that_treats_a_running_job_as_done() {
    finds_counterexample(COMPLETE, Variant::AlreadyRunningIsDone, 0);
}

#[test]
fn the_checker_finds_a_run_that_treats_a_running_job_as_failed() {
    finds_counterexample(FAILS_FOR_A_REASON, Variant::AlreadyRunningIsFailed, 0);
}
