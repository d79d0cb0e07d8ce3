//! `trireme node`: hollow nodes, which say they run pods and run nothing.

use anyhow::Result;
use api::values::ip::Cidr;
use client::Identity;
use deploy::config::values::Span;
use deploy::config::{self, ConfigError, NodeConfig, Problem, Sources};
use node::hollow::{self, Agent, Behaviour, Voices};
use regex::Regex;
use serde_json::{Value, json};

use crate::cli::NodeArguments;
use crate::process::{self, Process};
use crate::run;

/// The component whose work it is: objects remember it as their manager.
const KUBELET: &str = "kubelet";

/// Runs hollow nodes until the process is told to stop.
pub(crate) fn run(arguments: Box<NodeArguments>) -> Result<()> {
    let config: NodeConfig = config::load(&Sources {
        file: arguments.config.clone(),
        environment: run::environment(),
        flags: arguments.flags(),
    })?;
    let hollow = hollow_config(&config)?;
    process::run(&config.process, KUBELET, |process: &Process| {
        let client = process.access.client(&Identity::Component, None);
        let voices = match config.impersonate {
            true => Voices::Impersonating(client),
            false => Voices::Own(vec![client]),
        };
        let agent = Agent::new(hollow, voices, &process.seams, &process.tasks);
        let tasks = process.tasks.clone();
        process
            .tasks
            .spawn("hollow nodes", async move { agent.run(&tasks).await });
        Ok(())
    })
}

/// The settings as the nodes take them.
fn hollow_config(config: &NodeConfig) -> Result<hollow::Config, ConfigError> {
    let mut hollow = hollow::Config {
        prefix: config.node_prefix.clone(),
        first: config.first_node,
        name: config.hostname_override.clone(),
        count: config.hollow,
        addresses: block("node-cidr", &config.node_cidr)?,
        pod_addresses: block("pod-cidr", &config.pod_cidr)?,
        behaviour: behaviour(config)?,
        failure: read("failure", config.failure.parse())?,
        report_interval: config.node_status_report_frequency.0,
        lease_duration: config.node_lease_duration.0,
        writers: config.writers,
        ..hollow::Config::default()
    };
    for text in &config.register_with_taints {
        hollow
            .taints
            .push(read("register-with-taints", taint(text))?);
    }
    let pair = |one: &config::Label| (one.key.clone(), one.value.clone());
    hollow.labels.extend(config.node_labels.iter().map(pair));
    hollow
        .capacity
        .extend(config.node_capacity.iter().map(pair));
    read("hollow", hollow.check())?;
    Ok(hollow)
}

fn behaviour(config: &NodeConfig) -> Result<Behaviour, ConfigError> {
    let stop_after = config.pod_stop_after.as_deref().map(str::parse::<Span>);
    let pattern = |key, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => read(key, Regex::new(text).map_err(|error| error.to_string())).map(Some),
    };
    let mut behaviour = Behaviour {
        start_after: config.pod_start_after.0,
        ready_after: config.pod_ready_after.0,
        stop_after: read("pod-stop-after", stop_after.transpose())?.map(|span| span.0),
        job_runs_for: config.job_run_time.0,
        short_lived: pattern("short-lived-images", &config.short_lived_images)?,
        ..Behaviour::default()
    };
    if let Some(unpullable) = pattern("unpullable-images", &config.unpullable_images)? {
        behaviour.unpullable = unpullable;
    }
    Ok(behaviour)
}

fn block(key: &'static str, text: &str) -> Result<Cidr, ConfigError> {
    let block = Cidr::parse(text);
    read(
        key,
        block.ok_or_else(|| format!("`{text}` is not a block such as 10.0.0.0/8")),
    )
}

/// `key=value:Effect`, or `key:Effect`.
fn taint(text: &str) -> Result<Value, String> {
    let wrong = || format!("`{text}` is not KEY=VALUE:EFFECT");
    let (pair, effect) = text.rsplit_once(':').ok_or_else(wrong)?;
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        return Err(format!(
            "`{effect}` is none of: NoSchedule, PreferNoSchedule, NoExecute"
        ));
    }
    Ok(match pair.split_once('=') {
        Some((key, value)) => json!({ "key": key, "value": value, "effect": effect }),
        None => json!({ "key": pair, "effect": effect }),
    })
}

/// A value, or what is wrong with its setting.
fn read<T>(key: &'static str, value: Result<T, String>) -> Result<T, ConfigError> {
    value.map_err(|message| ConfigError::Unusable(vec![Problem { key, message }]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_reach_the_nodes() {
        let config = NodeConfig {
            hollow: 3,
            register_with_taints: vec!["a=b:NoSchedule".into()],
            pod_stop_after: Some("2s".into()),
            ..NodeConfig::default()
        };
        let hollow = hollow_config(&config).unwrap();
        assert_eq!(
            hollow.names().collect::<Vec<_>>(),
            ["node-1", "node-2", "node-3"]
        );
        assert_eq!(hollow.taints[0]["effect"], "NoSchedule");
        assert_eq!(
            hollow.behaviour.stop_after,
            Some(std::time::Duration::from_secs(2))
        );
        let wrong = |change: fn(&mut NodeConfig)| {
            let mut config = NodeConfig {
                hollow: 1,
                ..NodeConfig::default()
            };
            change(&mut config);
            hollow_config(&config).unwrap_err().to_string()
        };
        assert!(wrong(|c| c.unpullable_images = Some("(".into())).contains("unpullable-images"));
        assert!(wrong(|c| c.node_cidr = "10.0.0.0/31".into()).contains("no address"));
        assert!(wrong(|c| c.failure = "fire".into()).contains("not-ready"));
    }

    #[test]
    fn the_defaults_are_those_of_the_nodes() {
        let config = NodeConfig {
            hollow: 1,
            ..NodeConfig::default()
        };
        let ours = hollow_config(&config).unwrap();
        assert_eq!(
            format!("{ours:?}"),
            format!("{:?}", hollow::Config::default())
        );
    }
}
