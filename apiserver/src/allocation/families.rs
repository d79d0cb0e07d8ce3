//! Which of IPv4 and IPv6 a service has: what it says, or what the cluster has.

use api::doc::{Doc, New};
use api::field::FieldError;
use api::values::ip;

use super::{Settings, invalid, spec};
use crate::kinds::core::service;
use crate::registry::Outcome;
use crate::validation::{At, Errors, same};

const POLICY: &str = "spec.ipFamilyPolicy";

/// `IPv4` or `IPv6`.
pub(super) fn of_address(text: &str) -> &'static str {
    if ip::is_v6(text) { "IPv6" } else { "IPv4" }
}

fn other(family: &str) -> &'static str {
    if family == "IPv4" { "IPv6" } else { "IPv4" }
}

/// The families that the cluster has, its own first.
fn known(settings: &Settings) -> Vec<&'static str> {
    let blocks = settings.blocks.iter();
    blocks
        .map(|block| if block.is_v6() { "IPv6" } else { "IPv4" })
        .collect()
}

/// Fills in the fields about families.
///
/// # Errors
///
/// If they do not fit together or the cluster.
pub(super) fn settle(new: &mut Doc, old: Option<&Doc>, settings: &Settings) -> Outcome<()> {
    if spec(new).get("type").str() == "ExternalName" || old.is_some_and(|old| keeps_both(new, old))
    {
        return Ok(());
    }
    let is_selecting = !spec(new).get("selector").is_empty();
    let is_bare = spec(new).get("clusterIP").str() == "None" && !is_selecting;
    if !spec(new).has("ipFamilyPolicy") {
        let before = old.map_or("", |old| spec(old).get("ipFamilyPolicy").str());
        let policy = match before {
            "" if is_bare => "RequireDualStack",
            "" => "SingleStack",
            before => before,
        };
        new.set_path(&["spec", "ipFamilyPolicy"], policy);
    }
    let mut errors = Errors::default();
    service::addresses(&mut errors, spec(new), old.map(spec));
    invalid(new, &errors.into_vec())?;
    if let Some(old) = old {
        reduce(new, old)?;
    }
    judge_counts(new)?;
    of_addresses(new, &known(settings))?;
    let is_single = spec(new).get("ipFamilyPolicy").str() == "SingleStack";
    if is_bare {
        // Whoever answers for it may have both, whatever the cluster has.
        return complete(new, &known(settings), !is_single);
    }
    judge_known(new, &known(settings))?;
    complete(
        new,
        &known(settings),
        !is_single && settings.blocks.len() == 2,
    )
}

/// A service that prefers both stays as it is.
fn keeps_both(new: &Doc, old: &Doc) -> bool {
    let (now, before) = (spec(new), spec(old));
    let prefers = |at: At<'_>| at.get("ipFamilyPolicy").str() == "PreferDualStack";
    let kept = ["type", "clusterIPs", "ipFamilies"];
    prefers(now)
        && (prefers(before) || !before.has("ipFamilyPolicy"))
        && kept
            .into_iter()
            .all(|key| same(now.get(key), before.get(key)))
}

/// What a service that had both gives up.
fn reduce(new: &mut Doc, old: &Doc) -> Outcome<()> {
    let is_single = spec(new).get("ipFamilyPolicy").str() == "SingleStack";
    let mut errors = Vec::new();
    for (key, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let (now, before) = (spec(new).get(key), spec(old).get(key));
        if is_single {
            if now.len() > 1 && same(now, before) {
                let extra = now.items().nth(1).and_then(|at| Some(at.node()?.id()));
                let list = new.find_path(&["spec", key]);
                if let (Some(list), Some(extra)) = (list, extra) {
                    new.unlink(list, extra);
                }
            }
        } else if !now.is_empty() && now.len() < before.len() {
            let why = format!("must be 'SingleStack' to release the secondary {what}");
            let policy = spec(new).get("ipFamilyPolicy").str();
            errors.push(FieldError::invalid(POLICY, policy, why));
        }
    }
    invalid(new, &errors)
}

fn judge_counts(new: &Doc) -> Outcome<()> {
    let policy = spec(new).get("ipFamilyPolicy").str();
    let mut errors = Vec::new();
    for (key, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
        if policy == "SingleStack" && spec(new).get(key).len() == 2 {
            let why = format!(
                "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
            );
            errors.push(FieldError::invalid(POLICY, policy, why));
        }
    }
    invalid(new, &errors)
}

/// Addresses that are asked for tell their families.
fn of_addresses(new: &mut Doc, known: &[&str]) -> Outcome<()> {
    let addresses: Vec<String> = spec(new)
        .get("clusterIPs")
        .items()
        .map(|at| at.str().to_string())
        .collect();
    let told = spec(new).get("ipFamilies").len();
    let mut errors = Vec::new();
    for (at, address) in addresses
        .iter()
        .enumerate()
        .take_while(|(_, one)| *one != "None")
        .skip(told)
    {
        let family = of_address(address);
        if known.contains(&family) {
            push_family(new, family);
        } else {
            let field = format!("spec.clusterIPs[{at}]");
            let why = format!("{family} is not configured on this cluster");
            errors.push(FieldError::invalid(field, &*addresses, why));
        }
    }
    invalid(new, &errors)
}

fn judge_known(new: &Doc, known: &[&str]) -> Outcome<()> {
    let policy = spec(new).get("ipFamilyPolicy").str();
    let mut errors = Vec::new();
    if policy == "RequireDualStack" && known.len() < 2 {
        let why = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid(POLICY, policy, why));
    }
    for (at, family) in spec(new).get("ipFamilies").items().map(At::str).enumerate() {
        if !known.contains(&family) {
            let field = format!("spec.ipFamilies[{at}]");
            errors.push(FieldError::invalid(
                field,
                family,
                "not configured on this cluster",
            ));
        }
    }
    invalid(new, &errors)
}

fn complete(new: &mut Doc, known: &[&str], wants_both: bool) -> Outcome<()> {
    if spec(new).get("ipFamilies").is_empty()
        && let Some(own) = known.first()
    {
        push_family(new, own);
    }
    let families = spec(new).get("ipFamilies");
    if wants_both && families.len() == 1 {
        let second = families.items().next().map(|at| other(at.str()));
        if let Some(second) = second {
            push_family(new, second);
        }
    }
    Ok(())
}

fn push_family(new: &mut Doc, family: &str) {
    let top = new.top();
    let spec = new.object(top, "spec");
    let list = new.list(spec, "ipFamilies");
    new.push(list, New::Str(family));
}
