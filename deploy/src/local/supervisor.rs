//! Starts the processes of a local cluster, tells when they serve, and stops them.
//!
//! A member that ends stays down until it is asked for again: the point of a local cluster is to
//! see what the others do meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::iter;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use seams::{Tasks, Threads};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::balancer::Balancer;
use super::control::{self, Answer, Request};
use super::health::Probe;
use super::process::Process;
use super::{Layout, LocalError, Options, Unit};
use crate::config::PREFIX;
use crate::config::values::Url;
use crate::files;

/// Makes the command that runs a member from its configuration file. The path must be among the
/// arguments: by it a left-over process is told from a stranger with the same ID.
pub type Launch = Arc<dyn Fn(&Path) -> Command + Send + Sync>;

/// What happens to the cluster, for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A process was started.
    Started {
        /// Which master.
        name: String,
        /// Its process ID.
        pid: u32,
    },
    /// All members serve, for the first time.
    Ready,
    /// Still waiting for members to serve.
    Waiting {
        /// Which master, and why it does not.
        reasons: Vec<(String, String)>,
    },
    /// A process ended without being asked to; it stays down.
    Down {
        /// Which master.
        name: String,
        /// Exit status or signal.
        how: String,
    },
}

/// How long a member may take to stop: its own bound on draining is half of that.
const STOP_GRACE: Duration = Duration::from_secs(20);

/// How long a process may take to be gone after it was killed from outside, so that a start right
/// after the kill does not mistake the dying process for a running one.
const KILL_GRACE: Duration = Duration::from_secs(1);

/// Between two looks at members that do not serve yet.
const PROBE_PAUSE: Duration = Duration::from_millis(100);

/// After so long, and then as often, the user hears what is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A log that is longer is put aside at the next start.
const LOG_MAX: u64 = 64 << 20;

/// What every cluster has: servers make it after the start.
const SYSTEM: &[&str] = &[
    "/api/v1/namespaces/default",
    "/api/v1/namespaces/kube-system",
    "/api/v1/namespaces/kube-public",
    "/api/v1/namespaces/kube-node-lease",
    "/api/v1/namespaces/default/services/kubernetes",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-admin",
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/cluster-admin",
];

/// What controllers add, where masters run them.
const CONTROLLED: &[&str] = &["/api/v1/namespaces/default/serviceaccounts/default"];

/// The part of a log that is shown when a member does not start.
const TAIL: u64 = 4096;

/// A running local cluster.
pub struct Supervisor {
    layout: Layout,
    launch: Launch,
    members: BTreeMap<Unit, Process>,
    /// Members that were asked to end: their end is no news.
    stopping: BTreeSet<Unit>,
    /// Masters that ought to serve; the probe's view.
    wanted: Arc<Mutex<Vec<Unit>>>,
    wakes: mpsc::Receiver<Wake>,
    wake: mpsc::Sender<Wake>,
    tasks: Tasks,
    ready: bool,
    report: Box<dyn FnMut(Event) + Send>,
    _lock: Flock<File>,
}

/// Everything that can wake the supervisor.
enum Wake {
    Ended {
        unit: Unit,
        pid: u32,
        status: ExitStatus,
    },
    Asked {
        request: Request,
        reply: oneshot::Sender<Answer>,
    },
    Stopped {
        ended: Vec<(Unit, u32)>,
        reply: oneshot::Sender<Answer>,
    },
    Serving,
    Waiting(Vec<(String, String)>),
}

impl Supervisor {
    /// Starts all members of a new or existing cluster; `report` hears what happens.
    ///
    /// # Errors
    /// If the directory is in use or unusable, or a process cannot be started.
    pub async fn start(
        options: &Options,
        launch: Launch,
        report: impl FnMut(Event) + Send + 'static,
    ) -> Result<Supervisor, LocalError> {
        let layout = Layout::open(options)?;
        let lock = lock(layout.dir())?;
        layout.prepare()?;
        for unit in layout.units() {
            clear_left_over(&layout, unit).await?;
        }
        let (wake, wakes) = mpsc::channel(64);
        let tasks = Tasks::new(Threads::Real);
        let listener = control::listen(layout.dir())?;
        tasks.spawn("control", accept(listener, wake.clone(), tasks.clone()));
        if let Some(url) = layout.balancer() {
            let probe = api_probe(&layout)?;
            let masters = layout.masters().filter_map(|n| layout.api_url(n));
            let balancer = Balancer::start(masters, &probe, &tasks);
            for url in iter::once(url).chain(layout.advertised()) {
                let address = url.authority();
                let listening = balancer.listen(&address, &tasks).await;
                listening.map_err(LocalError::io("listen on", Path::new(&address)))?;
            }
        }
        let mut supervisor = Supervisor {
            layout,
            launch,
            members: BTreeMap::new(),
            stopping: BTreeSet::new(),
            wanted: Arc::default(),
            wakes,
            wake,
            tasks,
            ready: false,
            report: Box::new(report),
            _lock: lock,
        };
        for unit in supervisor.layout.units() {
            if let Err(error) = supervisor.launch(unit) {
                supervisor.stop(&CancellationToken::new()).await;
                return Err(error);
            }
        }
        supervisor.probe()?;
        Ok(supervisor)
    }

    /// Files, addresses and ports of the cluster.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Runs the cluster until `stop`, then stops all members gracefully, or at once on `kill`.
    ///
    /// # Errors
    /// [`LocalError::Failed`] if a member ends by itself before all have served: most likely it
    /// cannot start at all. The others are stopped then.
    pub async fn run(
        mut self,
        stop: CancellationToken,
        kill: CancellationToken,
    ) -> Result<(), LocalError> {
        let result = loop {
            let wake = tokio::select! {
                () = stop.cancelled() => break Ok(()),
                wake = self.wakes.recv() => wake,
            };
            // The sender lives in `self`, so there always is a next one.
            let Some(wake) = wake else { break Ok(()) };
            if let Err(error) = self.handle(wake).await {
                break Err(error);
            }
        };
        self.stop(&kill).await;
        result
    }

    async fn handle(&mut self, wake: Wake) -> Result<(), LocalError> {
        match wake {
            Wake::Serving => {
                self.ready = true;
                (self.report)(Event::Ready);
            }
            Wake::Waiting(reasons) => (self.report)(Event::Waiting { reasons }),
            Wake::Ended { unit, pid, status } => return self.ended(unit, pid, status),
            Wake::Stopped { ended, reply } => {
                // Who asked may have gone.
                let _ = reply.send(Ok(self.stopped(ended)));
            }
            Wake::Asked { request, reply } => match request {
                Request::Start(names) => {
                    // Who asked may have gone.
                    let _ = reply.send(self.start_members(&names).await);
                }
                Request::Stop(names) => self.stop_members(&names, reply),
                Request::Status => {
                    let _ = reply.send(Ok(self.status()));
                }
            },
        }
        Ok(())
    }

    fn launch(&mut self, unit: Unit) -> Result<(), LocalError> {
        let config = self.layout.config_file(unit);
        let mut command = (self.launch)(&config);
        // The user's own variables are not meant for three members alike.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with(PREFIX) {
                command.env_remove(name);
            }
        }
        let log = open_log(&self.layout.log_file(unit))?;
        let errors = log.try_clone().map_err(LocalError::io("open", &config))?;
        // Its own group: Ctrl-C reaches the supervisor alone, which then stops the members.
        command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0);
        let program = command.get_program().to_owned();
        let process =
            Process::spawn(command).map_err(LocalError::io("start", Path::new(&program)))?;
        let pid = process.pid();
        let path = self.layout.pid_file(unit);
        self.members.insert(unit, process.clone());
        self.want(unit, true);
        files::replace(&path, format!("{pid}\n").as_bytes(), files::PUBLIC)
            .map_err(LocalError::io("write", &path))?;
        let wake = self.wake.clone();
        self.tasks.spawn("wait for a member", async move {
            let status = process.ended().await;
            // The supervisor may be gone, and does not care then.
            let _ = wake.send(Wake::Ended { unit, pid, status }).await;
        });
        (self.report)(Event::Started {
            name: unit.to_string(),
            pid,
        });
        Ok(())
    }

    fn ended(&mut self, unit: Unit, pid: u32, status: ExitStatus) -> Result<(), LocalError> {
        if self
            .members
            .get(&unit)
            .is_none_or(|process| process.pid() != pid)
        {
            return Ok(());
        }
        let expected = self.stopping.contains(&unit);
        self.forget(unit);
        if expected {
            return Ok(());
        }
        let name = unit.to_string();
        let how = describe(status);
        if !self.ready && status.signal().is_none() {
            let log = self.layout.log_file(unit);
            let tail = tail(&log).unwrap_or_default();
            return Err(LocalError::Failed {
                name,
                how,
                log,
                tail,
            });
        }
        (self.report)(Event::Down { name, how });
        Ok(())
    }

    /// A member is down.
    fn forget(&mut self, unit: Unit) {
        self.members.remove(&unit);
        self.stopping.remove(&unit);
        self.want(unit, false);
        // At worst a stale file stays, which the next start clears.
        let _ = fs::remove_file(self.layout.pid_file(unit));
    }

    fn want(&self, unit: Unit, up: bool) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.retain(|n| *n != unit);
        if up {
            wanted.push(unit);
        }
    }

    fn named(&self, names: &[String]) -> Result<Vec<Unit>, String> {
        let unknown = |name: &String| {
            let all: Vec<String> = self.layout.units().map(|unit| unit.to_string()).collect();
            format!("there is no {name} here, only {}", all.join(", "))
        };
        names
            .iter()
            .map(|name| self.layout.unit(name).ok_or_else(|| unknown(name)))
            .collect()
    }

    async fn start_members(&mut self, names: &[String]) -> Answer {
        let mut lines = Vec::new();
        for unit in self.named(names)? {
            let name = unit.to_string();
            if let Some(process) = self.members.get(&unit) {
                let process = process.clone();
                let stopping = self.stopping.contains(&unit);
                let grace = if stopping { STOP_GRACE } else { KILL_GRACE };
                let Ok(status) = timeout(grace, process.ended()).await else {
                    lines.push(format!("{name} runs already (pid {})", process.pid()));
                    continue;
                };
                self.forget(unit);
                (self.report)(Event::Down {
                    name: name.clone(),
                    how: describe(status),
                });
            }
            self.launch(unit).map_err(|error| chain(&error))?;
            let pid = self.members.get(&unit).map_or(0, Process::pid);
            lines.push(format!("{name} started (pid {pid})"));
        }
        Ok(lines)
    }

    /// Answers once they have ended, without keeping the supervisor from its other work.
    fn stop_members(&mut self, names: &[String], reply: oneshot::Sender<Answer>) {
        let numbers = match self.named(names) {
            Ok(numbers) => numbers,
            // Who asked may have gone, here as below.
            Err(why) => return drop(reply.send(Err(why))),
        };
        let mut ending = Vec::new();
        for unit in numbers {
            if let Some(process) = self.members.get(&unit) {
                process.signal(Signal::SIGTERM);
                ending.push((unit, process.clone()));
                self.stopping.insert(unit);
                self.want(unit, false);
            }
        }
        let wake = self.wake.clone();
        self.tasks.spawn("stop members", async move {
            let deadline = Instant::now() + STOP_GRACE;
            for (_, process) in &ending {
                end(process, deadline, &CancellationToken::new()).await;
            }
            let ended = ending
                .into_iter()
                .map(|(unit, process)| (unit, process.pid()));
            let _ = wake
                .send(Wake::Stopped {
                    ended: ended.collect(),
                    reply,
                })
                .await;
        });
    }

    /// Members that were asked to end have ended.
    fn stopped(&mut self, ended: Vec<(Unit, u32)>) -> Vec<String> {
        let mut lines = Vec::new();
        for (unit, pid) in ended {
            if self
                .members
                .get(&unit)
                .is_some_and(|process| process.pid() == pid)
            {
                self.forget(unit);
            }
            lines.push(format!("{unit} stopped (pid {pid})"));
        }
        lines
    }

    fn status(&self) -> Vec<String> {
        let address = |unit| match unit {
            Unit::Master(number) => self.layout.client_url(number).to_string(),
            Unit::Node(_) => "-".into(),
        };
        let line = |unit| {
            let state = match self.members.get(&unit) {
                Some(process) => format!("up, pid {}", process.pid()),
                None => "down".into(),
            };
            format!("{unit}  {}  {state}", address(unit))
        };
        self.layout.units().map(line).collect()
    }

    /// Watches until all members that ought to serve do.
    fn probe(&mut self) -> Result<(), LocalError> {
        let probe = match self.layout.admin() {
            None => Probe::plain(),
            Some(admin) => Probe::with_certificate(&self.layout.client_authority(), &admin)
                .map_err(LocalError::Options)?,
        };
        let api = match self.layout.balancer() {
            None => None,
            Some(_) => Some(api_probe(&self.layout)?),
        };
        let readiness = Readiness {
            layout: self.layout.clone(),
            store: probe,
            api,
        };
        let (wanted, wake) = (self.wanted.clone(), self.wake.clone());
        let token = self.tasks.token();
        self.tasks.spawn("probe", async move {
            let watch = readiness.wait(&wanted, &wake);
            tokio::select! {
                () = token.cancelled() => {}
                () = watch => drop(wake.send(Wake::Serving).await),
            }
        });
        Ok(())
    }

    /// Stops all members, gracefully unless `kill` says otherwise, and cleans up.
    async fn stop(&mut self, kill: &CancellationToken) {
        for process in self.members.values() {
            process.signal(Signal::SIGTERM);
        }
        let members: Vec<(Unit, Process)> = self
            .members
            .iter()
            .map(|(n, process)| (*n, process.clone()))
            .collect();
        let deadline = Instant::now() + STOP_GRACE;
        for (unit, process) in members {
            end(&process, deadline, kill).await;
            self.forget(unit);
        }
        self.tasks.cancel();
        self.wakes.close();
        // A left-over socket is removed by the next start as well.
        let _ = control::remove(self.layout.dir());
        self.tasks.shutdown().await;
    }
}

/// Waits for a process that was told to end; kills it when it takes too long or `kill` says so.
async fn end(process: &Process, deadline: Instant, kill: &CancellationToken) -> ExitStatus {
    tokio::select! {
        status = process.ended() => return status,
        () = sleep_until(deadline) => {}
        () = kill.cancelled() => {}
    }
    process.signal(Signal::SIGKILL);
    process.ended().await
}

/// What tells whether the processes of a cluster serve.
struct Readiness {
    layout: Layout,
    store: Probe,
    api: Option<Probe>,
}

impl Readiness {
    async fn wait(&self, wanted: &Mutex<Vec<Unit>>, wake: &mpsc::Sender<Wake>) {
        let mut silence = Instant::now();
        loop {
            let units = wanted
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let reasons = self.missing(&units).await;
            if reasons.is_empty() && !units.is_empty() {
                return;
            }
            if silence.elapsed() >= PATIENCE {
                silence = Instant::now();
                // The supervisor may be gone.
                let _ = wake.send(Wake::Waiting(reasons)).await;
            }
            sleep(PROBE_PAUSE).await;
        }
    }

    /// What is not ready, and why.
    async fn missing(&self, units: &[Unit]) -> Vec<(String, String)> {
        let mut reasons = Vec::new();
        let mut served_by = None;
        for unit in units {
            let Unit::Master(master) = *unit else {
                continue;
            };
            let mut serves = self.store.check(&self.layout.client_url(master)).await;
            if let (Ok(()), Some(api), Some(url)) =
                (&serves, &self.api, self.layout.api_url(master))
            {
                serves = api.check_api(&url).await;
                served_by = Some(url);
            }
            if let Err(why) = serves {
                reasons.push((unit.to_string(), why));
            }
        }
        if let (Some(api), Some(url), true) = (&self.api, served_by, reasons.is_empty()) {
            let has_nodes = units.iter().any(|unit| matches!(unit, Unit::Node(_)));
            let contents = self.contents(api, &url, has_nodes).await;
            reasons.extend(contents.err());
        }
        reasons
    }

    /// Whether the API has what every cluster has, and all nodes.
    async fn contents(&self, api: &Probe, url: &Url, nodes: bool) -> Result<(), (String, String)> {
        if nodes {
            let all = self.layout.hollow();
            let ready = api.ready_nodes(url).await;
            let ready = ready.map_err(|why| ("nodes".to_string(), why))?;
            if ready < all as usize {
                return Err(("nodes".into(), format!("{ready} of {all} are ready")));
            }
        }
        let paths = match self.layout.has_controllers() {
            true => &[SYSTEM, CONTROLLED].concat(),
            false => SYSTEM,
        };
        match api.lacks(url, paths).await {
            Ok(None) => Ok(()),
            Ok(Some(path)) => Err(("the API".into(), format!("there is no {path} yet"))),
            Err(why) => Err(("the API".into(), why)),
        }
    }
}

/// A probe of API servers, as their administrator.
fn api_probe(layout: &Layout) -> Result<Probe, LocalError> {
    Probe::with_certificate(&layout.api_authority(), &layout.api_admin())
        .map_err(LocalError::Options)
}

/// Takes requests and hands them to the supervisor.
async fn accept(listener: UnixListener, wake: mpsc::Sender<Wake>, tasks: Tasks) {
    loop {
        let accepted = tokio::select! {
            () = tasks.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => drop(tasks.spawn("request", serve(stream, wake.clone()))),
            // Out of file descriptors, most likely: they come back.
            Err(_) => sleep(PROBE_PAUSE).await,
        }
    }
}

async fn serve(mut stream: UnixStream, wake: mpsc::Sender<Wake>) {
    let answer = match control::receive(&mut stream).await {
        Err(error) => Err(format!("not a request: {error}")),
        Ok(request) => {
            let (reply, answer) = oneshot::channel();
            let stopping = || Err("the cluster is stopping".to_string());
            match wake.send(Wake::Asked { request, reply }).await {
                Ok(()) => answer.await.unwrap_or_else(|_| stopping()),
                Err(_) => stopping(),
            }
        }
    };
    // The client may have gone.
    let _ = control::answer(&mut stream, &answer).await;
}

/// Takes the directory's lock, and leaves the process ID in it for whoever comes second.
fn lock(dir: &Path) -> Result<Flock<File>, LocalError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(LocalError::io("open", &path))?;
    let lock =
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| LocalError::Locked {
            dir: dir.to_path_buf(),
            pid: fs::read_to_string(&path)
                .unwrap_or_default()
                .trim()
                .to_string(),
        })?;
    fs::write(&path, std::process::id().to_string()).map_err(LocalError::io("write", &path))?;
    Ok(lock)
}

/// Ends a member that outlived its supervisor, and removes a pid file that says nothing any more.
async fn clear_left_over(layout: &Layout, unit: Unit) -> Result<(), LocalError> {
    let path = layout.pid_file(unit);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(LocalError::io("read", &path)(error)),
    };
    if let Ok(pid) = text.trim().parse::<i32>() {
        let config = layout.config_file(unit);
        let started = Instant::now();
        while runs(pid, &config) {
            let late = started.elapsed() > STOP_GRACE;
            // It may end by itself at any moment.
            let _ = kill(
                Pid::from_raw(pid),
                if late {
                    Signal::SIGKILL
                } else {
                    Signal::SIGTERM
                },
            );
            sleep(PROBE_PAUSE).await;
        }
    }
    fs::remove_file(&path).map_err(LocalError::io("remove", &path))
}

/// Whether a process is a member that runs from this configuration.
fn runs(pid: i32, config: &Path) -> bool {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let wanted = config.as_os_str().as_encoded_bytes();
    arguments
        .split(|byte| *byte == 0)
        .any(|argument| argument == wanted)
}

fn open_log(path: &Path) -> Result<File, LocalError> {
    if fs::metadata(path).is_ok_and(|log| log.len() > LOG_MAX) {
        fs::rename(path, path.with_extension("1")).map_err(LocalError::io("rename", path))?;
    }
    let open = OpenOptions::new().create(true).append(true).open(path);
    open.map_err(LocalError::io("open", path))
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => {
            Signal::try_from(signal).map_or(format!("signal {signal}"), |s| s.to_string())
        }
        (None, code) => format!("exit status {}", code.unwrap_or_default()),
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}
