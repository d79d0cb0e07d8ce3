//! Values on their way to the store and back, with keys that change and a plugin that answers.

use std::path::Path;
use std::sync::Mutex;

use raft_store::pb::etcdserverpb::{
    PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, request_op,
};
use raft_store::{Store, WatchItem};
use seams::Disk;
use tokio::net::UnixListener;
use tokio::time::{Instant, sleep_until};
use tonic::{Request, Response, Status};

use super::pb::key_management_service_server::{KeyManagementService, KeyManagementServiceServer};
use super::*;

const START: &str =
    "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n";
const ONE: &str = "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA=";
const TWO: &str = "MTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTE=";
const SECRETS: (&str, &str) = ("", "secrets");
const KEY: &[u8] = b"/registry/secrets/default/a";

fn write(path: &Path, providers: &str) {
    let text = format!("{START}- resources: [secrets]\n  providers: {providers}\n");
    seams::RealDisk.write_atomic(path, text.as_bytes()).unwrap();
}

struct World {
    _dir: tempfile::TempDir,
    tasks: Tasks,
    encryption: Arc<Encryption>,
}

fn world(providers: impl Fn(&Path) -> String) -> World {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("encryption.yaml");
    write(&path, &providers(dir.path()));
    let seams = Seams::real();
    let tasks = seams.tasks();
    let encryption = Encryption::load(path, &seams, &tasks).unwrap();
    World {
        _dir: dir,
        tasks,
        encryption,
    }
}

impl World {
    fn use_rules(&self, providers: &str) {
        let text = format!("{START}- resources: [secrets]\n  providers: {providers}\n");
        let rules = Rules::build(text.as_bytes(), &Seams::real(), &self.tasks).unwrap();
        self.encryption.rules.store(Arc::new(rules));
    }

    fn seal(&self, value: &'static [u8]) -> Bytes {
        let sealed = self
            .encryption
            .seal(SECRETS, KEY, &Bytes::from_static(value));
        sealed.unwrap()
    }

    async fn open(&self, value: &Bytes) -> Result<Bytes, Failure> {
        self.encryption.open(SECRETS, KEY, value.clone()).await
    }
}

#[tokio::test]
async fn the_first_key_writes_and_all_read() {
    let one = format!("{{name: one, secret: {ONE}}}");
    let two = format!("{{name: two, secret: {TWO}}}");
    let world = world(|_| "[{identity: {}}]".to_string());
    let plain = world.seal(b"v");
    assert_eq!(plain, "v");
    world.use_rules(&format!(
        "[{{aesgcm: {{keys: [{one}]}}}}, {{identity: {{}}}}]"
    ));
    let first = world.seal(b"v");
    assert!(first.starts_with(b"k8s:enc:aesgcm:v1:one:"));
    assert_eq!(first.len(), b"k8s:enc:aesgcm:v1:one:".len() + 12 + 1 + 16);
    for (value, is_stale) in [(&plain, true), (&first, false)] {
        assert_eq!(world.open(value).await.unwrap(), "v");
        assert_eq!(world.encryption.is_stale(SECRETS, value), is_stale);
    }
    world.use_rules(&format!(
        "[{{secretbox: {{keys: [{two}]}}}}, {{aesgcm: {{keys: [{two}, {one}]}}}}]"
    ));
    let second = world.seal(b"v");
    assert!(second.starts_with(b"k8s:enc:secretbox:v1:two:"));
    assert_eq!(world.open(&first).await.unwrap(), "v");
    assert!(world.encryption.is_stale(SECRETS, &first));
    world.use_rules(&format!("[{{aesgcm: {{keys: [{one}]}}}}]"));
    let failure = Failure::Broken("no matching prefix found".to_string());
    assert_eq!(world.open(&second).await, Err(failure));
    // Another place, another resource.
    let elsewhere = world
        .encryption
        .open(SECRETS, b"/registry/secrets/default/b", first.clone());
    assert!(matches!(elsewhere.await, Err(Failure::Broken(_))));
    let other = Bytes::from_static(b"v");
    assert_eq!(
        world.encryption.seal(("", "pods"), KEY, &other).unwrap(),
        "v"
    );
    world.tasks.shutdown().await;
}

#[tokio::test]
async fn what_cannot_be_used_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("encryption.yaml");
    write(&path, "[{aescbc: {keys: [{name: a, secret: AAAA}]}}]");
    let seams = Seams::real();
    let tasks = seams.tasks();
    assert!(Encryption::load(path, &seams, &tasks).is_err());
    let cbc = format!("[{{aescbc: {{keys: [{{name: a, secret: {ONE}}}]}}}}]");
    let text = format!("{START}- resources: [secrets]\n  providers: {cbc}\n");
    let error = Rules::build(text.as_bytes(), &seams, &tasks).err().unwrap();
    assert!(error.contains("aescbc is read and not written"), "{error}");
    tasks.shutdown().await;
}

/// A plugin that shifts bytes by its key.
#[derive(Clone, Default)]
struct Shift {
    key: Arc<Mutex<u8>>,
    decrypted: Arc<Mutex<u32>>,
}

#[tonic::async_trait]
impl KeyManagementService for Shift {
    async fn status(
        &self,
        _: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        Ok(Response::new(pb::StatusResponse {
            version: "v2".to_string(),
            healthz: "ok".to_string(),
            key_id: self.key.lock().unwrap().to_string(),
        }))
    }

    async fn encrypt(
        &self,
        request: Request<pb::EncryptRequest>,
    ) -> Result<Response<pb::EncryptResponse>, Status> {
        let key = *self.key.lock().unwrap();
        let plain = request.into_inner().plaintext;
        Ok(Response::new(pb::EncryptResponse {
            ciphertext: plain.iter().map(|byte| byte.wrapping_add(key)).collect(),
            key_id: key.to_string(),
            annotations: HashMap::new(),
        }))
    }

    async fn decrypt(
        &self,
        request: Request<pb::DecryptRequest>,
    ) -> Result<Response<pb::DecryptResponse>, Status> {
        *self.decrypted.lock().unwrap() += 1;
        let request = request.into_inner();
        let key: u8 = request
            .key_id
            .parse()
            .map_err(|_| Status::not_found("no such key"))?;
        let plaintext = request.ciphertext.iter().map(|byte| byte.wrapping_sub(key));
        Ok(Response::new(pb::DecryptResponse {
            plaintext: plaintext.collect(),
        }))
    }
}

fn serve(plugin: Shift, socket: &Path, tasks: &Tasks) {
    let listener = UnixListener::bind(socket).unwrap();
    let incoming = futures::stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await.map(|accepted| accepted.0);
        Some((accepted, listener))
    });
    let server =
        tonic::transport::Server::builder().add_service(KeyManagementServiceServer::new(plugin));
    tasks.spawn("plugin", async move {
        server.serve_with_incoming(Box::pin(incoming)).await
    });
}

fn kms(dir: &Path) -> String {
    format!(
        "[{{kms: {{apiVersion: v2, name: k, endpoint: \"unix://{}/kms\"}}}}]",
        dir.display()
    )
}

async fn sealed(world: &World, value: &'static [u8]) -> Bytes {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let value = Bytes::from_static(value);
        match world.encryption.seal(SECRETS, KEY, &value) {
            Ok(sealed) => return sealed,
            Err(why) => assert!(Instant::now() < end, "{why:?}"),
        }
        sleep_until(Instant::now() + Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_plugin_guards_the_seeds() {
    let seams = Seams::real();
    let plugin = Shift::default();
    *plugin.key.lock().unwrap() = 3;
    let serving = seams.tasks();
    let first = world(|dir| {
        serve(plugin.clone(), &dir.join("kms"), &serving);
        kms(dir)
    });
    let value = sealed(&first, b"v").await;
    assert!(value.starts_with(b"k8s:enc:kms:v2:k:"));
    assert_eq!(first.open(&value).await.unwrap(), "v");
    assert_eq!(*plugin.decrypted.lock().unwrap(), 0);
    assert!(!first.encryption.is_stale(SECRETS, &value));
    // Another server has the seed decrypted once, and uses the key that there is by then.
    *plugin.key.lock().unwrap() = 4;
    let second = world(|_| kms(first._dir.path()));
    assert_eq!(second.open(&value).await.unwrap(), "v");
    assert_eq!(second.open(&value).await.unwrap(), "v");
    assert_eq!(*plugin.decrypted.lock().unwrap(), 1);
    let newer = sealed(&second, b"w").await;
    assert!(second.encryption.is_stale(SECRETS, &value));
    assert!(!second.encryption.is_stale(SECRETS, &newer));
    assert_eq!(first.open(&newer).await.unwrap(), "w");
    for tasks in [&first.tasks, &second.tasks, &serving] {
        tasks.shutdown().await;
    }
}

#[tokio::test]
async fn without_its_plugin_nothing_is_written_in_plain() {
    let world = world(kms);
    let value = Bytes::from_static(b"v");
    let failed = world.encryption.seal(SECRETS, KEY, &value);
    assert!(matches!(failed, Err(Failure::Unwell(_))));
    world.tasks.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_holds_no_secrets_and_readers_see_no_ciphers() {
    let server = crate::testing::Server::start().await;
    let world = world(|_| format!("[{{secretbox: {{keys: [{{name: a, secret: {ONE}}}]}}}}]"));
    let raw = Arc::new(server.store().clone());
    let prefixes = [(
        "/registry/secrets/".to_string(),
        (String::new(), "secrets".to_string()),
    )];
    let store = Encrypted::new(raw.clone(), world.encryption.clone(), prefixes);
    let watch = WatchCreateRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        start_revision: raw.progress().await.unwrap() + 1,
        ..WatchCreateRequest::default()
    };
    let mut watch = store.watch(watch).await.unwrap();
    let read = |key: &str| RangeRequest {
        key: key.as_bytes().to_vec().into(),
        ..RangeRequest::default()
    };
    for key in [
        "/registry/secrets/default/a",
        "/registry/configmaps/default/a",
    ] {
        let put = PutRequest {
            key: key.as_bytes().to_vec().into(),
            value: Bytes::from_static(b"hidden"),
            ..PutRequest::default()
        };
        let txn = TxnRequest {
            success: vec![RequestOp {
                request: Some(request_op::Request::RequestPut(put)),
            }],
            ..TxnRequest::default()
        };
        store.txn(txn, Bytes::new()).await.unwrap();
        assert_eq!(store.range(read(key)).await.unwrap().kvs[0].value, "hidden");
        let stored = raw.range(read(key)).await.unwrap().kvs.remove(0).value;
        assert_eq!(
            stored.starts_with(ENCRYPTED),
            key.contains("secrets"),
            "{key}"
        );
        let WatchItem::Events { events, .. } = watch.next().await.unwrap() else {
            panic!("no event")
        };
        assert_eq!(events[0].kv.as_ref().unwrap().value, "hidden");
        assert!(!store.is_stale(key).await);
    }
    world.use_rules("[{identity: {}}]");
    assert!(store.is_stale("/registry/secrets/default/a").await);
    world.tasks.shutdown().await;
    server.tasks.shutdown().await;
}
