// Proves for a run that no input of an audit tag's PRF ever covered two contents.
//
// A recording store in front of each site notes every put and derive, whatever becomes of it: a
// site that answered an error, or nothing, has seen the tags all the same. Inputs are (site,
// stripe, column, audit block, version); a put writes all blocks as its instance, a derive those
// whose tags it changes.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "common/base/ids.h"
#include "common/store/object_compute.h"
#include "common/store/store_decorators.h"
#include "tests/support/forwarding_store.h"

namespace datacloud {

class AuditLedger {
 public:
  // What is wrong, the first few of it; empty when every input has one content.
  std::vector<std::string> violations() const {
    std::lock_guard lock(mutex_);
    return violations_;
  }
  size_t inputs() const {
    std::lock_guard lock(mutex_);
    return contents_.size();
  }

  void put(SiteId site, const std::string& name, const ShardName& shard, const Bytes& data,
           const Attributes& attributes) {
    const uint64_t blocks = audit_blocks_of(data.size());
    std::vector<size_t> hashes;
    for (uint64_t block = 0; block < blocks; ++block) hashes.push_back(hash_of(data, block));
    std::lock_guard lock(mutex_);
    const auto instance = instance_of(attributes);
    if (!instance || instance.value() != shard.instance) {
      violation(name, "its instance is not its name's");
    }
    const auto tags = attributes.find(kTagsAttribute);
    if (tags == attributes.end() || tags->second.size() != blocks * kFieldBytes) {
      violation(name, "not one tag for each audit block");
    }
    Object object{data, std::vector<InstanceId>(blocks, shard.instance)};
    for (uint64_t block = 0; block < blocks; ++block) {
      note(site, shard, object, block, hashes[block]);
    }
    objects_[{site, name}] = std::move(object);
  }

  void derive(SiteId site, const std::string& name, const ShardName& shard, const Derivation& d) {
    std::lock_guard lock(mutex_);
    const auto source = objects_.find({site, d.source});
    if (source == objects_.end() || fault_of(d) != nullptr) return;  // the site will refuse it
    if (d.instance != shard.instance) violation(name, "its instance is not its name's");
    Object object = source->second;
    object.data.resize(d.size);
    object.versions.resize(audit_blocks_of(d.size), 0);
    for (const auto& range : d.data) {
      for (size_t i = 0; i < range.bytes.size(); ++i)
        object.data[range.offset + i] ^= range.bytes[i];
    }
    for (const auto& range : d.tags) {
      for (uint64_t at = range.offset; at < range.offset + range.bytes.size(); ++at) {
        object.versions[at / kFieldBytes] = d.instance;
      }
    }
    for (uint64_t block = 0; block < object.versions.size(); ++block) {
      if (object.versions[block] == 0) violation(name, "a block beyond its source without a tag");
      note(site, shard, object, block, hash_of(object.data, block));
    }
    objects_[{site, name}] = std::move(object);
  }

 private:
  struct Object {
    Bytes data;
    std::vector<InstanceId> versions;  // of its audit blocks
  };
  using Input = std::tuple<SiteId, StripeId, uint8_t, uint64_t, InstanceId>;
  static constexpr size_t kViolationsMax = 20;

  // Of one audit block; its padding is content too.
  static size_t hash_of(const Bytes& data, uint64_t block) {
    const auto rest = ByteView(data).subspan(block * kAuditBlockBytes);
    if (rest.size() >= kAuditBlockBytes) {
      return std::hash<std::string_view>()(as_text(rest.first(kAuditBlockBytes)));
    }
    Bytes padded = to_bytes(rest);
    padded.resize(kAuditBlockBytes);
    return std::hash<std::string_view>()(as_text(padded));
  }

  void note(SiteId site, const ShardName& shard, const Object& object, uint64_t block,
            size_t hash) {
    const Input input{site, shard.stripe, shard.column, block, object.versions[block]};
    const auto [known, fresh] = contents_.emplace(input, hash);
    if (!fresh && known->second != hash) {
      violation(std::to_string(shard.stripe) + "/" + std::to_string(shard.column) + " block " +
                    std::to_string(block) + " version " + std::to_string(object.versions[block]),
                "one PRF input covers two contents");
    }
  }

  void violation(const std::string& where, const std::string& what) {
    if (violations_.size() < kViolationsMax) violations_.push_back(where + ": " + what);
  }

  mutable std::mutex mutex_;
  std::map<Input, size_t> contents_;
  std::map<std::pair<SiteId, std::string>, Object> objects_;
  std::vector<std::string> violations_;
};

// `ledger` and `namer` must outlive the store.
class RecordingStore final : public ForwardingStore {
 public:
  RecordingStore(std::unique_ptr<ObjectStore> below, SiteId site, const ShardNamer& namer,
                 AuditLedger& ledger)
      : ForwardingStore(std::move(below)), site_(site), namer_(namer), ledger_(ledger) {}

  void put(const std::string& name, Payload data, Attributes attributes, OpOptions options,
           Callback<void> callback) override {
    if (const auto shard = namer_.parse(name)) {
      Bytes bytes;
      for (const auto& part : data.parts) bytes.insert(bytes.end(), part.begin(), part.end());
      ledger_.put(site_, name, *shard, bytes, attributes);
    }
    below_->put(name, std::move(data), std::move(attributes), options, std::move(callback));
  }
  void derive(const std::string& name, Derivation derivation, OpOptions options,
              Callback<DeriveReply> callback) override {
    if (const auto shard = namer_.parse(name)) ledger_.derive(site_, name, *shard, derivation);
    below_->derive(name, std::move(derivation), options, std::move(callback));
  }

 private:
  const SiteId site_;
  const ShardNamer& namer_;
  AuditLedger& ledger_;
};

}  // namespace datacloud
