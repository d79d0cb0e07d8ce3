//! A directory of manifests that is kept applied: what its files say, and nothing that they say no more.
//!
//! - [`files`]: what the directory says; [`inventory`]: what it said before; [`objects`]: what the cluster has
//!
//! One master does it at a time, under a Lease of its own, so that the directory of whichever master
//! leads counts: keep it the same on all. Everything is applied again from time to time, which repairs
//! what others changed. Objects are deleted only after the directory was the same for a while: editors
//! replace files by removing them first. What could not be done is in the log and in the inventory, and is tried again.

mod files;
mod inventory;
mod objects;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use client::backoff::Backoff;
use seams::{Seams, Tasks};
use tokio::time::{Instant, sleep};

use files::Stamp;
use inventory::{Inventory, Item};
use objects::Objects;

/// Between looks at the directory.
const LOOK: Duration = Duration::from_secs(1);
/// Between repairs: every object is applied, which writes nothing where nothing differs.
const REPAIR: Duration = Duration::from_secs(15);
/// Before what failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A directory that is kept applied.
pub(crate) struct Manifests {
    pub(crate) dir: PathBuf,
    /// Whose writes are fenced.
    pub(crate) client: kube::Client,
    pub(crate) seams: Seams,
}

impl Manifests {
    /// Keeps it applied until the tasks end.
    pub(crate) async fn run(&self, tasks: &Tasks) {
        let keep = async {
            let mut backoff = Backoff::new(RETRY.0, RETRY.1);
            let (mut seen, mut told) = (None, Vec::new());
            let mut due = Instant::now();
            loop {
                let stamp = self.stamp(tasks).await;
                let is_new = seen.as_ref() != Some(&stamp);
                if is_new {
                    backoff.reset();
                }
                if is_new || Instant::now() >= due {
                    let done = self.pass(!is_new, tasks).await;
                    let wait = match (done.is_whole, done.troubles.is_empty()) {
                        (false, _) => LOOK,
                        (true, true) => REPAIR,
                        (true, false) => backoff.next(&*self.seams.rng),
                    };
                    due = Instant::now() + wait;
                    tell(&self.dir, &done.troubles, &told, is_new);
                    (seen, told) = (Some(stamp), done.troubles);
                }
                sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = keep => {}
            () = tasks.cancelled() => {}
        }
    }

    /// What changes when a file does.
    async fn stamp(&self, tasks: &Tasks) -> Stamp {
        let dir = self.dir.clone();
        tasks.blocking(move || files::stamp(&dir)).await
    }

    /// Applies everything, then deletes what is gone from the files if these have settled.
    async fn pass(&self, is_settled: bool, tasks: &Tasks) -> Done {
        let dir = self.dir.clone();
        let said = tasks.blocking(move || files::read(&dir)).await;
        let objects = Objects::new(&self.client);
        let mut done = Done {
            troubles: said.troubles.clone(),
            is_whole: true,
        };
        let held = match objects.inventory().await {
            Ok(held) => held,
            Err(why) => return done.failed(why),
        };
        // What is about to be made is remembered first, so that nothing is made and forgotten.
        let wanted: BTreeSet<Item> = said.objects.iter().map(|one| one.item.clone()).collect();
        let both: BTreeSet<Item> = held.items.union(&wanted).cloned().collect();
        if both != held.items
            && let Err(why) = objects.remember(&Inventory::of(&both, &held.errors)).await
        {
            return done.failed(why);
        }
        for one in &said.objects {
            if let Err(why) = objects.apply(one).await {
                let trouble = format!("{}: {}: {why}", one.file, one.item);
                done.troubles.push(trouble);
            }
        }
        let is_gone = |item: &&Item| !said.objects.iter().any(|one| one.item.is_same(item));
        let gone: Vec<&Item> = held.items.iter().rev().filter(is_gone).collect();
        let mut left = wanted;
        // While a file cannot be read nobody knows what it says.
        if said.is_complete && is_settled {
            left.extend(delete(&objects, &gone, &mut done.troubles).await);
        } else {
            done.is_whole = gone.is_empty() || !said.is_complete;
            left.extend(gone.into_iter().cloned());
        }
        let now = Inventory::of(&left, &done.troubles);
        if (now != held || left != both)
            && let Err(why) = objects.remember(&now).await
        {
            done.troubles.push(why);
        }
        done
    }
}

/// What a pass came to.
struct Done {
    troubles: Vec<String>,
    /// Nothing waits for the directory to settle.
    is_whole: bool,
}

impl Done {
    fn failed(mut self, why: String) -> Done {
        self.troubles.push(why);
        self
    }
}

/// Deletes what no file says any more; yields what is left of it.
async fn delete(objects: &Objects<'_>, gone: &[&Item], troubles: &mut Vec<String>) -> Vec<Item> {
    let mut left = Vec::new();
    for item in gone {
        if let Err(why) = objects.delete(item).await {
            troubles.push(format!("{item}: cannot be deleted: {why}"));
            left.push((*item).clone());
        }
    }
    left
}

/// Says what changed, once.
fn tell(dir: &Path, troubles: &[String], told: &[String], is_new: bool) {
    let dir = dir.display();
    for trouble in troubles.iter().filter(|one| !told.contains(one)) {
        tracing::warn!(%dir, "manifests: {trouble}");
    }
    if troubles.is_empty() && (is_new || !told.is_empty()) {
        tracing::info!(%dir, "manifests are applied");
    }
}
