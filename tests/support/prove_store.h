// A site that answers challenges as a test wants; all else goes to the store below.
#pragma once

#include <functional>
#include <memory>

#include "common/object_store.h"

namespace datacloud {

class ProveStore final : public ObjectStore {
 public:
  // Called instead of prove; `below` is the honest site.
  using Prove = std::function<void(ObjectStore& below, const std::string& name,
                                   const AuditChallenge&, OpOptions, Callback<AuditProof>)>;
  ProveStore(std::unique_ptr<ObjectStore> below, Prove prove)
      : below_(std::move(below)), prove_(std::move(prove)) {}

  void prove(const std::string& name, AuditChallenge challenge, OpOptions options,
             Callback<AuditProof> callback) override {
    prove_(*below_, name, challenge, options, std::move(callback));
  }
  void put(const std::string& name, Payload data, Attributes attributes, OpOptions options,
           Callback<void> callback) override {
    below_->put(name, std::move(data), std::move(attributes), options, std::move(callback));
  }
  void derive(const std::string& name, Derivation derivation, OpOptions options,
              Callback<DeriveReply> callback) override {
    below_->derive(name, std::move(derivation), options, std::move(callback));
  }
  void read(const std::string& name, std::vector<ByteRange> ranges, bool want_attributes,
            OpOptions options, Callback<ReadReply> callback) override {
    below_->read(name, std::move(ranges), want_attributes, options, std::move(callback));
  }
  void combine(const std::string& name, Combination combination, OpOptions options,
               Callback<CombineReply> callback) override {
    below_->combine(name, std::move(combination), options, std::move(callback));
  }
  void remove(const std::string& name, OpOptions options, Callback<void> callback) override {
    below_->remove(name, options, std::move(callback));
  }
  void list(const std::string& from, size_t count_max, OpOptions options,
            Callback<ListReply> callback) override {
    below_->list(from, count_max, options, std::move(callback));
  }
  void check(OpOptions options, Callback<void> callback) override {
    below_->check(options, std::move(callback));
  }
  void capacity(OpOptions options, Callback<Capacity> callback) override {
    below_->capacity(options, std::move(callback));
  }
  std::string location(const std::string& name) const override { return below_->location(name); }

 private:
  const std::unique_ptr<ObjectStore> below_;
  const Prove prove_;
};

}  // namespace datacloud
