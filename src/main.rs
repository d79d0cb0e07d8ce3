//! The binary `trireme`: parses the command line and hands over to the role or command.
//!
//! - [`cli`]: the command line. [`run`]: the runtime that commands share, and signals.
//! - Roles: [`store`], a member of the store; [`apiserver`](mod@apiserver), an API server;
//!   [`control_plane`], controllers and scheduler, and [`manifests`] kept applied; [`server`], a master, which is all of them;
//!   [`node`](mod@node), hollow nodes; [`dev`], a cluster on this machine. [`process`] is what those share
//!   that reach the API from outside.
//! - How machines come together: [`init`], [`join`], [`token`], [`certs`].
//! - Commands: [`member`], [`status`], [`backup`], [`recover`], through [`client`], to [`output`];
//!   [`explain`] and [`status`] through [`access`] to the API.
//! - [`telemetry`]: logs and traces; [`notify`] and [`exit`]: what the service manager hears.
//!
//! It composes and nothing else: what a role does is in its crate.
#![allow(
    clippy::disallowed_methods,
    reason = "the outermost layer, which hands the real world to what runs"
)]

mod access;
mod apiserver;
mod backup;
mod certs;
mod cli;
mod client;
mod control_plane;
mod dev;
mod exit;
mod explain;
mod init;
mod join;
mod manifests;
mod member;
mod node;
mod notify;
mod output;
mod process;
mod recover;
mod run;
mod server;
mod status;
mod store;
mod telemetry;
mod token;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command};

/// The store allocates and frees from many threads; jemalloc keeps its memory from fragmenting.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    deploy::local::process::die_with_parent();
    let done = match Cli::parse().command {
        Command::Store(arguments) => store::run(arguments),
        Command::Server(arguments) => server::run(arguments),
        Command::Apiserver(arguments) => apiserver::run(arguments),
        Command::ControllerManager(arguments) => control_plane::run_controllers(arguments),
        Command::CloudControllerManager(arguments) => control_plane::run_cloud(arguments),
        Command::Scheduler(arguments) => control_plane::run_scheduler(arguments),
        Command::Node(arguments) => node::run(arguments),
        Command::Dev(arguments) => dev::run(arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::Join(arguments) => run::command(join::run(*arguments)),
        Command::Token(arguments) => run::command(token::run(arguments)),
        Command::Certs(arguments) => certs::run(&arguments),
        Command::Member(arguments) => run::command(member::run(arguments)),
        Command::Backup(arguments) => run::command(backup::run(arguments)),
        Command::Recover(arguments) => run::command(recover::run(arguments)),
        Command::Status(arguments) => run::command(status::run(arguments)),
        Command::Explain(arguments) => run::command(explain::run(arguments)),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "trireme", &mut script);
            output::say(String::from_utf8_lossy(&script).trim_end());
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is::<exit::Said>() {
                output::complain(&format!("error: {}", output::chain(&error)));
            }
            ExitCode::from(exit::code(&error))
        }
    }
}
