//! `repro submit`: hands the whole pipeline to Slurm and returns.

use super::args::{Common, SubmitArgs};
use super::session::Session;
use super::session::jobs::{cluster_options, provenance_arguments};
use super::session::remote::{Use, print_notices};
use crate::engine::cache::store::Store;
use crate::engine::provenance::Commit;
use crate::engine::run::event::SCHEMA;
use crate::engine::run::executor::slurm::{NodeJobs, Submitter, Work};
use crate::engine::run::submit::arrays;
use crate::engine::stage::Resources;
use crate::engine::text::count;
use crate::fs;
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

pub(super) fn submit(common: &Common, args: &SubmitArgs) -> Result<String> {
    let mut session = Session::open(common)?;
    let how = Use { required: args.require_remote, writes: args.push };
    let notice = session.attach(common, how)?;
    print_notices(notice);
    let (plan, store) = (&session.plan, &session.store);
    store.prepare()?;
    let _lock = store.lock_shared(false)?;
    store.record_pipeline(&common.directory, &common.pipeline_path()?)?;
    let targets = session.select(&args.targets)?;
    let checker = session.checker(BTreeSet::new());
    let pulled = session.pull(common, &checker, &plan.closure(&targets), &|_| Ok(()));
    print_notices(store.notices());
    let (plan_status, _) = pulled?;
    let arrays = arrays(plan, &plan_status);
    let nodes: usize = arrays.iter().map(|array| array.nodes.len()).sum();
    if nodes == 0 {
        let jobs: [u64; 0] = [];
        let command = if args.push { "run --push" } else { "run" };
        return Ok(match common.json {
            true => format!("{}\n", json!({ "schema": SCHEMA, "jobs": jobs })),
            false => format!(
                "everything is up to date; run `{}` for the reports\n",
                session.command(command)
            ),
        });
    }
    // The tasks use this copy, so that the file can be edited meanwhile.
    let copy = copy_pipeline(common, store)?;
    let mut selection: Vec<OsString> = Vec::new();
    if let Some(profile) = &session.profile {
        selection.extend(["--profile".into(), profile.into()]);
    }
    common.set.iter().for_each(|set| selection.extend(["-S".into(), set.into()]));
    let commit = Commit::of(&common.project()?, "reports");
    let mut arguments: Vec<OsString> = vec!["--pipeline".into(), copy.into()];
    arguments.extend(selection.iter().cloned());
    arguments.push("exec".into());
    arguments.extend(provenance_arguments(commit.as_ref())?);
    let push = args.push.then_some("--push");
    let require = args.require_remote.then_some("--require-remote");
    let remote = push.into_iter().chain(require).map(OsString::from);
    arguments.extend(remote.clone());
    let settings = session.pipeline.executors.slurm(&args.sbatch);
    let options = cluster_options(common, arguments, store.scratch()?)?;
    let mut submitter = Submitter::new(options, settings, store.clone());
    let mut ids: Vec<Vec<u64>> = Vec::new();
    for array in &arrays {
        let names: Vec<String> = array.nodes.iter().map(|id| plan.node(*id).name.clone()).collect();
        ids.push(submitter.submit(&NodeJobs {
            kind: array.kind,
            resources: &array.resources,
            retries: args.retries,
            expected: array.expected,
            after: array.after.iter().flat_map(|at| ids[*at].clone()).collect(),
            work: Work::Nodes(&names),
        })?);
    }
    let mut words: Vec<OsString> = vec!["-C".into(), common.project()?.into()];
    words.extend(["--pipeline".into(), common.pipeline.clone().into()]);
    words.extend(selection);
    words.extend(["run".into(), "--require-cached".into()]);
    words.extend(remote);
    words.extend(args.targets.iter().map(OsString::from));
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let last = submitter.submit(&NodeJobs {
        kind: "run",
        resources: &Resources::default(),
        retries: 0,
        expected: None,
        after: ids.concat(),
        work: Work::Command(&words),
    })?;
    ids.push(last);
    let ids = ids.concat();
    if common.json {
        return Ok(format!("{}\n", json!({ "schema": SCHEMA, "jobs": ids })));
    }
    let jobs: Vec<String> = ids.iter().map(u64::to_string).collect();
    Ok(format!("submitted {} as the jobs {}\n", count(nodes), jobs.join(", ")))
}

/// Writes the pipeline file to the cache. Returns the absolute path.
fn copy_pipeline(common: &Common, store: &Store) -> Result<PathBuf> {
    let bytes = fs::read(&common.directory.join(&common.pipeline))?;
    let folder = std::path::absolute(store.cluster().join("pipelines"))?;
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{}.yaml", blake3::hash(&bytes).to_hex()));
    fs::write_new(&path, &store.scratch()?, &bytes)?;
    Ok(path)
}
