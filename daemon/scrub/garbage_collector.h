// Deletes at the sites what pending-deletion records name, oldest first, then erases the records.
//
// A record is acted on only when the transaction that wrote it survives a power cut, and never when
// a stripe record still names the object. "Not found" counts as deleted. Records of sites that are
// away, or whose site fails, stay for a later pass; those of a site that has left the cloud are
// erased, since the objects there are out of reach for good.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/base/clock.h"
#include "common/site/site_set.h"
#include "daemon/loop/event_loop.h"
#include "daemon/metadata/committer.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud {

class GarbageCollector {
 public:
  struct Counts {
    uint64_t objects = 0;
    uint64_t bytes = 0;
  };
  struct Failures {  // of live sites in the last pass; what failed is tried again by retry()
    uint64_t objects = 0;
    std::string problem;  // of one of them
  };

  GarbageCollector(MetadataStore&, Committer&, SiteSet&, const ShardNamer&,
                   std::shared_ptr<EventLoop>);

  // Records may have been added.
  void kick();
  // Looks at every record again, also those of sites that were away or failed.
  void restart();
  // The same if a live site failed to delete something in the last pass.
  void retry();
  // No record of a live site is left, besides those a site refuses to delete.
  bool idle() const { return !running_; }
  const Counts& counts() const { return counts_; }
  const Failures& failures() const { return failures_; }

 private:
  struct Item;
  struct Batch;

  void step();
  result<std::shared_ptr<Batch>> next_batch();
  result<bool> is_named(const Transaction&, const ShardName&) const;
  void remove_all(const std::shared_ptr<Batch>&);
  void finish(const std::shared_ptr<Batch>&);

  MetadataStore& store_;
  Committer& committer_;
  SiteSet& sites_;
  const ShardNamer& namer_;
  std::shared_ptr<EventLoop> loop_;
  Counts counts_;
  uint64_t cursor_ = 0;  // records below were skipped in this pass
  Failures failures_;
  bool running_ = false, again_ = false;
  MonotonicTime ended_{};  // of the last pass
};

}  // namespace datacloud
