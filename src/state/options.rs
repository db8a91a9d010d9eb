//! How every RocksDB of the process is set up.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, DBCompactionStyle, DBCompressionType, InfoLogger, LogLevel, Options,
    ReadOptions, UniversalCompactOptions, WriteOptions,
};

use crate::budget::Budget;

/// Background threads for flushes, and as many for compactions; shared by all databases of the process.
const BACKGROUND_THREADS_MAX: usize = 8;
/// So many runs are merged. Every eviction and every checkpoint adds one; a look-up asks the filters of all.
const RUNS_COMPACT: i32 = 12;
const RUNS_SLOW: i32 = 40;
const RUNS_STOP: i32 = 80;
/// A run is merged with newer ones if it is at most so much larger than their sum.
const RUN_SIZE_RATIO_PERCENT: i32 = 20;
/// All is merged if what was added since is so much of the oldest run.
const GARBAGE_PERCENT_MAX: i32 = 200;
/// Read ahead of a merge, for each of its runs.
const COMPACTION_READ_BYTES: usize = 256 << 10;
/// Small enough that a split drops whole files, large enough that 10 GB are some hundreds.
const FILE_BYTES: u64 = 32 << 20;
/// Bits a key in the bloom filters: about one false positive in a hundred.
const BLOOM_BITS: f64 = 10.0;
/// Look-ups are of single small rows: a small block is read and unpacked faster.
const BLOCK_BYTES: usize = 4 << 10;
/// Memtables take memory in steps of this; every table with one written row has at least one.
const ARENA_BYTES: usize = 128 << 10;

/// Options of a database and, RocksDB has one type for both, of its column families.
#[allow(deprecated)] // The one number that replaces these two gives a quarter of its threads to flushes.
pub(crate) fn open_options(budget: &Budget, create: bool) -> Options {
    let memory = budget.rocksdb();
    // Options without a setter of their own. The local files are worth nothing after the attempt: closing writes
    // nothing. The sizes of restored files are checked when they are linked.
    let mut o = Options::default()
        .get_options_from_string("avoid_flush_during_shutdown=true;skip_checking_sst_file_sizes_on_db_open=true")
        .expect("options that this RocksDB knows");
    o.create_if_missing(create);
    o.set_error_if_exists(create);
    o.set_paranoid_checks(true);
    o.set_skip_stats_update_on_db_open(true);
    // Without this one thread of the process flushes: at a checkpoint all workers would wait for it in turn.
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().min(BACKGROUND_THREADS_MAX)) as i32;
    o.set_max_background_flushes(threads);
    o.set_max_background_compactions(threads);
    o.set_max_open_files(1024);
    o.set_keep_log_file_num(1);
    o.set_stats_dump_period_sec(0);
    o.set_stats_persist_period_sec(0);
    o.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, |level, text| match level {
        LogLevel::Error | LogLevel::Fatal => tracing::warn!(target: "rocksdb", "{}", text.trim_end()),
        _ => tracing::debug!(target: "rocksdb", "{}", text.trim_end()),
    }));

    o.set_write_buffer_manager(&memory.write_buffers);
    o.set_write_buffer_size(memory.memtable_bytes);
    o.set_arena_block_size(ARENA_BYTES);
    o.set_max_write_buffer_number(4);
    // One writer, batches sorted by key: the plain insert with a hint is the fastest.
    o.set_allow_concurrent_memtable_write(false);
    o.set_enable_write_thread_adaptive_yield(false);

    // Runs are merged with runs of their size: a row is written a few times however large the state is. Merging levels
    // would write all of it for every eviction, which has keys from everywhere.
    o.set_compaction_style(DBCompactionStyle::Universal);
    let mut universal = UniversalCompactOptions::default();
    universal.set_size_ratio(RUN_SIZE_RATIO_PERCENT);
    universal.set_max_size_amplification_percent(GARBAGE_PERCENT_MAX);
    o.set_universal_compaction_options(&universal);
    o.set_level_zero_file_num_compaction_trigger(RUNS_COMPACT);
    o.set_level_zero_slowdown_writes_trigger(RUNS_SLOW);
    o.set_level_zero_stop_writes_trigger(RUNS_STOP);
    o.set_target_file_size_base(FILE_BYTES);
    o.set_compaction_readahead_size(COMPACTION_READ_BYTES);
    // Runs that will soon be merged are not worth the packing.
    o.set_compression_per_level(&[[DBCompressionType::None; 1].as_slice(), &[DBCompressionType::Lz4; 6]].concat());
    o.set_block_based_table_factory(&table_options(budget));
    o
}

/// Options of a file that is written directly, to be a run of its own.
pub(crate) fn file_options(budget: &Budget) -> Options {
    let mut o = Options::default();
    o.set_compression_type(DBCompressionType::None);
    o.set_block_based_table_factory(&table_options(budget));
    o
}

fn table_options(budget: &Budget) -> BlockBasedOptions {
    let mut t = BlockBasedOptions::default();
    t.set_block_cache(&budget.rocksdb().cache);
    t.set_block_size(BLOCK_BYTES);
    t.set_format_version(6);
    t.set_bloom_filter(BLOOM_BITS, false);
    t.set_whole_key_filtering(true);
    // Index and filters count in the budget too, and come and go in small blocks, so that a small budget holds.
    t.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    t.set_partition_filters(true);
    t.set_metadata_block_size(BLOCK_BYTES);
    t.set_cache_index_and_filter_blocks(true);
    t.set_cache_index_and_filter_blocks_with_high_priority(true);
    t.set_pin_top_level_index_and_filter(true);
    t.set_pin_l0_filter_and_index_blocks_in_cache(true);
    t
}

pub(crate) fn write_options() -> WriteOptions {
    let mut w = WriteOptions::default();
    w.disable_wal(true);
    w.set_memtable_insert_hint_per_batch(true);
    w
}

pub(crate) fn read_options() -> ReadOptions {
    let mut r = ReadOptions::default();
    r.set_verify_checksums(true);
    r.set_total_order_seek(true);
    r
}
