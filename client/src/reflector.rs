//! What to ask an API server next so that a copy of its objects stays what it is there: a state machine
//! without IO. Answers go in, changes of the copy come out.
//!
//! ```text
//!  Cold ──stream──► Filling ──initial events end──► Following ◄─┐
//!   ▲ ▲                │ broken                        │  │      │ events, bookmarks; broken: ask
//!   │ └────────────────┘                          410  │  └──────┘ again from the same version
//!   └──────────────────────────────────────────────────┘
//!  where the server knows no streams of initial events, pages of a list fill the copy
//! ```

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::core::Status;
use serde::Deserialize;

use crate::key::{Key, View};

/// The annotation of the bookmark that ends the initial events.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// What to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// A watch that begins with all objects.
    Stream,
    /// A page of a list.
    List {
        /// Where the page begins; none for the first.
        after: Option<String>,
    },
    /// A watch of what changes after a version.
    Watch {
        /// The version.
        version: String,
    },
}

/// What a watch says.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "object", rename_all = "UPPERCASE")]
pub enum Event<V> {
    /// An object is new, or was there before the watch began.
    Added(V),
    /// An object changed.
    Modified(V),
    /// An object is gone; this is how it was last.
    Deleted(V),
    /// Everything up to a version was told.
    Bookmark(Bookmark),
    /// The watch ends, and why.
    Error(Box<Status>),
}

/// How far a watch has come.
#[derive(Debug, Deserialize)]
pub struct Bookmark {
    metadata: BookmarkMeta,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub struct Page<V> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default = "Vec::new")]
    items: Vec<V>,
}

/// What an answer does to the copy.
#[derive(Debug)]
pub enum Effect<V> {
    /// Nothing.
    None,
    /// A new or changed object.
    Put(V),
    /// An object is gone.
    Remove(V),
    /// These are all objects.
    Replace(BTreeMap<Key, V>),
}

enum State<V> {
    /// Nothing is known, or not what happened since.
    Cold,
    /// All objects are on their way.
    Filling { objects: BTreeMap<Key, V> },
    /// Pages are on their way.
    Paging {
        objects: BTreeMap<Key, V>,
        after: String,
    },
    /// The copy is as the server had it at this version.
    Following { version: String },
}

/// What is known of the server's objects.
pub struct Reflector<V> {
    state: State<V>,
    knows_streams: bool,
}

impl<V> Default for Reflector<V> {
    fn default() -> Self {
        Self {
            state: State::Cold,
            knows_streams: true,
        }
    }
}

impl<V: View> Reflector<V> {
    /// What to ask for next, whenever no answer is on its way.
    pub fn ask(&mut self) -> Ask {
        match &self.state {
            State::Following { version } => Ask::Watch {
                version: version.clone(),
            },
            State::Paging { after, .. } => Ask::List {
                after: Some(after.clone()),
            },
            State::Cold | State::Filling { .. } => {
                // Of what came before a stream broke off nobody knows how it went on.
                self.state = State::Cold;
                match self.knows_streams {
                    true => Ask::Stream,
                    false => Ask::List { after: None },
                }
            }
        }
    }

    /// The version up to which the copy is as the server has it.
    pub fn version(&self) -> Option<&str> {
        match &self.state {
            State::Following { version } => Some(version),
            _ => None,
        }
    }

    /// An event of a watch.
    pub fn event(&mut self, event: Event<V>) -> Effect<V> {
        if let (State::Cold, false) = (&self.state, matches!(event, Event::Error(_))) {
            self.state = State::Filling {
                objects: BTreeMap::new(),
            };
        }
        match event {
            Event::Added(object) | Event::Modified(object) => self.put(lean(object)),
            Event::Deleted(object) => self.remove(lean(object)),
            Event::Bookmark(bookmark) => self.bookmark(bookmark),
            Event::Error(status) => {
                self.refused(&status);
                Effect::None
            }
        }
    }

    fn put(&mut self, object: V) -> Effect<V> {
        match &mut self.state {
            State::Filling { objects } => {
                objects.insert(Key::of(&object), object);
                Effect::None
            }
            State::Following { version } => {
                follow(version, &object);
                Effect::Put(object)
            }
            State::Cold | State::Paging { .. } => Effect::None,
        }
    }

    fn remove(&mut self, object: V) -> Effect<V> {
        match &mut self.state {
            State::Filling { objects } => {
                objects.remove(&Key::of(&object));
                Effect::None
            }
            State::Following { version } => {
                follow(version, &object);
                Effect::Remove(object)
            }
            State::Cold | State::Paging { .. } => Effect::None,
        }
    }

    fn bookmark(&mut self, bookmark: Bookmark) -> Effect<V> {
        let BookmarkMeta {
            resource_version,
            annotations,
        } = bookmark.metadata;
        match &mut self.state {
            State::Filling { objects } => {
                if annotations.get(INITIAL_EVENTS_END).map(String::as_str) != Some("true") {
                    return Effect::None;
                }
                let objects = std::mem::take(objects);
                self.state = State::Following {
                    version: resource_version,
                };
                Effect::Replace(objects)
            }
            State::Following { version } => {
                *version = resource_version;
                Effect::None
            }
            State::Cold | State::Paging { .. } => Effect::None,
        }
    }

    /// A page of a list.
    pub fn page(&mut self, page: Page<V>) -> Effect<V> {
        let mut objects = match std::mem::replace(&mut self.state, State::Cold) {
            State::Paging { objects, .. } => objects,
            _ => BTreeMap::new(),
        };
        let items = page.items.into_iter().map(lean);
        objects.extend(items.map(|object| (Key::of(&object), object)));
        let ListMeta {
            resource_version,
            continue_,
            ..
        } = page.metadata;
        match continue_.filter(|token| !token.is_empty()) {
            Some(after) => {
                self.state = State::Paging { objects, after };
                Effect::None
            }
            None => {
                self.state = State::Following {
                    version: resource_version.unwrap_or_default(),
                };
                Effect::Replace(objects)
            }
        }
    }

    /// The server refused what it was asked for.
    pub fn refused(&mut self, status: &Status) {
        match (&self.state, status.code) {
            // What was asked for is no longer there.
            (_, 410) => self.state = State::Cold,
            // As a server says it that does not know the parameters.
            (State::Cold | State::Filling { .. }, 400 | 422) => self.knows_streams = false,
            (State::Paging { .. }, 400..500) if status.code != 429 => self.state = State::Cold,
            // A version that is none, or of another history.
            (State::Following { .. }, 400 | 422) => self.state = State::Cold,
            // As it is said of a version that the server will not have soon.
            (State::Following { .. }, 504) if is_too_large(status) => self.state = State::Cold,
            _ => {}
        }
    }
}

fn is_too_large(status: &Status) -> bool {
    let details = status.details.as_ref();
    details.is_some_and(|details| {
        let mut causes = details.causes.iter();
        causes.any(|cause| cause.reason == "ResourceVersionTooLarge")
    })
}

fn follow<V: View>(version: &mut String, object: &V) {
    if let Some(newer) = &object.meta().resource_version {
        version.clone_from(newer);
    }
}

/// Who owns which field is of no use here and takes more room than all the rest.
fn lean<V: View>(mut object: V) -> V {
    object.meta_mut().managed_fields = None;
    object
}

#[cfg(test)]
mod tests;
