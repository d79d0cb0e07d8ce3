//! Where a server is and what to show it, from a file as kubectl reads it: its current context.

use std::path::{Path, PathBuf};
use std::time::Duration;

use api::doc::Node;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use seams::{Disk, Seams};

use super::{Client, Identity};

/// A client for the server that a file names, and the server's URL.
///
/// # Errors
///
/// If the file, or one that it names, cannot be read or makes no sense.
pub fn client(path: &Path, patience: Duration, seams: &Seams) -> Result<(Client, String), String> {
    let wrong = |why: String| format!("{}: {why}", path.display());
    let text = seams
        .disk
        .read(path)
        .map_err(|error| wrong(error.to_string()))?;
    let (doc, _) = api::codec::yaml::parse(&text).map_err(|error| wrong(error.to_string()))?;
    let root = doc.root();
    let current = root.text(&["current-context"]);
    let context = named(root, "contexts", current, "context");
    let of = |key: &str| context.map_or("", |context| context.text(&[key]));
    let cluster = named(root, "clusters", of("cluster"), "cluster");
    let cluster = cluster.ok_or_else(|| wrong("the current context has no cluster".to_string()))?;
    let user = named(root, "users", of("user"), "user");
    let directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let read =
        |node: Option<Node<'_>>, key| part(node, key, &directory, &*seams.disk).map_err(wrong);
    let ca = read(Some(cluster), "certificate-authority")?;
    let certificate = read(user, "client-certificate")?;
    let key = read(user, "client-key")?;
    let token = user.map_or("", |user| user.text(&["token"]));
    let identity = Identity {
        ca: &ca,
        certificate: (!certificate.is_empty()).then_some((&certificate, &key)),
        token: (!token.is_empty()).then_some(token),
    };
    let client = Client::new(&identity, patience, seams).map_err(wrong)?;
    Ok((client, cluster.text(&["server"]).to_string()))
}

fn named<'d>(root: Node<'d>, list: &str, name: &str, inner: &str) -> Option<Node<'d>> {
    let mut entries = root.get(list)?.children();
    let found = entries.find(|entry| entry.text(&["name"]) == name)?;
    found.get(inner)
}

/// What stands in the file itself, or in one that it names.
fn part(
    node: Option<Node<'_>>,
    key: &str,
    directory: &Path,
    disk: &dyn Disk,
) -> Result<Vec<u8>, String> {
    let Some(node) = node else {
        return Ok(Vec::new());
    };
    let data = node.text(&[&format!("{key}-data")]);
    if !data.is_empty() {
        return STANDARD
            .decode(data)
            .map_err(|error| format!("{key}-data: {error}"));
    }
    match node.text(&[key]) {
        "" => Ok(Vec::new()),
        file => {
            let file: PathBuf = directory.join(file);
            let bytes = disk.read(&file);
            bytes.map_err(|error| format!("{}: {error}", file.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_context_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let text = "current-context: b\ncontexts:\n- {name: a, context: {cluster: x, user: x}}\n\
            - {name: b, context: {cluster: y, user: y}}\nclusters:\n- {name: x, cluster: {server: \"https://x\"}}\n\
            - {name: y, cluster: {server: \"http://y:1/audit\"}}\nusers:\n- {name: y, user: {token: t}}\n";
        seams::RealDisk
            .write_atomic(&path, text.as_bytes())
            .unwrap();
        let seams = Seams::real();
        let (client, url) = client(&path, Duration::from_secs(1), &seams).unwrap();
        assert_eq!(
            (&*url, client.token.as_deref()),
            ("http://y:1/audit", Some("t"))
        );
    }
}
