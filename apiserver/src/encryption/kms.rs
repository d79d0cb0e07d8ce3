//! Keys that a plugin guards: it encrypts a seed for the server, which derives the keys of objects
//! from that and stores the encrypted seed with each of them.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use prost::Message;
use seams::{Seams, Tasks};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Channel, Endpoint, Uri};

use super::ciphers::{Cipher, SEED};
use super::config::Kms;
use super::{Failure, pb};
use pb::key_management_service_client::KeyManagementServiceClient;

/// Between two questions whether the plugin is well and which key it uses.
const WELL_INTERVAL: Duration = Duration::from_secs(60);
const UNWELL_INTERVAL: Duration = Duration::from_secs(10);
/// Before the first answer, requests may be waiting.
const FIRST_INTERVAL: Duration = Duration::from_millis(500);
/// A seed is used no longer than this after the plugin last said that its key is the current one.
const SEED_TIME: Duration = Duration::from_secs(180);
/// Seeds that are remembered; there are as many as there were keys and servers.
const SEEDS_MAX: usize = 1000;

/// A plugin, as a cipher.
pub(super) struct Plugin {
    config: Kms,
    client: KeyManagementServiceClient<Channel>,
    seams: Seams,
    writing: Mutex<Option<Writing>>,
    /// Ciphers by what they were made from.
    reading: Mutex<HashMap<Vec<u8>, Arc<Cipher>>>,
}

/// What objects are encrypted with now.
#[derive(Clone)]
struct Writing {
    cipher: Arc<Cipher>,
    /// As it is stored, without data.
    envelope: pb::EncryptedObject,
    until: Instant,
}

impl Plugin {
    /// Reaches a plugin, and asks it from time to time which key it uses, until the tasks end.
    pub(super) fn start(config: Kms, seams: &Seams, tasks: &Tasks) -> Arc<Self> {
        let socket = PathBuf::from(&config.socket);
        let connect = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        });
        // The address goes nowhere: the connector knows where.
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = endpoint.connect_with_connector_lazy(connect);
        let plugin = Arc::new(Self {
            config,
            client: KeyManagementServiceClient::new(channel),
            seams: seams.clone(),
            writing: Mutex::default(),
            reading: Mutex::default(),
        });
        let (kept, owner) = (plugin.clone(), tasks.clone());
        tasks.spawn("kms", async move {
            let mut is_new = true;
            loop {
                let pause = match kept.refresh().await {
                    Ok(()) => WELL_INTERVAL,
                    Err(why) => {
                        tracing::warn!(plugin = kept.config.name, why, "KMS plugin is not well");
                        if is_new {
                            FIRST_INTERVAL
                        } else {
                            UNWELL_INTERVAL
                        }
                    }
                };
                is_new &= pause == FIRST_INTERVAL;
                tokio::select! {
                    () = sleep(kept.seams.rng.jitter(pause)) => {}
                    () = owner.cancelled() => return,
                }
            }
        });
        plugin
    }

    /// What values start with.
    pub(super) fn prefix(&self) -> String {
        format!("k8s:enc:kms:v2:{}:", self.config.name)
    }

    /// Asks which key is used, and takes a new seed if it is another.
    async fn refresh(&self) -> Result<(), String> {
        let mut client = self.client.clone();
        let status = self.call(client.status(pb::StatusRequest {})).await?;
        if status.healthz != "ok" {
            return Err(format!("got unexpected healthz status: {}", status.healthz));
        }
        if !matches!(&*status.version, "v2" | "v2beta1") {
            return Err(format!(
                "expected KMS plugin version to be v2, got {}",
                status.version
            ));
        }
        if status.key_id.is_empty() {
            return Err("expected KMS plugin to return a key ID".to_string());
        }
        let until = self.seams.clock.now() + SEED_TIME;
        if let Some(writing) = &mut *self.writing()
            && writing.envelope.key_id == status.key_id
        {
            writing.until = until;
            return Ok(());
        }
        let mut seed = vec![0; SEED];
        self.seams.rng.fill(&mut seed);
        let request = pb::EncryptRequest {
            plaintext: seed.clone().into(),
            uid: self.uid(),
        };
        let answer = self.call(client.encrypt(request)).await?;
        if answer.ciphertext.is_empty() || answer.key_id.is_empty() {
            return Err("the plugin encrypts without a key".to_string());
        }
        let envelope = pb::EncryptedObject {
            encrypted_data: Bytes::new(),
            key_id: answer.key_id,
            encrypted_dek_source: answer.ciphertext,
            annotations: answer.annotations,
            encrypted_dek_source_type: pb::SourceType::HkdfSha256XnonceAesGcmSeed.into(),
        };
        let cipher = Arc::new(Cipher::seeded(&seed)?);
        self.remember(&envelope, cipher.clone());
        *self.writing() = Some(Writing {
            cipher,
            envelope,
            until,
        });
        Ok(())
    }

    /// Encrypts what belongs to a key of the store.
    pub(super) fn seal(&self, data: &[u8], key: &[u8]) -> Result<Vec<u8>, Failure> {
        let name = &self.config.name;
        let Some(writing) = self.writing().clone() else {
            return Err(Failure::Unwell(format!(
                "KMS plugin {name} has not answered yet"
            )));
        };
        if self.seams.clock.now() > writing.until {
            let why = format!("KMS plugin {name} does not answer, and its key may be another");
            return Err(Failure::Unwell(why));
        }
        let sealed = writing.cipher.seal(data, key, &*self.seams.rng);
        let mut envelope = writing.envelope;
        envelope.encrypted_data = sealed.map_err(Failure::Broken)?.into();
        Ok(envelope.encode_to_vec())
    }

    /// Decrypts what belongs to a key of the store.
    pub(super) async fn open(&self, data: &[u8], key: &[u8]) -> Result<Vec<u8>, Failure> {
        let envelope = pb::EncryptedObject::decode(data);
        let envelope = envelope.map_err(|error| Failure::Broken(error.to_string()))?;
        let cipher = match self.remembered(&envelope) {
            Some(cipher) => cipher,
            None => self.ask(&envelope).await?,
        };
        cipher
            .open(&envelope.encrypted_data, key)
            .map_err(Failure::Broken)
    }

    /// Whether what is stored should be written anew.
    pub(super) fn is_stale(&self, data: &[u8]) -> bool {
        let Ok(envelope) = pb::EncryptedObject::decode(data) else {
            return false;
        };
        let writing = self.writing();
        writing.as_ref().is_some_and(|writing| {
            let now = &writing.envelope;
            now.key_id != envelope.key_id
                || now.encrypted_dek_source_type != envelope.encrypted_dek_source_type
        })
    }

    /// Has a seed decrypted.
    async fn ask(&self, envelope: &pb::EncryptedObject) -> Result<Arc<Cipher>, Failure> {
        let request = pb::DecryptRequest {
            ciphertext: envelope.encrypted_dek_source.clone(),
            uid: self.uid(),
            key_id: envelope.key_id.clone(),
            annotations: envelope.annotations.clone(),
        };
        let mut client = self.client.clone();
        let answer = self.call(client.decrypt(request)).await;
        let source = answer
            .map_err(|why| Failure::Unwell(format!("failed to decrypt DEK, error: {why}")))?
            .plaintext;
        let cipher = match pb::SourceType::try_from(envelope.encrypted_dek_source_type) {
            Ok(pb::SourceType::AesGcmKey) => Cipher::aes_gcm(&source),
            Ok(pb::SourceType::HkdfSha256XnonceAesGcmSeed) => Cipher::seeded(&source),
            Err(error) => Err(format!("unknown encryptedDEKSourceType: {}", error.0)),
        };
        let cipher = Arc::new(cipher.map_err(Failure::Broken)?);
        self.remember(envelope, cipher.clone());
        Ok(cipher)
    }

    async fn call<T>(
        &self,
        answer: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, String> {
        match timeout(self.config.timeout, answer).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(status.message().to_string()),
            Err(_) => Err("no answer in time".to_string()),
        }
    }

    fn writing(&self) -> std::sync::MutexGuard<'_, Option<Writing>> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self, envelope: &pb::EncryptedObject) -> Option<Arc<Cipher>> {
        let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        reading.get(&origin(envelope)).cloned()
    }

    fn remember(&self, envelope: &pb::EncryptedObject, cipher: Arc<Cipher>) {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if reading.len() >= SEEDS_MAX {
            reading.clear();
        }
        reading.insert(origin(envelope), cipher);
    }

    fn uid(&self) -> String {
        let (high, low) = (self.seams.rng.next_u64(), self.seams.rng.next_u64());
        format!("{high:016x}{low:016x}")
    }
}

/// What a cipher was made from, as a key.
fn origin(envelope: &pb::EncryptedObject) -> Vec<u8> {
    let sorted: BTreeMap<_, _> = envelope.annotations.iter().collect();
    let mut key = envelope.encrypted_dek_source_type.to_be_bytes().to_vec();
    let mut add = |part: &[u8]| {
        key.extend((part.len() as u64).to_be_bytes());
        key.extend_from_slice(part);
    };
    add(&envelope.encrypted_dek_source);
    add(envelope.key_id.as_bytes());
    for (name, value) in sorted {
        add(name.as_bytes());
        add(value);
    }
    key
}
