//! Clusters, members and etcdctl as child processes that end with the test.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub(crate) mod stories;

/// How long a test waits for a state before it fails.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// The binary with arguments, and no settings from this process's environment.
pub(crate) fn trireme<S: AsRef<str>>(arguments: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trireme"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("TRIREME_") || name.starts_with("ETCDCTL_") {
            command.env_remove(name);
        }
    }
    command.args(arguments.iter().map(AsRef::as_ref));
    command
}

/// Runs a command of the binary that must succeed; yields what it printed.
#[track_caller]
pub(crate) fn must<S: AsRef<str> + std::fmt::Debug>(arguments: &[S]) -> String {
    succeeded(
        &format!("trireme {arguments:?}"),
        &trireme(arguments).output().unwrap(),
    )
}

/// Runs a command of the binary that must fail; yields its complaint.
#[track_caller]
pub(crate) fn refused<S: AsRef<str> + std::fmt::Debug>(arguments: &[S]) -> String {
    let output = trireme(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(
        !output.status.success(),
        "trireme {arguments:?} succeeds: {}",
        text(&output.stdout)
    );
    text(&output.stderr)
}

#[track_caller]
pub(crate) fn succeeded(what: &str, output: &Output) -> String {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success(),
        "{what}: {}\n{out}{err}",
        output.status
    );
    out
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
}

pub(crate) fn alive(pid: u32) -> bool {
    kill(Pid::from_raw(pid.try_into().unwrap()), None).is_ok()
}

/// A base after which the ports of six masters were free a moment ago. They are below those that the kernel
/// gives to connections, of which one might take the port of a master that is yet to start.
pub(crate) fn port_base() -> u16 {
    const PLACES: u16 = (32_000 - 10_000) / 70;
    let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let of_master = |base: u16, n: u16| (0..3).all(|port: u16| free(base + 10 * n + port));
    let first = u16::try_from(std::process::id() % u32::from(PLACES)).unwrap();
    let bases = (0..PLACES).map(|at| 10_000 + (first + at) % PLACES * 70);
    let mut bases = bases.filter(|base| free(*base) && (1..=6).all(|n| of_master(*base, n)));
    bases.next().expect("free ports")
}

/// Waits until a condition holds.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    eventually(what, || condition().then_some(()));
}

/// Asks until there is an answer.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < BOUND, "waited {BOUND:?} until {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A child process whose output is read line by line; dropping it kills it.
pub(crate) struct Talk {
    pub(crate) child: Child,
    lines: Receiver<String>,
}

impl Talk {
    pub(crate) fn start(mut command: Command) -> Talk {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            // Read on to the end, whoever still listens: a full pipe would stop the child.
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Talk {
            child,
            lines: receiver,
        }
    }

    /// The next line, which must come within the bound.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        self.lines
            .recv_timeout(BOUND)
            .expect("a line within the bound")
    }

    /// Reads on to a line with this text; yields all lines up to it.
    #[track_caller]
    pub(crate) fn read_to(&self, wanted: &str) -> Vec<String> {
        let mut read = Vec::new();
        while !read
            .last()
            .is_some_and(|line: &String| line.contains(wanted))
        {
            match self.lines.recv_timeout(BOUND) {
                Ok(line) => read.push(line),
                Err(_) => panic!("no line with `{wanted}` but {read:#?}"),
            }
        }
        read
    }

    /// Signals it and waits for its end.
    pub(crate) fn end(mut self, with: Signal) -> ExitStatus {
        signal(self.child.id(), with);
        self.child.wait().unwrap()
    }

    /// Waits for its end.
    pub(crate) fn ended(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A cluster under `trireme dev`.
pub(crate) struct Dev {
    pub(crate) dir: PathBuf,
    talk: Talk,
}

impl Dev {
    /// Runs `trireme dev` and waits for its line `ready`.
    #[track_caller]
    pub(crate) fn start(dir: &Path, options: &[&str]) -> Dev {
        Dev::run(dir, &[&["--store-only"], options].concat())
    }

    /// A new cluster of three masters, API servers included.
    pub(crate) fn of_masters(dir: &Path) -> Dev {
        let base = port_base().to_string();
        Dev::run(dir, &["--masters", "3", "--port-base", &base])
    }

    /// A new cluster of three masters where nobody acts on what is written, but that namespaces get
    /// the account without which there are no pods.
    pub(crate) fn of_apis(dir: &Path) -> Dev {
        let base = port_base().to_string();
        let still = [
            "--set",
            "controllers=serviceaccount-controller",
            "--port-base",
            &base,
        ];
        Dev::run(dir, &[&["--masters", "3"], &still[..]].concat())
    }

    /// A new cluster of three masters and hollow nodes, which are ready.
    pub(crate) fn with_nodes(dir: &Path, nodes: u32) -> Dev {
        let (base, nodes) = (port_base().to_string(), nodes.to_string());
        // Grace periods are long, and pods that ended at once would hide how they do.
        let stop = "pod-stop-after=1s";
        let options = ["--masters", "3", "--port-base", &base];
        let hollow = ["--hollow", &nodes, "--node-set", stop];
        let dev = Dev::run(dir, &[options, hollow].concat());
        let kubectl = dev.kubectl();
        let is_ready = r#"{.items[*].status.conditions[?(@.type=="Ready")].status}"#;
        let wanted = vec!["True"; nodes.parse().unwrap()].join(" ");
        kubectl.shows(&["nodes"], is_ready, &wanted);
        dev
    }

    /// A new cluster of three masters and hollow nodes, where controllers are somebody else's business.
    pub(crate) fn without_controllers(dir: &Path, nodes: u32) -> Dev {
        let (base, nodes) = (port_base().to_string(), nodes.to_string());
        let options = ["--masters", "3", "--port-base", &base, "--hollow", &nodes];
        Dev::run(
            dir,
            &[&options, &["--set", "enable-controllers=false"][..]].concat(),
        )
    }

    fn run(dir: &Path, options: &[&str]) -> Dev {
        let mut command = trireme(&["dev", "--data", dir.to_str().unwrap()]);
        command.args(options).stderr(Stdio::null());
        let talk = Talk::start(command);
        loop {
            if talk.line() == "ready" {
                return Dev {
                    dir: dir.to_path_buf(),
                    talk,
                };
            }
        }
    }

    /// A new cluster of three members over mTLS, with its port base.
    pub(crate) fn of_three(dir: &Path) -> (Dev, u16) {
        let base = port_base();
        (
            Dev::start(dir, &["--masters", "3", "--port-base", &base.to_string()]),
            base,
        )
    }

    pub(crate) fn data(&self) -> &str {
        self.dir.to_str().unwrap()
    }

    pub(crate) fn supervisor(&self) -> u32 {
        self.talk.child.id()
    }

    pub(crate) fn pid(&self, master: u16) -> Option<u32> {
        let path = self.dir.join(format!("master-{master}/pid"));
        fs::read_to_string(path).ok()?.trim().parse().ok()
    }

    /// etcdctl with the variables that the cluster wrote for it.
    pub(crate) fn etcdctl(&self) -> Etcdctl {
        Etcdctl::of_dir(&self.dir)
    }

    /// kubectl with the file that the cluster wrote for it.
    pub(crate) fn kubectl(&self) -> Kubectl {
        Kubectl {
            kubeconfig: self.dir.join("kubeconfig"),
            options: Vec::new(),
        }
    }

    /// Kills a master at once.
    pub(crate) fn kill(&self, master: u16) {
        let pid = self.pid(master).unwrap();
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
    }

    /// Ends it as a service manager would.
    #[track_caller]
    pub(crate) fn stop(self) {
        assert!(self.talk.end(Signal::SIGTERM).success(), "a graceful stop");
    }
}

/// kubectl, aimed at a cluster.
#[derive(Clone)]
pub(crate) struct Kubectl {
    kubeconfig: PathBuf,
    options: Vec<String>,
}

impl Kubectl {
    /// The same with further options, such as `--context=master-2`.
    pub(crate) fn with(&self, options: &[&str]) -> Kubectl {
        let mut other = self.clone();
        other
            .options
            .extend(options.iter().map(ToString::to_string));
        other
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.env("KUBECONFIG", &self.kubeconfig);
        // What it remembers of other clusters at the same address must not matter.
        command
            .arg("--cache-dir")
            .arg(self.kubeconfig.with_file_name("kubectl-cache"));
        command
            .args(&self.options)
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    #[track_caller]
    pub(crate) fn must(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        succeeded(&format!("kubectl {arguments:?}"), &output)
    }

    pub(crate) fn succeeds(&self, arguments: &[&str]) -> bool {
        self.command(arguments).output().unwrap().status.success()
    }

    /// Runs what must fail; yields the error.
    #[track_caller]
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        refused_output(&self.command(arguments).output().unwrap())
    }

    /// Runs it with a manifest on its standard input.
    #[track_caller]
    pub(crate) fn feed(&self, arguments: &[&str], manifest: &str) -> String {
        succeeded(
            &format!("kubectl {arguments:?}"),
            &self.fed(arguments, manifest),
        )
    }

    /// Runs with a manifest what must fail; yields the error.
    #[track_caller]
    pub(crate) fn feed_refused(&self, arguments: &[&str], manifest: &str) -> String {
        refused_output(&self.fed(arguments, manifest))
    }

    fn fed(&self, arguments: &[&str], manifest: &str) -> Output {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(manifest.as_bytes()).unwrap();
        drop(input);
        child.wait_with_output().unwrap()
    }

    /// What a JSONPath yields of an object.
    #[track_caller]
    pub(crate) fn path(&self, what: &[&str], path: &str) -> String {
        let output = format!("-ojsonpath={path}");
        self.must(&[&["get"], what, &[&output]].concat())
    }
}

#[track_caller]
fn refused_output(output: &Output) -> String {
    let out = text(&output.stdout);
    assert!(!output.status.success(), "it succeeds: {out}");
    out + &text(&output.stderr)
}

/// What gives Services of a cluster their addresses: a process of its own.
pub(crate) struct LoadBalancers {
    _process: Talk,
}

impl LoadBalancers {
    pub(crate) fn start(dev: &Dev, pool: &str) -> LoadBalancers {
        let kubeconfig = dev.dir.join("kubeconfig");
        let mut command = trireme(&["cloud-controller-manager", "--load-balancer-pools", pool]);
        command.arg("--kubeconfig").arg(kubeconfig);
        let log = fs::File::create(dev.dir.join("cloud-controller-manager.log")).unwrap();
        command.stderr(log);
        LoadBalancers {
            _process: Talk::start(command),
        }
    }
}

/// etcdctl, aimed at endpoints.
#[derive(Clone)]
pub(crate) struct Etcdctl {
    environment: Vec<(String, String)>,
}

impl Etcdctl {
    fn of_dir(dir: &Path) -> Etcdctl {
        let file = fs::read_to_string(dir.join("etcdctl.env")).unwrap();
        let variables = file.lines().filter_map(|line| line.split_once('='));
        let environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Etcdctl {
            environment: environment.collect(),
        }
    }

    /// In plain text; endpoints as `host:port`.
    pub(crate) fn plain(endpoints: &str) -> Etcdctl {
        Etcdctl {
            environment: vec![("ETCDCTL_ENDPOINTS".to_owned(), endpoints.to_owned())],
        }
    }

    /// The endpoints in the order of the members.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        let variable = self
            .environment
            .iter()
            .find(|(name, _)| name == "ETCDCTL_ENDPOINTS");
        variable.unwrap().1.split(',').map(str::to_owned).collect()
    }

    /// The same, aimed elsewhere.
    pub(crate) fn at(&self, endpoints: &str) -> Etcdctl {
        let mut other = self.clone();
        let mut variables = other.environment.iter_mut();
        let variable = variables.find(|(name, _)| name == "ETCDCTL_ENDPOINTS");
        variable.unwrap().1 = endpoints.to_owned();
        other
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command.args(arguments).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn succeeds(&self, arguments: &[&str]) -> bool {
        self.run(arguments).status.success()
    }

    #[track_caller]
    pub(crate) fn must(&self, arguments: &[&str]) -> String {
        succeeded(&format!("etcdctl {arguments:?}"), &self.run(arguments))
    }

    /// Runs what must fail; yields the error.
    #[track_caller]
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let out = text(&output.stdout);
        assert!(
            !output.status.success(),
            "etcdctl {arguments:?} succeeds: {out}"
        );
        out + &text(&output.stderr)
    }

    /// Runs it with text on its standard input.
    #[track_caller]
    pub(crate) fn with_input(&self, arguments: &[&str], input: &str) -> String {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        succeeded(
            &format!("etcdctl {arguments:?}"),
            &child.wait_with_output().unwrap(),
        )
    }

    /// Runs it in the background.
    pub(crate) fn start(&self, arguments: &[&str]) -> Talk {
        Talk::start(self.command(arguments))
    }

    /// A document: what `-w json` prints.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let printed = self.must(&[arguments, &["-w", "json"]].concat());
        serde_json::from_str(&printed).unwrap()
    }

    /// The value of a key; empty if there is none.
    #[track_caller]
    pub(crate) fn get(&self, key: &str) -> String {
        self.must(&["get", key, "--print-value-only"])
            .trim_end()
            .to_owned()
    }

    /// The store's revision.
    #[track_caller]
    pub(crate) fn revision(&self) -> i64 {
        let answer = self.json(&["get", "no such key"]);
        answer["header"]["revision"].as_i64().unwrap()
    }
}

/// Members that no supervisor looks after.
#[derive(Default)]
pub(crate) struct Members {
    running: Vec<(String, Talk)>,
    logs: Vec<PathBuf>,
}

impl Members {
    /// Runs `trireme store` with a log beside its other files.
    pub(crate) fn run<S: AsRef<str>>(&mut self, name: &str, log: PathBuf, arguments: &[S]) {
        let mut command = trireme(&["store"]);
        command.args(arguments.iter().map(AsRef::as_ref));
        let file = fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        self.logs.push(log);
        self.running.push((
            name.to_owned(),
            Talk::start({
                command.stderr(file);
                command
            }),
        ));
    }

    /// Runs a member in plain text on the two ports from `port` on.
    pub(crate) fn run_plain(&mut self, name: &str, dir: &Path, port: u16, further: &[&str]) {
        let client = format!("http://127.0.0.1:{port}");
        let peer = format!("http://127.0.0.1:{}", port + 1);
        let mut arguments = vec!["--insecure", "--name", name];
        arguments.extend(["--data-dir", dir.to_str().unwrap()]);
        arguments.extend(["--listen-client-urls", &client, "--listen-peer-urls", &peer]);
        arguments.extend(further);
        self.run(name, dir.with_extension("log"), &arguments);
    }

    /// Ends a member gracefully.
    #[track_caller]
    pub(crate) fn stop(&mut self, name: &str) {
        let at = self
            .running
            .iter()
            .position(|(running, _)| running == name)
            .unwrap();
        let (_, talk) = self.running.remove(at);
        assert!(
            talk.end(Signal::SIGTERM).success(),
            "{name} stops gracefully"
        );
    }

    pub(crate) fn is_running(&mut self, name: &str) -> bool {
        let mut members = self.running.iter_mut();
        members
            .find(|(running, _)| running == name)
            .unwrap()
            .1
            .is_running()
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        if thread::panicking() {
            for log in &self.logs {
                let lines = fs::read_to_string(log).unwrap_or_default();
                eprintln!("{}:\n{lines}", log.display());
            }
        }
    }
}
