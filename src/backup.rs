//! `trireme backup`: saved, checked, restored, and imported from etcd.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use futures::StreamExt;
use raft_store::backup::Progress;
use raft_store::backup::archive::{Download, Summary, verify};
use raft_store::backup::boundary::MemberInfo;
use raft_store::backup::import::{EtcdReport, EtcdSnapshot};
use raft_store::backup::live::Directories;
use raft_store::backup::restore::{
    Restored, Target, parse_initial_cluster, restore, restore_archive,
};
use raft_store::engine::rocks::{RocksConfig, RocksEngine};
use raft_store::member::format::MemberFiles;
use seams::Seams;
use serde_json::json;

use crate::cli::{BackupArguments, BackupCommand, Connection, NewMember};
use crate::client::Client;
use crate::output::{Format, complain, say};

/// Memory of the engine while a state is read or made.
const ENGINE_BYTES: usize = 128 << 20;

/// The data directories of members that do not run.
pub(crate) fn directories(seams: &Seams) -> Directories {
    let rocks = RocksConfig {
        memory_bytes: ENGINE_BYTES,
        ..RocksConfig::default()
    };
    Directories {
        seams: seams.clone(),
        open_engine: Arc::new(move |dir| Ok(Arc::new(RocksEngine::open(dir, &rocks)?))),
        format: Arc::new(MemberFiles),
    }
}

/// Runs the command.
pub(crate) async fn run(arguments: BackupArguments) -> Result<()> {
    let seams = Seams::real();
    match arguments.action {
        BackupCommand::Save { file, connection } => save(&file, &connection).await,
        BackupCommand::Verify { file } => {
            let summary = verify(&*seams.disk, &file, &mut progress())?;
            say(&format!(
                "{} is complete and undamaged\n\n{summary}",
                file.display()
            ));
            Ok(())
        }
        BackupCommand::Status { file, output } => {
            let summary = verify(&*seams.disk, &file, &mut progress())?;
            say(&match output {
                Format::Table => summary.to_string(),
                Format::Json => document(&summary).to_string(),
            });
            Ok(())
        }
        BackupCommand::Restore { file, target } => {
            let (target, files) = (described(target)?, directories(&seams));
            let restored = restore_archive(
                &file,
                &target,
                &seams,
                &*files.format,
                &files,
                &mut progress(),
            )?;
            tell(&target, &restored);
            Ok(())
        }
        BackupCommand::Import { file, target } => import(&file, described(target)?, &seams),
    }
}

/// Streams a member's state into a file, which gets its name once it was read back and checked.
async fn save(file: &Path, connection: &Connection) -> Result<()> {
    let client = Client::new(connection)?;
    let mut pieces = client
        .store
        .snapshot()
        .await
        .context("no member gave its state")?;
    let mut download = Download::create(&*client.seams.disk, file)?;
    while let Some(piece) = pieces.next().await {
        download.push(&piece.context("the member stopped sending its state")?)?;
    }
    let summary = download.finish(&mut progress())?;
    say(&format!("saved to {}\n\n{summary}", file.display()));
    Ok(())
}

fn import(file: &Path, target: Target, seams: &Seams) -> Result<()> {
    let mut snapshot = EtcdSnapshot::open(seams, file, &mut progress())?;
    let fingerprint = snapshot.fingerprint();
    for warning in warnings(snapshot.report()) {
        complain(&format!("note: {warning}"));
    }
    let files = directories(seams);
    let restored = restore(
        &mut snapshot,
        fingerprint,
        &target,
        seams,
        &*files.format,
        &files,
        &mut progress(),
    )?;
    tell(&target, &restored);
    Ok(())
}

/// What an operator ought to know before trusting an import.
fn warnings(report: &EtcdReport) -> Vec<String> {
    let mut found = Vec::new();
    if !report.hash_checked {
        found.push(
            "the file has no hash (it was copied, not saved by `etcdctl snapshot save`), so that \
             damage may go unnoticed"
                .to_string(),
        );
    }
    if report.orphans > 0 {
        found.push(format!(
            "{} keys name a lease that does not exist; they come over without one",
            report.orphans
        ));
    }
    if report.auth_enabled {
        found.push(
            "etcd's users and roles were on; they do not come over: access is by certificate"
                .to_string(),
        );
    }
    found
}

/// The member to make, from the command line.
fn described(new: NewMember) -> Result<Target> {
    let cluster = match &new.initial_cluster {
        Some(text) => parse_initial_cluster(text)?,
        None => vec![MemberInfo {
            id: 0,
            name: new.name.clone(),
            peer_urls: vec!["https://127.0.0.1:2380".into()],
        }],
    };
    Ok(Target {
        name: new.name,
        cluster,
        token: new.initial_cluster_token,
        data_dir: new.data_dir,
        revision_bump: new.bump_revision,
    })
}

fn tell(target: &Target, restored: &Restored) {
    let Restored {
        identity,
        revision,
        totals,
    } = restored;
    say(&format!(
        "{} holds member {} ({:016x}) of the new cluster {:016x} with {} keys, at revision {revision}",
        target.data_dir.display(),
        identity.name,
        identity.member_id,
        identity.cluster_id,
        totals.keys,
    ));
    let others: Vec<&str> = identity
        .members
        .iter()
        .filter(|member| member.id != identity.member_id)
        .map(|member| member.name.as_str())
        .collect();
    if !others.is_empty() {
        say(&format!(
            "do the same, with the same file, list and token, for {}; then start the members",
            others.join(", ")
        ));
    }
}

fn document(summary: &Summary) -> serde_json::Value {
    let header = &summary.header;
    json!({
        "format": summary.format,
        "clusterID": format!("{:016x}", header.cluster_id),
        "memberID": format!("{:016x}", header.member_id),
        "revision": header.revision,
        "compactRevision": header.compact_revision,
        "term": header.term,
        "index": header.index,
        "takenAtMillis": header.taken_at_ms,
        "storeVersion": header.store_version,
        "keys": summary.keys,
        "leases": summary.leases,
        "bytes": summary.bytes,
        "fileBytes": summary.file_bytes,
        "sha256": summary.hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
    })
}

/// A line that moves, where somebody is looking.
pub(crate) fn progress() -> impl FnMut(Progress) + Send {
    let watched = io::stderr().is_terminal();
    move |now: Progress| {
        if watched {
            let megabytes = now.bytes / 1_000_000;
            // Losing a progress line is no loss.
            let _ = write!(
                io::stderr(),
                "\r\x1b[K{}: {} keys, {megabytes} MB",
                now.stage,
                now.keys
            );
            let _ = writeln!(io::stderr());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_member(cluster: Option<&str>) -> NewMember {
        NewMember {
            name: "a".into(),
            initial_cluster: cluster.map(str::to_string),
            initial_cluster_token: "t".into(),
            data_dir: "/x".into(),
            bump_revision: 7,
        }
    }

    #[test]
    fn a_member_is_alone_unless_others_are_named() {
        let alone = described(new_member(None)).unwrap();
        assert_eq!((alone.cluster.len(), alone.revision_bump), (1, 7));
        let three = "a=https://a:1,b=https://b:1,c=https://c:1";
        assert_eq!(described(new_member(Some(three))).unwrap().cluster.len(), 3);
        assert!(described(new_member(Some("nonsense"))).is_err());
    }

    #[test]
    fn an_import_warns_of_what_is_lost() {
        let clean = EtcdReport {
            revision: 5,
            compact_revision: 0,
            keys: 1,
            leases: 0,
            orphans: 0,
            applied_index: 9,
            term: 2,
            hash_checked: true,
            auth_enabled: false,
            page_size: 4096,
        };
        assert!(warnings(&clean).is_empty());
        let poor = EtcdReport {
            hash_checked: false,
            orphans: 2,
            auth_enabled: true,
            ..clean
        };
        assert_eq!(warnings(&poor).len(), 3);
    }
}
