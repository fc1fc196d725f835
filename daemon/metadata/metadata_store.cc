// Opens, creates and commits to the LevelDB that holds the view, and makes commits durable.
//
// Order is the invariant: commits enter LevelDB's log one after another, a log is synced before
// the next begins (leveldb_env.h), so what a power cut leaves is a prefix of the commits that
// holds everything reported durable.
#include "daemon/metadata/metadata_store.h"

#include <leveldb/cache.h>
#include <leveldb/db.h>
#include <leveldb/filter_policy.h>
#include <leveldb/write_batch.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <future>
#include <mutex>
#include <thread>
#include <utility>

#include "common/base/clock.h"
#include "common/base/features.h"
#include "common/proto/file_time.h"
#include "daemon/metadata/journal_records.h"
#include "daemon/metadata/metadata_store_impl.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/metadata/record_snapshot.h"
#include "daemon/metadata/stored_records.h"
#include "daemon/metadata/totals.h"

namespace datacloud {
namespace {

constexpr int kBloomBitsPerKey = 10;
constexpr auto kUnsyncedMax = seconds(1);  // a commit nobody waits for is synced after this

pb::Inode make_root(const pb::Cloud& cloud, uint32_t uid, uint32_t gid,
                    const pb::Features& features) {
  const int64_t now_ns = wall_now_ns();
  pb::Inode root;
  root.set_ino(kRootInode);
  root.set_mode(S_IFDIR | 0755);
  root.set_nlink(2);
  root.set_uid(uid);
  root.set_gid(gid);
  root.set_size(4096);
  set_atime(root, from_ns(now_ns));
  set_mtime(root, from_ns(now_ns));
  set_ctime(root, from_ns(now_ns));
  for (const auto& feature : features.features()) {
    if (feature.name() == describe(Feature::times).name) root.set_btime_ns(now_ns);
  }
  root.set_generation(1);
  *root.mutable_policy() = cloud.root_policy();
  root.set_parent(kRootInode);
  root.set_next_cookie(3);
  return root;
}

}  // namespace

std::string encode_sequence(Sequence sequence) { return key::inode(sequence).substr(1); }

bool cannot_write(const Error& error) {
  switch (error.errno_value()) {
    case ENOSPC:
    case EDQUOT:
    case EROFS:
    case EACCES:
    case EPERM:
      return true;
    default:
      return false;
  }
}

Error MetadataStore::Impl::storage_error(const leveldb::Status& s, const std::string& what) const {
  std::error_code code = s.IsCorruption() ? Errc::corrupt : Errc::io;
  std::string remedy;
  const auto cause = env.change_failure();
  if (!s.IsCorruption() && cause && cannot_write(*cause)) {
    code = cause->code();
    remedy = cause->errno_value() == EROFS || cause->errno_value() == EACCES
                 ? "; make the directory writable for the daemon (mount -o remount,rw; its owner)"
                 : "; make room on its disk";
  }
  return Error(code,
               "metadata store " + options.directory + ": " + what + ": " + s.ToString() + remedy);
}

result<void> MetadataStore::Impl::open_database(bool create) {
  cache.reset(leveldb::NewLRUCache(options.cache_bytes));
  bloom.reset(leveldb::NewBloomFilterPolicy(kBloomBitsPerKey));
  leveldb::Options o;
  o.create_if_missing = create;
  o.paranoid_checks = true;
  o.env = env.env();
  o.info_log = env.logger();
  o.write_buffer_size = options.write_buffer_bytes;
  o.block_cache = cache.get();
  o.filter_policy = bloom.get();
  o.compression = leveldb::kSnappyCompression;
  leveldb::DB* opened = nullptr;
  const leveldb::Status s = leveldb::DB::Open(o, options.directory, &opened);
  if (s.ok()) {
    db.reset(opened);
    // Fences behind the runs and behind the pending deletions: a scan that ends there would
    // otherwise walk on over every deleted orphan, deletion or reply up to the next living record.
    for (const std::string& fence : {key::run_fence(), key::pending_fence()}) {
      const leveldb::Status fenced = db->Put({}, fence, {});
      if (!fenced.ok()) return failure(storage_error(fenced, "cannot be written"));
    }
    return success();
  }
  if (env.lock_is_held()) {
    return failure(Errc::unavailable, "another datacloudd uses " + options.directory +
                                          " (LOCK is held); stop it first");
  }
  return failure(storage_error(s, "cannot be opened"));
}

MetadataStore::MetadataStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
  impl_->syncer = std::thread([this] { sync_loop(); });
}

MetadataStore::~MetadataStore() {
  {
    std::lock_guard lock(impl_->mutex);
    impl_->stop = true;
  }
  impl_->wake.notify_all();
  impl_->syncer.join();
}

result<std::unique_ptr<MetadataStore>> MetadataStore::open(Options options) {
  if (!options.files) options.files = make_posix_file_layer();
  const std::string directory = options.directory;
  const auto missing = [&] {
    return failure(Errc::not_found,
                   "no metadata store in " + directory + "; make one with `datacloud create`");
  };
  if (auto current = options.files->stat(directory + "/CURRENT"); !current) {
    if (current.error().errno_value() == ENOENT) return missing();
    return failure(current.error());
  }
  auto impl = std::make_unique<Impl>(std::move(options));
  TRY(impl->open_database(false));
  std::unique_ptr<MetadataStore> store(new MetadataStore(std::move(impl)));

  const Transaction view = store->begin();
  pb::Cloud cloud;
  TRY(const bool found, view.get(key::meta("cloud"), cloud));
  if (!found) return missing();
  if (cloud.format_version() < kMetadataFormatVersion ||
      cloud.format_version() > kMetadataFormatFeatures) {
    return failure(Errc::unsupported,
                   "metadata store " + directory + " has format " +
                       std::to_string(cloud.format_version()) + ", this program knows formats " +
                       std::to_string(kMetadataFormatVersion) + " and " +
                       std::to_string(kMetadataFormatFeatures) + "; use the version that wrote it");
  }
  TRY(const auto sequence, view.get(key::meta("sequence")));
  if (!sequence || sequence->size() != 8) {
    return failure(Errc::corrupt, "metadata store " + directory + ": no sequence record");
  }
  TRY(store->impl_->open_journal());
  // Opening has moved the logs into synced tables, so all there is is durable.
  std::lock_guard lock(store->impl_->mutex);
  store->impl_->sequence = store->impl_->durable = key::u64_at(*sequence, 0);
  return store;
}

result<void> MetadataStore::create(Options options, const pb::Cloud& cloud, uint32_t root_uid,
                                   uint32_t root_gid, const pb::Features& features,
                                   const pb::JournalSet* journal) {
  if (!options.files) options.files = make_posix_file_layer();
  const std::string directory = options.directory;
  auto made = options.files->make_directory(directory);
  if (!made && made.error().errno_value() != EEXIST) return made;
  const size_t slash = directory.find_last_of('/');
  TRY(options.files->sync_directory(slash == 0 ? "/" : directory.substr(0, slash)));

  auto impl = std::make_unique<Impl>(std::move(options));
  TRY(impl->open_database(true));
  std::unique_ptr<MetadataStore> store(new MetadataStore(std::move(impl)));
  Transaction txn = store->begin();
  TRY(const auto existing, txn.get(key::meta("cloud")));
  if (existing) {
    return failure(Errc::exists, directory + " already holds the metadata of a cloud");
  }
  pb::Cloud record = cloud;
  const bool plain = features.features().empty();
  record.set_format_version(plain ? kMetadataFormatVersion : kMetadataFormatFeatures);
  txn.put(key::meta("cloud"), record);
  if (!plain) txn.put(key::meta("features"), features);
  if (journal != nullptr) {
    txn.put(key::meta(kJournalRecord), *journal);
    txn.put(key::meta(kPositionRecord), encode_position({}));
  }
  txn.put(key::inode(kRootInode), make_root(cloud, root_uid, root_gid, features));
  write_totals(txn, Totals{.inodes = 1});
  TRY(const Sequence sequence, store->commit(std::move(txn)));
  return store->wait_durable(sequence);
}

result<std::optional<std::string>> MetadataStore::Impl::read(const std::string& key) const {
  std::string value;
  const leveldb::Status s = db->Get(checked_read(), slice(key), &value);
  if (s.ok()) return std::optional<std::string>(std::move(value));
  if (s.IsNotFound()) return std::optional<std::string>();
  return failure(storage_error(s, "read failed; stop the daemon and check its disk"));
}

result<std::optional<std::string>> MetadataStore::read(const std::string& key) const {
  auto value = impl_->read(key);
  if (impl_->journaled && value) {
    if (impl_->recent.size() >= Impl::kRecentMax) impl_->recent.clear();
    impl_->recent.insert_or_assign(key, value.value());
  }
  return value;
}

std::unique_ptr<RecordSnapshot> MetadataStore::snapshot() const {
  return std::make_unique<RecordSnapshot>(*impl_->db);
}

std::shared_ptr<const MetadataView> MetadataStore::view() const {
  return make_stored_view(*impl_->db, sequence());
}

std::shared_ptr<RecordCursor> MetadataStore::cursor() const {
  return make_stored_cursor(*impl_->db, checked_read());
}

result<Sequence> MetadataStore::commit(Transaction&& txn, const JournalStep* step) {
  Impl& self = *impl_;
  Sequence next = 0;
  {
    std::lock_guard lock(self.mutex);
    if (self.failed) return failure(*self.failed);
    if (txn.changes_.empty()) return self.sequence;
    next = self.sequence + 1;
  }
  leveldb::WriteBatch batch;
  for (const auto& [key, value] : txn.changes_) put_change(batch, key, value);
  batch.Put(slice(key::meta("sequence")), slice(encode_sequence(next)));
  JournalNote note;
  if (self.journaled) {
    TRY(note, self.note_undo(batch, txn.changes_, step));
  }
  TRY(self.write(batch, next));
  if (self.journaled) self.noted(note);
  txn.changes_.clear();
  return next;
}

result<void> MetadataStore::Impl::write(leveldb::WriteBatch& batch, Sequence next) {
  {
    std::lock_guard lock(mutex);
    if (failed) return failure(*failed);
  }
  recent.clear();
  const leveldb::Status s = db->Write(leveldb::WriteOptions(), &batch);
  std::lock_guard lock(mutex);
  if (!s.ok()) {
    if (!failed) {
      failed = storage_error(s, "a write failed; no more changes are made");
      if (!cannot_write(*failed)) {
        failed =
            Error(failed->code(), failed->text() + "; repair the disk, then restart the daemon");
      }
    }
    return failure(*failed);
  }
  if (durable == sequence) {
    unsynced_since = monotonic_now();
    if (unsynced_since + kUnsyncedMax < looks_at) wake.notify_all();
  }
  const Sequence before = std::exchange(sequence, next);
  if (next <= before) {
    // Something was undone that may have been durable, or is being synced.
    ++rewinds;
    durable = std::min(durable, next - 1);
  }
  return success();
}

Sequence MetadataStore::sequence() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->sequence;
}

Sequence MetadataStore::durable() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->failed ? 0 : impl_->durable;
}

void MetadataStore::when_durable(Sequence sequence, std::function<void(result<void>)> done) {
  {
    std::lock_guard lock(impl_->mutex);
    impl_->waiters.push_back({sequence, std::move(done)});
  }
  impl_->wake.notify_all();
}

result<void> MetadataStore::wait_durable(Sequence sequence) {
  std::promise<result<void>> promise;
  auto future = promise.get_future();
  when_durable(sequence, [&promise](result<void> r) { promise.set_value(std::move(r)); });
  return future.get();
}

// The sync thread: everybody who waits when a sync begins is served by it.
void MetadataStore::sync_loop() {
  Impl& self = *impl_;
  std::unique_lock lock(self.mutex);
  bool synced = false;  // something, since it last slept
  const auto sleep_until = [&](MonotonicTime until) {
    self.looks_at = until;
    self.wake.wait_until(lock, until);
    self.looks_at = MonotonicTime::min();
  };
  for (;;) {
    const bool unsynced = self.durable < self.sequence && !self.failed;
    if (self.waiters.empty() && !self.stop) {
      const auto due = self.unsynced_since + kUnsyncedMax;
      if (!unsynced && std::exchange(synced, false)) {
        sleep_until(monotonic_now() + kUnsyncedMax);  // while there is work, commits need not wake
        continue;
      }
      if (!unsynced) {
        self.looks_at = MonotonicTime::max();
        self.wake.wait(lock);
        self.looks_at = MonotonicTime::min();
        continue;
      }
      if (monotonic_now() < due) {
        sleep_until(due);
        continue;
      }
    }
    if (self.waiters.empty() && !unsynced) return;  // stop, and nothing left to do

    auto served = std::exchange(self.waiters, {});
    const Sequence target = self.sequence;
    auto outcome = self.failed ? result<void>(failure(*self.failed)) : result<void>(success());
    if (unsynced) {
      const uint64_t rewinds = self.rewinds;
      synced = true;
      lock.unlock();
      outcome = self.env.sync_log();
      lock.lock();
      if (outcome) {
        if (rewinds == self.rewinds) self.durable = target;
        self.unsynced_since = monotonic_now();
      } else if (!self.failed) {
        self.failed = Error(Errc::io, "metadata store " + self.options.directory +
                                          ": a sync failed; no more changes are made. Repair the "
                                          "disk, then restart the daemon: " +
                                          outcome.error().message());
      }
      if (!outcome) outcome = failure(*self.failed);
    }
    lock.unlock();
    for (auto& waiter : served) {
      const bool known = waiter.sequence <= target;
      waiter.done(known || !outcome
                      ? outcome
                      : failure(Errc::invalid, "sequence " + std::to_string(waiter.sequence) +
                                                   " was never committed"));
    }
    served.clear();
    lock.lock();
  }
}

}  // namespace datacloud
