// Opens, creates and commits to the LevelDB that holds the view, and makes commits durable.
//
// Order is the invariant: commits enter LevelDB's log one after another, a log is synced before
// the next begins (leveldb_env.h), so what a power cut leaves is a prefix of the commits that
// holds everything reported durable.
#include "daemon/metadata/metadata_store.h"

#include <leveldb/cache.h>
#include <leveldb/db.h>
#include <leveldb/filter_policy.h>
#include <leveldb/iterator.h>
#include <leveldb/write_batch.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <ctime>
#include <future>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/clock.h"
#include "common/base/features.h"
#include "common/proto/file_time.h"
#include "daemon/metadata/leveldb_env.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/metadata/record_snapshot.h"
#include "daemon/metadata/totals.h"

namespace datacloud {
namespace {

constexpr int kBloomBitsPerKey = 10;
constexpr auto kUnsyncedMax = seconds(1);  // a commit nobody waits for is synced after this

leveldb::ReadOptions checked_read() {
  leveldb::ReadOptions options;
  options.verify_checksums = true;
  return options;
}

leveldb::Slice slice(const std::string& s) { return {s.data(), s.size()}; }

std::string encode_sequence(Sequence sequence) {
  std::string out;
  for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<char>(sequence >> shift));
  return out;
}

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

class StoredCursor final : public RecordCursor {
 public:
  explicit StoredCursor(std::unique_ptr<leveldb::Iterator> iterator)
      : iterator_(std::move(iterator)) {}
  void first(const std::string& begin, const std::string& end) override {
    bound_ = end;
    up_ = true;
    iterator_->Seek(slice(begin));
    look();
  }
  void last(const std::string& begin, const std::string& end) override {
    bound_ = begin;
    up_ = false;
    iterator_->Seek(slice(end));
    if (iterator_->Valid()) {
      iterator_->Prev();
    } else if (iterator_->status().ok()) {
      iterator_->SeekToLast();
    }
    look();
  }
  bool valid() const override { return valid_; }
  void next() override {
    up_ ? iterator_->Next() : iterator_->Prev();
    look();
  }
  std::string_view key() const override { return text(iterator_->key()); }
  std::string_view value() const override { return text(iterator_->value()); }
  result<void> status() const override {
    const leveldb::Status s = iterator_->status();
    if (s.ok()) return success();
    return failure(s.IsCorruption() ? Errc::corrupt : Errc::io,
                   "metadata store: " + s.ToString() + "; stop the daemon and check its disk");
  }

 private:
  static std::string_view text(const leveldb::Slice& s) { return {s.data(), s.size()}; }
  void look() { valid_ = iterator_->Valid() && (up_ ? key() < bound_ : key() >= bound_); }

  const std::unique_ptr<leveldb::Iterator> iterator_;
  std::string bound_;  // going up: the range's end; down: its begin
  bool up_ = true, valid_ = false;
};

class StoredView final : public MetadataView {
 public:
  StoredView(leveldb::DB& db, Sequence sequence)
      : db_(db), snapshot_(db.GetSnapshot()), sequence_(sequence) {}
  ~StoredView() override { db_.ReleaseSnapshot(snapshot_); }
  StoredView(const StoredView&) = delete;
  StoredView& operator=(const StoredView&) = delete;

  result<std::optional<std::string>> read(const std::string& key) const override {
    std::string value;
    const leveldb::Status s = db_.Get(options(), slice(key), &value);
    if (s.ok()) return std::optional<std::string>(std::move(value));
    if (s.IsNotFound()) return std::optional<std::string>();
    return failure(s.IsCorruption() ? Errc::corrupt : Errc::io,
                   "metadata store: " + s.ToString() + "; stop the daemon and check its disk");
  }
  std::shared_ptr<RecordCursor> cursor() const override {
    return std::make_shared<StoredCursor>(
        std::unique_ptr<leveldb::Iterator>(db_.NewIterator(options())));
  }
  Sequence sequence() const override { return sequence_; }

 private:
  leveldb::ReadOptions options() const {
    leveldb::ReadOptions options = checked_read();
    options.snapshot = snapshot_;
    return options;
  }

  leveldb::DB& db_;
  const leveldb::Snapshot* const snapshot_;
  const Sequence sequence_;
};

}  // namespace

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

struct MetadataStore::Impl {
  struct Waiter {
    Sequence sequence = 0;
    std::function<void(result<void>)> done;
  };

  explicit Impl(Options o) : options(std::move(o)), env(options.files) {}

  result<void> open_database(bool create);
  Error storage_error(const leveldb::Status&, const std::string& what) const;

  const Options options;
  LevelDbEnv env;
  std::unique_ptr<leveldb::Cache> cache;
  std::unique_ptr<const leveldb::FilterPolicy> bloom;
  std::unique_ptr<leveldb::DB> db;

  mutable std::mutex mutex;
  std::condition_variable wake;
  Sequence sequence = 0;           // last committed
  Sequence durable = 0;            // survives a power cut
  MonotonicTime unsynced_since{};  // of the oldest commit above `durable`
  std::optional<Error> failed;     // first failure: nothing is committed after it
  std::vector<Waiter> waiters;
  bool stop = false;
  std::thread syncer;
};

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
  // Opening has moved the logs into synced tables, so all there is is durable.
  std::lock_guard lock(store->impl_->mutex);
  store->impl_->sequence = store->impl_->durable = key::u64_at(*sequence, 0);
  return store;
}

result<void> MetadataStore::create(Options options, const pb::Cloud& cloud, uint32_t root_uid,
                                   uint32_t root_gid, const pb::Features& features) {
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
  txn.put(key::inode(kRootInode), make_root(cloud, root_uid, root_gid, features));
  write_totals(txn, Totals{.inodes = 1});
  TRY(const Sequence sequence, store->commit(std::move(txn)));
  return store->wait_durable(sequence);
}

result<std::optional<std::string>> MetadataStore::read(const std::string& key) const {
  std::string value;
  const leveldb::Status s = impl_->db->Get(checked_read(), slice(key), &value);
  if (s.ok()) return std::optional<std::string>(std::move(value));
  if (s.IsNotFound()) return std::optional<std::string>();
  return failure(impl_->storage_error(s, "read failed; stop the daemon and check its disk"));
}

std::unique_ptr<RecordSnapshot> MetadataStore::snapshot() const {
  return std::make_unique<RecordSnapshot>(*impl_->db);
}

std::shared_ptr<const MetadataView> MetadataStore::view() const {
  return std::make_shared<StoredView>(*impl_->db, sequence());
}

std::shared_ptr<RecordCursor> MetadataStore::cursor() const {
  return std::make_shared<StoredCursor>(
      std::unique_ptr<leveldb::Iterator>(impl_->db->NewIterator(checked_read())));
}

result<Sequence> MetadataStore::commit(Transaction&& txn) {
  Impl& self = *impl_;
  Sequence next = 0;
  {
    std::lock_guard lock(self.mutex);
    if (self.failed) return failure(*self.failed);
    if (txn.changes_.empty()) return self.sequence;
    next = self.sequence + 1;
  }
  leveldb::WriteBatch batch;
  for (const auto& [key, value] : txn.changes_) {
    if (value) {
      batch.Put(slice(key), slice(*value));
    } else {
      batch.Delete(slice(key));
    }
  }
  batch.Put(slice(key::meta("sequence")), slice(encode_sequence(next)));
  const leveldb::Status s = self.db->Write(leveldb::WriteOptions(), &batch);
  txn.changes_.clear();

  std::lock_guard lock(self.mutex);
  if (!s.ok()) {
    if (!self.failed) {
      self.failed = self.storage_error(s, "a write failed; no more changes are made");
      if (!cannot_write(*self.failed)) {
        self.failed = Error(self.failed->code(),
                            self.failed->text() + "; repair the disk, then restart the daemon");
      }
    }
    return failure(*self.failed);
  }
  if (self.durable == self.sequence) {
    self.unsynced_since = monotonic_now();
    self.wake.notify_all();
  }
  self.sequence = next;
  return next;
}

Sequence MetadataStore::sequence() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->sequence;
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
  for (;;) {
    const bool unsynced = self.durable < self.sequence && !self.failed;
    if (self.waiters.empty() && !self.stop) {
      const auto due = self.unsynced_since + kUnsyncedMax;
      if (!unsynced) {
        self.wake.wait(lock);
        continue;
      }
      if (monotonic_now() < due) {
        self.wake.wait_until(lock, due);
        continue;
      }
    }
    if (self.waiters.empty() && !unsynced) return;  // stop, and nothing left to do

    auto served = std::exchange(self.waiters, {});
    const Sequence target = self.sequence;
    auto outcome = self.failed ? result<void>(failure(*self.failed)) : result<void>(success());
    if (unsynced) {
      lock.unlock();
      outcome = self.env.sync_log();
      lock.lock();
      if (outcome) {
        self.durable = target;
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
