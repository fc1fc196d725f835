// Decides which stripes are folded and merged, and when, and which inline blocks go into stripes. A
// fold (parity_fold.h) brings updates into the stripe whose blocks they replace; a merge
// (stripe_merge.h) rewrites stripes that are small or have much dead space as fewer, full ones; a
// move (inline_move.h) makes a stripe of inline blocks. All run as jobs on the background threads.
//
// The scheduler itself runs on the loop, in passes. A pass first moves inline blocks of files that
// no session has for itself, then folds every stripe with superseded blocks, then looks at all
// stripes for merging, except those that still wait for a fold. Left to itself it works slowly:
// after each job it rests for as long as that took, until the backlog reaches half its limit; then
// it runs as many jobs as it may. It leaves out data that was written recently, because it may be
// overwritten soon, and files that were left recently. `fold --wait` asks for one whole pass with
// stricter limits, which is repeated for stripes that were blocked.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "common/proto/rpc.pb.h"
#include "daemon/fold/inline_move.h"
#include "daemon/fold/parity_fold.h"
#include "daemon/fold/stripe_merge.h"
#include "daemon/jobs/background_context.h"

namespace datacloud {

class FoldScheduler {
 public:
  struct Limits {
    double dead_share = 0.3;          // merge stripes with more dead bytes than this
    uint64_t small_bytes = 1u << 20;  // stripes with less data, and not a quarter full, are small
    double fill = 0.5;  // merge small ones only if they fill this share of a new stripe
  };
  struct Options {
    int jobs_max = 2;
    bool automatic = true;
    Duration age = seconds(60);  // as in the configuration
    Duration heat_max = seconds(600);
    Duration blocked_max = seconds(1800);
    Duration pause = seconds(10);  // between passes
    uint64_t backlog_bytes_max = 1u << 30;
    // Whether a session holds or awaits the file for writing: it moves its inline blocks itself.
    std::function<bool(InodeId)> is_owned = [](InodeId) { return false; };
  };
  FoldScheduler(BackgroundContext&, BackgroundIds&, std::shared_ptr<EventLoop>, Options);

  void start();
  // A whole pass with strict limits; goes on at the next call if one is under way.
  void sweep_now();
  bool idle() const { return !asked_ && running_ == 0; }
  void describe(pb::FoldReply&) const;
  // How long a commit has to be delayed. Zero while the backlog is within its limit; above, it
  // grows with the excess.
  Duration commit_delay() const;
  uint64_t backlog_bytes() const { return backlog_; }

 private:
  enum class Phase { moving, folding, merging };
  struct Batch {
    std::vector<MergeCandidate> stripes;
    uint64_t live = 0, read = 0;
  };
  struct Since {
    MonotonicTime first;
    uint64_t pass = 0;  // seen last
  };
  void tick();
  void begin_pass();
  void go_on();
  void go_on_after(MonotonicTime began);
  bool in_haste() const { return asked_ || 2 * backlog_ > options_.backlog_bytes_max; }
  int jobs_max() const { return in_haste() ? options_.jobs_max : 1; }
  void step();
  void step_moves();
  bool may_move(InodeId);
  void finished_moves(const result<InlineMoveOutcome>&, uint64_t pass, MonotonicTime began);
  void moves_done();
  void step_folds();
  void folds_done();
  void begin_fold(StripeId base);
  void finished_fold(StripeId base, const result<FoldOutcome>&, MonotonicTime began);
  void wait_for(StripeId base, const FoldOutcome&);
  bool is_ripe(StripeId update);
  void step_merges();
  void scan_merges();
  void merges_done();
  void consider(const pb::Stripe&, const pb::StripeLive&);
  void flush(const StripeKind&, Batch);
  void begin(Batch);
  void finished(const result<MergeOutcome>&, MonotonicTime began);
  void failed(const char* what, const Error&);
  uint64_t full_stripe(const StripeKind&) const;

  BackgroundContext& context_;
  BackgroundIds& ids_;
  std::shared_ptr<EventLoop> loop_;
  const Options options_;
  Limits limits_;
  Phase phase_ = Phase::folding;
  std::optional<InlinePlace> moving_from_;  // inline blocks from here on, in this pass
  MonotonicTime moved_{};                   // when all of them were last looked at
  std::map<InodeId, Since> unowned_;        // when files with inline blocks were first seen so
  StripeId cursor_ = 0;
  StripeId young_ = 0, next_young_ = 0;  // stripes from here on are not merged
  MonotonicTime aged_{}, next_pass_{};
  uint64_t pass_ = 0;
  bool asked_ = false, active_ = false, posted_ = false, resting_ = false;
  int retries_ = 0;
  int running_ = 0;
  std::map<StripeId, Since> updates_;    // when stripes were first seen holding updates
  std::map<StripeId, Since> waiting_;    // bases whose fold has been put off
  std::set<StripeId> awaited_;           // not merged in this pass: bases and updates put off
  std::map<StripeKind, Batch> batches_;  // being filled
  std::deque<Batch> ready_;              // full batches that wait for a job
  bool scanned_ = false;                 // all stripes, in this pass
  uint64_t backlog_ = 0, next_backlog_ = 0;
  uint64_t blocked_ = 0;  // bases, in this pass
  MergeOutcome merged_;
  uint64_t stripes_folded_ = 0, blocks_folded_ = 0, fold_bytes_ = 0, copied_bytes_ = 0;
  uint64_t failures_ = 0;
  std::string last_failure_;
};

}  // namespace datacloud
