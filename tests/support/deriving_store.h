// A site that derives next to its data, as one with the OSD class does: only the change and its
// tags cross.
#pragma once

#include "tests/support/forwarding_store.h"

namespace datacloud {

class DerivingStore final : public ForwardingStore {
 public:
  using ForwardingStore::ForwardingStore;

  void derive(const std::string& name, Derivation derivation, OpOptions options,
              Callback<DeriveReply> done) override {
    uint64_t sent = 0;
    for (const auto& range : derivation.data) sent += range.bytes.size();
    for (const auto& range : derivation.tags) sent += range.bytes.size();
    below_->derive(name, std::move(derivation), options,
                   [sent, done = std::move(done)](result<DeriveReply> reply) {
                     if (reply) reply.value().bytes_transferred = sent;
                     done(std::move(reply));
                   });
  }
};

}  // namespace datacloud
