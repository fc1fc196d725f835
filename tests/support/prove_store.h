// A site that answers challenges as a test wants; all else goes to the store below.
#pragma once

#include <functional>
#include <memory>

#include "tests/support/forwarding_store.h"

namespace datacloud {

class ProveStore final : public ForwardingStore {
 public:
  // Called instead of prove; `below` is the honest site.
  using Prove = std::function<void(ObjectStore& below, const std::string& name,
                                   const AuditChallenge&, OpOptions, Callback<AuditProof>)>;
  ProveStore(std::unique_ptr<ObjectStore> below, Prove prove)
      : ForwardingStore(std::move(below)), prove_(std::move(prove)) {}

  void prove(const std::string& name, AuditChallenge challenge, OpOptions options,
             Callback<AuditProof> callback) override {
    prove_(*below_, name, challenge, options, std::move(callback));
  }

 private:
  const Prove prove_;
};

}  // namespace datacloud
