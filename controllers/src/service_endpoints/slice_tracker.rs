//! What a controller has written and its cache may not show yet: without it, a sync on a stale
//! cache would add the same endpoints to a second slice.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use client::Key;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::service_of;

/// What is known of a slice that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// It has at least this generation.
    Generation(i64),
    /// It is going away.
    Deleted,
}

/// The slices that a controller wrote, by Service.
#[derive(Debug, Default)]
pub struct SliceTracker {
    services: Mutex<HashMap<Key, HashMap<String, Expected>>>,
}

type Services = HashMap<Key, HashMap<String, Expected>>;

fn uid(metadata: &ObjectMeta) -> &str {
    metadata.uid.as_deref().unwrap_or_default()
}

fn generation(slice: &EndpointSlice) -> i64 {
    slice.metadata.generation.unwrap_or_default()
}

impl SliceTracker {
    fn services(&self) -> std::sync::MutexGuard<'_, Services> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expected(&self, slice: &EndpointSlice) -> Option<Expected> {
        let services = self.services();
        services
            .get(&service_of(slice)?)?
            .get(uid(&slice.metadata))
            .copied()
    }

    fn expect(&self, slice: &EndpointSlice, expected: Expected) {
        if let Some(service) = service_of(slice) {
            let uid = uid(&slice.metadata).to_owned();
            self.services()
                .entry(service)
                .or_default()
                .insert(uid, expected);
        }
    }

    /// Notes what was written, or found as wanted.
    pub fn written(&self, slice: &EndpointSlice) {
        self.expect(slice, Expected::Generation(generation(slice)));
    }

    /// Notes a slice that was asked to go.
    pub fn deleting(&self, slice: &EndpointSlice) {
        self.expect(slice, Expected::Deleted);
    }

    /// Whether a slice that appeared or changed is news.
    pub fn is_news(&self, slice: &EndpointSlice) -> bool {
        match self.expected(slice) {
            None => true,
            Some(Expected::Generation(known)) => generation(slice) > known,
            Some(Expected::Deleted) => generation(slice) > -1,
        }
    }

    /// Notes that a slice is gone; true if that is news.
    pub fn gone(&self, slice: &EndpointSlice) -> bool {
        let mut services = self.services();
        let slices = service_of(slice).and_then(|service| services.get_mut(&service));
        let known = slices.and_then(|slices| slices.remove(uid(&slice.metadata)));
        matches!(known, Some(Expected::Generation(_)))
    }

    /// Whether a cache that shows just these slices has not caught up with what was written.
    pub fn is_stale<'a>(
        &self,
        service: &Key,
        slices: impl IntoIterator<Item = &'a EndpointSlice>,
    ) -> bool {
        let services = self.services();
        let Some(known) = services.get(service) else {
            return false;
        };
        let mut shown = std::collections::HashSet::new();
        for slice in slices {
            let uid = uid(&slice.metadata);
            shown.insert(uid);
            match known.get(uid) {
                Some(Expected::Deleted) => return true,
                Some(Expected::Generation(known)) if *known > generation(slice) => return true,
                _ => {}
            }
        }
        known
            .iter()
            .any(|(uid, expected)| *expected != Expected::Deleted && !shown.contains(uid.as_str()))
    }

    /// Forgets a Service.
    pub fn forget(&self, service: &Key) {
        self.services().remove(service);
    }
}
