//! Stories: what users of a cluster go through, each in a namespace of its own, some at a time beside
//! each other. A cluster costs seconds to start; its stories share it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::{Kubectl, eventually, text};

/// A story: its name, which is also its namespace, and what happens.
pub(crate) type Story = (&'static str, fn(&Kubectl));

/// Stories mostly wait for the cluster.
const AT_ONCE: usize = 6;

/// Between two looks by kubectl, whose start costs as much as many requests.
const LOOK: Duration = Duration::from_millis(200);

/// How long a story waits for what the cluster shall do.
const PATIENCE: Duration = Duration::from_secs(90);

/// Tells all stories. What fails is told of each of them.
#[track_caller]
pub(crate) fn tell(kubectl: &Kubectl, stories: &[Story]) {
    let mut waiting = stories.iter();
    let (next, failed) = (Mutex::new(&mut waiting), Mutex::new(Vec::new()));
    let take = || next.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((name, story)) = take() {
                    let started = Instant::now();
                    let own = kubectl.with(&["--namespace", name]);
                    let told = catch_unwind(AssertUnwindSafe(|| {
                        own.settle(name);
                        story(&own);
                    }));
                    let how = if told.is_ok() { "told" } else { "FAILED" };
                    println!("{name}: {how} after {:.1?}", started.elapsed());
                    if told.is_err() {
                        own.remains(name);
                        failed.lock().unwrap().push(*name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "stories failed: {failed:?}");
}

impl Kubectl {
    /// Makes a namespace in which pods can be made.
    #[track_caller]
    fn settle(&self, namespace: &str) {
        self.must(&["create", "namespace", namespace]);
        eventually("the namespace has its account", || {
            self.succeeds(&["get", "serviceaccount", "default"])
                .then_some(())
        });
    }

    /// Prints what a failed story leaves.
    fn remains(&self, namespace: &str) {
        for what in ["all,pdb,hpa,quota,pvc", "events"] {
            let found = self.command(&["get", what, "-o", "wide"]).output();
            let found = found.map_or_else(|error| error.to_string(), |out| text(&out.stdout));
            println!("what {namespace} leaves of {what}:\n{found}");
        }
    }

    /// Makes what a manifest says.
    #[track_caller]
    pub(crate) fn apply(&self, manifest: &str) -> String {
        self.feed(&["apply", "-f", "-"], manifest)
    }

    /// Makes a Deployment `web`, with more flags than those of every one; yields what is said.
    #[track_caller]
    pub(crate) fn create_web(&self, image: &str, replicas: usize, more: &[&str]) -> String {
        let (image, replicas) = (format!("--image={image}"), format!("--replicas={replicas}"));
        let command = ["create", "deployment", "web", &image, &replicas];
        self.must(&[&command, more].concat())
    }

    /// Waits until all pods of a workload are as it says; yields what is said meanwhile.
    #[track_caller]
    pub(crate) fn rolled_out(&self, workload: &str) -> String {
        self.must(&["rollout", "status", workload, "--timeout=60s"])
    }

    /// Waits until a JSONPath yields a text.
    #[track_caller]
    pub(crate) fn shows(&self, what: &[&str], path: &str, wanted: &str) {
        self.shows_within(PATIENCE, what, path, wanted);
    }

    /// The same with a bound of its own.
    #[track_caller]
    pub(crate) fn shows_within(&self, bound: Duration, what: &[&str], path: &str, wanted: &str) {
        let output = format!("-ojsonpath={path}");
        let command = [&["get"], what, &[&output]].concat();
        self.prints_within(bound, &command, |shown| shown == wanted, wanted);
    }

    /// Waits until a command prints what is wanted; yields all that it printed.
    #[track_caller]
    pub(crate) fn prints(&self, command: &[&str], wanted: &str) -> String {
        self.prints_within(PATIENCE, command, |shown| shown.contains(wanted), wanted)
    }

    /// Waits until an object is gone.
    #[track_caller]
    pub(crate) fn is_gone(&self, what: &str) {
        let command = ["get", what, "--ignore-not-found", "-o", "name"];
        self.prints_within(PATIENCE, &command, str::is_empty, "nothing");
    }

    #[track_caller]
    pub(crate) fn prints_within(
        &self,
        bound: Duration,
        command: &[&str],
        is_it: impl Fn(&str) -> bool,
        wanted: &str,
    ) -> String {
        let started = Instant::now();
        loop {
            let output = self.command(command).output().unwrap();
            let shown = text(&output.stdout);
            if output.status.success() && is_it(&shown) {
                return shown;
            }
            assert!(
                started.elapsed() < bound,
                "kubectl {command:?} shows for {bound:?} not {wanted:?} but {shown:?} {}",
                text(&output.stderr)
            );
            thread::sleep(LOOK);
        }
    }

    /// How many objects of a kind a selector finds.
    #[track_caller]
    pub(crate) fn count(&self, kind: &str, selector: &str) -> usize {
        let found = self.must(&["get", kind, "-l", selector, "-o", "name"]);
        found.lines().count()
    }
}
