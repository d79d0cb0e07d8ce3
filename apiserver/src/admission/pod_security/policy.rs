//! What a namespace's labels say of its pods.

use std::fmt;

use api::field::FieldError;

use crate::validation::At;

const PREFIX: &str = "pod-security.kubernetes.io/";

/// How strict it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// The version of Kubernetes whose rules count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Latest,
    Minor(u32),
}

/// A level as of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) level: Level,
    pub(super) version: Version,
}

impl Rule {
    const NONE: Self = Self {
        level: Level::Privileged,
        version: Version::Latest,
    };
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        })?;
        match self.version {
            Version::Latest => out.write_str(":latest"),
            Version::Minor(minor) => write!(out, ":v1.{minor}"),
        }
    }
}

/// What holds in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) enforce: Rule,
    pub(super) audit: Rule,
    pub(super) warn: Rule,
}

impl Policy {
    /// A namespace's policy, and what is wrong with its labels.
    pub(super) fn of(namespace: At<'_>) -> (Self, Vec<FieldError>) {
        let mut labels = Labels {
            labels: namespace.path(&["metadata", "labels"]),
            errors: Vec::new(),
        };
        let (enforce, has_enforced) = labels.rule("enforce", Level::Restricted);
        let (audit, _) = labels.rule("audit", Level::Privileged);
        let (mut warn, _) = labels.rule("warn", Level::Privileged);
        // Nobody says what to warn of: of what is forbidden.
        let has = |key: &str| labels.labels.entry(&format!("{PREFIX}{key}")).is_some();
        if has_enforced && !has("warn") && enforce.level > warn.level {
            warn.level = enforce.level;
            if !has("warn-version") {
                warn.version = enforce.version;
            }
        }
        let policy = Self {
            enforce,
            audit,
            warn,
        };
        (policy, labels.errors)
    }

    /// Everything is allowed without a word.
    pub(super) fn is_privileged(&self) -> bool {
        let rules = [self.enforce, self.audit, self.warn];
        rules.iter().all(|rule| rule.level == Level::Privileged)
    }
}

struct Labels<'d> {
    labels: At<'d>,
    errors: Vec<FieldError>,
}

impl Labels<'_> {
    /// The rule of a mode, and whether its level is told; `failed` is the level of a label that cannot
    /// be read.
    fn rule(&mut self, mode: &str, failed: Level) -> (Rule, bool) {
        let mut rule = Rule::NONE;
        let mut is_told = false;
        let key = format!("{PREFIX}{mode}");
        if let Some(label) = self.labels.entry(&key) {
            let level = match label.str() {
                "privileged" => Some(Level::Privileged),
                "baseline" => Some(Level::Baseline),
                "restricted" => Some(Level::Restricted),
                _ => None,
            };
            is_told = level.is_some();
            rule.level = level.unwrap_or(failed);
            if !is_told {
                self.complain(
                    &key,
                    label,
                    "must be one of privileged, baseline, restricted",
                );
            }
        }
        let key = format!("{key}-version");
        if let Some(label) = self.labels.entry(&key) {
            match version(label.str()) {
                Some(version) => rule.version = version,
                None => self.complain(&key, label, r#"must be "latest" or "v1.x""#),
            }
        }
        (rule, is_told)
    }

    fn complain(&mut self, key: &str, label: At<'_>, why: &str) {
        let field = format!("metadata.labels[{key}]");
        self.errors
            .push(FieldError::invalid(field, label.str(), why));
    }
}

fn version(text: &str) -> Option<Version> {
    if text == "latest" {
        return Some(Version::Latest);
    }
    let minor = text.strip_prefix("v1.")?;
    let is_plain = minor == "0" || !minor.starts_with('0');
    let is_number = minor.bytes().all(|byte| byte.is_ascii_digit());
    (is_plain && is_number).then(|| minor.parse().ok().map(Version::Minor))?
}
