//! Admission: what judges and completes a write after authorization and before validation.
//!
//! Every plugin is a file. The order is upstream's: all of them may change the object first, then all
//! may refuse it.

use api::doc::Doc;
use async_trait::async_trait;
use tokio::time::Instant;

use crate::registry::{Call, Outcome};
use crate::storage::Along;

/// What a request does to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It is new.
    Create,
    /// It changes.
    Update,
    /// It goes.
    Delete,
    /// A connection is handed on to it.
    Connect,
}

/// A write on its way, with what has to happen once it is done.
pub struct Attempt<'a> {
    /// The request.
    pub call: &'a Call<'a>,
    /// What it does.
    pub operation: Operation,
    after: Vec<Box<dyn FnOnce(u64) + Send>>,
}

impl<'a> Attempt<'a> {
    /// An attempt at a write.
    pub fn new(call: &'a Call<'a>, operation: Operation) -> Self {
        Self {
            call,
            operation,
            after: Vec::new(),
        }
    }

    /// Runs something once the write is done, with its revision (0 if nothing was written). It is
    /// dropped if the write is refused.
    pub fn afterwards(&mut self, act: impl FnOnce(u64) + Send + 'static) {
        self.after.push(Box::new(act));
    }

    /// Counts how long a plugin took, or all of them if it has no name.
    fn count(&self, plugin: &str, step: &str, began: Instant, is_rejected: bool) {
        let operation = match self.operation {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        };
        let rejected = if is_rejected { "true" } else { "false" };
        let metrics = &self.call.api.metrics;
        let series = match plugin {
            "" => metrics.admission_steps.of(&[step, operation, rejected]),
            plugin => metrics
                .admission_plugins
                .of(&[plugin, step, operation, rejected]),
        };
        series.observe(began.elapsed().as_secs_f64());
    }

    /// The write is done.
    pub fn finish(self, revision: u64) {
        for act in self.after {
            act(revision);
        }
    }
}

/// One judge of writes. Documents are of the version that is stored; for a subresource with a kind of
/// its own, of that kind.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// Its name in metrics: that of the type, which is upstream's where it is one of theirs.
    fn name(&self) -> &'static str {
        let path = std::any::type_name::<Self>();
        path.rsplit("::").next().unwrap_or(path)
    }

    /// Completes an object. Deletions have none.
    async fn admit(
        &self,
        _attempt: &mut Attempt<'_>,
        _new: Option<&mut Doc>,
        _old: Option<&Doc>,
    ) -> Outcome<()> {
        Ok(())
    }

    /// Judges an object as it would be written; what has to be written with it goes along.
    async fn validate(
        &self,
        _attempt: &mut Attempt<'_>,
        _new: Option<&Doc>,
        _old: Option<&Doc>,
        _along: &mut Along,
    ) -> Outcome<()> {
        Ok(())
    }
}

/// All plugins, in order.
#[derive(Default)]
pub struct Admission {
    plugins: Vec<Box<dyn Plugin>>,
}

impl Admission {
    /// Plugins in the order in which they are asked.
    pub fn new(plugins: Vec<Box<dyn Plugin>>) -> Self {
        Self { plugins }
    }

    /// Lets all complete an object.
    ///
    /// # Errors
    ///
    /// The first refusal.
    pub async fn admit(
        &self,
        attempt: &mut Attempt<'_>,
        mut new: Option<&mut Doc>,
        old: Option<&Doc>,
    ) -> Outcome<()> {
        let started = attempt.call.api.seams.clock.now();
        let mut done = Ok(());
        for plugin in &self.plugins {
            let began = attempt.call.api.seams.clock.now();
            done = plugin.admit(attempt, new.as_deref_mut(), old).await;
            attempt.count(plugin.name(), "admit", began, done.is_err());
            if done.is_err() {
                break;
            }
        }
        attempt.count("", "admit", started, done.is_err());
        done
    }

    /// Lets all judge an object.
    ///
    /// # Errors
    ///
    /// The first refusal.
    pub async fn validate(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&Doc>,
        old: Option<&Doc>,
        along: &mut Along,
    ) -> Outcome<()> {
        let started = attempt.call.api.seams.clock.now();
        let mut done = Ok(());
        for plugin in &self.plugins {
            let began = attempt.call.api.seams.clock.now();
            done = plugin.validate(attempt, new, old, along).await;
            attempt.count(plugin.name(), "validate", began, done.is_err());
            if done.is_err() {
                break;
            }
        }
        attempt.count("", "validate", started, done.is_err());
        done
    }
}
