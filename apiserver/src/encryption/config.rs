//! The file that says what is encrypted, and how: upstream's EncryptionConfiguration.

use std::time::Duration;

use api::doc::Node;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::ciphers::Cipher;

/// How long a plugin may take to answer if nobody says.
const KMS_TIMEOUT: Duration = Duration::from_secs(3);

/// Some resources and how they are encrypted.
pub(super) struct Rule {
    /// As in `secrets`, `deployments.apps`, `*.apps`, `*.` and `*.*`.
    pub(super) resources: Vec<String>,
    /// The first writes, all read.
    pub(super) providers: Vec<Provider>,
}

pub(super) enum Provider {
    Identity,
    /// What values start with, and the cipher of the rest.
    Local(String, Cipher),
    Kms(Kms),
}

/// A key management plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kms {
    pub(super) name: String,
    /// The path of its socket.
    pub(super) socket: String,
    pub(super) timeout: Duration,
}

impl Rule {
    /// Whether a resource is meant.
    pub(super) fn fits(&self, group: &str, resource: &str) -> bool {
        let fits = |known: &String| {
            let (name, of) = known.split_once('.').unwrap_or((known, ""));
            known == "*.*" || (of == group && (name == "*" || name == resource))
        };
        self.resources.iter().any(fits)
    }
}

/// Reads a configuration, in YAML or JSON.
///
/// # Errors
///
/// If it is none, or makes no sense.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Rule>, String> {
    let (doc, _) = api::codec::yaml::parse(text).map_err(|error| error.to_string())?;
    let root = doc.root();
    let version = root.text(&["apiVersion"]);
    let is_known = matches!(version, "apiserver.config.k8s.io/v1" | "v1");
    if !is_known || root.text(&["kind"]) != "EncryptionConfiguration" {
        return Err("no EncryptionConfiguration of apiserver.config.k8s.io/v1".to_string());
    }
    let rules = list(root, "resources").enumerate().map(|(at, node)| {
        let rule = read_rule(node);
        rule.map_err(|why| format!("resources[{at}]: {why}"))
    });
    let rules: Vec<Rule> = rules.collect::<Result<_, String>>()?;
    match rules.is_empty() {
        true => Err("resources: Required value: at least one resource must be specified".into()),
        false => Ok(rules),
    }
}

fn read_rule(node: Node<'_>) -> Result<Rule, String> {
    let resources = list(node, "resources").filter_map(Node::as_str);
    let resources: Vec<String> = resources.map(str::to_string).collect();
    if resources.is_empty() {
        return Err("resources: Required value".to_string());
    }
    if resources.iter().any(|one| one == "*") {
        return Err(
            "resources: Invalid value: \"*\": use '*.' to encrypt all the resources from core API \
             group or *.* to encrypt all resources"
                .to_string(),
        );
    }
    let mut providers = Vec::new();
    for one in list(node, "providers") {
        let found: Vec<Node<'_>> = one.children().collect();
        let [kind] = found[..] else {
            return Err("providers: exactly one provider must be given in an element".to_string());
        };
        read_provider(kind, &mut providers)?;
    }
    if providers.is_empty() {
        return Err("providers: Required value".to_string());
    }
    Ok(Rule {
        resources,
        providers,
    })
}

fn read_provider(node: Node<'_>, out: &mut Vec<Provider>) -> Result<(), String> {
    type Make = fn(&[u8]) -> Result<Cipher, String>;
    let make: Make = match node.key() {
        "identity" => {
            out.push(Provider::Identity);
            return Ok(());
        }
        "kms" => {
            out.push(Provider::Kms(read_kms(node)?));
            return Ok(());
        }
        "aesgcm" => Cipher::aes_gcm,
        "aescbc" => Cipher::aes_cbc,
        "secretbox" => Cipher::secretbox,
        other => return Err(format!("providers: {other} is not known")),
    };
    let before = out.len();
    for key in list(node, "keys") {
        let name = key.text(&["name"]);
        if name.is_empty() {
            return Err(format!("{}.keys.name: Required value", node.key()));
        }
        let secret = STANDARD.decode(key.text(&["secret"]));
        let secret = secret
            .map_err(|_| format!("{}: key {name}: secrets must be base64 encoded", node.key()))?;
        let cipher = make(&secret).map_err(|why| format!("key {name}: {why}"))?;
        let prefix = format!("k8s:enc:{}:v1:{name}:", node.key());
        out.push(Provider::Local(prefix, cipher));
    }
    match out.len() == before {
        true => Err(format!("{}.keys: Required value", node.key())),
        false => Ok(()),
    }
}

fn read_kms(node: Node<'_>) -> Result<Kms, String> {
    let name = node.text(&["name"]);
    if name.is_empty() || name.contains(':') {
        return Err("kms.name: give one without colons".to_string());
    }
    if node.text(&["apiVersion"]) != "v2" {
        return Err("kms.apiVersion: only v2 is supported".to_string());
    }
    let endpoint = node.text(&["endpoint"]);
    let socket = endpoint.strip_prefix("unix://");
    let socket = socket
        .filter(|socket| !socket.is_empty())
        .ok_or_else(|| format!("kms.endpoint: {endpoint:?} is not unix:///PATH"))?;
    let timeout = match node.text(&["timeout"]) {
        "" => KMS_TIMEOUT,
        text => match api::values::duration::parse(text).map(u64::try_from) {
            Ok(Ok(nanos)) if nanos > 0 => Duration::from_nanos(nanos),
            _ => return Err("kms.timeout: should be a positive value".to_string()),
        },
    };
    Ok(Kms {
        name: name.to_string(),
        socket: socket.to_string(),
        timeout,
    })
}

fn list<'d>(node: Node<'d>, key: &str) -> impl Iterator<Item = Node<'d>> {
    node.get(key).into_iter().flat_map(Node::children)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str =
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n";

    #[test]
    fn resources_are_meant_by_name_group_or_all() {
        let text = "- resources: [secrets, deployments.apps, '*.batch']\n  providers: [{identity: {}}]\n- resources: ['*.']\n  providers: [{kms: {apiVersion: v2, name: k, endpoint: 'unix:///run/k', timeout: 1s}}]\n- resources: ['*.*']\n  providers:\n  - secretbox: {keys: [{name: a, secret: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}]}\n  - identity: {}\n";
        let rules = parse(format!("{START}{text}").as_bytes()).unwrap();
        for (group, resource, want) in [
            ("", "secrets", 0),
            ("apps", "deployments", 0),
            ("batch", "jobs", 0),
            ("", "configmaps", 1),
            ("apps", "daemonsets", 2),
            ("x.io", "secrets", 2),
        ] {
            let found = rules.iter().position(|rule| rule.fits(group, resource));
            assert_eq!(found, Some(want), "{group} {resource}");
        }
        let Provider::Kms(kms) = &rules[1].providers[0] else {
            panic!()
        };
        assert_eq!(
            (&*kms.socket, kms.timeout),
            ("/run/k", Duration::from_secs(1))
        );
        assert!(
            matches!(&rules[2].providers[0], Provider::Local(prefix, _) if prefix == "k8s:enc:secretbox:v1:a:")
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, want) in [
            ("", "resources: Required value"),
            (
                "- {resources: ['*'], providers: [{identity: {}}]}",
                "use '*.' to encrypt",
            ),
            (
                "- {resources: [a], providers: []}",
                "providers: Required value",
            ),
            (
                "- {resources: [a], providers: [{rot13: {}}]}",
                "rot13 is not known",
            ),
            (
                "- {resources: [a], providers: [{aesgcm: {keys: [{name: k, secret: '!'}]}}]}",
                "base64",
            ),
            (
                "- {resources: [a], providers: [{aesgcm: {keys: [{name: k, secret: 'AAAA'}]}}]}",
                "not 3",
            ),
            (
                "- {resources: [a], providers: [{kms: {name: k, endpoint: 'unix:///x'}}]}",
                "only v2",
            ),
        ] {
            let error = parse(format!("{START}{text}").as_bytes()).err().unwrap();
            assert!(error.contains(want), "{error}");
        }
    }
}
