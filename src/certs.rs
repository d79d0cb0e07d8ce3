//! `trireme certs`: the certificates of this machine; and their renewal while a master runs.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use deploy::pki::ledger::Ledger;
use seams::{Seams, Tasks};
use serde_json::json;
use tokio::time::sleep;

use crate::cli::{CertsArguments, CertsCommand};
use crate::output::{Format, say, table};

/// How often a master looks whether a certificate is due: many times within the third of its life
/// that is left then.
const INTERVAL: Duration = Duration::from_secs(3600);

/// Runs the command.
pub(crate) fn run(arguments: &CertsArguments) -> Result<()> {
    let ledger = Ledger::open(&arguments.dir.join("pki"))?;
    match &arguments.action {
        CertsCommand::List { output } => list(&ledger, *output),
        CertsCommand::Renew => {
            let renewed = ledger.renew(SystemTime::now())?;
            say(&match renewed.as_slice() {
                [] => "nothing is due".to_string(),
                names => format!("renewed {}", names.join(", ")),
            });
            Ok(())
        }
    }
}

fn list(ledger: &Ledger, output: Format) -> Result<()> {
    let now = SystemTime::now();
    let all = ledger.list()?;
    let days = |until: SystemTime| until.duration_since(now).unwrap_or_default().as_secs() / 86_400;
    if let Format::Json = output {
        let rows: Vec<_> = all
            .iter()
            .map(|one| json!({"name": one.name, "authority": one.authority, "days": days(one.validity.until), "due": one.validity.is_due(now)}))
            .collect();
        say(&serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = all
        .into_iter()
        .map(|one| {
            vec![
                one.name,
                one.authority,
                days(one.validity.until).to_string(),
            ]
        })
        .collect();
    say(&table(&["NAME", "AUTHORITY", "DAYS LEFT"], &rows));
    Ok(())
}

/// Renews the certificates of a master until the tasks end, where it has such that it made itself.
/// Its servers notice by themselves.
pub(crate) fn renew(certificate: Option<&Path>, seams: &Seams, tasks: &Tasks) {
    let Some(dir) = certificate.and_then(Path::parent).map(Path::to_path_buf) else {
        return;
    };
    let (clock, owner) = (seams.clock.clone(), tasks.clone());
    tasks.spawn("certificates", async move {
        loop {
            let (dir, now): (PathBuf, _) = (dir.clone(), clock.wall());
            let renewed = owner.blocking(move || Ledger::open(&dir)?.renew(now)).await;
            match renewed {
                Ok(names) if names.is_empty() => {}
                Ok(names) => tracing::info!(?names, "certificates are renewed"),
                Err(error) => tracing::warn!(%error, "cannot renew certificates"),
            }
            tokio::select! {
                () = sleep(INTERVAL) => {}
                () = owner.cancelled() => return,
            }
        }
    });
}
