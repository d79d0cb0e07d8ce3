//! Encryption at rest: what stands in the store is encrypted, what stands in memory is not.
//!
//! A configuration names providers for resources: the first encrypts what is written, all may decrypt
//! what is read. Values are those of kube-apiserver, so that data can move between the two.
//!
//! - [`config`]: the file; [`ciphers`]: providers with keys in it; [`kms`]: plugins that guard keys
//! - [`store`]: a store whose values pass through

pub mod ciphers;
mod config;
mod kms;
/// The protocol of plugins.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/kms.proto"
)]
mod pb {
    tonic::include_proto!("v2");
}
pub mod store;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use seams::{Seams, Tasks};
use tokio::time::sleep;

use ciphers::Cipher;
use config::Provider;
use kms::Plugin;

pub use store::Encrypted;

/// How often the file is compared with what was loaded.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);
/// How long the last generation's plugins are kept for reads that are under way.
const LAST_READS: Duration = Duration::from_secs(30);
/// What encrypted values start with.
const ENCRYPTED: &[u8] = b"k8s:enc:";

/// Why a value could not be encrypted or decrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Somebody else is not well: it may succeed another time.
    Unwell(String),
    /// It will not.
    Broken(String),
}

/// One way to encrypt.
enum Transformer {
    /// Not at all.
    Identity,
    Local(String, Cipher),
    Plugin(String, Arc<Plugin>),
}

impl Transformer {
    /// The rest of a value that is of this transformer.
    fn strip<'v>(&self, value: &'v [u8]) -> Option<&'v [u8]> {
        match self {
            Self::Identity => (!value.starts_with(ENCRYPTED)).then_some(value),
            Self::Local(prefix, _) | Self::Plugin(prefix, _) => {
                value.strip_prefix(prefix.as_bytes())
            }
        }
    }
}

/// What is encrypted, and how.
struct Rules {
    rules: Vec<(config::Rule, Vec<Transformer>)>,
}

/// What is encrypted, and how; changes with its file.
pub struct Encryption {
    path: PathBuf,
    seams: Seams,
    rules: ArcSwap<Rules>,
}

impl Encryption {
    /// Reads a configuration, and follows the file until the tasks end.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or makes no sense.
    pub fn load(path: PathBuf, seams: &Seams, tasks: &Tasks) -> Result<Arc<Self>, String> {
        let text = seams.disk.read(&path);
        let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
        let of_rules = tasks.child();
        let rules = Rules::build(&text, seams, &of_rules);
        let rules = rules.map_err(|why| format!("{}: {why}", path.display()))?;
        let encryption = Arc::new(Self {
            path,
            seams: seams.clone(),
            rules: ArcSwap::from_pointee(rules),
        });
        encryption.follow(text, of_rules, tasks);
        Ok(encryption)
    }

    fn follow(self: &Arc<Self>, mut loaded: Vec<u8>, mut of_rules: Tasks, tasks: &Tasks) {
        let (encryption, owner) = (self.clone(), tasks.clone());
        tasks.spawn("encryption-reload", async move {
            loop {
                tokio::select! {
                    () = sleep(RELOAD_INTERVAL) => {}
                    () = owner.cancelled() => return,
                }
                let Ok(text) = encryption.seams.disk.read(&encryption.path) else {
                    continue;
                };
                if text == loaded {
                    continue;
                }
                let next = owner.child();
                match Rules::build(&text, &encryption.seams, &next) {
                    Ok(rules) => {
                        encryption.rules.store(Arc::new(rules));
                        tracing::info!("the encryption configuration was reloaded");
                        let last = std::mem::replace(&mut of_rules, next);
                        owner.spawn("encryption-end", async move {
                            tokio::select! {
                                () = sleep(LAST_READS) => last.shutdown().await,
                                () = last.cancelled() => {}
                            }
                        });
                    }
                    Err(why) => {
                        tracing::error!(
                            why,
                            "the new encryption configuration cannot be used, the old one stays"
                        );
                    }
                }
                loaded = text;
            }
        });
    }

    /// A value as it is stored.
    ///
    /// # Errors
    ///
    /// If a plugin is not well.
    fn seal(
        &self,
        (group, resource): (&str, &str),
        key: &[u8],
        value: &Bytes,
    ) -> Result<Bytes, Failure> {
        let rules = self.rules.load();
        let (prefix, sealed) = match rules.of(group, resource).and_then(<[_]>::first) {
            None | Some(Transformer::Identity) => return Ok(value.clone()),
            Some(Transformer::Local(prefix, cipher)) => {
                let sealed = cipher.seal(value, key, &*self.seams.rng);
                (prefix, sealed.map_err(Failure::Broken)?)
            }
            Some(Transformer::Plugin(prefix, plugin)) => (prefix, plugin.seal(value, key)?),
        };
        Ok([prefix.as_bytes(), &sealed].concat().into())
    }

    /// A value from what is stored.
    ///
    /// # Errors
    ///
    /// If no provider can decrypt it, or a plugin is not well.
    async fn open(
        &self,
        (group, resource): (&str, &str),
        key: &[u8],
        value: Bytes,
    ) -> Result<Bytes, Failure> {
        if !value.starts_with(ENCRYPTED) {
            // Whatever is not encrypted can be read, so that encryption can be turned on.
            return Ok(value);
        }
        let rules = self.rules.load_full();
        let mut failure = Failure::Broken("no matching prefix found".to_string());
        for transformer in rules.of(group, resource).unwrap_or_default() {
            let Some(rest) = transformer.strip(&value) else {
                continue;
            };
            let opened = match transformer {
                Transformer::Identity => return Ok(value),
                Transformer::Local(_, cipher) => cipher.open(rest, key).map_err(Failure::Broken),
                Transformer::Plugin(_, plugin) => plugin.open(rest, key).await,
            };
            match opened {
                Ok(opened) => return Ok(opened.into()),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Whether what is stored would be stored otherwise now.
    fn is_stale(&self, (group, resource): (&str, &str), value: &[u8]) -> bool {
        let rules = self.rules.load();
        match rules.of(group, resource).and_then(<[_]>::first) {
            None => false,
            Some(first) => match (first.strip(value), first) {
                (None, _) => true,
                (Some(rest), Transformer::Plugin(_, plugin)) => plugin.is_stale(rest),
                (Some(_), _) => false,
            },
        }
    }
}

impl Rules {
    fn build(text: &[u8], seams: &Seams, tasks: &Tasks) -> Result<Self, String> {
        let mut plugins: HashMap<String, (config::Kms, Arc<Plugin>)> = HashMap::new();
        let mut rules = Vec::new();
        for mut rule in config::parse(text)? {
            let mut transformers = Vec::new();
            for provider in std::mem::take(&mut rule.providers) {
                transformers.push(match provider {
                    Provider::Identity => Transformer::Identity,
                    Provider::Local(prefix, cipher) => Transformer::Local(prefix, cipher),
                    Provider::Kms(kms) => {
                        let known = plugins.entry(kms.name.clone());
                        let known = known.or_insert_with(|| {
                            (kms.clone(), Plugin::start(kms.clone(), seams, tasks))
                        });
                        if known.0 != kms {
                            return Err(format!(
                                "kms.name: {:?} is given to two plugins",
                                kms.name
                            ));
                        }
                        Transformer::Plugin(known.1.prefix(), known.1.clone())
                    }
                });
            }
            if let Some(Transformer::Local(prefix, Cipher::AesCbc(_))) = transformers.first() {
                return Err(format!(
                    "{prefix} is first: aescbc is read and not written any more"
                ));
            }
            rules.push((rule, transformers));
        }
        Ok(Self { rules })
    }

    fn of(&self, group: &str, resource: &str) -> Option<&[Transformer]> {
        let found = self
            .rules
            .iter()
            .find(|(rule, _)| rule.fits(group, resource));
        found.map(|(_, transformers)| &**transformers)
    }
}

#[cfg(test)]
mod tests;
