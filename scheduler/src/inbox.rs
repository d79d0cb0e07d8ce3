//! What informers told since the loop last looked: per object the first state and the last, so that
//! it never holds more than there are objects, however busy the loop is.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use client::{Informer, Key, Subscription, View};
use tokio::sync::Notify;

/// An object before and after; at least one of both is there.
pub(crate) type Changed<V> = (Option<Arc<V>>, Option<Arc<V>>);

struct Slots<V> {
    order: VecDeque<Key>,
    changes: HashMap<Key, Changed<V>>,
}

/// Changes of objects of one kind.
pub(crate) struct Inbox<V> {
    slots: Arc<Mutex<Slots<V>>>,
    _subscription: Subscription,
}

fn lock<V>(slots: &Mutex<Slots<V>>) -> MutexGuard<'_, Slots<V>> {
    slots.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<V: View> Inbox<V> {
    /// Listens to an informer, and wakes the loop with every change.
    pub(crate) fn of(informer: &Informer<V>, wake: &Arc<Notify>) -> Self {
        let slots = Arc::new(Mutex::new(Slots {
            order: VecDeque::new(),
            changes: HashMap::new(),
        }));
        let (to, wake) = (Arc::clone(&slots), Arc::clone(wake));
        let subscription = informer.on_change(move |old: Option<&Arc<V>>, new: Option<&Arc<V>>| {
            lock(&to).put(old.cloned(), new.cloned());
            wake.notify_one();
        });
        Inbox {
            slots,
            _subscription: subscription,
        }
    }

    /// Takes all changes, in the order in which objects first changed.
    pub(crate) fn take(&self) -> Vec<Changed<V>> {
        let mut slots = lock(&self.slots);
        let order = std::mem::take(&mut slots.order);
        let mut changes = std::mem::take(&mut slots.changes);
        drop(slots);
        order.iter().filter_map(|key| changes.remove(key)).collect()
    }
}

impl<V: View> Slots<V> {
    fn put(&mut self, old: Option<Arc<V>>, new: Option<Arc<V>>) {
        let Some(key) = new
            .as_ref()
            .or(old.as_ref())
            .map(|object| Key::of(&**object))
        else {
            return;
        };
        match self.changes.get_mut(&key) {
            Some((first, last)) => {
                *last = new;
                if first.is_none() && last.is_none() {
                    self.changes.remove(&key);
                    self.order.retain(|one| *one != key);
                }
            }
            None => {
                self.order.push_back(key.clone());
                self.changes.insert(key, (old, new));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;
    use crate::views::Pod;
    use serde_json::json;

    #[test]
    fn changes_of_one_object_become_one() {
        let mut slots = Slots::<Pod> {
            order: VecDeque::new(),
            changes: HashMap::new(),
        };
        let (a, b) = (pod("a", json!({})), pod("b", json!({})));
        let newer = pod("a", json!({"spec": {"priority": 1}}));
        slots.put(None, Some(a.clone()));
        slots.put(None, Some(b.clone()));
        slots.put(Some(a), Some(newer));
        slots.put(Some(b), None);
        assert_eq!(slots.order.len(), 1, "b came and went");
        let (old, new) = slots.changes.values().next().unwrap();
        assert!(old.is_none() && new.as_ref().unwrap().priority == 1);
    }
}
