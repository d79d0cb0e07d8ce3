//! What a member measures and counts at its seams: the engine under the state, and the figures
//! that its parts keep anyway.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use seams::Clock;

use super::Member;
use crate::engine::{Batch, Cursor, Engine, EngineError, OpenEngine, Space};
use crate::metrics::Metrics;

/// Opens what `open` opens, and measures its batches.
pub(super) fn measured(
    open: OpenEngine,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
) -> OpenEngine {
    Arc::new(move |dir: &Path| {
        Ok(Arc::new(Measured {
            engine: open(dir)?,
            metrics: metrics.clone(),
            clock: clock.clone(),
        }))
    })
}

struct Measured {
    engine: Arc<dyn Engine>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
}

impl Engine for Measured {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.engine.get(space, key)
    }

    fn write(&self, batch: &Batch) -> Result<(), EngineError> {
        let begun = self.clock.now();
        let written = self.engine.write(batch);
        let took = self.clock.now() - begun;
        self.metrics.backend_commit.observe_duration(took);
        written
    }

    fn cursor(&self, space: Space) -> Box<dyn Cursor + '_> {
        self.engine.cursor(space)
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.engine.flush()
    }

    fn checkpoint(
        &self,
        dir: &Path,
        keys: &[(Space, &[u8])],
    ) -> Result<Vec<Option<Bytes>>, EngineError> {
        self.engine.checkpoint(dir, keys)
    }

    fn is_congested(&self) -> bool {
        self.engine.is_congested()
    }

    fn disk_bytes(&self) -> u64 {
        self.engine.disk_bytes()
    }
}

impl Member {
    /// Brings the metrics up to date that nobody feeds while things happen.
    pub(crate) fn refresh_metrics(&self) {
        let metrics = &self.0.metrics;
        let counts = self.0.mvcc.counts();
        for (counter, value) in [
            (&metrics.puts, counts.puts),
            (&metrics.deletes, counts.deletes),
            (&metrics.compacted_keys, counts.collected),
            (&metrics.leases_granted, counts.leases_granted),
            (&metrics.leases_revoked, counts.leases_revoked),
        ] {
            counter.inner().store(value, Ordering::Relaxed);
        }
        let watch = self.0.hub.stats();
        let streams = i64::try_from(watch.streams).unwrap_or(i64::MAX);
        metrics.watch_streams.set(streams);
        metrics.watchers.set(watch.watchers.cast_signed());
        metrics.slow_watchers.set(watch.lagging.cast_signed());
        metrics
            .events_sent
            .inner()
            .store(watch.events, Ordering::Relaxed);
    }
}
