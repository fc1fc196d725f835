// Groups made of stripes that were written without: leftovers of streams, stripes written before
// the policy was set, merged ones.
//
// Looks at every stripe once, in the order of their ids and some time after they were written.
// Those of files whose policy wants groups are gathered by code and by where their columns are; t
// of a kind get a row. Its columns are made one after the other, next to the columns they sum up:
// reading is inside the column's site, so nothing but the daemon's own way there crosses a link.
// Memory: two shards per job, and kWaitingMax ids.
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
// A row over these stripes, which have one code and their columns at the same sites. A job; blocks.
result<FormedGroup> form_group(BackgroundContext&, BackgroundIds&,
                               const std::vector<StripeId>& members);

class GroupFormer {
 public:
  struct Counts {
    uint64_t groups = 0, bytes_read = 0, bytes_written = 0, failures = 0;
  };
  GroupFormer(BackgroundContext& context, BackgroundIds& ids, std::shared_ptr<EventLoop> loop)
      : context_(context), ids_(ids), loop_(std::move(loop)) {}

  // On the loop, from here on by itself.
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
