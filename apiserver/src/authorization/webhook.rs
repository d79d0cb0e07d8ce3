//! An authorizer elsewhere: it is asked with a SubjectAccessReview, and its answers are kept a while.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::doc::{Doc, Id, New, Node};
use api::selector::Operator;
use seams::{Clock, Seams};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::{Attributes, Decision, Rules};
use crate::outbound::Client;

const CACHED_MAX: usize = 8192;
/// Longer questions are not kept.
const KEPT_BYTES_MAX: usize = 10_000;

/// How it is asked.
pub struct Config {
    /// Where it is.
    pub url: String,
    /// How long a yes holds.
    pub authorized_ttl: Duration,
    /// How long anything else holds.
    pub unauthorized_ttl: Duration,
    /// Whether nothing is allowed while it does not answer, rather than the next being asked.
    pub denies_on_error: bool,
}

/// Asks an authorizer elsewhere.
pub struct Webhook {
    client: Client,
    config: Config,
    clock: Arc<dyn Clock>,
    answers: Mutex<HashMap<[u8; 32], (Decision, Instant)>>,
}

impl Webhook {
    /// Nothing is asked yet.
    pub fn new(client: Client, config: Config, seams: &Seams) -> Self {
        Self {
            client,
            config,
            clock: seams.clock.clone(),
            answers: Mutex::default(),
        }
    }

    /// What it says.
    pub async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let review = question(attributes);
        let text = review.to_string();
        let key: [u8; 32] = Sha256::digest(&text).into();
        if let Some(decision) = self.kept(&key) {
            return decision;
        }
        match self.client.post(&self.config.url, &review).await {
            Ok(answer) => {
                let decision = read(&answer);
                if text.len() < KEPT_BYTES_MAX {
                    self.keep(key, decision.clone());
                }
                decision
            }
            Err(error) => {
                tracing::warn!(error, "authorization webhook not reached");
                match self.config.denies_on_error {
                    true => Decision::Deny(Cow::Owned(error)),
                    false => Decision::NONE,
                }
            }
        }
    }

    fn kept(&self, key: &[u8; 32]) -> Option<Decision> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (decision, until) = answers.get(key)?;
        (*until > self.clock.now()).then(|| decision.clone())
    }

    fn keep(&self, key: [u8; 32], decision: Decision) {
        let now = self.clock.now();
        let ttl = match decision.is_allowed() {
            true => self.config.authorized_ttl,
            false => self.config.unauthorized_ttl,
        };
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= CACHED_MAX {
            answers.retain(|_, (_, until)| *until > now);
        }
        if answers.len() >= CACHED_MAX {
            answers.clear();
        }
        answers.insert(key, (decision, now + ttl));
    }
}

/// Nobody can list what it allows.
pub(super) fn rules_for() -> Rules {
    let error = "webhook authorizer does not support user rule resolution";
    Rules {
        is_incomplete: true,
        errors: vec![error.to_string()],
        ..Rules::default()
    }
}

fn read(answer: &Doc) -> Decision {
    let is = |key: &str| answer.root().path(&["status", key]).and_then(Node::as_bool) == Some(true);
    let reason = Cow::Owned(answer.root().text(&["status", "reason"]).to_string());
    match (is("allowed"), is("denied")) {
        (_, true) => Decision::Deny(reason),
        (true, false) => Decision::Allow(reason),
        (false, false) => Decision::NoOpinion(reason),
    }
}

fn question(attributes: &Attributes<'_>) -> Doc {
    let mut doc = Doc::literal(
        r#"{"kind":"SubjectAccessReview","apiVersion":"authorization.k8s.io/v1","metadata":{},"spec":{}}"#,
    );
    let top = doc.top();
    let spec = doc.object(top, "spec");
    let (part, texts) = match attributes.is_resource {
        true => (
            "resourceAttributes",
            vec![
                ("namespace", attributes.namespace),
                ("verb", attributes.verb),
                ("group", attributes.group),
                ("version", attributes.version),
                ("resource", attributes.resource),
                ("subresource", attributes.subresource),
                ("name", attributes.name),
            ],
        ),
        false => (
            "nonResourceAttributes",
            vec![("path", attributes.path), ("verb", attributes.verb)],
        ),
    };
    let part = doc.object(spec, part);
    set_texts(&mut doc, part, &texts);
    if attributes.is_resource {
        write_selectors(&mut doc, part, attributes);
    }
    let user = attributes.user;
    set_texts(&mut doc, spec, &[("user", &user.name)]);
    if !user.groups.is_empty() {
        set_list(&mut doc, spec, "groups", &user.groups);
    }
    if !user.extra.is_empty() {
        let extra = doc.object(spec, "extra");
        for (key, values) in &user.extra {
            set_list(&mut doc, extra, key, values);
        }
    }
    set_texts(&mut doc, spec, &[("uid", &user.uid)]);
    doc
}

fn set_texts(doc: &mut Doc, object: Id, texts: &[(&str, &str)]) {
    for (key, value) in texts.iter().filter(|(_, value)| !value.is_empty()) {
        doc.set(object, key, *value);
    }
}

fn set_list(doc: &mut Doc, object: Id, key: &str, values: &[String]) {
    let list = doc.set(object, key, New::List);
    for value in values {
        doc.push(list, value);
    }
}

/// Selectors as far as the question knows them: to leave a term out is to ask for more.
fn write_selectors(doc: &mut Doc, part: Id, attributes: &Attributes<'_>) {
    let mut terms: Vec<(&str, &str, &str, Vec<String>)> = Vec::new();
    for term in attributes
        .field_selector
        .iter()
        .flat_map(|fields| &fields.terms)
    {
        let operator = if term.is_negated { "NotIn" } else { "In" };
        terms.push((
            "fieldSelector",
            &term.field,
            operator,
            vec![term.value.clone()],
        ));
    }
    for term in attributes
        .label_selector
        .iter()
        .flat_map(|labels| &labels.requirements)
    {
        let operator = match term.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In => "In",
            Operator::NotEquals | Operator::NotIn => "NotIn",
            Operator::Exists => "Exists",
            Operator::DoesNotExist => "DoesNotExist",
            Operator::GreaterThan | Operator::LessThan => continue,
        };
        terms.push(("labelSelector", &term.key, operator, term.values.clone()));
    }
    for (selector, key, operator, values) in terms {
        let selector = doc.object(part, selector);
        let list = doc.list(selector, "requirements");
        let term = doc.push(list, New::Object);
        set_texts(doc, term, &[("key", key), ("operator", operator)]);
        if !values.is_empty() {
            set_list(doc, term, "values", &values);
        }
    }
}
