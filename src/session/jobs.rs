//! Jobs: an INSERT or a STATEMENT SET that runs, found again in a directory by its name or its sinks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use thalweg_checkpoint::inspect::open_path;
use thalweg_checkpoint::job::{
    StoredJob, StoredJobs, WantedJob, candidates, check_distinct, remove_unbegun, set_aside, stored_jobs,
};
use thalweg_checkpoint::manifest::Statement;
use thalweg_checkpoint::{Storage, attempt, layout};
use thalweg_core::mark::JobId;
use thalweg_core::table::{Delivery, TableDef};
use thalweg_core::{Error, Place, Result};
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
        let (planned, places) = self.planned(|p| p.plan_inserts_with_places(inserts))?;
        let sinks: Vec<_> = planned.sinks().map(|(ix, s)| (planned.nodes[ix].id, s.def.name.clone())).collect();
        let pipeline_name = self.settings.pipeline_name();
        let title = pipeline_name
            .clone()
            .unwrap_or_else(|| sinks.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join("+"));
        let wanted = WantedJob { name: pipeline_name.clone(), title: title.clone(), sinks };
        let mut all: Vec<WantedJob> = self.jobs.iter().filter(|j| is_live(j)).map(|j| j.wanted.clone()).collect();
        all.push(wanted.clone());
        check_distinct(&all).map_err(|e| e.at(inserts[0].target.place))?;

        self.refuse_loops(&planned, inserts)?;

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
        let begins_anew = self.flags.fresh || self.flags.from.is_some();
        let stored = self.stored_jobs(&checkpoints).await?;
        // A new job needs nothing that is stored: what cannot be read is in nobody's way, and is left as it is.
        let found = if begins_anew { None } else { stored.find(&wanted).map_err(|e| e.at(inserts[0].target.place))? };
        let (graph, durable, notice) = if options.checkpoint_interval.is_none() && !needs_segments {
            (planned, None, None)
        } else if begins_anew {
            let begin = Beginning { wanted: &wanted, fingerprint, checkpoints: &checkpoints, places, parsed };
            self.new_job(planned, begin, &stored).await?
        } else {
            let begin = Beginning { wanted: &wanted, fingerprint, checkpoints: &checkpoints, places, parsed };
            self.durable(planned, begin, found).await?
        };
        let id = durable.as_ref().map_or_else(attempt::new_job_id, |d| d.job.clone());
        if let Some(found) = durable.as_ref().and(found)
            && self.settings.max_parallelism_given().is_none()
        {
            options.max_parallelism = found.manifest.max_parallelism;
        }
        let graph = Arc::new(graph);
        let opener = Opener {
            registry: &self.registry,
            own_tables: &self.own_tables,
            definition: &|def| self.definition(def),
            disturb: options.disturb.as_ref(),
        };
        let unused = Arc::default();
        let config = InstanceConfig {
            job_name: title.clone(),
            sources: opener.sources(&graph, &id)?,
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

    /// A job that reads what it writes would never end, and after a restart read its own output as input.
    fn refuse_loops(&self, graph: &Graph, inserts: &[Insert]) -> Result<()> {
        for (_, sink) in graph.sinks() {
            let Some(connector) = sink.def.option("connector") else { continue };
            let sources = graph.sources().filter(|(_, s)| s.connector == connector).flat_map(|(_, s)| &s.tables);
            for source in sources {
                let (source, target) = (self.definition(&source.def), self.definition(&sink.def));
                if !self.registry.get(connector)?.reads_back(&source, &target)? {
                    continue;
                }
                let place = inserts.iter().find(|i| i.target.value.eq_ignore_ascii_case(&target.name));
                let path =
                    |def: &TableDef| def.option("path").map(|p| format!(" ('path' = '{p}')")).unwrap_or_default();
                return Err(Error::unsupported(format!(
                    "this job would read what it writes: table {}{} reads the files of table {}{}",
                    source.name,
                    path(&source),
                    target.name,
                    path(&target)
                ))
                .at(place.unwrap_or(&inserts[0]).target.place)
                .note("write into a folder that is not read, or read a pattern that leaves these files out"));
            }
        }
        Ok(())
    }

    /// The jobs of a checkpoints directory, when what was left of beginnings is cleared away.
    async fn stored_jobs(&self, checkpoints: &Path) -> Result<StoredJobs> {
        // Nobody else begins a job in a directory that this process has locked, and this one has not yet.
        if checkpoints == self.directory.checkpoints() && self.jobs.is_empty() {
            // What cannot be removed is in nobody's way.
            let _ = remove_unbegun(checkpoints);
        }
        let stored = stored_jobs(checkpoints).await?;
        for job in &stored.replaced {
            set_aside(checkpoints, job)?;
        }
        Ok(stored)
    }

    /// What a restore may do.
    fn restore_flags(&self, node_places: Vec<Option<Place>>) -> thalweg_runtime::RestoreFlags {
        thalweg_runtime::RestoreFlags {
            allow_non_restored_state: self.flags.allow_non_restored_state,
            allow_partial_history: self.flags.allow_partial_history,
            max_parallelism: self.settings.max_parallelism_given(),
            place: self.directory.path().display().to_string(),
            node_places,
        }
    }

    /// Where the job's checkpoints are, and what it may do with them.
    fn durable_config(&self, begin: Beginning<'_>, job: JobId) -> Result<DurableConfig> {
        Ok(DurableConfig {
            storage: Storage::open(&layout::job_root(begin.checkpoints, &job))?,
            job,
            is_named: begin.wanted.name.is_some(),
            statement: Statement { text: self.masked(begin.parsed), fingerprint: begin.fingerprint },
            flags: self.restore_flags(begin.places),
            from: None,
            replaces: vec![],
            assume_delivered: self.flags.assume_delivered,
        })
    }

    /// The graph to run (the stored one if nothing has changed), and where its checkpoints are.
    async fn durable(
        &self,
        planned: Graph,
        mut begin: Beginning<'_>,
        found: Option<&StoredJob>,
    ) -> Result<(Graph, Option<DurableConfig>, Option<String>)> {
        let job = found.map_or_else(attempt::new_job_id, |f| f.id.clone());
        let unchanged = found.filter(|f| f.manifest.statement.fingerprint == begin.fingerprint && !self.flags.replan);
        let graph = match unchanged {
            None => planned,
            Some(found) => {
                begin.places.clear();
                found.manifest.graph.clone()
            }
        };
        let config = self.durable_config(begin, job)?;
        let Some(found) = found else { return Ok((graph, Some(config), None)) };
        // Before anything is claimed: what does not fit is said without a trace.
        let manifest = attempt::without_delivered(&config.storage, found.manifest.clone()).await?;
        config.flags.plan(&manifest, &graph)?;
        Ok((graph, Some(config), None))
    }

    /// `--fresh` and `--from`: a job that begins in the place of the stored ones that it could be.
    async fn new_job(
        &self,
        planned: Graph,
        begin: Beginning<'_>,
        stored: &StoredJobs,
    ) -> Result<(Graph, Option<DurableConfig>, Option<String>)> {
        let wanted = begin.wanted;
        let job = attempt::new_job_id();
        let mut notices = vec![];
        let from = match &self.flags.from {
            None => None,
            Some(path) => {
                let (storage, manifest) = open_path(path).await?;
                notices.push(format!(
                    "job {} is a new job with the state of {} (tick {}); output that was pending there stays with the old job",
                    wanted.title,
                    path.display(),
                    manifest.tick
                ));
                Some((storage, manifest))
            }
        };
        let replaces: Vec<JobId> = candidates(&stored.jobs, wanted).into_iter().map(|j| j.id.clone()).collect();
        for old in &replaces {
            notices.push(format!(
                "job {} begins anew as {job}; the stored job {old} is set aside, its sinks get everything again",
                wanted.title
            ));
        }
        for (old, e) in &stored.unreadable {
            notices.push(format!(
                "job {} begins anew as {job}; the stored job {old} cannot be read and is left as it is: {}",
                wanted.title,
                e.message()
            ));
        }
        if let Some((_, manifest)) = &from {
            // Before anything is made: what does not fit is said without a trace.
            self.restore_flags(begin.places.clone()).plan(manifest, &planned)?;
        }
        let mut config = self.durable_config(begin, job)?;
        (config.from, config.replaces) = (from, replaces);
        Ok((planned, Some(config), (!notices.is_empty()).then(|| notices.join("\n"))))
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
        let columns =
            ["job", "state", "sinks", "tick", "rows in", "rows out", "checkpoint", "restarts", "waiting output", "id"];
        let rows = self.jobs.iter().map(|j| {
            let m = j.metrics();
            let pending = Metrics::load(&m.pending_bytes);
            let cells = [
                j.name.clone(),
                j.state(),
                j.wanted.sinks.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", "),
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

/// What a job begins with.
struct Beginning<'a> {
    wanted: &'a WantedJob,
    fingerprint: String,
    checkpoints: &'a Path,
    /// Where in the statement each node of the planned graph comes from.
    places: Vec<Option<Place>>,
    parsed: &'a Parsed,
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
