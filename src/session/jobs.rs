//! Jobs: an INSERT or a STATEMENT SET that runs, found again in a directory by its name or its sinks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use thalweg_checkpoint::job::{StoredJob, WantedJob, check_distinct, find, stored_jobs};
use thalweg_checkpoint::manifest::Statement;
use thalweg_checkpoint::{Manifest, Storage, attempt, layout};
use thalweg_core::mark::JobId;
use thalweg_core::table::Delivery;
use thalweg_core::{Error, Result};
use thalweg_graph::{Canonical, Graph};
use thalweg_plan::Parsed;
use thalweg_plan::catalog::{show_create_table, show_create_view};
use thalweg_plan::sql::{Insert, StopJob};
use thalweg_runtime::{DurableConfig, InstanceConfig, InstanceHandle, Metrics, RestoreReport, start};

use crate::select::phase_word;
use crate::session::{Session, build_operator};
use crate::sources::Opener;
use crate::statement::AnswerRows;

/// How jobs begin: the flags of `thalweg run`.
#[derive(Debug, Clone, Default)]
pub struct RestoreFlags {
    /// `--fresh`: new jobs, whatever is stored.
    pub fresh: bool,
    /// `--from PATH`: new jobs with the state of a checkpoint.
    pub from: Option<PathBuf>,
    /// `--replan`: plan anew though the statement is unchanged.
    pub replan: bool,
    /// `--allow-non-restored-state`
    pub allow_non_restored_state: bool,
    /// `--allow-partial-history`
    pub allow_partial_history: bool,
    /// `--assume-delivered N`
    pub assume_delivered: Option<u64>,
}

/// A job of this session.
pub struct Job {
    pub name: String,
    pub id: JobId,
    pub handle: InstanceHandle,
    pub started: Instant,
    pub workers: usize,
    wanted: WantedJob,
    /// Rows that a `--from` or `--fresh` start writes again, in words.
    pub notice: Option<String>,
}

impl Job {
    pub fn metrics(&self) -> &Metrics {
        &self.handle.metrics
    }

    pub fn restored(&self) -> Option<RestoreReport> {
        self.handle.restored()
    }

    /// `running`, `finished`, `failed`, …
    pub fn state(&self) -> String {
        phase_word(&self.handle.phase())
    }
}

impl Session {
    pub(crate) async fn start_job(&mut self, inserts: &[Insert], parsed: &Parsed) -> Result<Arc<Job>> {
        let planned = self.planned(|p| p.plan_inserts(inserts))?;
        let sinks: Vec<_> = planned.sinks().map(|(ix, s)| (planned.nodes[ix].id, s.def.name.clone())).collect();
        let pipeline_name = self.settings.pipeline_name();
        let title = pipeline_name
            .clone()
            .unwrap_or_else(|| sinks.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join("+"));
        let wanted = WantedJob { name: pipeline_name.clone(), title: title.clone(), sinks };
        let mut all: Vec<WantedJob> = self.jobs.iter().filter(|j| is_live(j)).map(|j| j.wanted.clone()).collect();
        all.push(wanted.clone());
        check_distinct(&all)?;

        let mut options = self.runtime_options();
        let needs_segments = planned.sinks().any(|(_, s)| s.delivery != Delivery::None);
        if options.checkpoint_interval.is_none() && needs_segments && !planned.is_bounded() {
            let (_, sink) = planned.sinks().find(|(_, s)| s.delivery != Delivery::None).expect("just seen");
            return Err(Error::option(format!(
                "sink {} is written from checkpoints, and execution.checkpointing.interval is 0",
                sink.def.name
            ))
            .at(inserts[0].target.place)
            .note("SET 'execution.checkpointing.interval' = '1 s'"));
        }

        let fingerprint = self.job_fingerprint(parsed);
        let checkpoints = self.settings.checkpoint_dir().unwrap_or_else(|| self.directory.checkpoints());
        let stored = stored_jobs(&checkpoints).await?;
        let found = find(&stored, &wanted)?;
        let (graph, durable, notice) = if options.checkpoint_interval.is_none() && !needs_segments {
            (planned, None, None)
        } else {
            self.durable(planned, &wanted, fingerprint, &checkpoints, found, parsed).await?
        };
        let id = durable.as_ref().map_or_else(attempt::new_job_id, |d| d.job.clone());
        if let Some(found) = durable.as_ref().and(found)
            && self.settings.max_parallelism_given().is_none()
        {
            options.max_parallelism = found.manifest.max_parallelism;
        }
        let graph = Arc::new(graph);
        let opener =
            Opener { registry: &self.registry, own_tables: &self.own_tables, definition: &|def| self.definition(def) };
        let unused = Arc::default();
        let config = InstanceConfig {
            job_name: title.clone(),
            sources: opener.sources(&graph)?,
            sinks: opener.sinks(&graph, &id, &unused)?,
            graph,
            build: build_operator(),
            options: options.clone(),
            durable,
            on_rewind: None,
        };
        let job = Arc::new(Job {
            name: title,
            id,
            handle: start(config),
            started: Instant::now(),
            workers: options.workers,
            wanted,
            notice,
        });
        self.jobs.push(job.clone());
        Ok(job)
    }

    /// The graph to run (the stored one if nothing has changed), and where its checkpoints are.
    async fn durable(
        &self,
        planned: Graph,
        wanted: &WantedJob,
        fingerprint: String,
        checkpoints: &Path,
        found: Option<&StoredJob>,
        parsed: &Parsed,
    ) -> Result<(Graph, Option<DurableConfig>, Option<String>)> {
        let flags = &self.flags;
        let statement = Statement { text: self.masked(parsed), fingerprint: fingerprint.clone() };
        let place = self.directory.path().display().to_string();
        let max_parallelism = self.settings.max_parallelism_given();
        let restore = thalweg_runtime::RestoreFlags {
            allow_non_restored_state: flags.allow_non_restored_state,
            allow_partial_history: flags.allow_partial_history,
            max_parallelism,
            place,
        };
        let mut config = DurableConfig {
            storage: Storage::open(checkpoints)?,
            job: attempt::new_job_id(),
            is_named: wanted.name.is_some(),
            statement,
            flags: restore,
            from: None,
            assume_delivered: flags.assume_delivered,
        };
        let mut graph = planned;
        let mut notice = None;
        let begins_anew = flags.fresh || flags.from.is_some();
        match found {
            Some(job) if !begins_anew => {
                config.job = job.id.clone();
                if job.manifest.statement.fingerprint == fingerprint && !flags.replan {
                    graph = job.manifest.graph.clone();
                }
                // Before anything is claimed: what does not fit is said without a trace.
                config
                    .flags
                    .plan(&job.manifest, &graph)
                    .map_err(|e| e.context(format_args!("job {}", wanted.title)))?;
            }
            Some(job) => {
                set_aside(checkpoints, &job.id)?;
                notice = Some(format!(
                    "job {} begins anew as {}; the stored job {} is set aside, its sinks get everything again",
                    wanted.title, config.job, job.id
                ));
            }
            None => {}
        }
        if let Some(path) = &flags.from {
            let (storage, manifest) = checkpoint_at(path).await?;
            config.flags.plan(&manifest, &graph).map_err(|e| e.context(format_args!("job {}", wanted.title)))?;
            notice = Some(format!(
                "job {} is a new job with the state of {} (tick {}); output that was pending there stays with the old job",
                wanted.title,
                path.display(),
                manifest.tick
            ));
            config.from = Some((storage, manifest));
        }
        config.storage = Storage::open(&layout::job_root(checkpoints, &config.job))?;
        Ok((graph, Some(config), notice))
    }

    /// Changes with everything that the plan depends on: the statement's tokens, the definitions of the tables and
    /// views that it names, the zone.
    fn job_fingerprint(&self, parsed: &Parsed) -> String {
        let mut c = Canonical::new("statement/1");
        c.text(&parsed.fingerprint).text(&self.settings.time_zone());
        let never = |_: &str, _: &str| false;
        let mut text = parsed.text.to_lowercase();
        let mut used = std::collections::BTreeMap::new();
        loop {
            let before = used.len();
            for t in self.catalog.tables().filter(|t| names(&text, &t.name)) {
                used.insert(t.name.clone(), show_create_table(t, &|c, k| self.is_secret(c, k)));
            }
            for v in self.catalog.views().filter(|v| names(&text, &v.name)) {
                used.insert(v.name.clone(), show_create_view(v, &never));
            }
            if used.len() == before {
                break;
            }
            text = used.values().fold(text, |all, definition| all + "\n" + &definition.to_lowercase());
        }
        for (name, definition) in used {
            c.text(&name).text(&definition);
        }
        c.to_provenance().to_string()
    }

    pub(crate) async fn stop_job(&mut self, stop: &StopJob) -> Result<crate::Answer> {
        let is_it = |j: &&Arc<Job>| j.name.eq_ignore_ascii_case(&stop.job.value) || j.id.0 == stop.job.value;
        let job = self.jobs.iter().rev().find(is_it).cloned().ok_or_else(|| {
            let names = self.jobs.iter().map(|j| j.name.as_str()).collect::<Vec<_>>();
            let listed = if names.is_empty() { "there are none".to_owned() } else { names.join(", ") };
            Error::name(format!("there is no job {}", stop.job.value))
                .at(stop.job.place)
                .propose(thalweg_core::nearest::did_you_mean(&stop.job.value, names))
                .note(format!("jobs: {listed}"))
        })?;
        if stop.with_savepoint {
            return Err(Error::unsupported("STOP JOB … WITH SAVEPOINT is not supported yet")
                .at(stop.job.place)
                .note("STOP JOB takes a final checkpoint"));
        }
        job.handle.stop();
        job.handle.wait().await?;
        Ok(crate::Answer::Done(format!("job {} {}", job.name, job.state())))
    }

    pub(crate) fn show_jobs(&self) -> Result<AnswerRows> {
        let columns = ["job", "state", "tick", "rows in", "rows out", "checkpoint", "restarts", "waiting output", "id"];
        let rows = self.jobs.iter().map(|j| {
            let m = j.metrics();
            let pending = Metrics::load(&m.pending_bytes);
            let cells = [
                j.name.clone(),
                j.state(),
                Metrics::load(&m.tick).to_string(),
                Metrics::load(&m.rows_in).to_string(),
                Metrics::load(&m.rows_out).to_string(),
                Metrics::load(&m.checkpoint).to_string(),
                Metrics::load(&m.restarts).to_string(),
                format!("{pending} bytes"),
                j.id.to_string(),
            ];
            cells.into_iter().map(Some).collect()
        });
        Session::rows_of_strings(&columns, rows.collect())
    }
}

fn is_live(job: &Job) -> bool {
    !matches!(job.handle.phase(), thalweg_runtime::Phase::Ended(_))
}

/// Whether a text names a relation: as a word of its own.
fn names(text: &str, name: &str) -> bool {
    let name = name.to_lowercase();
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(&name)
        .any(|(at, _)| !is_word(text[..at].chars().next_back()) && !is_word(text[at + name.len()..].chars().next()))
}

/// Moves a stored job out of the way of a new one; nothing of it is deleted.
fn set_aside(checkpoints: &Path, job: &JobId) -> Result<()> {
    let to = checkpoints.join("replaced");
    let failed = |e: std::io::Error| Error::from(e).context(format!("setting job {job} aside in {}", to.display()));
    std::fs::create_dir_all(&to).map_err(failed)?;
    std::fs::rename(layout::job_root(checkpoints, job), to.join(&job.0)).map_err(failed)
}

/// The checkpoint that `--from` means: a manifest, the folder of a job (its newest), or a directory with one job.
async fn checkpoint_at(path: &Path) -> Result<(Arc<Storage>, Manifest)> {
    let none = || {
        Error::checkpoint(format!("there is no checkpoint at {}", path.display()))
            .note("--from takes a manifest file, the folder of a job, or a directory with one job")
            .note("`thalweg checkpoint list DIR` shows them")
    };
    if let Some(number) = path.file_name().and_then(|n| layout::manifest_number(&n.to_string_lossy())) {
        let storage = Storage::open_existing(path.parent().ok_or_else(none)?)?;
        let manifest = storage.manifest(number).await?;
        return Ok((storage, manifest));
    }
    if !path.is_dir() {
        return Err(none());
    }
    let storage = Storage::open_existing(path)?;
    if let Some(manifest) = storage.newest().await? {
        return Ok((storage, manifest));
    }
    let jobs = stored_jobs(&layout::checkpoints_dir(path)).await?;
    match jobs.as_slice() {
        [] => Err(none()),
        [job] => {
            let root = layout::job_root(&layout::checkpoints_dir(path), &job.id);
            Ok((Storage::open_existing(&root)?, job.manifest.clone()))
        }
        several => Err(Error::checkpoint(format!("{} holds {} jobs", path.display(), several.len())).note(format!(
            "give the folder of one: {}",
            several.iter().map(|j| format!("checkpoints/{} ({})", j.id, j.name)).collect::<Vec<_>>().join(", ")
        ))),
    }
}
