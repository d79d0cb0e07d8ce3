//! `trireme explain`: why something is as it is. The scheduler's own plugins are run here, on what the API
//! holds now; nobody's process is asked.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use client::{clock, errors};
use deploy::kubeconfig;
use scheduler::explain::{Explanation, NodeVerdict, live};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::access::{self, Cluster};
use crate::cli::{ExplainArguments, ExplainPod, ExplainSubject};
use crate::control_plane::settings;
use crate::output::{Format, say, table};

/// For reading everything that plugins look at.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the command.
pub(crate) async fn run(arguments: ExplainArguments) -> Result<()> {
    match arguments.subject {
        ExplainSubject::Pod(pod) => explain_pod(pod).await,
    }
}

async fn explain_pod(arguments: ExplainPod) -> Result<()> {
    let path = access::kubeconfig(arguments.kubeconfig.as_deref())?;
    let context = arguments.context.as_deref();
    let cluster = Cluster::open(&path, context)?;
    let config = settings::scheduler(arguments.scheduler_config.as_deref(), &cluster.seams)?;
    let namespace = arguments.namespace;
    let namespace = namespace.or_else(|| kubeconfig::namespace(&path, context));
    let namespace = namespace.unwrap_or_else(|| "default".into());
    let now = clock::now(&*cluster.seams.clock);
    let client = cluster.client()?;
    let asked = live(&client, &config, &namespace, &arguments.name, now);
    let answer = timeout(PATIENCE, asked).await;
    let answer = answer.with_context(|| format!("the API did not answer within {PATIENCE:?}"))?;
    let answer = answer.map_err(|error| anyhow!(errors::message(&error)));
    let Some(explanation) = answer.context("cannot read what the scheduler looks at")? else {
        bail!("pods {:?} not found", arguments.name);
    };
    match arguments.output {
        Format::Table => say(&text(&explanation)),
        Format::Json => say(&document(&explanation).to_string()),
    }
    Ok(())
}

const HEAD: [&str; 4] = ["NODE", "VERDICT", "PLUGIN", "REASON"];

fn text(explanation: &Explanation) -> String {
    let (pod, scheduler) = (&explanation.pod, &explanation.scheduler);
    let state = match &explanation.bound_to {
        Some(node) => format!("is bound to {node}; were it not:"),
        None => "is pending:".to_string(),
    };
    let mut parts = vec![
        format!("{pod}, a pod of the scheduler {scheduler}, {state}"),
        explanation.summary.clone(),
    ];
    let rows: Vec<_> = explanation.nodes.iter().flat_map(rows).collect();
    if !rows.is_empty() {
        parts.push(format!("\n{}", table(&HEAD, &rows)));
    }
    let told = explanation.told.as_ref();
    if let Some(told) = told.filter(|told| !told.is_empty() && **told != explanation.summary) {
        parts.push(format!("\nIts condition PodScheduled says:\n{told}"));
    }
    parts.join("\n")
}

/// A row for every plugin that says no, or one with the scores.
fn rows(verdict: &NodeVerdict) -> Vec<Vec<String>> {
    let row = |verdict: &NodeVerdict, word: &str, plugin: &str, why: &str| {
        vec![verdict.node.clone(), word.into(), plugin.into(), why.into()]
    };
    if verdict.rejections.is_empty() {
        let scores = verdict.scores.iter();
        let scores = scores.map(|(plugin, score)| format!("{plugin} {score}"));
        let scores = scores.collect::<Vec<_>>().join(", ");
        let why = format!("score {}: {scores}", verdict.total());
        return vec![row(verdict, "fits", "", &why)];
    }
    let rejections = verdict.rejections.iter();
    let rows = rejections.map(|(plugin, why)| row(verdict, "does not fit", plugin.name(), why));
    rows.collect()
}

fn document(explanation: &Explanation) -> Value {
    let node = |verdict: &NodeVerdict| {
        let rejections = verdict.rejections.iter();
        let rejections =
            rejections.map(|(plugin, why)| json!({"plugin": plugin.name(), "reason": why}));
        let scores = verdict.scores.iter();
        let scores = scores.map(|(plugin, score)| (plugin.name().to_string(), json!(score)));
        json!({
            "node": verdict.node,
            "fits": verdict.rejections.is_empty(),
            "rejections": rejections.collect::<Vec<_>>(),
            "score": verdict.total(),
            "scores": scores.collect::<serde_json::Map<_, _>>(),
        })
    };
    json!({
        "pod": explanation.pod,
        "scheduler": explanation.scheduler,
        "boundTo": explanation.bound_to,
        "summary": explanation.summary,
        "overall": explanation.overall,
        "condition": explanation.told,
        "nodes": explanation.nodes.iter().map(node).collect::<Vec<_>>(),
    })
}
