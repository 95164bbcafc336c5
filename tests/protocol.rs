//! The protocol of the cache as a model, and every state that it reaches within a budget of faults.
//!
//! Leases, publication, quarantine, `gc`, take-over and adoption decide whether work is lost, and
//! faults thrown at random cannot show that none is. Here the checker `stateright` takes the steps
//! of three processes on two hosts, and of the jobs that they start, in every order, with every
//! crash, stop, jump of the clock and damaged object that the budget has. `docs/protocol.md` is the
//! page to this file: actors, steps, properties, budgets, states visited.
//!
//! **Modelled:** two keys, `UP` and `DOWN`, which is computed from the object of `UP`; an old entry
//! that no pipeline needs, and which names the object of `UP` too; the file locks `lock` and
//! `leases/burial`; leases with the age of their heartbeat. A step is one operation that another
//! process can observe, and is named after the function that takes it ([`Step::taken_by`]).
//!
//! **Left out:** what files contain, recipes, logs, histories, the index of entries, fallbacks,
//! retries, `--force`, workspaces; a loss of power that takes back a rename; a disk whose file
//! locks do not reach the other host (a mutant shows what they are needed for); damage to an input
//! while a stage reads it.
//!
//! A mutant is the model with one step broken on purpose ([`Variant`]). The checker must find a
//! counterexample in each: a property that no mutant violates says nothing.

use stateright::{Checker, HasDiscoveries, Model, Property};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::path::Path;

/// After how many ticks without a heartbeat a lease has run out.
const EXPIRY: u8 = 2;

/// The two keys, each with one object of the same number.
const UP: usize = 0;
const DOWN: usize = 1;
const KEYS: [usize; 2] = [UP, DOWN];

/// The processes that a user starts; the job of run `p` is process `p + CAST`.
const CAST: usize = 3;

/// What a process does next: the steps of a run, of its job, of `gc` and of `verify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// Has not been started.
    Absent,
    /// Has ended, and how.
    Ended(Outcome),

    /// Takes the cache's lock, shared.
    Share,
    /// Locks `burial` and looks at the lease of a key.
    Sweep,
    /// Removes that lease, which no longer holds, and unlocks `burial`.
    SweepRemove,
    /// Looks a key up.
    Check,
    /// Asks who computes the key; starts a job if nobody does.
    ActOn,
    /// Waits for its job, then looks the key up.
    JobEnded,
    /// Waits until the lease of another process ends.
    LookElsewhere,
    /// Looks up what that process has published.
    LookupElsewhere,

    /// Takes the cache's lock, shared.
    Start,
    /// Creates the lease, or looks at the one there is.
    Claim,
    /// Locks `burial` and looks at the lease again.
    Bury,
    /// Removes that lease, which no longer holds, and unlocks `burial`.
    BuryRemove,
    /// Looks the key up, now that the lease is its own.
    Lookup,
    /// Checks the inputs and begins to compute.
    PlaceInputs,
    /// Looks for an object with the bytes that it computed.
    Ingest,
    /// Moves a damaged object away.
    SetAside,
    /// Renames its output to the object.
    Rename,
    /// Renames the entry to its place.
    Publish,
    /// Gives the lease back.
    Drop(Outcome),
    /// Removes the lease that it has found to be its own.
    DropRemove(Outcome),

    /// Takes the cache's lock, alone.
    Alone,
    /// Finds what nothing needs.
    Garbage,
    /// Looks whether somebody holds a lease.
    AnyoneAtWork,
    /// Removes an entry.
    Forget,
    /// Removes an object.
    RemoveObject,

    /// Hashes an object.
    Verify,
    /// Takes the cache's lock, alone, if nobody has it.
    Quarantine,
    /// Hashes a damaged object again, and moves it away.
    QuarantineObject,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Outcome {
    Done,
    Failed,
    /// A job that found another process at work, or the result there.
    Taken,
    /// Somebody is at work in the cache.
    Locked,
    /// By a crash.
    Killed,
}

use Outcome::{Done, Failed, Killed, Locked, Taken};

impl Step {
    /// The function of which it is an operation, and its file below `src`.
    fn taken_by(self) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Step::Absent | Step::Ended(_) => return None,
            Step::Share => ("share", "engine/hold.rs"),
            Step::Sweep | Step::SweepRemove => ("sweep", "engine/hold.rs"),
            Step::Check => ("check", "engine/run/status.rs"),
            Step::ActOn => ("act_on", "engine/run/schedule.rs"),
            Step::JobEnded => ("job_ended", "engine/run/schedule.rs"),
            Step::LookElsewhere | Step::LookupElsewhere => {
                ("poll_already_running", "engine/run/schedule.rs")
            }
            Step::Start => ("exec", "cli/exec.rs"),
            Step::Claim => ("claim", "engine/lease.rs"),
            Step::Bury | Step::BuryRemove => ("bury", "engine/lease.rs"),
            Step::Lookup => ("lookup", "engine/store.rs"),
            Step::PlaceInputs => ("place_inputs", "engine/run/worker.rs"),
            Step::Ingest | Step::Rename => ("ingest", "engine/store.rs"),
            Step::SetAside => ("move_to_quarantine", "engine/store.rs"),
            Step::Publish => ("publish", "engine/store.rs"),
            Step::Drop(_) | Step::DropRemove(_) => ("drop", "engine/lease.rs"),
            Step::Alone => ("alone", "engine/hold.rs"),
            Step::Garbage => ("of", "engine/gc.rs"),
            Step::AnyoneAtWork => ("active_process", "engine/hold.rs"),
            Step::Forget => ("forget", "engine/store.rs"),
            Step::RemoveObject => ("remove_object", "engine/store.rs"),
            Step::Verify => ("verify", "engine/verify.rs"),
            Step::Quarantine | Step::QuarantineObject => ("quarantine", "engine/verify.rs"),
        })
    }
}

/// What a process holds of the cache's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Nothing,
    Shared,
    Alone,
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
    /// The key, or the object, that the step is about.
    key: usize,
    /// What `gc` or `verify` has found and not moved yet: a bit for each.
    found: u8,
    /// Ticks since it asked for the time, to compare a heartbeat with.
    since: u8,
    /// Its lease has run out while it worked.
    late: bool,
}

impl Process {
    fn new(role: Role, host: u8, step: Step) -> Process {
        Process { role, host, step, key: UP, found: 0, since: 0, late: false }
    }

    fn has_ended(&self) -> bool {
        matches!(self.step, Step::Absent | Step::Ended(_))
    }

    fn hold(&self) -> Hold {
        match self.step {
            Step::Absent | Step::Ended(_) => Hold::Nothing,
            Step::Share | Step::Start | Step::Alone | Step::Verify | Step::Quarantine => {
                Hold::Nothing
            }
            _ if matches!(self.role, Role::Run | Role::Exec) => Hold::Shared,
            _ => Hold::Alone,
        }
    }

    /// Whether it moves the heartbeat of its key's lease.
    fn has_heart(&self) -> bool {
        let before = matches!(self.step, Step::Lookup | Step::PlaceInputs);
        before || self.computes() || matches!(self.step, Step::Drop(_) | Step::DropRemove(_))
    }

    /// Whether it computes its key, or has computed it and not published it.
    fn computes(&self) -> bool {
        matches!(self.step, Step::Ingest | Step::SetAside | Step::Rename | Step::Publish)
    }

    fn goes(&mut self, step: Step) {
        (self.step, self.since) = (step, 0);
    }

    fn ends(&mut self, outcome: Outcome) {
        *self = Process::new(self.role, self.host, Step::Ended(outcome));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Object {
    /// Never written, or removed by the engine.
    Absent,
    Sound,
    /// Edited: its modification time says so.
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
    owner: usize,
    /// Ticks since its last heartbeat.
    age: u8,
}

/// Whom a SIGSTOP has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stopped {
    Nobody,
    Process(usize),
    Host(u8),
}

/// The faults that may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Budget {
    /// Of all kinds together.
    faults: u8,
    crashes: u8,
    stops: u8,
    jumps: u8,
    damages: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    processes: [Process; 2 * CAST],
    entries: [Entry; 2],
    /// Whether there is the entry that no pipeline needs; it names the object of `UP`.
    old: bool,
    objects: [Object; 2],
    leases: [Option<Lease>; 2],
    stopped: Stopped,
    budget: Budget,
    /// A key has been computed that another process computed, or that had a result, and no lease
    /// had run out.
    twice: bool,
    /// A key has been computed from a damaged input.
    tainted: bool,
}

impl State {
    fn is_stopped(&self, p: usize) -> bool {
        match self.stopped {
            Stopped::Nobody => false,
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

    /// Whether a process runs that moves the heartbeat of this key's lease: its owner, or one that
    /// has lost it unaware.
    fn beats(&self, key: usize) -> bool {
        let beats = |q: &Process| q.key == key && q.has_heart();
        (CAST..2 * CAST).any(|p| beats(&self.processes[p]) && self.runs(p))
    }

    /// Whether the workspace of a process on another host than `p` says that it works in the cache.
    fn is_shared_elsewhere(&self, p: usize) -> bool {
        let host = self.processes[p].host;
        let works = |&q: &usize| self.processes[q].hold() == Hold::Shared && self.runs(q);
        (0..2 * CAST).filter(works).any(|q| self.processes[q].host != host)
    }

    /// `Store::lookup`: an entry whose object is as it was sealed.
    fn has(&self, key: usize) -> bool {
        self.is_published(key) && self.objects[key] == Object::Sound
    }

    fn is_published(&self, key: usize) -> bool {
        self.entries[key] == Entry::Published
    }

    /// `Store::move_to_quarantine`.
    fn move_to_quarantine(&mut self, object: usize) {
        self.objects[object] = match self.objects[object] {
            Object::Sound | Object::Absent => Object::Absent,
            Object::Damaged | Object::Lost => Object::Lost,
        };
    }

    /// Whether what `p` begins to compute is computed already, and no lease has run out.
    fn repeats(&self, p: usize) -> bool {
        let Process { key, late, .. } = self.processes[p];
        let same = |q: &Process| q.role == Role::Exec && q.key == key && q.computes() && !q.late;
        !late && self.processes.iter().any(same)
    }

    /// Where a process goes once its key has a result.
    fn settle(&mut self, p: usize) {
        if self.processes[p].key == UP {
            self.processes[p].key = DOWN;
            self.processes[p].goes(Step::Check);
        } else {
            self.processes[p].ends(Done);
        }
    }

    /// `Run::submit`: starts the job of run `p`.
    fn submit(&mut self, p: usize) {
        let Process { host, key, .. } = self.processes[p];
        self.processes[p + CAST] = Process { key, ..Process::new(Role::Exec, host, Step::Start) };
        self.processes[p].goes(Step::JobEnded);
    }

    /// `Store::sweep` from the lease of `key` on; what follows, once there is none left.
    fn sweep(&mut self, p: usize, key: usize) {
        let process = &mut self.processes[p];
        match (KEYS[key..].iter().find(|&&key| self.leases[key].is_some()), process.role) {
            (Some(&key), _) => {
                process.key = key;
                process.goes(Step::Sweep);
            }
            (None, Role::Gc) => process.ends(Done),
            (None, _) => {
                process.key = UP;
                process.goes(Step::Check);
            }
        }
    }

    /// What `Garbage::remove` removes next: entries before objects.
    fn collect(&mut self, p: usize) {
        match self.processes[p].found {
            0 => self.sweep(p, UP),
            found if found & ENTRIES != 0 => self.processes[p].goes(Step::Forget),
            _ => self.processes[p].goes(Step::RemoveObject),
        }
    }

    /// Sets the age of each lease. A process whose lease runs out is late.
    fn age(&mut self, age: impl Fn(usize, u8) -> u8) {
        for key in KEYS {
            let Some(lease) = &mut self.leases[key] else { continue };
            lease.age = age(key, lease.age);
            let owner = &mut self.processes[lease.owner];
            owner.late |= lease.age == EXPIRY && !owner.has_ended();
        }
    }

    /// Whether a process is about to remove the lease of such an owner.
    fn takes_over(&self, such: fn(&Process) -> bool) -> bool {
        let removes = |p: &&Process| p.step == Step::BuryRemove;
        let owner = |p: &Process| self.leases[p.key].map(|lease| self.processes[lease.owner]);
        self.processes.iter().filter(removes).filter_map(owner).any(|owner| such(&owner))
    }

    /// Forgets what makes no difference any more: one state instead of many.
    fn tidied(mut self) -> State {
        for p in 0..CAST {
            let (run, job) = self.processes.split_at_mut(CAST);
            if run[p].has_ended() && job[p].has_ended() {
                job[p] = Process::new(Role::Exec, run[p].host, Step::Absent);
            }
        }
        if !(0..2 * CAST).any(|p| self.is_stopped(p) && !self.processes[p].has_ended()) {
            self.stopped = Stopped::Nobody;
        }
        self
    }
}

/// Bits of `Process::found`; an object has that of its number.
const OLD_ENTRY: u8 = 4;
const DOWN_ENTRY: u8 = 8;
const ENTRIES: u8 = OLD_ENTRY | DOWN_ENTRY;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// A process takes its next step.
    Takes(usize, Step),
    /// Time passes, half of what a lease lasts. Whoever runs has moved its heartbeat meanwhile.
    Tick,
    /// `Heart::of`: the owner of this key's lease moves its heartbeat.
    Beat(usize),
    /// SIGKILL.
    Crash(usize),
    /// All processes of a host end at once.
    CrashHost(u8),
    /// SIGSTOP.
    Stop(Stopped),
    /// SIGCONT.
    Continue,
    /// The clock of the disk jumps: no heartbeat is near to its time any more.
    Jump,
    /// Somebody edits an object, or removes it.
    Damage(usize, Object),
}

/// The protocol as it is, or with one step broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    AsWritten,
    /// `exec` publishes the entry, then takes in its objects.
    EntryBeforeObjects,
    /// `exec` does not look the key up again when the lease is its own.
    NoLookupUnderTheLease,
    /// `gc` does not lock the cache.
    GcTakesNoLock,
    /// `gc` keeps only keys whose inputs can be looked up.
    GcForgetsWhatHangsOnDamage,
    /// `bury` does not lock `burial`.
    BurialTakesNoTurn,
    /// `bury` does not look again once it has locked `burial`.
    BurialLooksOnce,
    /// A lease is given back without a lock of `burial`.
    DropTakesNoTurn,
    /// `look` takes every lease for one that holds.
    LeasesNeverEnd,
    /// `beats` asks for the time first, and reads the heartbeat later.
    TimeIsAskedForTooEarly,
    /// `ingest` moves a damaged object away before it renames a sound one to its place.
    DamageIsMovedAwayFirst,
    /// `place_inputs` does not look whether an input is damaged.
    InputsAreTrusted,
    /// `quarantine` does not hash an object again once it has locked the cache.
    QuarantineLooksOnce,
    /// A file lock is seen on its own host only.
    LocksReachOneHost,
    /// A run takes a job that found another one at work for one that has done its work.
    TakenCountsAsDone,
    /// A run takes such a job for one that has failed.
    TakenCountsAsFailed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cache {
    Empty,
    /// The entry that no pipeline needs, and its object.
    Old,
    /// The results of both keys.
    Full,
}

/// Who takes part, on which host, and what is in the cache before.
#[derive(Clone, Copy)]
struct Cast([(Role, u8); CAST], Cache);

struct Protocol {
    variant: Variant,
    budget: Budget,
    casts: Vec<Cast>,
}

impl Protocol {
    fn is(&self, variant: Variant) -> bool {
        self.variant == variant
    }

    /// Whether a file lock of one process reaches the other.
    fn reaches(&self, one: &Process, other: &Process) -> bool {
        one.host == other.host || !self.is(Variant::LocksReachOneHost)
    }

    /// Whether `p` can have the cache's lock.
    fn can_lock(&self, state: &State, p: usize, alone: bool) -> bool {
        let this = &state.processes[p];
        let has_gc = |other: &Process| [this, other].iter().any(|q| q.role == Role::Gc);
        let hinders = |other: &Process| match other.hold() {
            Hold::Nothing => false,
            _ if self.is(Variant::GcTakesNoLock) && has_gc(other) => false,
            Hold::Shared => alone && self.reaches(this, other),
            Hold::Alone => self.reaches(this, other),
        };
        !state.processes.iter().any(hinders)
    }

    /// Whether `p` can have the lock of `burial`.
    fn has_turn(&self, state: &State, p: usize) -> bool {
        let removes = |other: &Process| matches!(other.step, Step::BuryRemove | Step::SweepRemove);
        let hinders = |other: &Process| removes(other) && self.reaches(&state.processes[p], other);
        self.is(Variant::BurialTakesNoTurn) || !state.processes.iter().any(hinders)
    }

    /// `Leases::look`, by `p`.
    fn is_held(&self, state: &State, p: usize, key: usize) -> bool {
        let Some(lease) = state.leases[key] else { return false };
        let (owner, this) = (&state.processes[lease.owner], &state.processes[p]);
        self.is(Variant::LeasesNeverEnd)
            || match owner.host == this.host {
                true => !owner.has_ended(),
                false => lease.age.abs_diff(this.since) < EXPIRY,
            }
    }

    /// What `Garbage::of` finds, with both keys as roots.
    fn garbage(&self, state: &State) -> u8 {
        let mut found = if state.old { OLD_ENTRY } else { 0 };
        let mut entries = state.entries.map(|entry| entry == Entry::Published);
        if self.is(Variant::GcForgetsWhatHangsOnDamage) && !state.has(UP) && entries[DOWN] {
            found |= DOWN_ENTRY;
            entries[DOWN] = false;
        }
        // `UP` is an input of `DOWN`.
        let live = [entries[UP] || entries[DOWN], entries[DOWN]];
        for object in KEYS {
            if !live[object] && matches!(state.objects[object], Object::Sound | Object::Damaged) {
                found |= 1 << object;
            }
        }
        found
    }

    /// The state after `p` has taken its step; none if it must wait.
    fn step(&self, state: &State, p: usize) -> Option<State> {
        let mut next = state.clone();
        let this = &mut next.processes[p];
        let Process { key, step, found, .. } = *this;
        match step {
            Step::Absent | Step::Ended(_) => return None,

            Step::Share => {
                self.can_lock(state, p, false).then_some(())?;
                next.sweep(p, UP);
            }
            Step::Sweep => {
                self.has_turn(state, p).then_some(())?;
                match state.leases[key].is_some() && !self.is_held(state, p, key) {
                    true => this.goes(Step::SweepRemove),
                    false => next.sweep(p, key + 1),
                }
            }
            Step::SweepRemove => {
                next.leases[key] = None;
                next.sweep(p, key + 1);
            }
            Step::Check if state.has(key) => next.settle(p),
            Step::Check => this.goes(Step::ActOn),
            Step::ActOn if self.is_held(state, p, key) => this.goes(Step::LookElsewhere),
            Step::ActOn => next.submit(p),
            Step::JobEnded => {
                let Step::Ended(outcome) = state.processes[p + CAST].step else { return None };
                match outcome {
                    Done if state.has(key) => next.settle(p),
                    Taken if self.is(Variant::TakenCountsAsDone) => next.settle(p),
                    Taken if !self.is(Variant::TakenCountsAsFailed) => {
                        this.goes(Step::LookElsewhere)
                    }
                    _ => this.ends(Failed),
                }
                next.processes[p + CAST].step = Step::Absent;
            }
            Step::LookElsewhere => {
                (!self.is_held(state, p, key)).then_some(())?;
                this.goes(Step::LookupElsewhere);
            }
            Step::LookupElsewhere if state.has(key) => next.settle(p),
            Step::LookupElsewhere => next.submit(p),

            Step::Start => {
                self.can_lock(state, p, false).then_some(())?;
                this.goes(Step::Claim);
            }
            Step::Claim if state.leases[key].is_none() => {
                next.leases[key] = Some(Lease { owner: p, age: 0 });
                this.goes(Step::Lookup);
            }
            Step::Claim if self.is_held(state, p, key) => this.ends(Taken),
            Step::Claim => this.goes(Step::Bury),
            Step::Bury => {
                self.has_turn(state, p).then_some(())?;
                let held = self.is_held(state, p, key) && !self.is(Variant::BurialLooksOnce);
                let stale = state.leases[key].is_some() && !held;
                this.goes(if stale { Step::BuryRemove } else { Step::Claim });
            }
            Step::BuryRemove => {
                next.leases[key] = None;
                this.goes(Step::Claim);
            }
            Step::Lookup => {
                let hit = state.has(key) && !self.is(Variant::NoLookupUnderTheLease);
                this.goes(if hit { Step::Drop(Taken) } else { Step::PlaceInputs });
            }
            Step::PlaceInputs => {
                let input = if key == UP { Object::Sound } else { state.objects[UP] };
                let trusted = input == Object::Damaged && self.is(Variant::InputsAreTrusted);
                let placed = input == Object::Sound || trusted;
                this.goes(if placed { Step::Ingest } else { Step::Drop(Failed) });
                next.tainted |= trusted;
                let no_fault_yet = state.budget == self.budget;
                next.twice |= placed && (state.repeats(p) || no_fault_yet && state.has(key));
            }
            Step::Ingest if self.is(Variant::EntryBeforeObjects) && !state.is_published(key) => {
                next.entries[key] = Entry::Published;
            }
            Step::Ingest => this.goes(match state.objects[key] {
                Object::Sound => Step::Publish,
                Object::Damaged if self.is(Variant::DamageIsMovedAwayFirst) => Step::SetAside,
                Object::Damaged | Object::Absent | Object::Lost => Step::Rename,
            }),
            Step::SetAside if matches!(state.objects[key], Object::Absent | Object::Lost) => {
                this.goes(Step::Drop(Failed));
            }
            Step::SetAside => {
                this.goes(Step::Rename);
                next.move_to_quarantine(key);
            }
            Step::Rename => {
                this.goes(Step::Publish);
                next.objects[key] = Object::Sound;
            }
            Step::Publish => {
                this.goes(Step::Drop(Done));
                next.entries[key] = Entry::Published;
            }
            Step::Drop(outcome) => {
                let owns = state.leases[key].is_some_and(|lease| lease.owner == p);
                if owns && self.is(Variant::DropTakesNoTurn) {
                    this.goes(Step::DropRemove(outcome));
                } else {
                    self.has_turn(state, p).then_some(())?;
                    this.ends(outcome);
                    next.leases[key] = next.leases[key].filter(|_| !owns);
                }
            }
            Step::DropRemove(outcome) => {
                this.ends(outcome);
                next.leases[key] = None;
            }

            Step::Alone => {
                self.can_lock(state, p, true).then_some(())?;
                this.goes(Step::Garbage);
            }
            Step::Garbage => {
                this.found = self.garbage(state);
                this.goes(Step::AnyoneAtWork);
            }
            Step::AnyoneAtWork => {
                let held = KEYS.iter().any(|&key| self.is_held(state, p, key));
                match held || state.is_shared_elsewhere(p) {
                    true => this.ends(Locked),
                    false => next.collect(p),
                }
            }
            Step::Forget => {
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
                    _ if this.found == 0 => this.ends(Done),
                    _ => this.goes(Step::Quarantine),
                }
            }
            Step::Quarantine if self.can_lock(state, p, true) => this.goes(Step::QuarantineObject),
            Step::Quarantine => this.ends(Locked),
            Step::QuarantineObject => {
                let object = found.trailing_zeros() as usize;
                this.found &= found - 1;
                if this.found == 0 {
                    this.ends(Done);
                }
                let looks_once = self.is(Variant::QuarantineLooksOnce);
                if state.objects[object] == Object::Damaged || looks_once {
                    next.move_to_quarantine(object);
                }
            }
        }
        Some(next)
    }

    /// The faults that the budget of `state` still has.
    fn faults(&self, state: &State, actions: &mut Vec<Action>) {
        let Budget { faults, crashes, stops, jumps, damages } = state.budget;
        if faults == 0 {
            return;
        }
        let on =
            |host: u8| state.processes.iter().filter(move |q| !q.has_ended() && q.host == host);
        for p in (0..2 * CAST).filter(|&p| !state.processes[p].has_ended()) {
            actions.extend((crashes > 0).then_some(Action::Crash(p)));
            let stops = stops > 0 && state.stopped == Stopped::Nobody;
            actions.extend(stops.then_some(Action::Stop(Stopped::Process(p))));
        }
        for host in [0, 1].into_iter().filter(|&host| on(host).count() > 1) {
            actions.extend((crashes > 0).then_some(Action::CrashHost(host)));
            let stops = stops > 0 && state.stopped == Stopped::Nobody;
            actions.extend(stops.then_some(Action::Stop(Stopped::Host(host))));
        }
        let young = state.leases.iter().flatten().any(|lease| lease.age < EXPIRY);
        actions.extend((jumps > 0 && young).then_some(Action::Jump));
        let sound = |&object: &usize| damages > 0 && state.objects[object] == Object::Sound;
        for object in KEYS.into_iter().filter(sound) {
            actions.extend([Object::Damaged, Object::Lost].map(|to| Action::Damage(object, to)));
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let state = |Cast(cast, cache): &Cast| {
            let first = |role| match role {
                Role::Run => Step::Share,
                Role::Exec => Step::Absent,
                Role::Gc => Step::Alone,
                Role::Verify => Step::Verify,
            };
            let process = |p: usize| {
                let role = if p < CAST { cast[p].0 } else { Role::Exec };
                Process::new(role, cast[p % CAST].1, first(role))
            };
            let (full, old) = (*cache == Cache::Full, *cache == Cache::Old);
            let object = |there| if there { Object::Sound } else { Object::Absent };
            State {
                processes: std::array::from_fn(process),
                entries: [if full { Entry::Published } else { Entry::Absent }; 2],
                old,
                objects: [full || old, full].map(object),
                leases: [None; 2],
                stopped: Stopped::Nobody,
                budget: self.budget,
                twice: false,
                tainted: false,
            }
        };
        self.casts.iter().map(state).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.all_ended() {
            return;
        }
        let takes = |p: usize| state.runs(p).then(|| Action::Takes(p, state.processes[p].step));
        actions.extend((0..2 * CAST).filter_map(takes));
        let looks = |q: &Process| matches!(q.step, Step::Bury | Step::Sweep) && q.since < EXPIRY;
        let early = self.is(Variant::TimeIsAskedForTooEarly) && state.processes.iter().any(looks);
        let is_of = |key: usize, ages: std::ops::Range<u8>| {
            state.leases[key].is_some_and(|lease| ages.contains(&lease.age))
        };
        if early || KEYS.iter().any(|&key| is_of(key, 0..EXPIRY) && !state.beats(key)) {
            actions.push(Action::Tick);
        }
        let aged = |&key: &usize| is_of(key, 1..EXPIRY + 1) && state.beats(key);
        actions.extend(KEYS.into_iter().filter(aged).map(Action::Beat));
        actions.extend((state.stopped != Stopped::Nobody).then_some(Action::Continue));
        self.faults(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Takes(p, _) => next = self.step(state, p)?,
            Action::Tick => {
                next.age(|key, age| if state.beats(key) { 0 } else { EXPIRY.min(age + 1) });
                let early = self.is(Variant::TimeIsAskedForTooEarly);
                let looks = |q: &&mut Process| early && matches!(q.step, Step::Bury | Step::Sweep);
                for process in next.processes.iter_mut().filter(looks) {
                    process.since = EXPIRY.min(process.since + 1);
                }
            }
            Action::Beat(key) => {
                next.leases[key] = state.leases[key].map(|lease| Lease { age: 0, ..lease });
            }
            Action::Continue => next.stopped = Stopped::Nobody,
            Action::Crash(p) => {
                next.processes[p].ends(Killed);
                next.budget.crashes -= 1;
            }
            Action::CrashHost(host) => {
                let there = |q: &&mut Process| q.host == host && !q.has_ended();
                next.processes.iter_mut().filter(there).for_each(|q| q.ends(Killed));
                next.budget.crashes -= 1;
            }
            Action::Stop(stopped) => {
                next.stopped = stopped;
                next.budget.stops -= 1;
            }
            Action::Jump => {
                next.age(|_, _| EXPIRY);
                next.budget.jumps -= 1;
            }
            Action::Damage(object, harm) => {
                next.objects[object] = harm;
                next.budget.damages -= 1;
            }
        }
        match action {
            Action::Takes(..) | Action::Tick | Action::Beat(_) | Action::Continue => {}
            _ => next.budget.faults -= 1,
        }
        Some(next.tidied())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(OBJECTS, |_, state: &State| {
                let named = [state.old || state.is_published(UP), state.is_published(DOWN)];
                KEYS.iter().all(|&key| !named[key] || state.objects[key] != Object::Absent)
            }),
            Property::always(KEPT, |_, state: &State| !state.entries.contains(&Entry::Removed)),
            Property::always(ONCE, |_, state: &State| !state.twice),
            Property::always(UNTAINTED, |_, state: &State| !state.tainted),
            Property::always(GOOD_ENDING, |_, state: &State| {
                let done = |p: &Process| p.role == Role::Run && p.step == Step::Ended(Done);
                !state.processes.iter().any(done) || state.entries == [Entry::Published; 2]
            }),
            Property::always(BLAMELESS, |model: &Protocol, state: &State| {
                let failed = |p: &Process| p.role == Role::Run && p.step == Step::Ended(Failed);
                let left = |Budget { crashes, damages, .. }: Budget| crashes + damages;
                !state.processes.iter().any(failed) || left(state.budget) < left(model.budget)
            }),
            Property::eventually(ENDS, |_, state: &State| state.all_ended()),
            Property::sometimes(FROM_THE_DEAD, |_, state: &State| {
                state.takes_over(|owner| owner.has_ended())
            }),
            Property::sometimes(FROM_THE_LIVING, |_, state: &State| {
                state.takes_over(|owner| owner.late)
            }),
            Property::sometimes(ADOPTED, |_, state: &State| {
                let [one, two, ..] = state.processes;
                let waited = two.step == Step::LookupElsewhere && state.has(two.key);
                one.step == Step::Ended(Killed) && waited
            }),
            Property::sometimes(COLLECTED, |_, state: &State| {
                let gc = |p: &Process| p.role == Role::Gc && p.step == Step::Ended(Done);
                !state.old && state.objects[UP] == Object::Absent && state.processes.iter().any(gc)
            }),
            Property::sometimes(MENDED, |_, state: &State| {
                let verified = |p: &Process| p.role == Role::Verify && p.step == Step::Ended(Done);
                let mends = |p: &Process| p.step == Step::Publish && state.is_published(p.key);
                let of = |such: &dyn Fn(&Process) -> bool| state.processes.iter().any(such);
                state.budget.damages == 0 && of(&verified) && of(&mends)
            }),
        ]
    }
}

const OBJECTS: &str = "an entry implies its objects";
const KEPT: &str = "a published result is not lost while something needs it";
const ONCE: &str = "no key is computed twice unless a lease ran out";
const UNTAINTED: &str = "no key is computed from a damaged input";
const GOOD_ENDING: &str = "a run that ends well has its results";
const BLAMELESS: &str = "a run fails only after a crash or damage";
const ENDS: &str = "every run ends";

const FROM_THE_DEAD: &str = "a lease is taken over from the dead";
const FROM_THE_LIVING: &str = "a lease that ran out is taken over from the living";
const ADOPTED: &str = "the result of a crashed run's job is adopted";
const COLLECTED: &str = "gc removes an entry and its object";
const MENDED: &str = "a damaged object is quarantined and computed again";

/// Each set of three processes that is checked, by what it is there for.
fn casts() -> Vec<Cast> {
    use Role::{Gc, Run, Verify};
    vec![
        Cast([(Run, 0), (Run, 1), (Gc, 0)], Cache::Old),
        Cast([(Run, 0), (Run, 1), (Gc, 0)], Cache::Full),
        Cast([(Run, 0), (Gc, 1), (Verify, 0)], Cache::Old),
        Cast([(Run, 0), (Run, 1), (Verify, 0)], Cache::Empty),
        Cast([(Run, 0), (Run, 1), (Verify, 0)], Cache::Full),
        Cast([(Run, 0), (Run, 1), (Run, 0)], Cache::Empty),
    ]
}

fn protocol(variant: Variant, faults: u8) -> Protocol {
    let budget = Budget { faults, crashes: faults.min(2), stops: 1, jumps: 1, damages: 1 };
    Protocol { variant, budget, casts: casts() }
}

/// Visits all states, unless it finds enough before.
fn checked(protocol: Protocol, enough: HasDiscoveries) -> impl Checker<Protocol> {
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
#[expect(clippy::print_stderr, reason = "a larger budget is asked for to know the number")]
fn every_state_that_the_budget_allows_has_the_properties_and_the_page_counts_them() {
    let is_large = std::env::var("REPRO_MODEL_BUDGET").is_ok_and(|budget| budget == "large");
    let faults = if is_large { 3 } else { 2 };
    let checked = checked(protocol(Variant::AsWritten, faults), HasDiscoveries::AnyFailures);
    checked.assert_properties();
    let row = format!("| {faults} | {} |", grouped(checked.unique_state_count()));
    eprintln!("{row}");
    let is_counted = project("docs/protocol.md").contains(&row);
    assert!(is_counted || is_large, "docs/protocol.md lacks `{row}`");
}

/// Visits every state of the protocol as it is, depth first; fails where one comes back.
fn walk(faults: u8, mut visit: impl FnMut(&State)) {
    let model = protocol(Variant::AsWritten, faults);
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
            Some(true) => panic!("it comes back: {state:?}"),
            Some(false) => continue,
            None => _ = is_on_path.insert(print, true),
        }
        visit(&state);
        path.push((print, model.next_states(&state)));
    }
}

#[test]
fn no_state_comes_back() {
    let mut visited = 0;
    walk(1, |_| visited += 1);
    assert!(visited > 500_000, "{visited}");
}

#[test]
fn every_step_is_an_operation_of_a_function_that_is_there_and_on_the_page() {
    let mut steps: HashSet<Step> = HashSet::new();
    walk(1, |state| steps.extend(state.processes.iter().map(|process| process.step)));
    let functions: HashSet<_> = steps.into_iter().filter_map(Step::taken_by).collect();
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

/// Asserts that a mutant violates `property` within so many faults.
#[track_caller]
fn finds(property: &'static str, mutant: Variant, faults: u8) {
    let checked = checked(protocol(mutant, faults), HasDiscoveries::AnyOf([property].into()));
    let visited = checked.unique_state_count();
    assert!(checked.discovery(property).is_some(), "{mutant:?}: none in {visited} states");
}

#[test]
fn the_checker_finds_an_entry_published_before_its_objects() {
    finds(OBJECTS, Variant::EntryBeforeObjects, 0);
}

#[test]
fn the_checker_finds_a_job_that_does_not_look_again_under_its_lease() {
    finds(ONCE, Variant::NoLookupUnderTheLease, 0);
}

#[test]
fn the_checker_finds_a_gc_that_does_not_lock_the_cache() {
    finds(OBJECTS, Variant::GcTakesNoLock, 0);
}

#[test]
fn the_checker_finds_a_gc_that_forgets_what_hangs_on_a_damaged_object() {
    finds(KEPT, Variant::GcForgetsWhatHangsOnDamage, 1);
}

#[test]
fn the_checker_finds_leases_that_are_buried_without_a_turn() {
    finds(ONCE, Variant::BurialTakesNoTurn, 1);
}

#[test]
fn the_checker_finds_a_lease_that_is_buried_without_a_second_look() {
    finds(ONCE, Variant::BurialLooksOnce, 1);
}

#[test]
fn the_checker_finds_a_late_owner_that_removes_the_lease_of_another() {
    finds(ONCE, Variant::DropTakesNoTurn, 2);
}

#[test]
fn the_checker_finds_that_nobody_takes_the_lease_of_the_dead() {
    finds(ENDS, Variant::LeasesNeverEnd, 1);
}

#[test]
fn the_checker_finds_a_heartbeat_that_is_compared_with_an_earlier_time() {
    finds(ONCE, Variant::TimeIsAskedForTooEarly, 0);
}

#[test]
fn the_checker_finds_a_damaged_object_that_is_moved_away_before_a_sound_one_is_there() {
    finds(OBJECTS, Variant::DamageIsMovedAwayFirst, 2);
}

#[test]
fn the_checker_finds_a_job_that_trusts_its_inputs() {
    finds(UNTAINTED, Variant::InputsAreTrusted, 1);
}

#[test]
fn the_checker_finds_a_quarantine_that_does_not_hash_again() {
    finds(OBJECTS, Variant::QuarantineLooksOnce, 1);
}

#[test]
fn the_checker_finds_locks_that_do_not_reach_the_other_host() {
    finds(OBJECTS, Variant::LocksReachOneHost, 0);
}

#[test]
fn the_checker_finds_a_run_that_takes_the_work_of_another_for_done() {
    finds(GOOD_ENDING, Variant::TakenCountsAsDone, 0);
}

#[test]
fn the_checker_finds_a_run_that_takes_the_work_of_another_for_a_failure() {
    finds(BLAMELESS, Variant::TakenCountsAsFailed, 0);
}
