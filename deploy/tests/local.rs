//! The supervisor of local clusters with real child processes.
//!
//! The children are this very test binary, run as `fake_member`: it reads the configuration that
//! the supervisor wrote, serves `/health` as a member does, and ends on SIGTERM.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "real processes, files and sockets are what is tested"
)]

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use deploy::config::{self, Sources, StoreConfig};
use deploy::local::control::{self, Request};
use deploy::local::process::{Process, die_with_parent};
use deploy::local::{Event, Launch, LocalError, Options, Supervisor};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

const BOUND: Duration = Duration::from_secs(20);

// ---- The child.

/// Not a test: what the supervisor runs as a member. The configuration is the last argument.
#[test]
#[ignore = "run by the supervisor only"]
fn fake_member() {
    die_with_parent();
    let file = PathBuf::from(std::env::args().next_back().unwrap());
    let sources = Sources {
        file: Some(file),
        ..Sources::default()
    };
    let config: StoreConfig = config::load(&sources).unwrap();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(serve(config));
}

async fn serve(config: StoreConfig) {
    assert_ne!(
        config.initial_cluster_token, "refuses-to-start",
        "as it was told"
    );
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let address = config.listen_client_urls[0].authority();
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let tls = config.cert_file.as_ref().map(|_| acceptor(&config));
    loop {
        let stream = tokio::select! {
            _ = terminate.recv() => break,
            accepted = listener.accept() => accepted.unwrap().0,
        };
        match &tls {
            None => answer(stream).await,
            Some(tls) => {
                if let Ok(stream) = tls.accept(stream).await {
                    answer(stream).await;
                }
            }
        }
    }
    println!("{} stopped gracefully", config.name);
}

fn acceptor(config: &StoreConfig) -> TlsAcceptor {
    let [cert, key, ca] = [&config.cert_file, &config.key_file, &config.trusted_ca_file]
        .map(|file| file.clone().unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca).unwrap())
        .unwrap();
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_file(cert).unwrap()],
            PrivateKeyDer::from_pem_file(key).unwrap(),
        )
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut request = [0; 1024];
    let length = stream.read(&mut request).await.unwrap_or(0);
    if request[..length].starts_with(b"GET /health ") {
        let body = r#"{"health":"true"}"#;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        // The client may have gone.
        let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

// ---- The cluster under test.

fn launch() -> Launch {
    Arc::new(|config: &Path| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--ignored", "--exact", "--nocapture", "fake_member"])
            .arg(config);
        // A backtrace would fill the part of the log that is shown.
        command.env("RUST_BACKTRACE", "0");
        command
    })
}

/// A base whose ports were free a moment ago, below those that the kernel gives to connections.
fn port_base() -> u16 {
    const PLACES: u16 = (32_000 - 10_000) / 40;
    let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let first = u16::try_from(std::process::id() % u32::from(PLACES)).unwrap();
    let mut bases = (0..PLACES).map(|at| 10_000 + (first + at) % PLACES * 40);
    bases
        .find(|base| (1..=3).all(|n| free(base + 10 * n) && free(base + 10 * n + 1)))
        .unwrap()
}

fn options(dir: &Path) -> Options {
    Options {
        data: dir.join("cluster"),
        port_base: Some(port_base()),
        insecure: Some(true),
        store_only: Some(true),
        ..Options::default()
    }
}

struct Cluster {
    events: mpsc::UnboundedReceiver<Event>,
    stop: CancellationToken,
    running: JoinHandle<Result<(), LocalError>>,
    dir: PathBuf,
}

impl Cluster {
    async fn start(options: &Options) -> Cluster {
        let (sender, events) = mpsc::unbounded_channel();
        let report = move |event| drop(sender.send(event));
        let supervisor = Supervisor::start(options, launch(), report).await.unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(supervisor.run(stop.clone(), CancellationToken::new()));
        Cluster {
            events,
            stop,
            running,
            dir: options.data.clone(),
        }
    }

    /// Waits for an event that satisfies the predicate.
    async fn wait(&mut self, what: impl Fn(&Event) -> bool) -> Event {
        let search = async {
            loop {
                let event = self.events.recv().await.expect("the supervisor ended");
                if what(&event) {
                    return event;
                }
            }
        };
        timeout(BOUND, search)
            .await
            .expect("the event came in time")
    }

    async fn ready(&mut self) {
        self.wait(|event| *event == Event::Ready).await;
    }

    fn pid(&self, master: u16) -> Option<i32> {
        let text = fs::read_to_string(self.dir.join(format!("master-{master}/pid"))).ok()?;
        text.trim().parse().ok()
    }

    async fn ask(&self, request: Request) -> Result<Vec<String>, LocalError> {
        control::ask(&self.dir, &request).await
    }

    async fn stop(self) -> Result<(), LocalError> {
        self.stop.cancel();
        timeout(BOUND, self.running)
            .await
            .expect("it stopped in time")
            .unwrap()
    }
}

fn master(n: u16) -> Vec<String> {
    vec![format!("master-{n}")]
}

fn exists(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None).is_ok()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < BOUND, "{what}");
        sleep(Duration::from_millis(10)).await;
    }
}

// ---- What it must do.

#[tokio::test]
async fn a_cluster_serves_over_mtls_and_stops_gracefully() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        insecure: None,
        ..options(dir.path())
    };
    let mut cluster = Cluster::start(&options).await;
    cluster.ready().await;
    let pids: Vec<i32> = (1..=3).map(|n| cluster.pid(n).unwrap()).collect();
    cluster.stop().await.unwrap();
    for (n, pid) in (1..=3).zip(pids) {
        assert!(!exists(pid));
        let home = options.data.join(format!("master-{n}"));
        assert!(!home.join("pid").exists());
        let log = fs::read_to_string(home.join("log")).unwrap();
        assert!(
            log.contains(&format!("master-{n} stopped gracefully")),
            "{log}"
        );
    }
    assert!(!options.data.join("control.sock").exists());
}

#[tokio::test]
async fn a_killed_master_stays_down_until_it_is_started() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(&options(dir.path())).await;
    cluster.ready().await;
    let victim = cluster.pid(2).unwrap();
    kill(Pid::from_raw(victim), Signal::SIGKILL).unwrap();
    let down = cluster
        .wait(|event| matches!(event, Event::Down { .. }))
        .await;
    assert_eq!(
        down,
        Event::Down {
            name: "master-2".into(),
            how: "SIGKILL".into()
        }
    );
    assert_eq!(cluster.pid(2), None);
    let status = cluster.ask(Request::Status).await.unwrap();
    assert!(
        status[1].ends_with("down") && status[2].contains("up"),
        "{status:?}"
    );

    cluster.ask(Request::Start(master(2))).await.unwrap();
    let again = cluster.pid(2).unwrap();
    assert!(again != victim && exists(again));
    let twice = cluster.ask(Request::Start(master(2))).await.unwrap();
    assert_eq!(twice, [format!("master-2 runs already (pid {again})")]);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_start_right_after_a_kill_finds_the_dying_process_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(&options(dir.path())).await;
    cluster.ready().await;
    for _ in 0..5 {
        let victim = cluster.pid(1).unwrap();
        kill(Pid::from_raw(victim), Signal::SIGKILL).unwrap();
        let lines = cluster.ask(Request::Start(master(1))).await.unwrap();
        assert!(lines[0].starts_with("master-1 started"), "{lines:?}");
        assert_ne!(cluster.pid(1), Some(victim));
    }
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_master_can_be_stopped_and_started_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(&options(dir.path())).await;
    cluster.ready().await;
    let pid = cluster.pid(3).unwrap();
    let lines = cluster.ask(Request::Stop(master(3))).await.unwrap();
    assert_eq!(lines, [format!("master-3 stopped (pid {pid})")]);
    assert!(!exists(pid) && cluster.pid(3).is_none());
    cluster.ask(Request::Start(master(3))).await.unwrap();
    assert!(cluster.pid(3).is_some());
    let unknown = cluster.ask(Request::Start(master(4))).await.unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "there is no master-4 here, only master-1, master-2, master-3"
    );
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_cluster_resumes_and_one_directory_has_one_supervisor() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let mut cluster = Cluster::start(&options).await;
    cluster.ready().await;
    let second = Supervisor::start(&options, launch(), |_| {})
        .await
        .unwrap_err();
    assert!(matches!(second, LocalError::Locked { .. }), "{second}");
    cluster.stop().await.unwrap();
    // What a power loss leaves behind: a pid that is nobody's, or a stranger's.
    fs::write(options.data.join("master-1/pid"), "4194304").unwrap();
    fs::write(
        options.data.join("master-2/pid"),
        std::process::id().to_string(),
    )
    .unwrap();
    let mut cluster = Cluster::start(&options).await;
    cluster.ready().await;
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_member_that_cannot_start_is_reported_with_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let token = (
        "initial-cluster-token".to_string(),
        "refuses-to-start".to_string(),
    );
    let options = Options {
        settings: BTreeMap::from([token]),
        ..options(dir.path())
    };
    let cluster = Cluster::start(&options).await;
    let error = timeout(BOUND, cluster.running)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    match error {
        LocalError::Failed { how, tail, .. } => {
            assert!(how.starts_with("exit status"), "{how}");
            assert!(tail.contains("as it was told"), "{tail}");
        }
        other => panic!("{other}"),
    }
}

/// Not a test: a supervisor in a process of its own, to be killed.
#[tokio::test]
#[ignore = "run by a test only"]
async fn lonely_supervisor() {
    let options = Options {
        data: std::env::var_os("CLUSTER_DIR").unwrap().into(),
        ..Options::default()
    };
    let mut cluster = Cluster::start(&options).await;
    cluster.ready().await;
    fs::write(options.data.join("is-ready"), "").unwrap();
    cluster.running.await.unwrap().unwrap();
}

#[tokio::test]
async fn members_end_with_their_supervisor_and_the_next_one_takes_over() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    deploy::local::Layout::open(&options).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--ignored", "--exact", "lonely_supervisor"])
        .env("CLUSTER_DIR", &options.data);
    let supervisor = Process::spawn({
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    })
    .unwrap();
    let marker = options.data.join("is-ready");
    until("the cluster serves", || marker.exists()).await;
    let pids: Vec<i32> = (1..=3)
        .map(|n| fs::read_to_string(options.data.join(format!("master-{n}/pid"))).unwrap())
        .map(|text| text.trim().parse().unwrap())
        .collect();
    assert!(pids.iter().all(|pid| exists(*pid)));
    supervisor.signal(Signal::SIGKILL);
    until("the members end", || !pids.iter().any(|pid| runs(*pid))).await;

    let mut cluster = Cluster::start(&options).await;
    cluster.ready().await;
    cluster.stop().await.unwrap();
}

/// Whether a process runs; an orphan may stay a zombie where nobody reaps it.
fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
