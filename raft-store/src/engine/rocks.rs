//! The engine on RocksDB.
//!
//! RocksDB's own log is off: the Raft log replays what was not flushed. `atomic_flush` writes the
//! memtables of all spaces together, so that the files always hold whole batches.

use std::path::Path;

use bytes::Bytes;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRawIterator, FlushOptions, LogLevel, Options, ReadOptions, WriteBatch, WriteBufferManager,
    WriteOptions, properties,
};

use super::{Batch, Cursor, Engine, EngineError, Op, Space};

/// How RocksDB may use the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RocksConfig {
    /// Block cache and memtables together, in bytes.
    pub memory_bytes: usize,
    /// Threads for flushes and compactions.
    pub background_jobs: i32,
}

impl Default for RocksConfig {
    fn default() -> Self {
        RocksConfig {
            memory_bytes: 256 << 20,
            background_jobs: 2,
        }
    }
}

/// RocksDB in one directory.
pub struct RocksEngine {
    db: DB,
    unlogged: WriteOptions,
}

impl RocksEngine {
    /// Opens the directory, or creates it with empty spaces.
    pub fn open(dir: &Path, config: &RocksConfig) -> Result<RocksEngine, EngineError> {
        let cache = Cache::new_lru_cache(config.memory_bytes);
        let mut options = database_options(config, &cache);
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let spaces = Space::ALL.map(|space| {
            ColumnFamilyDescriptor::new(space.name(), space_options(space, config, &cache))
        });
        let db =
            DB::open_cf_descriptors(&options, dir, spaces).map_err(failed("open the database"))?;
        let mut unlogged = WriteOptions::default();
        unlogged.disable_wal(true);
        Ok(RocksEngine { db, unlogged })
    }

    fn family(&self, space: Space) -> Result<&ColumnFamily, EngineError> {
        family(&self.db, space)
    }
}

impl Engine for RocksEngine {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let found = self.db.get_pinned_cf(self.family(space)?, key);
        let found = found.map_err(failed("read"))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn write(&self, batch: &Batch) -> Result<(), EngineError> {
        // 16 bytes per record cover the tag, the family and the two lengths.
        let mut out = WriteBatch::with_capacity_bytes(batch.bytes() + 16 * batch.len() + 12);
        for (space, op) in batch.ops() {
            let family = self.family(space)?;
            match op {
                Op::Put(key, value) => out.put_cf(family, key, value),
                Op::Delete(key) => out.delete_cf(family, key),
                Op::DeleteOnce(key) => out.single_delete_cf(family, key),
            }
        }
        self.db
            .write_opt(out, &self.unlogged)
            .map_err(failed("write a batch"))
    }

    fn cursor(&self, space: Space) -> Box<dyn Cursor + '_> {
        let family = match self.family(space) {
            Ok(family) => family,
            Err(error) => return Box::new(FailedCursor(error.to_string())),
        };
        let mut options = ReadOptions::default();
        // A scan must not push the working set of point reads out of the cache.
        options.fill_cache(false);
        options.set_auto_readahead_size(true);
        Box::new(RocksCursor(self.db.raw_iterator_cf_opt(family, options)))
    }

    fn flush(&self) -> Result<(), EngineError> {
        let families = Space::ALL
            .into_iter()
            .map(|space| self.family(space))
            .collect::<Result<Vec<_>, _>>()?;
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db
            .flush_cfs_opt(&families, &options)
            .map_err(failed("flush"))
    }

    fn checkpoint(
        &self,
        dir: &Path,
        keys: &[(Space, &[u8])],
    ) -> Result<Vec<Option<Bytes>>, EngineError> {
        let checkpoint = Checkpoint::new(&self.db).map_err(failed("prepare a checkpoint"))?;
        // Size 0 flushes the memtables in any case.
        checkpoint
            .create_checkpoint_with_log_size(dir, 0)
            .map_err(failed("write a checkpoint"))?;
        // More batches may have been flushed than were asked for: only the files themselves
        // tell what they hold.
        let mut options = Options::default();
        options.set_log_level(LogLevel::Fatal);
        let copy = DB::open_cf_for_read_only(&options, dir, Space::ALL.map(Space::name), false)
            .map_err(failed("open a checkpoint"))?;
        let values = keys
            .iter()
            .map(|(space, key)| {
                let found = copy.get_cf(family(&copy, *space)?, key);
                Ok(found.map_err(failed("read a checkpoint"))?.map(Bytes::from))
            })
            .collect();
        drop(copy);
        remove_info_logs(dir)?;
        values
    }

    fn is_congested(&self) -> bool {
        // Of the whole database, whichever family is asked.
        let slow = [
            properties::IS_WRITE_STOPPED,
            properties::ACTUAL_DELAYED_WRITE_RATE,
        ];
        slow.into_iter()
            .any(|sign| matches!(self.db.property_int_value(sign), Ok(Some(1..))))
    }

    fn disk_bytes(&self) -> u64 {
        // What is in memory yet becomes files with the next flush.
        let sizes = [
            properties::TOTAL_SST_FILES_SIZE,
            properties::SIZE_ALL_MEM_TABLES,
        ];
        Space::ALL
            .into_iter()
            .filter_map(|space| self.family(space).ok())
            .flat_map(|family| sizes.map(|size| self.db.property_int_value_cf(family, size)))
            .filter_map(|size| size.ok()?)
            .sum()
    }
}

struct RocksCursor<'a>(DBRawIterator<'a>);

impl Cursor for RocksCursor<'_> {
    fn seek(&mut self, key: &[u8]) {
        self.0.seek(key);
    }

    fn next(&mut self) {
        if self.0.valid() {
            self.0.next();
        }
    }

    fn entry(&self) -> Result<Option<(&[u8], &[u8])>, EngineError> {
        match self.0.item() {
            Some(item) => Ok(Some(item)),
            None => self.0.status().map(|()| None).map_err(failed("iterate")),
        }
    }
}

/// A cursor over a space that is not there: every read says so.
struct FailedCursor(String);

impl Cursor for FailedCursor {
    fn seek(&mut self, _: &[u8]) {}

    fn next(&mut self) {}

    fn entry(&self) -> Result<Option<(&[u8], &[u8])>, EngineError> {
        Err(EngineError::Rocks {
            operation: "iterate",
            message: self.0.clone(),
        })
    }
}

fn database_options(config: &RocksConfig, cache: &Cache) -> Options {
    let mut options = Options::default();
    options.set_atomic_flush(true);
    options.set_max_background_jobs(config.background_jobs);
    // Memtables are charged to the block cache: one bound for both.
    options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager_with_cache(
        config.memory_bytes / 4,
        false,
        cache.clone(),
    ));
    // Written out steadily instead of in one burst when a file is closed.
    options.set_bytes_per_sync(1 << 20);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(4 << 20);
    options
}

fn space_options(space: Space, config: &RocksConfig, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_level_compaction_dynamic_level_bytes(true);
    // The write buffer manager decides when to flush; this only caps one space.
    options.set_write_buffer_size((config.memory_bytes / 4).max(1 << 20));
    options.set_max_write_buffer_number(4);
    if matches!(space, Space::Kv | Space::Revisions) {
        // Collected history leaves runs of deletions; compact them before reads trip over them.
        options.add_compact_on_deletion_collector_factory(32 << 10, 16 << 10, 0.5);
    }
    options
}

fn family(db: &DB, space: Space) -> Result<&ColumnFamily, EngineError> {
    db.cf_handle(space.name())
        .ok_or_else(|| EngineError::corrupt(space, "its column family is missing"))
}

fn failed(operation: &'static str) -> impl Fn(rocksdb::Error) -> EngineError {
    move |error| EngineError::Rocks {
        operation,
        message: error.into_string(),
    }
}

/// Opening a checkpoint leaves RocksDB's diagnostic log in it, which is no part of the state.
#[allow(
    clippy::disallowed_methods,
    reason = "RocksDB's own directory is never simulated"
)]
fn remove_info_logs(dir: &Path) -> Result<(), EngineError> {
    let io = |operation, path: &Path| {
        let path = path.display().to_string();
        move |source| EngineError::Io {
            operation,
            path,
            source,
        }
    };
    for entry in std::fs::read_dir(dir).map_err(io("list", dir))? {
        let entry = entry.map_err(io("list", dir))?;
        if entry.file_name().to_string_lossy().starts_with("LOG") {
            std::fs::remove_file(entry.path()).map_err(io("remove", &entry.path()))?;
        }
    }
    Ok(())
}
