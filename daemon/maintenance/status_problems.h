// Problems that `status` names, and the health that follows from the worst of them.
//
// ok: nothing is wrong. degraded: everything can be read and written, with less redundancy or fewer
// sites than there should be. failing: something cannot be written or may not be readable.
#pragma once

#include <algorithm>
#include <string>

#include "common/proto/rpc.pb.h"

namespace datacloud {

enum class Health { ok, degraded, failing };

class StatusProblems {
 public:
  explicit StatusProblems(pb::StatusReply& status) : status_(status) {}

  // Beyond kNamedMax they count only for the health.
  void add(Health health, std::string text) {
    worst_ = std::max(worst_, health);
    if (status_.problems_size() < kNamedMax) status_.add_problems(std::move(text));
  }
  const char* health() const {
    return worst_ == Health::ok ? "ok" : worst_ == Health::degraded ? "degraded" : "failing";
  }

 private:
  static constexpr int kNamedMax = 100;
  pb::StatusReply& status_;
  Health worst_ = Health::ok;
};

}  // namespace datacloud
