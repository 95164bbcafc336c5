//! Where, when and by what results were computed. Nothing here is part of a key.

use crate::engine::key::{Digest, Key};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::num::NonZero;
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::OnceLock;

/// The commit of a project's git repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Commit {
    /// Its hash, in hex digits.
    pub id: String,
    /// Whether no file differed from it.
    pub clean: bool,
}

/// The suffix, in text, of a commit with differences, as in `git describe --dirty`.
const DIRTY: &str = "-dirty";

/// Variables that git sets for its hooks, and that would select another repository.
const GIT_VARIABLES: [&str; 5] =
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_NAMESPACE"];

impl Commit {
    /// The commit of the repository that contains `folder`, if there is one that git accepts. The
    /// files in `reports` below `folder` do not count as differences: this program writes them.
    pub fn of(folder: &Path, reports: &str) -> Option<Commit> {
        let mut git = Command::new("git");
        GIT_VARIABLES.iter().for_each(|variable| _ = git.env_remove(variable));
        // Without a lock, git does not write to the repository. A monitor would be a program of
        // the repository's choice.
        git.env("GIT_OPTIONAL_LOCKS", "0").args(["-c", "core.fsmonitor=false", "-C"]).arg(folder);
        git.args(["status", "--porcelain=v2", "--branch", "--untracked-files=normal", "--"]);
        git.arg(":/").arg(format!(":(exclude){reports}"));
        let output = git.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        output.status.success().then_some(())?;
        Commit::parse(&String::from_utf8_lossy(&output.stdout))
    }

    /// Parses the output of `git status`; `None` if there is no commit yet.
    fn parse(status: &str) -> Option<Commit> {
        let id = status.lines().find_map(|line| line.strip_prefix("# branch.oid "))?;
        let clean = status.lines().all(|line| line.starts_with('#'));
        is_hash(id).then(|| Commit { id: id.to_owned(), clean })
    }

    /// The commit with a shortened hash, for display.
    pub fn short(&self) -> String {
        let id: String = self.id.chars().take(10).collect();
        format!("{id} ({})", if self.clean { "clean" } else { "with changes" })
    }
}

fn is_hash(id: &str) -> bool {
    (40..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}{}", self.id, if self.clean { "" } else { DIRTY })
    }
}

impl FromStr for Commit {
    type Err = String;
    fn from_str(text: &str) -> Result<Commit, String> {
        let id = text.strip_suffix(DIRTY);
        let commit = Commit { id: id.unwrap_or(text).to_owned(), clean: id.is_none() };
        if is_hash(&commit.id) { Ok(commit) } else { Err(format!("`{text}` is not a commit")) }
    }
}

/// The environment of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// The number of threads that the job could use.
    pub threads: usize,
    /// The number of CPUs available to its process.
    pub cores: usize,
    /// Operating system, release and architecture, such as `Linux 6.1.0 x86_64`.
    pub system: String,
    /// The name of the processor, where the system reports one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor: Option<String>,
    /// The project's commit when the run started, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
}

impl Environment {
    /// The environment of this process.
    pub fn here(threads: NonZero<usize>, commit: Option<&Commit>) -> Environment {
        static SYSTEM: OnceLock<(String, Option<String>)> = OnceLock::new();
        let (system, processor) = SYSTEM.get_or_init(|| {
            let uname = rustix::system::uname();
            let parts = [uname.sysname(), uname.release(), uname.machine()];
            (parts.map(|part| part.to_string_lossy()).join(" "), processor())
        });
        Environment {
            threads: threads.get(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            system: system.clone(),
            processor: processor.clone(),
            commit: commit.cloned(),
        }
    }
}

/// The name of the first processor. Reads no further, because the file of a machine with many
/// processors takes milliseconds to read.
fn processor() -> Option<String> {
    let lines = BufReader::new(std::fs::File::open("/proc/cpuinfo").ok()?).lines().take(30);
    let name = |line: String| {
        let (field, name) = line.split_once(':')?;
        (field.trim_end() == "model name").then(|| name.trim().to_owned())
    };
    lines.map_while(Result::ok).find_map(name)
}

/// The provenance of a node and of everything upstream of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Provenance {
    /// The name of the node.
    pub node: String,
    /// The profile of the run.
    pub profile: Option<String>,
    /// The nodes; inputs come before their users, and the node itself is the last.
    pub nodes: Vec<NodeProvenance>,
}

/// The provenance of one node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeProvenance {
    /// Its name.
    pub name: String,
    /// Its stage kind.
    pub kind: &'static str,
    /// Its key.
    pub key: Key,
    /// The record of its result; `None` if the result is no longer in the cache.
    pub record: Option<Record>,
}

/// The part of an entry that differs from run to run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// The root of its outputs.
    pub outputs: Digest,
    /// When the stage finished, in seconds since 1970 UTC.
    pub finished: u64,
    /// Wall-clock seconds of the stage.
    pub seconds: f64,
    /// The host that ran the stage.
    pub host: String,
    /// BLAKE3 of the program that ran the stage, if known.
    pub program: Option<Digest>,
    /// The environment of the job, if known.
    pub environment: Option<Environment>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "28a0c51e0c3f6c1c2b7d7f7d3c0c8f0a4c7d9a10";

    #[test]
    fn a_commit_is_clean_if_git_lists_no_file() {
        let parse = |files: &str| Commit::parse(&format!("# branch.oid {ID}\n{files}"));
        let commit = |clean| Some(Commit { id: ID.into(), clean });
        assert_eq!(parse("# branch.head main\n# branch.ab +1 -0\n"), commit(true));
        assert_eq!(parse("# branch.head main\n? new.txt\n"), commit(false));
        assert_eq!(parse("1 .M N... 100644 100644 100644 aa bb file\n"), commit(false));
        assert_eq!(Commit::parse("# branch.oid (initial)\n# branch.head main\n"), None);
        assert_eq!(Commit::parse(""), None);
    }

    #[test]
    fn a_commit_is_read_back_from_its_text() {
        for clean in [true, false] {
            let commit = Commit { id: ID.into(), clean };
            assert_eq!(commit.to_string().parse(), Ok(commit));
        }
        assert_eq!(Commit { id: ID.into(), clean: false }.short(), "28a0c51e0c (with changes)");
        for wrong in ["", "main", "28a0c51", &format!("{ID}-clean"), &format!("x{ID}")] {
            assert!(wrong.parse::<Commit>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_environment_of_this_process_is_known() {
        let environment = Environment::here(NonZero::<usize>::MIN, None);
        assert!(environment.cores >= 1 && environment.threads == 1);
        assert_eq!(environment.system.split(' ').count(), 3, "{}", environment.system);
        let text = serde_json::to_string(&environment).unwrap();
        assert_eq!(serde_json::from_str::<Environment>(&text).unwrap(), environment);
    }
}
