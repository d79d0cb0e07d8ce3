//! Autoscalers where somebody serves metrics: controllers that are a process of their own reach the API
//! through a double that answers for a metrics server itself and passes everything else on.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use apiserver::tls::Tls;
use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use client::Identity;
use client::remote::{Config, Remote};
use kube::client::Body;
use seams::{Seams, Tasks};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::server::TlsStream;

use crate::support::{Dev, Kubectl, Talk, trireme};

/// One Deployment of pods that ask for 100m, and its autoscaler.
const MANIFEST: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: nginx, resources: {requests: {cpu: 100m}}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 1
  maxReplicas: 5
  behavior: {scaleDown: {stabilizationWindowSeconds: 0}}
  metrics:
  - type: Resource
    resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}
"#;

const BODY_MAX: usize = 4 << 20;

/// What stands between controllers and the API.
#[derive(Clone)]
struct Double {
    api: kube::Client,
    /// What every pod uses.
    cpu: Arc<Mutex<&'static str>>,
}

impl Double {
    fn uses(&self, cpu: &'static str) {
        *self.cpu.lock().unwrap() = cpu;
    }

    /// As a metrics server lists pods.
    async fn metrics(&self) -> Result<Value, kube::Error> {
        let path = "/api/v1/namespaces/default/pods?labelSelector=app%3Dweb";
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        let pods: Value = self.api.request(request).await?;
        let cpu = *self.cpu.lock().unwrap();
        let metrics = |pod: &Value| {
            json!({
                "metadata": {"name": pod["metadata"]["name"], "namespace": "default"},
                "timestamp": jiff::Timestamp::now().to_string(),
                "window": "1s",
                "containers": [{"name": "web", "usage": {"cpu": cpu, "memory": "1Mi"}}],
            })
        };
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        Ok(json!({
            "kind": "PodMetricsList",
            "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {},
            "items": pods.iter().map(metrics).collect::<Vec<_>>(),
        }))
    }
}

async fn answer(State(double): State<Double>, request: Request) -> Response {
    let is_ours = request.uri().path().starts_with("/apis/metrics.k8s.io/");
    let answered = match is_ours {
        true => double
            .metrics()
            .await
            .map(|list| Json(list).into_response()),
        false => {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, BODY_MAX).await.unwrap();
            let request = Request::from_parts(parts, Body::from(body.to_vec()));
            let answered = double.api.send(request).await;
            answered.map(|response| response.map(axum::body::Body::new))
        }
    };
    answered
        .unwrap_or_else(|error| (http::StatusCode::BAD_GATEWAY, error.to_string()).into_response())
}

/// Connections of clients that speak TLS.
struct Listener {
    tcp: TcpListener,
    tls: Tls,
}

impl axum::serve::Listener for Listener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, peer)) = self.tcp.accept().await else {
                continue;
            };
            // Whoever does not get through the handshake comes again.
            if let Ok(stream) = self.tls.acceptor().accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// Starts the double; yields it with a kubeconfig that leads to it.
fn start(dev: &Dev, runtime: &Runtime, tasks: &Tasks) -> (Double, PathBuf) {
    let _inside = runtime.enter();
    let seams = Seams::real();
    let kubeconfig = dev.dir.join("kubeconfig");
    let config = Config::kubeconfig(&kubeconfig, None, &*seams.disk).unwrap();
    let access = Remote::access("end-to-end", &config, &seams, tasks).unwrap();
    let double = Double {
        api: access.client(&Identity::Component, None),
        cpu: Arc::new(Mutex::new("0")),
    };
    let pki = |file: &str| dev.dir.join("pki").join(file);
    let tls = Tls::load(
        &pki("master-1-api.crt"),
        &pki("master-1-api.key"),
        &*seams.disk,
    )
    .unwrap();
    let tcp = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = tcp.local_addr().unwrap();
    let routes = axum::Router::new()
        .fallback(answer)
        .with_state(double.clone());
    runtime.spawn(async move { axum::serve(Listener { tcp, tls }, routes).await });
    (double, leading_to(&kubeconfig, address))
}

/// The same kubeconfig with another address in its current context, which comes first.
fn leading_to(kubeconfig: &Path, address: SocketAddr) -> PathBuf {
    let text = fs::read_to_string(kubeconfig).unwrap();
    let server = text.lines().find(|line| line.contains("server: ")).unwrap();
    let ours = format!("    server: https://{address}");
    let path = kubeconfig.with_file_name("double.kubeconfig");
    fs::write(&path, text.replacen(server, &ours, 1)).unwrap();
    path
}

#[test]
fn autoscalers_follow_what_pods_use() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::without_controllers(dir.path(), 2);
    let runtime = Runtime::new().unwrap();
    let tasks = Seams::real().tasks();
    let (double, kubeconfig) = start(&dev, &runtime, &tasks);
    let mut command = trireme(&["controller-manager", "--kubeconfig"]);
    command.arg(kubeconfig);
    command.stderr(fs::File::create(dir.path().join("controller-manager.log")).unwrap());
    let _controllers = Talk::start(command);
    let kubectl = dev.kubectl();
    double.uses("90m");
    kubectl.feed(&["apply", "-f", "-"], MANIFEST);
    // 2 pods that use 90 % where 50 % are wanted: ceil(2 * 90 / 50).
    has(&kubectl, "4");
    double.uses("20m");
    // ceil(4 * 20 / 50).
    has(&kubectl, "2");
    let active = r#"{.status.conditions[?(@.type=="ScalingActive")].reason}"#;
    kubectl.shows(&["hpa", "web"], active, "ValidMetricFound");
    let used = "{.status.currentMetrics[0].resource.current.averageUtilization}";
    kubectl.shows(&["hpa", "web"], used, "20");
    let told = kubectl.must(&["describe", "hpa", "web"]);
    for part in [
        "cpu resource utilization (percentage of request) above target",
        "All metrics below target",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    tasks.cancel();
    dev.stop();
}

#[track_caller]
fn has(kubectl: &Kubectl, replicas: &str) {
    kubectl.shows(&["deploy", "web"], "{.status.readyReplicas}", replicas);
}
