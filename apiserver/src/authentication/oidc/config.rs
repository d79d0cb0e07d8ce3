//! Which providers are believed, from an AuthenticationConfiguration. Expressions are refused: what
//! cannot be evaluated must not be ignored.

use api::doc::{Doc, Node};

use crate::authentication::Anonymous;
use crate::authentication::jwt::texts;

/// A claim and what its values are prefixed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its name.
    pub claim: String,
    /// Before every value.
    pub prefix: String,
}

/// One provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The issuer's URL.
    pub issuer: String,
    /// Where its configuration is, if not where it usually is.
    pub discovery_url: Option<String>,
    /// Its authorities in PEM; empty means the machine's.
    pub ca: String,
    /// For whom tokens must be, any of them.
    pub audiences: Vec<String>,
    /// Algorithms of signatures.
    pub algorithms: Vec<String>,
    /// The user's name.
    pub username: Claim,
    /// Its groups.
    pub groups: Option<Claim>,
    /// Its UID.
    pub uid: Option<String>,
    /// Claims that must have a value.
    pub required: Vec<(String, String)>,
}

/// Reads the text of an AuthenticationConfiguration, as [`parse`].
///
/// # Errors
///
/// If it is not YAML, incomplete, or has expressions.
pub fn read(text: &[u8]) -> Result<(Vec<Config>, Option<Anonymous>), String> {
    let (doc, _) = api::codec::yaml::parse(text).map_err(|error| error.to_string())?;
    parse(&doc)
}

/// Reads an AuthenticationConfiguration: its providers, and where nobody in particular may ask, if it
/// says so.
///
/// # Errors
///
/// If it is incomplete, or has expressions.
pub fn parse(configuration: &Doc) -> Result<(Vec<Config>, Option<Anonymous>), String> {
    let root = configuration.root();
    let providers = root.get("jwt").into_iter().flat_map(Node::children);
    let providers: Result<Vec<Config>, String> = providers.map(provider).collect();
    let anonymous = root
        .get("anonymous")
        .filter(|node| !node.is_null())
        .map(|node| {
            let paths = node.get("conditions").into_iter().flat_map(Node::children);
            let paths: Vec<String> = paths.map(|one| one.text(&["path"]).to_string()).collect();
            match (node.get("enabled").and_then(Node::as_bool), &paths[..]) {
                (Some(true), []) => Anonymous::Everywhere,
                (Some(true), _) => Anonymous::On(paths),
                _ => Anonymous::Nowhere,
            }
        });
    Ok((providers?, anonymous))
}

fn provider(jwt: Node<'_>) -> Result<Config, String> {
    let issuer = jwt.text(&["issuer", "url"]);
    if !issuer.starts_with("https://") {
        return Err(format!(
            "jwt.issuer.url: Invalid value: {issuer:?}: URL scheme must be https"
        ));
    }
    let audiences = jwt
        .path(&["issuer", "audiences"])
        .map(texts)
        .unwrap_or_default();
    if audiences.is_empty() {
        return Err("jwt.issuer.audiences: Required value: at least one is required".to_string());
    }
    if has_expression(jwt) {
        return Err(format!(
            "jwt: expressions are not supported (issuer {issuer})"
        ));
    }
    let mapping = |name: &str| {
        let node = jwt.path(&["claimMappings", name])?;
        let claim = node.text(&["claim"]).to_string();
        let prefix = node.text(&["prefix"]).to_string();
        (!claim.is_empty()).then_some(Claim { claim, prefix })
    };
    let rules = jwt
        .get("claimValidationRules")
        .into_iter()
        .flat_map(Node::children);
    let discovery_url = jwt.text(&["issuer", "discoveryURL"]);
    Ok(Config {
        issuer: issuer.to_string(),
        discovery_url: (!discovery_url.is_empty()).then(|| discovery_url.to_string()),
        ca: jwt.text(&["issuer", "certificateAuthority"]).to_string(),
        audiences,
        algorithms: vec!["RS256".to_string()],
        username: mapping("username")
            .ok_or("jwt.claimMappings.username: Required value: claim or expression is required")?,
        groups: mapping("groups"),
        uid: mapping("uid").map(|mapping| mapping.claim),
        required: rules
            .map(|rule| {
                let text = |key: &str| rule.text(&[key]).to_string();
                (text("claim"), text("requiredValue"))
            })
            .collect(),
    })
}

/// Whether there is an expression, or what consists of nothing else.
fn has_expression(node: Node<'_>) -> bool {
    node.children().any(|child| {
        let is_one = matches!(child.key(), "expression" | "extra" | "userValidationRules");
        let is_set = child.as_str() != Some("") && !child.is_null();
        let is_set = is_set && !(child.kind() == api::doc::Kind::List && child.is_empty());
        is_one && is_set || has_expression(child)
    })
}
