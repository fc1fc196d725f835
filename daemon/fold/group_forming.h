// Puts stripes that were written without a group into one: the last stripes of a stream, stripes
// from before the policy was set, and merged ones.
//
// Looks at every stripe once, in the order of their ids, some time after it was written. Stripes of
// files whose policy asks for groups are collected by code and by the sites of their columns; as
// soon as there are t of one kind, they get an XOR row. Its columns are made one after the other.
// Each is computed from columns at the same site, so that only the traffic between that site and
// the daemon crosses a link. Memory: two shards per job, and kWaitingMax ids.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "daemon/jobs/background_context.h"

namespace datacloud {

struct FormedGroup {
  bool formed = false;
  std::string obstacle;  // why not
  uint64_t bytes_read = 0, bytes_written = 0;
};
// Makes an XOR row over these stripes, which must have one code and their columns at the same
// sites. Runs as a job and blocks.
result<FormedGroup> form_group(BackgroundContext&, BackgroundIds&,
                               const std::vector<StripeId>& members);

class GroupFormer {
 public:
  struct Counts {
    uint64_t groups = 0, bytes_read = 0, bytes_written = 0, failures = 0;
  };
  GroupFormer(BackgroundContext& context, BackgroundIds& ids, std::shared_ptr<EventLoop> loop)
      : context_(context), ids_(ids), loop_(std::move(loop)) {}

  // Called once, on the loop; from then on it runs by itself.
  void start();
  const Counts& counts() const { return counts_; }

 private:
  void tick();
  void step();
  result<void> consider(const Transaction&, const pb::Stripe&);
  void begin(std::vector<StripeId>);

  BackgroundContext& context_;
  BackgroundIds& ids_;
  std::shared_ptr<EventLoop> loop_;
  std::map<std::string, std::vector<StripeId>> waiting_;  // fewer than t of a kind
  size_t waiting_count_ = 0;
  StripeId cursor_ = 0, end_ = 0, newest_ = 0;
  int running_ = 0;
  bool stepping_ = false;
  Counts counts_;
};

}  // namespace datacloud
