//! `trireme init`: the first master of a cluster.

use std::path::absolute;

use anyhow::{Context, Result};
use deploy::join::discovery::Pin;
use deploy::master::{Master, Ports};

use crate::cli::{InitArguments, MachineArguments};
use crate::output::say;
use crate::run;

/// Runs the command.
pub(crate) fn run(arguments: &InitArguments) -> Result<()> {
    let master = master(&arguments.machine)?;
    master.found()?;
    let entry = master.administrator()?;
    if let Some(path) = &arguments.machine.kubeconfig {
        entry.merge_into(path)?;
    }
    let pins: Vec<String> = Pin::of(&entry.authority)
        .iter()
        .map(Pin::to_string)
        .collect();
    say(&format!(
        "{name} is ready to start:\n  trireme server --config {config}\n\
         then reach the cluster with\n  export KUBECONFIG={kubeconfig}\n\
         and let others join by\n  trireme token create            (nodes)\n  \
         trireme token create --master   (masters)\n\
         The pin of the cluster is {pins}",
        name = master.name,
        config = master.config_file().display(),
        kubeconfig = master.kubeconfig().display(),
        pins = pins.join(" "),
    ));
    Ok(())
}

/// The master that the flags describe.
pub(crate) fn master(machine: &MachineArguments) -> Result<Master> {
    let name = match &machine.name {
        Some(name) => name.clone(),
        None => node_name()?,
    };
    // What starts the master later does so from elsewhere.
    let absolute = |path| absolute(path).context("cannot find the current directory");
    Ok(Master {
        dir: absolute(&machine.dir)?,
        data_dir: absolute(&machine.data_dir)?,
        address: machine
            .address
            .clone()
            .context("tell by --address under which address other machines reach this one")?,
        names: machine.names.clone(),
        ports: Ports {
            api: machine.api_port,
            client: machine.client_port,
            peer: machine.peer_port,
        },
        control_plane: machine.control_plane.clone(),
        name,
    })
}

/// The machine's own name, in lower case, as nodes are named.
pub(crate) fn node_name() -> Result<String> {
    Ok(run::host_name()?.to_lowercase())
}
