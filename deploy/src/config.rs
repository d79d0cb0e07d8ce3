//! How a process gets its settings: defaults, then a YAML file, then `TRIREME_*` variables, then
//! flags, each over the one before.
//!
//! A setting has one name everywhere: the key `data-dir` in the file is the variable
//! `TRIREME_DATA_DIR` and the flag `--data-dir`. A name that no setting has is an error in all
//! three, and every complaint says which setting it is about, where the value came from and what
//! would be right.

mod apiserver;
mod control_plane;
mod node;
mod store;
pub mod values;

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_yaml_ng::{Mapping, Value};
use thiserror::Error;

pub use apiserver::{ApiConfig, ApiServerConfig, ServerConfig};
pub use control_plane::{
    CloudConfig, ControlPlaneConfig, ControllerManagerConfig, ControllersConfig, ElectionConfig,
    ProcessConfig, SchedulerConfig,
};
pub use node::{Label, NodeConfig};
pub use store::{AutoCompaction, MemoryShares, StoreConfig};

/// The prefix of all variables.
pub const PREFIX: &str = "TRIREME_";

/// Variables with the prefix that are no settings of a role: the file with the settings, what
/// client commands read, and what a local cluster's supervisor tells its children.
pub const OTHER_VARIABLES: [&str; 6] = [
    "TRIREME_CONFIG",
    "TRIREME_DIE_WITH_PARENT",
    "TRIREME_ENDPOINTS",
    "TRIREME_CACERT",
    "TRIREME_CERT",
    "TRIREME_KEY",
];

/// The settings of a role.
pub trait Settings: Serialize + DeserializeOwned + Default {
    /// Other names of settings: `(alias, key)`.
    const ALIASES: &'static [(&'static str, &'static str)] = &[];

    /// Fills in what follows from other settings.
    fn resolve(&mut self) {}

    /// Everything that makes the settings unusable.
    fn problems(&self) -> Vec<Problem>;
}

/// Why a setting cannot be used, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting.
    pub key: &'static str,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Where settings come from, weakest first.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A YAML file.
    pub file: Option<PathBuf>,
    /// Variables; those without the prefix are passed over.
    pub environment: Vec<(String, String)>,
    /// Flags that were given, by key. A flag that was repeated has several values.
    pub flags: Vec<(String, Vec<String>)>,
}

#[cfg(test)]
impl Sources {
    /// Flags alone, each given once.
    fn of_flags(flags: &[(&str, &str)]) -> Sources {
        let own = |&(key, value): &(&str, &str)| (key.to_owned(), vec![value.to_owned()]);
        Sources {
            flags: flags.iter().map(own).collect(),
            ..Sources::default()
        }
    }
}

/// Why the settings could not be loaded.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a YAML mapping.
    #[error("the configuration file {path} is not a YAML mapping of settings: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// No setting has that name.
    #[error("unknown {name}{}", did_you_mean(.suggestion))]
    Unknown {
        /// The name as it was written, and where.
        name: String,
        /// The nearest name that exists.
        suggestion: Option<String>,
    },
    /// A value is of the wrong kind.
    #[error("{key} ({origin}): {message}")]
    Value {
        /// The setting.
        key: String,
        /// Where the value came from.
        origin: String,
        /// What is wrong with it.
        message: String,
    },
    /// The settings do not make sense together.
    #[error("the configuration cannot be used:{}", list(.0))]
    Unusable(Vec<Problem>),
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion
        .as_ref()
        .map(|name| format!("; did you mean {name}?"))
        .unwrap_or_default()
}

fn list(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|p| format!("\n  {}: {}", p.key, p.message))
        .collect()
}

/// Loads and checks the settings of a role.
///
/// # Errors
/// See [`ConfigError`]; each names the setting and the fix.
pub fn load<S: Settings>(sources: &Sources) -> Result<S, ConfigError> {
    let keys = keys::<S>();
    let mut merged = Mapping::new();
    for layer in [
        file_layer(sources)?,
        environment_layer::<S>(sources, &keys)?,
        flag_layer(sources),
    ] {
        for entry in layer {
            let key = canonical::<S>(&entry.key);
            if !keys.iter().any(|known| known == key) {
                let suggestion = nearest(key, &keys).map(|name| format!("`{name}`"));
                let name = format!("setting `{}` {}", entry.key, entry.origin);
                return Err(ConfigError::Unknown { name, suggestion });
            }
            check_alone::<S>(key, &entry)?;
            merged.insert(key.into(), entry.value);
        }
    }
    let mut settings: S =
        serde_yaml_ng::from_value(Value::Mapping(merged)).map_err(|error| ConfigError::Value {
            key: "configuration".into(),
            origin: "all sources together".into(),
            message: error.to_string(),
        })?;
    settings.resolve();
    let problems = settings.problems();
    if problems.is_empty() {
        Ok(settings)
    } else {
        Err(ConfigError::Unusable(problems))
    }
}

/// The names of all settings of a role.
pub fn keys<S: Settings>() -> Vec<String> {
    match serde_yaml_ng::to_value(S::default()) {
        Ok(Value::Mapping(defaults)) => defaults
            .keys()
            .filter_map(|key| Some(key.as_str()?.to_string()))
            .collect(),
        _ => Vec::new(),
    }
}

/// The variable of a setting.
pub fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('-', "_"))
}

/// A value of one source.
struct Entry {
    key: String,
    value: Value,
    origin: String,
}

fn file_layer(sources: &Sources) -> Result<Vec<Entry>, ConfigError> {
    let Some(path) = &sources.file else {
        return Ok(Vec::new());
    };
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.clone(),
        source,
    })?;
    parse_file(path, &text)
}

fn parse_file(path: &Path, text: &str) -> Result<Vec<Entry>, ConfigError> {
    let syntax = |message: String| ConfigError::Syntax {
        path: path.to_path_buf(),
        message,
    };
    let mapping = match serde_yaml_ng::from_str(text).map_err(|e| syntax(e.to_string()))? {
        Value::Null => Mapping::new(),
        Value::Mapping(mapping) => mapping,
        _ => return Err(syntax("it holds a single value".into())),
    };
    let mut entries = Vec::new();
    for (key, value) in mapping {
        let Value::String(key) = key else {
            return Err(syntax(format!("{key:?} is not the name of a setting")));
        };
        let origin = format!("in {}", path.display());
        // `key:` with nothing behind it: as if it were not there.
        if value != Value::Null {
            entries.push(Entry { key, value, origin });
        }
    }
    Ok(entries)
}

fn environment_layer<S: Settings>(
    sources: &Sources,
    keys: &[String],
) -> Result<Vec<Entry>, ConfigError> {
    let mut entries = Vec::new();
    for (name, value) in &sources.environment {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        if OTHER_VARIABLES.contains(&name.as_str()) || value.is_empty() {
            continue;
        }
        let key = rest.to_ascii_lowercase().replace('_', "-");
        if !keys.iter().any(|known| known == canonical::<S>(&key)) {
            let suggestion = nearest(&key, keys).map(variable);
            let name = format!("variable {name}: no setting has that name");
            return Err(ConfigError::Unknown { name, suggestion });
        }
        let value = Value::String(value.clone());
        entries.push(Entry {
            key,
            value,
            origin: format!("from {name}"),
        });
    }
    Ok(entries)
}

fn flag_layer(sources: &Sources) -> Vec<Entry> {
    let entry = |(key, values): &(String, Vec<String>)| {
        let value = match values.as_slice() {
            [one] => Value::String(one.clone()),
            many => Value::Sequence(many.iter().cloned().map(Value::String).collect()),
        };
        Entry {
            key: key.clone(),
            value,
            origin: format!("from --{key}"),
        }
    };
    sources.flags.iter().map(entry).collect()
}

fn canonical<S: Settings>(key: &str) -> &str {
    S::ALIASES
        .iter()
        .find(|(alias, _)| *alias == key)
        .map_or(key, |(_, key)| key)
}

/// Reads the value as if it were the only one, so that an error can name it and its source.
fn check_alone<S: Settings>(key: &str, entry: &Entry) -> Result<(), ConfigError> {
    let mut alone = Mapping::new();
    alone.insert(key.into(), entry.value.clone());
    match serde_yaml_ng::from_value::<S>(Value::Mapping(alone)) {
        Ok(_) => Ok(()),
        Err(error) => Err(ConfigError::Value {
            key: key.to_string(),
            origin: entry.origin.clone(),
            message: error.to_string(),
        }),
    }
}

/// The known name that a misspelt one most likely means.
fn nearest<'a>(wrong: &str, keys: &'a [String]) -> Option<&'a str> {
    let scored = keys.iter().map(|key| (distance(wrong, key), key.as_str()));
    let (distance, key) = scored.min()?;
    // Two letters may always be wrong (swapped, for one); beyond a third it is another word.
    (distance <= (wrong.len() / 3).max(2)).then_some(key)
}

/// Levenshtein's edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// The settings that differ from others.
pub(crate) fn differing<T: serde::Serialize>(
    settings: &T,
    from: &T,
) -> Result<serde_yaml_ng::Mapping, serde_yaml_ng::Error> {
    let serde_yaml_ng::Value::Mapping(mut settings) = serde_yaml_ng::to_value(settings)? else {
        return Ok(serde_yaml_ng::Mapping::new());
    };
    if let serde_yaml_ng::Value::Mapping(from) = serde_yaml_ng::to_value(from)? {
        settings.retain(|key, value| from.get(key) != Some(value));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests;
