//! ResourceQuota: a namespace uses no more than it may.
//!
//! What a quota says to be used changes in the same transaction as the object that uses it, so that
//! nothing is counted twice or not at all, whatever happens in between. Writes that the same quotas
//! count go one after the other on a server: each starts from what the one before left, and only
//! another server can make it try again.
//!
//! What objects use, and which objects a quota counts, is in [`api::quota`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use api::doc::{Doc, New};
use api::quota::{Amounts, Kind};
use api::schema::{self, Type};
use api::status::Status;
use async_trait::async_trait;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::time::timeout_at;

use super::lookups::Lookups;
use super::{Attempt, Operation, Plugin};
use crate::registry::object::canonical;
use crate::registry::{Outcome, metadata};
use crate::storage::{Along, Object, keys, object};
use crate::validation::At;

/// What this server wrote last of the quotas of a namespace, by their names.
type Known = HashMap<String, Arc<Object>>;
type Turn = OwnedMutexGuard<Known>;
/// Namespaces whose entries are looked through for those that nobody uses any more.
const NAMESPACES_MIN: usize = 64;

/// Counts what is used.
#[derive(Default)]
pub(super) struct ResourceQuota {
    /// Whose turn it is, by namespace; gone as soon as nobody waits.
    turns: Mutex<HashMap<String, Weak<AsyncMutex<Known>>>>,
    lookups: Lookups,
}

/// A quota as it will be.
struct Charge {
    name: String,
    before: u64,
    value: Vec<u8>,
}

#[async_trait]
impl Plugin for ResourceQuota {
    async fn validate(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&Doc>,
        old: Option<&Doc>,
        along: &mut Along,
    ) -> Outcome<()> {
        let is_write = matches!(attempt.operation, Operation::Create | Operation::Update);
        let (Some(new), true) = (new, is_write && !attempt.namespace().is_empty()) else {
            return Ok(());
        };
        let Some(kind) = counted(attempt, new, old) else {
            return Ok(());
        };
        let mut quotas = self.lookups.list(attempt, "resourcequotas").await;
        quotas.retain(|quota| kind.concerns(At::root(&quota.doc())));
        if quotas.is_empty() {
            return Ok(());
        }
        let turn = self.wait_for_turn(attempt).await?;
        for quota in &mut quotas {
            let doc = quota.doc();
            let known = turn.get(metadata::text(&doc, "name"));
            if let Some(known) = known.filter(|known| known.revision > quota.revision) {
                *quota = known.clone();
            }
        }
        let schema = schema::kind("", "v1", "ResourceQuota");
        let schema = schema.ok_or_else(|| Status::internal("ResourceQuota has no schema"))?;
        let charges = charge(attempt, &kind, &quotas, new, old, schema)?;
        if !charges.is_empty() && !attempt.call.dry_run {
            commit(attempt, turn, charges, along, schema);
        }
        Ok(())
    }
}

impl ResourceQuota {
    /// Waits until no other write of this server is counted in the namespace.
    async fn wait_for_turn(&self, attempt: &Attempt<'_>) -> Outcome<Turn> {
        let queue = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            if turns.len() >= NAMESPACES_MIN {
                turns.retain(|_, queue| queue.strong_count() > 0);
            }
            let slot = turns.entry(attempt.namespace().to_string()).or_default();
            match slot.upgrade() {
                Some(queue) => queue,
                None => {
                    let queue = Arc::new(AsyncMutex::default());
                    *slot = Arc::downgrade(&queue);
                    queue
                }
            }
        };
        let turn = timeout_at(attempt.call.deadline, queue.lock_owned()).await;
        turn.map_err(|_| Status::internal("resource quota evaluation timed out").into())
    }
}

/// How a write is counted; none if it changes nothing that is.
fn counted(attempt: &Attempt<'_>, new: &Doc, old: Option<&Doc>) -> Option<Kind> {
    let (group, resource) = attempt.resource();
    let old = old.filter(|_| attempt.operation == Operation::Update);
    let kind = Kind::of(group, resource)?;
    let is_changed = kind.is_changed_by(attempt.subresource(), At::root(new), old.map(At::root));
    is_changed.then_some(kind)
}

/// What the quotas say once the object is written.
fn charge(
    attempt: &Attempt<'_>,
    kind: &Kind,
    quotas: &[Arc<Object>],
    new: &Doc,
    old: Option<&Doc>,
    schema: &Type,
) -> Outcome<Vec<Charge>> {
    let now = kind.usage(At::root(new), attempt.call.moment);
    let negative = now.only(|name| now.get(name).is_some_and(|amount| amount.signum() < 0));
    if !negative.0.is_empty() {
        let names: Vec<&str> = negative.0.keys().map(String::as_str).collect();
        let why = format!(
            "quota usage is negative for resource(s): {}",
            names.join(",")
        );
        return Err(attempt.forbidden(why));
    }
    let old = old.filter(|_| attempt.operation == Operation::Update);
    let before = old.map(|old| kind.usage(At::root(old), attempt.call.moment));
    let mut charges = Vec::new();
    for quota in quotas {
        let doc = quota.doc();
        if !kind.matches(At::root(&doc), At::root(new)) {
            continue;
        }
        judge_constraints(attempt, kind, &doc, new)?;
        // What moves into a quota counts as a whole.
        let counted = old.filter(|old| kind.matches(At::root(&doc), At::root(old)));
        let delta = match (counted, &before) {
            (Some(_), Some(before)) => more(&now, before),
            _ => now.only(|name| now.get(name).is_some_and(|amount| !amount.is_zero())),
        };
        if let Some(value) = add(attempt, doc.clone(), &delta, schema)? {
            charges.push(Charge {
                name: metadata::text(&doc, "name").to_string(),
                before: quota.revision,
                value,
            });
        }
    }
    Ok(charges)
}

fn judge_constraints(attempt: &Attempt<'_>, kind: &Kind, quota: &Doc, new: &Doc) -> Outcome<()> {
    let status = At::root(quota).get("status");
    let hard = status.get("hard").items().map(At::key);
    let restricted: Vec<&str> = hard.filter(|name| kind.counts(name)).collect();
    let name = metadata::text(quota, "name");
    if let Some(why) = kind.missing(&restricted, At::root(new)) {
        return Err(attempt.forbidden(format!("failed quota: {name}: {why}")));
    }
    let is_known = |resource: &&str| status.get("used").entry(resource).is_some();
    if !restricted.iter().all(is_known) {
        let mut restricted = restricted.clone();
        restricted.sort_unstable();
        let resources = restricted.join(",");
        let why = format!("status unknown for quota: {name}, resources: {resources}");
        return Err(attempt.forbidden(why));
    }
    Ok(())
}

/// How much more it is, resource by resource.
fn more(now: &Amounts, before: &Amounts) -> Amounts {
    let mut delta = Amounts::default();
    for (name, amount) in &now.0 {
        let rest = match before.get(name) {
            Some(before) => amount.clone() - before,
            None => amount.clone(),
        };
        if rest.signum() > 0 {
            delta.set(name, rest);
        }
    }
    delta
}

/// A quota's bytes once something more is used; none if it does not count that.
fn add(
    attempt: &Attempt<'_>,
    mut quota: Doc,
    delta: &Amounts,
    schema: &Type,
) -> Outcome<Option<Vec<u8>>> {
    let status = At::root(&quota).get("status");
    let (hard, used) = (
        Amounts::read(status.get("hard")),
        Amounts::read(status.get("used")),
    );
    let requested = delta.only(|name| hard.get(name).is_some());
    if requested.0.is_empty() {
        return Ok(None);
    }
    let mut sum = used.clone();
    sum.add(&requested);
    let exceeds = |name: &str| match (sum.get(name), hard.get(name)) {
        (Some(sum), Some(hard)) => requested.get(name).is_some() && sum > hard,
        _ => false,
    };
    let exceeded = requested.only(exceeds);
    if !exceeded.0.is_empty() && attempt.subresource() != "status" {
        return Err(attempt.forbidden(format!(
            "exceeded quota: {}, requested: {}, used: {}, limited: {}",
            metadata::text(&quota, "name"),
            exceeded.shown(),
            used.only(exceeds).shown(),
            hard.only(exceeds).shown()
        )));
    }
    for (name, amount) in &sum.0 {
        let amount = amount.to_string();
        quota.set_path(&["status", "used", name], New::Str(&amount));
    }
    canonical(&mut quota, schema)?;
    Ok(Some(object::to_stored(&mut quota)))
}

/// Writes the quotas with the object; the next may go on once that is done.
fn commit(
    attempt: &mut Attempt<'_>,
    mut turn: Turn,
    charges: Vec<Charge>,
    along: &mut Along,
    schema: &'static Type,
) {
    let prefix = keys::prefix("", "resourcequotas", false);
    for charge in &charges {
        let local = keys::local(attempt.namespace(), &charge.name);
        let key = format!("{prefix}{local}");
        along.needs(
            key.clone(),
            i64::try_from(charge.before).unwrap_or(i64::MAX),
        );
        along.puts(key, charge.value.clone());
    }
    attempt.afterwards(move |revision| {
        for charge in charges {
            if let Ok(object) = Object::from_stored(revision, &charge.value, schema) {
                turn.insert(charge.name, Arc::new(object));
            }
        }
    });
}

#[cfg(test)]
mod tests;
