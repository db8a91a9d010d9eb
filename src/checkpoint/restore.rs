//! What of a checkpoint goes on in a new graph: reused, new or dropped, node by node; and why it may not.
//!
//! Pure: a manifest and a graph in, a plan or one error with all refusals out. Nothing is started or changed by it.

use std::fmt::Write;

use thalweg_core::state::{KeyColumn, StateTableSpec};
use thalweg_core::stored::{NarrowValues, TableMatch, TableName};
use thalweg_core::{Error, Place, Result};
use thalweg_graph::{Graph, Node, NodeIx, OperatorId, OperatorSpec};

use crate::manifest::{Manifest, SourceLog};
use crate::text;

/// What is to be restored, and what the user allows.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub manifest: &'a Manifest,
    /// What is to run: the stored graph itself, or one planned anew.
    pub graph: &'a Graph,
    /// Where in the script each node of `graph` comes from; shorter or empty if that is not known.
    pub places: &'a [Option<Place>],
    /// Where the checkpoint is, as the user calls it: `./state`.
    pub place: &'a str,
    /// `pipeline.max-parallelism` if it was set.
    pub max_parallelism: Option<u16>,
    /// `--allow-non-restored-state`
    pub allow_non_restored_state: bool,
    /// `--allow-partial-history`
    pub allow_partial_history: bool,
}

/// What happens to each part.
#[derive(Debug, Clone, PartialEq)]
pub struct RestorePlan {
    /// Per node of the new graph.
    pub nodes: Vec<Fate>,
    /// Nodes of the stored graph that no node goes on with.
    pub dropped: Vec<NodeIx>,
    /// State tables that go on; all others are dropped.
    pub tables: Vec<TableMatch>,
    /// Per source of the new graph that goes on: where.
    pub sources: Vec<(NodeIx, SourceLog)>,
}

/// What happens to a node of the new graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Goes on with the state, the position or the segments of this stored node.
    Reused { stored: NodeIx },
    /// Begins empty. With `partial_history` it never sees what sources before it have read already.
    New { partial_history: bool },
}

/// One reason why a graph does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    kind: RefusalKind,
    /// What it is about; `None`: the whole job.
    operator: Option<OperatorId>,
    /// In the script.
    place: Option<Place>,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RefusalKind {
    /// State of the same operator, in tables that are described differently.
    Differs,
    /// Stored state that nothing goes on with.
    Dropped,
    /// Something new that never sees the rows read before.
    PartialHistory,
    /// Not to be allowed by any flag.
    Never,
}

/// Decides. An error of code `Checkpoint` has all refusals as notes, and at the end what can be done.
pub fn plan(request: &Request<'_>) -> Result<RestorePlan> {
    let Request { manifest, graph, .. } = *request;
    let mut refusals = vec![];
    if let Some(wanted) = request.max_parallelism
        && wanted != manifest.max_parallelism
    {
        let text = format!(
            "pipeline.max-parallelism is {wanted}, but the state is stored in {} key groups: it cannot change with a restore",
            manifest.max_parallelism
        );
        refusals.push(Refusal { kind: RefusalKind::Never, operator: None, place: None, text });
    }
    let matched = match_nodes(request, &mut refusals);
    let history = read_before(request, &matched);

    let nodes: Vec<Fate> = matched
        .iter()
        .zip(&history)
        .map(|(m, h)| match m {
            Some(stored) => Fate::Reused { stored: *stored },
            None => Fate::New { partial_history: !h.is_empty() },
        })
        .collect();
    for (i, node) in graph.nodes.iter().enumerate() {
        if let Some(why) = partial_history(request, i, matched[i], &history[i]) {
            let text = format!("{} {why}", title(graph, node));
            refusals.push(Refusal {
                kind: RefusalKind::PartialHistory,
                operator: Some(node.id),
                place: request.place_of(i),
                text,
            });
        }
    }

    let used = |j: &NodeIx| matched.contains(&Some(*j));
    let dropped: Vec<NodeIx> = (0..manifest.graph.nodes.len()).filter(|j| !used(j)).collect();
    let feeds = feeds_kept_sink(&manifest.graph, &used);
    for &j in &dropped {
        if let Some(what) = dropped_state(manifest, j, feeds[j]) {
            let title = title(&manifest.graph, &manifest.graph.nodes[j]);
            let text = format!("{title} is not in this script: {what}");
            let operator = Some(manifest.graph.nodes[j].id);
            refusals.push(Refusal { kind: RefusalKind::Dropped, operator, place: None, text });
        }
    }

    let left: Vec<&Refusal> = refusals
        .iter()
        .filter(|r| match r.kind {
            RefusalKind::Differs | RefusalKind::Dropped => !request.allow_non_restored_state,
            RefusalKind::PartialHistory => !request.allow_partial_history,
            RefusalKind::Never => true,
        })
        .collect();
    if !left.is_empty() {
        return Err(refuse(request, &left, &refusals));
    }

    let mut tables = vec![];
    let mut sources = vec![];
    for (i, stored) in matched.iter().enumerate().filter_map(|(i, m)| Some((i, (*m)?))) {
        let (new, old) = (&graph.nodes[i], &manifest.graph.nodes[stored]);
        for spec in &new.state {
            let narrow = fit(old, spec).expect("a matched node's tables fit");
            tables.push(TableMatch { stored: table_name(old, &spec.name), table: table_name(new, &spec.name), narrow });
        }
        if matches!(new.spec, OperatorSpec::Source(_))
            && let Some(log) = manifest.source(old.id, old.variant)
        {
            sources.push((i, log.clone()));
        }
    }
    Ok(RestorePlan { nodes, dropped, tables, sources })
}

impl Request<'_> {
    /// Where in the script a node of the new graph comes from.
    fn place_of(&self, node: NodeIx) -> Option<Place> {
        self.places.get(node).copied().flatten()
    }
}

fn table_name(node: &Node, table: &str) -> TableName {
    TableName::new(node.id.to_string(), node.variant, table)
}

fn is_source(node: &Node) -> bool {
    matches!(node.spec, OperatorSpec::Source(_))
}

fn is_sink(node: &Node) -> bool {
    matches!(node.spec, OperatorSpec::Sink(_))
}

/// `Join INNER a = b 5c0a88e1`
fn title(graph: &Graph, node: &Node) -> String {
    format!("{} {}", node.spec.meaning().title(&graph.inputs(node)), node.id.short())
}

/// Per new node the stored one that it goes on with: of the same id and the same variant, else the one stored variant
/// whose tables have all the columns that it needs. State is never given to two nodes.
fn match_nodes(request: &Request<'_>, refusals: &mut Vec<Refusal>) -> Vec<Option<NodeIx>> {
    let (old, new) = (&request.manifest.graph, request.graph);
    let mut matched: Vec<Option<NodeIx>> = vec![None; new.nodes.len()];
    let mut taken = vec![false; old.nodes.len()];
    let fits = |i: usize, j: usize| new.nodes[i].state.iter().all(|spec| fit(&old.nodes[j], spec).is_some());
    // A position can be gone on from twice, and what has no state is not taken; tables and segments go to one node only.
    let is_exclusive = |i: usize| !new.nodes[i].state.is_empty() || is_sink(&new.nodes[i]);

    for (i, node) in new.nodes.iter().enumerate() {
        let same = old.nodes.iter().position(|o| o.id == node.id && o.variant == node.variant);
        if let Some(j) = same.filter(|j| fits(i, *j)) {
            matched[i] = Some(j);
            taken[j] = true;
        }
    }
    for (i, node) in new.nodes.iter().enumerate() {
        if matched[i].is_some() {
            continue;
        }
        let of_id: Vec<NodeIx> =
            (0..old.nodes.len()).filter(|j| old.nodes[*j].id == node.id && !(is_exclusive(i) && taken[*j])).collect();
        let fitting: Vec<NodeIx> = of_id.iter().copied().filter(|j| fits(i, *j)).collect();
        match fitting[..] {
            // Where nothing was ever stored there is nothing that could not be read.
            [] => {
                if let Some(&j) = of_id.iter().find(|j| !table_sizes(request.manifest, &old.nodes[**j]).is_empty()) {
                    let text = difference(request, node, &old.nodes[j]);
                    refusals.push(Refusal {
                        kind: RefusalKind::Differs,
                        operator: Some(node.id),
                        place: request.place_of(i),
                        text,
                    });
                }
            }
            [j] => {
                matched[i] = Some(j);
                taken[j] = true;
            }
            [j, ..] if !is_exclusive(i) => matched[i] = Some(j),
            [_, _, ..] => {
                let text = format!(
                    "{} could go on from {} stored variants of it, which carry other columns: run it first with the columns that one of them had",
                    title(new, node),
                    fitting.len()
                );
                refusals.push(Refusal {
                    kind: RefusalKind::Never,
                    operator: Some(node.id),
                    place: request.place_of(i),
                    text,
                });
            }
        }
    }
    matched
}

/// How the stored node's table of that name serves as `spec`: `None` if it does not, `Some(None)` as it is,
/// `Some(Some(…))` with fewer value columns.
fn fit(stored: &Node, spec: &StateTableSpec) -> Option<Option<NarrowValues>> {
    let old = stored.state.iter().find(|s| s.name == spec.name)?;
    let same_key = old.key.len() == spec.key.len()
        && old.key.iter().zip(&spec.key).all(|(a, b)| {
            let of = |c: &KeyColumn| (c.ty.clone(), c.descending, c.nulls_first, c.exact, c.provenance.clone());
            of(a) == of(b)
        });
    if !same_key || old.version != spec.version || old.routing_columns != spec.routing_columns {
        return None;
    }
    let mut keep: Vec<usize> = vec![];
    for column in &spec.value {
        let same = |j: &usize| old.value[*j].ty == column.ty && old.value[*j].provenance == column.provenance;
        keep.push((0..old.value.len()).filter(|j| !keep.contains(j)).find(same)?);
    }
    let as_it_is = keep.iter().copied().eq(0..old.value.len());
    Some((!as_it_is).then(|| NarrowValues { types: old.value.iter().map(|c| c.ty.clone()).collect(), keep }))
}

/// A source that has read something already, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ReadBefore {
    name: String,
    rows: u64,
}

/// Per new node: the sources before it that go on from a position which is not their start.
fn read_before(request: &Request<'_>, matched: &[Option<NodeIx>]) -> Vec<Vec<ReadBefore>> {
    let mut before: Vec<Vec<ReadBefore>> = vec![];
    for (i, node) in request.graph.nodes.iter().enumerate() {
        let mut all: Vec<ReadBefore> = node.inputs.iter().flat_map(|e| before[e.from].clone()).collect();
        let stored = matched[i].map(|j| &request.manifest.graph.nodes[j]).filter(|_| is_source(node));
        let log = stored.and_then(|s| request.manifest.source(s.id, s.variant));
        if let Some(log) = log.filter(|l| !l.is_at_start()) {
            all.push(ReadBefore { name: log.name.clone(), rows: log.rows });
        }
        all.dedup();
        before.push(all);
    }
    before
}

/// Why a node would give wrong answers, having missed the rows that were read before; `None`: it would not.
fn partial_history(request: &Request<'_>, i: NodeIx, matched: Option<NodeIx>, before: &[ReadBefore]) -> Option<String> {
    let Request { manifest, graph, .. } = *request;
    let node = &graph.nodes[i];
    let source = before.first()?;
    let missed = format!(
        "its source {} goes on from tick {}: it would never see the {} read before",
        source.name,
        text::thousands(manifest.tick),
        text::rows(source.rows)
    );
    match matched {
        None if !node.state.is_empty() => {
            Some(format!("is new and has no state, but {missed}, and its answers would be wrong."))
        }
        None if is_sink(node) => Some(format!("is new, but {missed}, and the target would lack what they gave.")),
        Some(j) if is_sink(node) => {
            let old = &manifest.graph.nodes[j];
            let changing = |g: &Graph, n: &Node, known: &dyn Fn(thalweg_graph::OperatorId) -> bool| {
                n.inputs.iter().any(|e| !g.output(e).append_only && !known(g.nodes[e.from].id))
            };
            let is_old = |id| old.inputs.iter().any(|e| manifest.graph.nodes[e.from].id == id);
            let is_new = |id| node.inputs.iter().any(|e| graph.nodes[e.from].id == id);
            let changed = changing(graph, node, &is_old) || changing(&manifest.graph, old, &is_new);
            changed.then(|| {
                format!(
                    "gets its rows another way than before, but {missed}, and what the old way wrote would never be updated or deleted."
                )
            })
        }
        _ => None,
    }
}

/// Per stored node: rows of it reach a sink that goes on.
fn feeds_kept_sink(graph: &Graph, used: &dyn Fn(&NodeIx) -> bool) -> Vec<bool> {
    let mut feeds = vec![false; graph.nodes.len()];
    for (j, node) in graph.nodes.iter().enumerate().rev() {
        feeds[j] |= is_sink(node) && used(&j);
        if feeds[j] {
            node.inputs.iter().for_each(|e| feeds[e.from] = true);
        }
    }
    feeds
}

/// What is lost with a stored node that nothing goes on with; `None`: nothing. A source whose rows went to sinks only that
/// are gone too is not missed: its position says nothing about what goes on.
fn dropped_state(manifest: &Manifest, j: NodeIx, feeds_kept_sink: bool) -> Option<String> {
    let node = &manifest.graph.nodes[j];
    let sizes = table_sizes(manifest, node);
    if !sizes.is_empty() {
        return Some(format!("its state ({}) would be dropped.", sizes.join(", ")));
    }
    let waiting = manifest.sink(node.id).filter(|_| is_sink(node)).map_or(0, |s| s.pending_rows());
    if waiting > 0 {
        return Some(format!("{} that wait for the target would never be delivered.", text::rows(waiting)));
    }
    let at = manifest.sources.iter().find(|s| s.operator == node.id && s.variant == node.variant);
    let at = at.filter(|s| is_source(node) && feeds_kept_sink && !s.is_at_start())?;
    Some(format!("its position, after {}, would be dropped.", text::rows(at.rows)))
}

/// `left 1.1 GB`, per stored table of the node.
fn table_sizes(manifest: &Manifest, node: &Node) -> Vec<String> {
    let stored = |name: &str| {
        let name = table_name(node, name);
        let tables = manifest.shards.iter().flat_map(|s| &s.tables).filter(|t| t.name == name);
        tables.map(|t| t.bytes).reduce(|a, b| a + b)
    };
    node.state.iter().filter_map(|s| Some(format!("{} {}", s.name, text::bytes(stored(&s.name)?)))).collect()
}

/// Both sides of every table that does not fit, column by column.
fn difference(request: &Request<'_>, new: &Node, old: &Node) -> String {
    let mut out = String::new();
    let title = title(request.graph, new);
    for spec in &new.state {
        if fit(old, spec).is_some() {
            continue;
        }
        if !out.is_empty() {
            out.push('\n');
        }
        let _ = write!(out, "{title}, state table \"{}\":", spec.name);
        let Some(stored) = old.state.iter().find(|s| s.name == spec.name) else {
            let _ = write!(out, " not in the checkpoint");
            continue;
        };
        let key = |s: &StateTableSpec| -> Vec<Cell> {
            s.key
                .iter()
                .map(|c| Cell {
                    name: c.name.clone(),
                    ty: format!("{}{}", c.ty, order(c)),
                    provenance: c.provenance.clone(),
                })
                .collect()
        };
        let value = |s: &StateTableSpec| -> Vec<Cell> {
            s.value
                .iter()
                .map(|c| Cell { name: c.name.clone(), ty: c.ty.to_string(), provenance: c.provenance.clone() })
                .collect()
        };
        let mut lines =
            vec![(String::new(), format!("checkpoint {}", request.manifest.number), "this script".to_owned(), "")];
        for (kind, old, new) in [("key", key(stored), key(spec)), ("value", value(stored), value(spec))] {
            let in_order = kind == "key";
            lines.extend(rows(kind, &old, &new, in_order));
        }
        if stored.version != spec.version {
            let version = |v: u32| format!("version {v}");
            lines.push(("layout".into(), version(stored.version), version(spec.version), "version differs"));
        }
        if stored.routing_columns != spec.routing_columns {
            let routed = |n: usize| format!("by {n} key columns");
            lines.push((
                "workers".into(),
                routed(stored.routing_columns),
                routed(spec.routing_columns),
                "routing differs",
            ));
        }
        let width = |f: fn(&(String, String, String, &str)) -> usize| lines.iter().map(f).max().unwrap_or(0);
        let (a, b, c) = (width(|l| l.0.len()), width(|l| l.1.chars().count()), width(|l| l.2.chars().count()));
        for (what, old, new, mark) in &lines {
            let arrow = if mark.is_empty() { String::new() } else { format!("   ← {mark}") };
            let line = format!("  {what:a$}   {old:b$}   {new:c$}{arrow}");
            let _ = write!(out, "\n{}", line.trim_end());
        }
    }
    out
}

struct Cell {
    name: String,
    ty: String,
    provenance: String,
}

fn order(c: &KeyColumn) -> String {
    let order = match (c.descending, c.nulls_first) {
        (false, true) => "",
        (false, false) => " NULLS LAST",
        (true, false) => " DESC",
        (true, true) => " DESC NULLS FIRST",
    };
    format!("{order}{}", if c.exact { " (exact)" } else { "" })
}

/// Lines of the comparison. Key columns pair by place, value columns by where their values come from.
fn rows(kind: &str, old: &[Cell], new: &[Cell], by_place: bool) -> Vec<(String, String, String, &'static str)> {
    let width = old.iter().chain(new).map(|c| c.name.chars().count()).max().unwrap_or(0);
    let show = |c: Option<&Cell>| c.map_or_else(|| "—".to_owned(), |c| format!("{:width$}  {}", c.name, c.ty));
    let mut pairs: Vec<(Option<&Cell>, Option<&Cell>)> = vec![];
    if by_place {
        pairs.extend((0..old.len().max(new.len())).map(|i| (old.get(i), new.get(i))));
    } else {
        let of = |cells: &'_ [Cell], p: &str| cells.iter().position(|c| c.provenance == p);
        pairs.extend(old.iter().map(|o| (Some(o), of(new, &o.provenance).map(|i| &new[i]))));
        pairs.extend(new.iter().filter(|n| of(old, &n.provenance).is_none()).map(|n| (None, Some(n))));
    }
    let line = |(i, (old, new)): (usize, (Option<&Cell>, Option<&Cell>))| {
        let mark = match (old, new) {
            (Some(o), Some(n)) if o.provenance != n.provenance => "column differs",
            (Some(o), Some(n)) if o.ty != n.ty => "type differs",
            (None, Some(_)) => "not in the checkpoint",
            (Some(_), None) if by_place => "not in this script",
            _ => "",
        };
        (format!("{kind} {}", i + 1), show(old), show(new), mark)
    };
    pairs.into_iter().enumerate().map(line).collect()
}

fn refuse(request: &Request<'_>, left: &[&Refusal], all: &[Refusal]) -> Error {
    let manifest = request.manifest;
    let mut error = Error::checkpoint(format!(
        "job {} does not fit checkpoint {} in {} (nothing was started or changed)",
        manifest.job_name, manifest.number, request.place
    ));
    // What differs is dropped, begins empty and misses rows: the difference says enough.
    let differs = |r: &Refusal| r.kind == RefusalKind::Differs;
    let is_told = |r: &Refusal| !differs(r) && left.iter().any(|d| differs(d) && d.operator == r.operator);
    for refusal in left.iter().filter(|r| !is_told(r)) {
        error = error.note_at(refusal.place, refusal.text.as_str());
    }
    let has = |kind: RefusalKind| all.iter().any(|r| r.kind == kind);
    let drops = has(RefusalKind::Differs) || has(RefusalKind::Dropped);
    let misses = has(RefusalKind::PartialHistory);
    let mut choices = vec![
        ("set the script back to what it was".to_owned(), format!("goes on from checkpoint {}", manifest.number)),
        ("--fresh".to_owned(), "reads all sources again; sinks get everything again".to_owned()),
    ];
    let never = has(RefusalKind::Never);
    let flags = [(drops, "--allow-non-restored-state"), (misses, "--allow-partial-history")];
    let flags: Vec<&str> = flags.iter().filter(|(needed, _)| *needed).map(|(_, flag)| *flag).collect();
    if !never {
        let means = match (drops, misses) {
            (true, true) => "drops the state named above; what is new answers for new rows only",
            (true, false) => "drops the state named above",
            _ => "what is new answers for new rows only",
        };
        choices.push((flags.join(" "), means.to_owned()));
    }
    let width = choices.iter().map(|(flag, _)| flag.len()).max().unwrap_or(0);
    let mut text = "Choose one:".to_owned();
    for (flag, means) in choices {
        let _ = write!(text, "\n  {flag:width$}  {means}");
    }
    error.note(text)
}

/// The options of a source that decide which rows come out and that are not what they were. They hold for what is read from
/// now on: to go on past a bad row is a reason to change one.
fn changed_options(old: &Node, new: &Node) -> Option<String> {
    let (OperatorSpec::Source(old), OperatorSpec::Source(new)) = (&old.spec, &new.spec) else { return None };
    let mut changed: Vec<&str> = vec![];
    for table in &new.tables {
        let Some(before) = old.tables.iter().find(|t| t.identity == table.identity) else { continue };
        let names = before.variant.keys().chain(table.variant.keys());
        changed.extend(names.filter(|n| before.variant.get(*n) != table.variant.get(*n)).map(String::as_str));
    }
    changed.sort_unstable();
    changed.dedup();
    let goes_on = || format!("from there on with changed options: {}", changed.join(", "));
    (!changed.is_empty()).then(goes_on)
}

/// `positions: orders.json {"offset":18231,"line":204}`; of many splits only how many there are.
fn positions(log: &SourceLog) -> String {
    let at: Vec<String> = log
        .positions
        .iter()
        .map(|(split, position)| match position {
            serde_json::Value::String(text) => format!("{split} {text}"),
            other => format!("{split} {other}"),
        })
        .collect();
    let rows = text::rows(log.rows);
    let all = at.join(", ");
    match at.len() {
        1.. if all.chars().count() <= POSITIONS_CHARS_MAX => format!("position after {rows}: {all}"),
        0 | 1 => format!("position after {rows}"),
        splits => format!("positions of {splits} splits after {rows}"),
    }
}

/// Longer titles are not aligned to.
const TITLE_CHARS_MAX: usize = 60;
/// Longer positions are left to `thalweg checkpoint inspect`.
const POSITIONS_CHARS_MAX: usize = 100;

/// A finished restore, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub reused: usize,
    pub new: usize,
    pub dropped: usize,
    /// Empty if everything goes on as it was; else one line for every source, sink and operator with state: `reused   5c0a88e1 Join INNER …  left 1.1 GB, right 40 MB`.
    pub lines: Vec<String>,
}

impl RestorePlan {
    /// What `restored checkpoint …` says. Lines only if something is not simply reused.
    pub fn report(&self, request: &Request<'_>) -> Report {
        let Request { manifest, graph, .. } = *request;
        let matters = |n: &Node| !n.state.is_empty() || is_source(n) || is_sink(n);
        let reused = self.nodes.iter().filter(|f| matches!(f, Fate::Reused { .. })).count();
        let mut report = Report { reused, new: self.nodes.len() - reused, dropped: self.dropped.len(), lines: vec![] };
        let pairs = graph.nodes.iter().zip(&self.nodes);
        let has_changed_options = pairs.clone().any(|(node, fate)| match fate {
            Fate::Reused { stored } => changed_options(&manifest.graph.nodes[*stored], node).is_some(),
            Fate::New { .. } => false,
        });
        if report.new + report.dropped == 0 && !has_changed_options {
            return report;
        }
        let mut lines: Vec<(&str, String, String, String)> = vec![];
        let mut line = |fate: &'static str, graph: &Graph, node: &Node, detail: String| {
            let title = node.spec.meaning().title(&graph.inputs(node));
            lines.push((fate, node.id.short(), title, detail));
        };
        for (node, fate) in pairs.filter(|(n, _)| matters(n)) {
            match fate {
                Fate::Reused { stored } => {
                    let old = &manifest.graph.nodes[*stored];
                    let detail = match &node.spec {
                        OperatorSpec::Source(_) => {
                            let at = manifest.source(old.id, old.variant);
                            let at = at.map(positions);
                            at.into_iter().chain(changed_options(old, node)).collect::<Vec<_>>().join("; ")
                        }
                        OperatorSpec::Sink(_) => manifest
                            .sink(old.id)
                            .filter(|s| !s.pending.is_empty())
                            .map(|s| format!("{} wait for the target", text::rows(s.pending_rows())))
                            .unwrap_or_default(),
                        _ => table_sizes(manifest, old).join(", "),
                    };
                    line("reused", graph, node, detail);
                }
                Fate::New { partial_history: true } => line(
                    "new",
                    graph,
                    node,
                    format!(
                        "empty; warning: sees only changes after tick {} (partial history)",
                        text::thousands(manifest.tick)
                    ),
                ),
                Fate::New { .. } => line("new", graph, node, "empty".to_owned()),
            }
        }
        for node in self.dropped.iter().map(|j| &manifest.graph.nodes[*j]).filter(|n| matters(n)) {
            let mut what = table_sizes(manifest, node);
            let waits = manifest.sink(node.id).filter(|s| is_sink(node) && !s.pending.is_empty());
            what.extend(waits.map(|s| format!("{} that waited for the target", text::rows(s.pending_rows()))));
            let at = manifest.sources.iter().find(|s| s.operator == node.id && s.variant == node.variant);
            what.extend(at.filter(|_| is_source(node)).map(positions));
            let detail = match what.is_empty() {
                true => String::new(),
                false => format!("{}, still in checkpoint {}", what.join(", "), manifest.number),
            };
            line("dropped", &manifest.graph, node, detail);
        }
        let width = |title: &String| title.chars().count();
        let widest = lines.iter().map(|l| width(&l.2)).filter(|w| *w <= TITLE_CHARS_MAX).max().unwrap_or(0);
        report.lines = lines
            .iter()
            .map(|(fate, id, title, detail)| format!("{fate:<8} {id} {title:widest$}  {detail}").trim_end().to_owned())
            .collect();
        report
    }
}

#[cfg(test)]
#[path = "restore_tests.rs"]
mod tests;
