// A store that passes every call on to the one below; a test's store overrides what it changes.
#pragma once

#include <memory>

#include "common/store/object_store.h"

namespace datacloud {

class ForwardingStore : public ObjectStore {
 public:
  explicit ForwardingStore(std::unique_ptr<ObjectStore> below) : below_(std::move(below)) {}

  void put(const std::string& name, Payload data, Attributes attributes, OpOptions options,
           Callback<void> done) override {
    below_->put(name, std::move(data), std::move(attributes), options, std::move(done));
  }
  void derive(const std::string& name, Derivation derivation, OpOptions options,
              Callback<DeriveReply> done) override {
    below_->derive(name, std::move(derivation), options, std::move(done));
  }
  void read(const std::string& name, std::vector<ByteRange> ranges, bool want_attributes,
            OpOptions options, Callback<ReadReply> done) override {
    below_->read(name, std::move(ranges), want_attributes, options, std::move(done));
  }
  void combine(const std::string& name, Combination combination, OpOptions options,
               Callback<CombineReply> done) override {
    below_->combine(name, std::move(combination), options, std::move(done));
  }
  void prove(const std::string& name, AuditChallenge challenge, OpOptions options,
             Callback<AuditProof> done) override {
    below_->prove(name, std::move(challenge), options, std::move(done));
  }
  void remove(const std::string& name, OpOptions options, Callback<void> done) override {
    below_->remove(name, options, std::move(done));
  }
  void list(const std::string& from, size_t count_max, OpOptions options,
            Callback<ListReply> done) override {
    below_->list(from, count_max, options, std::move(done));
  }
  void check(OpOptions options, Callback<void> done) override {
    below_->check(options, std::move(done));
  }
  void capacity(OpOptions options, Callback<Capacity> done) override {
    below_->capacity(options, std::move(done));
  }
  std::string location(const std::string& name) const override { return below_->location(name); }

 protected:
  const std::unique_ptr<ObjectStore> below_;
};

}  // namespace datacloud
