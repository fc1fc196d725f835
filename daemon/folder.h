// Keeps the space and the stripes in order: finds stripes that are half dead or small and has them
// merged (stripe_merge.h) on the background threads.
//
// Runs on the loop. On its own it sweeps all stripes slowly, again and again, leaves young ones
// alone (what was just written may be overwritten at once) and merges only where it clearly pays.
// Asked for (`fold --wait`) it makes one whole sweep with stricter limits.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "common/rpc.pb.h"
#include "daemon/background_context.h"
#include "daemon/stripe_merge.h"

namespace datacloud {

class Folder {
 public:
  struct Limits {
    double dead_share = 0.3;          // merge stripes with more dead bytes than this
    uint64_t small_bytes = 1u << 20;  // stripes with less data are small
    double fill = 0.5;                // small ones only where they fill this share of a new stripe
  };
  Folder(BackgroundContext&, BackgroundIds&, std::shared_ptr<EventLoop>, int jobs_max,
         bool automatic);

  void start();
  // A whole sweep with strict limits; goes on at the next call if one is under way.
  void sweep_now();
  bool idle() const { return !asked_ && running_ == 0; }
  void describe(pb::FoldReply&) const;

 private:
  struct Batch {
    std::vector<MergeCandidate> stripes;
    uint64_t live = 0, read = 0;
  };
  void tick();
  void step();
  void consider(const pb::Stripe&, const pb::StripeLive&);
  void flush(const std::string& code, Batch);
  void begin(Batch);
  void finished(const result<MergeOutcome>&);
  uint64_t full_stripe(const std::string& code) const;

  BackgroundContext& context_;
  BackgroundIds& ids_;
  std::shared_ptr<EventLoop> loop_;
  const int jobs_max_;
  const bool automatic_;
  Limits limits_;
  StripeId cursor_ = 0;
  StripeId young_ = 0, next_young_ = 0;  // stripes from here on are left alone
  MonotonicTime aged_{};
  bool asked_ = false, sweeping_ = false;
  int running_ = 0;
  std::map<std::string, Batch> batches_;  // by code
  MergeOutcome totals_;
  uint64_t failures_ = 0;
  std::string last_failure_;
};

}  // namespace datacloud
