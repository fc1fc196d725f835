// Bulk loading into LevelDB (metadata_loader.h): batches without syncs, one sync at the end, of a
// log that LevelDbEnv keeps in order with all earlier ones.
#include "daemon/metadata/metadata_loader.h"

#include <leveldb/db.h>
#include <leveldb/filter_policy.h>
#include <leveldb/options.h>
#include <leveldb/write_batch.h>

#include <algorithm>
#include <cerrno>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/file_layer.h"
#include "daemon/journal/log_bytes.h"
#include "daemon/metadata/leveldb_env.h"
#include "daemon/metadata/record_keys.h"

namespace datacloud {
namespace {

constexpr size_t kLoadBatchBytes = size_t{1} << 20;
constexpr size_t kLoadBufferBytes = size_t{32} << 20;
constexpr size_t kGatheredBytesMax = size_t{32} << 20;
constexpr size_t kGatheredOverhead = 96;  // of a record: its place in the table, its strings
constexpr int kLoadBloomBits = 10;

leveldb::Slice loader_slice(std::string_view text) { return {text.data(), text.size()}; }

}  // namespace

struct MetadataLoader::Impl {
  explicit Impl(MetadataStore::Options o) : options(std::move(o)), env(options.files) {}

  Error failed(const leveldb::Status& status) const {
    const auto cause = env.change_failure();
    const std::string text = options.directory + ": " + status.ToString();
    return cause ? Error(cause->code(), text) : Error(Errc::io, text);
  }
  result<void> write(bool sync) {
    leveldb::WriteOptions how;
    how.sync = sync;
    const leveldb::Status status = db->Write(how, &batch);
    batch.Clear();
    if (status.ok()) return success();
    return failure(failed(status));
  }

  result<void> put(std::string_view key, std::string_view value) {
    batch.Put(loader_slice(key), loader_slice(value));
    return batch.ApproximateSize() < kLoadBatchBytes ? success() : write(false);
  }
  // What apply() has gathered.
  result<void> write_gathered() {
    std::vector<const Gathered::value_type*> sorted;
    sorted.reserve(gathered.size());
    for (const auto& record : gathered) sorted.push_back(&record);
    std::sort(sorted.begin(), sorted.end(),
              [](const auto* a, const auto* b) { return a->first < b->first; });
    for (const auto* record : sorted) {
      if (record->second) {
        TRY(put(record->first, *record->second));
      } else {
        batch.Delete(loader_slice(record->first));
      }
    }
    gathered.clear();
    gathered_bytes = 0;
    return write(false);
  }
  void gather(std::string key, std::optional<std::string> value) {
    const size_t bytes = value ? value->size() : 0;
    const auto [at, added] = gathered.try_emplace(std::move(key));
    gathered_bytes += bytes;
    if (added) {
      gathered_bytes += at->first.size() + kGatheredOverhead;
    } else {
      gathered_bytes -= at->second ? at->second->size() : 0;
    }
    at->second = std::move(value);
  }

  using Gathered = std::unordered_map<std::string, std::optional<std::string>>;
  const MetadataStore::Options options;
  LevelDbEnv env;
  std::unique_ptr<const leveldb::FilterPolicy> bloom;
  std::unique_ptr<leveldb::DB> db;
  leveldb::WriteBatch batch;
  Gathered gathered;  // newer than the batch
  size_t gathered_bytes = 0;
};

MetadataLoader::MetadataLoader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
MetadataLoader::~MetadataLoader() = default;

result<std::unique_ptr<MetadataLoader>> MetadataLoader::create(MetadataStore::Options options) {
  if (!options.files) options.files = make_posix_file_layer();
  auto made = options.files->make_directory(options.directory);
  if (!made && made.error().errno_value() == EEXIST) {
    return failure(Errc::exists, options.directory + " is there already");
  }
  TRY(made);
  auto impl = std::make_unique<Impl>(std::move(options));
  impl->bloom.reset(leveldb::NewBloomFilterPolicy(kLoadBloomBits));
  leveldb::Options o;
  o.create_if_missing = true;
  o.error_if_exists = true;
  o.paranoid_checks = true;
  o.env = impl->env.env();
  o.info_log = impl->env.logger();
  o.write_buffer_size = kLoadBufferBytes;
  o.filter_policy = impl->bloom.get();
  o.compression = leveldb::kSnappyCompression;
  leveldb::DB* opened = nullptr;
  const leveldb::Status status = leveldb::DB::Open(o, impl->options.directory, &opened);
  if (!status.ok()) return failure(impl->failed(status));
  impl->db.reset(opened);
  return std::unique_ptr<MetadataLoader>(new MetadataLoader(std::move(impl)));
}

result<void> MetadataLoader::put(std::string_view key, std::string_view value) {
  if (!impl_->gathered.empty()) {
    TRY(impl_->write_gathered());
  }
  return impl_->put(key, value);
}

result<void> MetadataLoader::apply(RecordChanges&& changes, Sequence sequence) {
  while (!changes.empty()) {
    auto change = changes.extract(changes.begin());
    impl_->gather(std::move(change.key()), std::move(change.mapped()));
  }
  std::string number;
  for (int shift = 56; shift >= 0; shift -= 8) {
    number.push_back(static_cast<char>(sequence >> shift));
  }
  impl_->gather(key::meta("sequence"), std::move(number));
  return impl_->gathered_bytes < kGatheredBytesMax ? success() : impl_->write_gathered();
}

result<std::optional<std::string>> MetadataLoader::get(const std::string& key) {
  TRY(impl_->write_gathered());
  std::string value;
  leveldb::ReadOptions checked;
  checked.verify_checksums = true;
  const leveldb::Status status = impl_->db->Get(checked, key, &value);
  if (status.ok()) return std::optional<std::string>(std::move(value));
  if (status.IsNotFound()) return std::optional<std::string>();
  return failure(impl_->failed(status));
}

result<void> MetadataLoader::finish(const journal::LogPosition& position) {
  TRY(const auto cloud, get(key::meta("cloud")));
  TRY(const auto sequence, get(key::meta("sequence")));
  if (!cloud || !sequence || sequence->size() != 8) {
    return failure(Errc::corrupt, "what was recovered is not the metadata of a cloud");
  }
  Bytes bytes(journal::kPositionBytes);
  journal::put_position(bytes, 0, position);
  impl_->batch.Put(key::meta("journal_position"), loader_slice(as_text(bytes)));
  TRY(impl_->write(true));
  impl_->db.reset();
  if (const auto failed = impl_->env.change_failure()) return failure(*failed);
  return impl_->options.files->sync_directory(impl_->options.directory);
}

}  // namespace datacloud
