//! The kubeconfig of a local cluster: one way in that outlives any master, and one to each.

use std::path::Path;

use serde_json::{Value, json};

use super::{Layout, LocalError};
use crate::kubeconfig::{Credentials, Entry};
use crate::pki::Pair;

/// The name of the cluster, the user and the default context.
const NAME: &str = "trireme";

/// The file's contents, certificates included, so that it can be copied elsewhere.
///
/// # Errors
/// If a certificate cannot be read.
pub(super) fn text(layout: &Layout) -> Result<String, LocalError> {
    let authority = data(&layout.api_authority())?;
    let admin = layout.api_admin();
    let masters = layout
        .masters()
        .filter_map(|n| Some((Layout::name(n), layout.api_url(n)?)));
    let all = layout.balancer().map(|url| (NAME.to_string(), url));
    let ways: Vec<_> = all.into_iter().chain(masters).collect();
    let cluster = |(name, url): &(String, _)| {
        let cluster = json!({
            "server": format!("{url}"),
            "certificate-authority-data": authority,
        });
        json!({ "name": name, "cluster": cluster })
    };
    let context = |(name, _): &(String, _)| json!({ "name": name, "context": { "cluster": name, "user": NAME } });
    let file = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": NAME,
        "clusters": ways.iter().map(cluster).collect::<Vec<Value>>(),
        "contexts": ways.iter().map(context).collect::<Vec<Value>>(),
        "users": [{
            "name": NAME,
            "user": {
                "client-certificate-data": data(&admin.cert)?,
                "client-key-data": data(&admin.key)?,
            },
        }],
    });
    serde_yaml_ng::to_string(&file).map_err(|error| LocalError::Options(error.to_string()))
}

/// The name of the cluster in kubeconfigs that hold others.
const AMONG_OTHERS: &str = "trireme-dev";

/// Entries for a kubeconfig that holds others: the way to whichever master is up, then one to each.
///
/// # Errors
/// If a certificate cannot be read.
pub(super) fn entries(layout: &Layout) -> Result<Vec<Entry>, LocalError> {
    let read = |path: &Path| std::fs::read(path).map_err(LocalError::io("read", path));
    let authority = read(&layout.api_authority())?;
    let admin = layout.api_admin();
    let user = Credentials::Certificate(read(&admin.cert)?, read(&admin.key)?);
    let all = layout.balancer().map(|url| (AMONG_OTHERS.to_string(), url));
    let masters = layout.masters().filter_map(|n| {
        let name = format!("{AMONG_OTHERS}-{}", Layout::name(n));
        Some((name, layout.api_url(n)?))
    });
    let entry = |(name, url)| Entry {
        name,
        server: format!("{url}"),
        authority: authority.clone(),
        user: user.clone(),
    };
    Ok(all.into_iter().chain(masters).map(entry).collect())
}

/// The kubeconfig of a process that runs nodes. It names the first master; the process knows the others.
///
/// # Errors
/// If it cannot be written down.
pub(super) fn of_node(layout: &Layout, pair: &Pair) -> Result<String, LocalError> {
    let server = layout.api_url(1).map(|url| url.to_string());
    let file = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": NAME,
        "clusters": [{
            "name": NAME,
            "cluster": { "server": server, "certificate-authority": layout.api_authority() },
        }],
        "contexts": [{ "name": NAME, "context": { "cluster": NAME, "user": NAME } }],
        "users": [{
            "name": NAME,
            "user": { "client-certificate": pair.cert, "client-key": pair.key },
        }],
    });
    serde_yaml_ng::to_string(&file).map_err(|error| LocalError::Options(error.to_string()))
}

/// A file as kubeconfigs embed it.
fn data(path: &Path) -> Result<String, LocalError> {
    use base64::Engine;
    let bytes = std::fs::read(path).map_err(LocalError::io("read", path))?;
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}
