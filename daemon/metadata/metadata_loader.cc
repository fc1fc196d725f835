// Bulk loading into LevelDB (metadata_loader.h): batches without syncs, one sync at the end, of a
// log that LevelDbEnv keeps in order with all earlier ones.
#include "daemon/metadata/metadata_loader.h"

#include <leveldb/db.h>
#include <leveldb/filter_policy.h>
#include <leveldb/options.h>
#include <leveldb/write_batch.h>

#include <cerrno>
#include <utility>

#include "common/base/bytes.h"
#include "common/base/file_layer.h"
#include "daemon/journal/log_bytes.h"
#include "daemon/metadata/leveldb_env.h"
#include "daemon/metadata/record_keys.h"

namespace datacloud {
namespace {

constexpr size_t kLoadBatchBytes = size_t{1} << 20;
constexpr size_t kLoadBufferBytes = size_t{16} << 20;
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

  const MetadataStore::Options options;
  LevelDbEnv env;
  std::unique_ptr<const leveldb::FilterPolicy> bloom;
  std::unique_ptr<leveldb::DB> db;
  leveldb::WriteBatch batch;
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
  impl_->batch.Put(loader_slice(key), loader_slice(value));
  if (impl_->batch.ApproximateSize() < kLoadBatchBytes) return success();
  return impl_->write(false);
}

result<void> MetadataLoader::apply(const RecordChanges& changes, Sequence sequence) {
  for (const auto& [key, value] : changes) {
    if (value) {
      impl_->batch.Put(loader_slice(key), loader_slice(*value));
    } else {
      impl_->batch.Delete(loader_slice(key));
    }
  }
  std::string number;
  for (int shift = 56; shift >= 0; shift -= 8) {
    number.push_back(static_cast<char>(sequence >> shift));
  }
  impl_->batch.Put(key::meta("sequence"), number);
  if (impl_->batch.ApproximateSize() < kLoadBatchBytes) return success();
  return impl_->write(false);
}

result<std::optional<std::string>> MetadataLoader::get(const std::string& key) {
  TRY(impl_->write(false));
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
