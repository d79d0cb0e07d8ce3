//! What a controller gets: a client in its name, informers, a recorder, the outside world.

use std::sync::Arc;

use client::{Informers, Recorder, clock};
use jiff::Timestamp;
use seams::{Seams, Tasks};

use crate::settings::Settings;

/// What a controller has for one term.
#[derive(Clone)]
pub struct Context {
    /// The controller's name.
    pub name: &'static str,
    /// The revision at which the term began; 0 where there are no terms. Informers know all that had
    /// happened by then before the first sync.
    pub since: i64,
    /// A client in the controller's name, whose writes are refused once the term is over.
    pub client: kube::Client,
    /// Informers, shared with all other controllers. Those that are asked for here have their objects
    /// before the first sync.
    pub informers: Informers,
    /// Records events; see [`Self::recorder`].
    pub events: Recorder,
    /// Clock, randomness and the rest of the world.
    pub seams: Seams,
    /// Owns what runs in this term.
    pub tasks: Tasks,
    /// How controllers are set up.
    pub settings: Arc<Settings>,
}

impl Context {
    /// A recorder of events with a source, such as `deployment-controller`.
    pub fn recorder(&self, component: &str) -> Recorder {
        self.events.named(component)
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        clock::now(&*self.seams.clock)
    }
}
