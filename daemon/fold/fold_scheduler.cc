// Passes: inline blocks, folds, one base after the other, then batches of merges.
#include "daemon/fold/fold_scheduler.h"

#include <algorithm>

#include "common/base/log.h"
#include "common/codes/erasure_code.h"
#include "daemon/metadata/counters.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"

namespace datacloud {
namespace {

constexpr size_t kStep = 500;  // stripes looked at per step
constexpr auto kTick = seconds(1);
constexpr uint64_t kBatchLiveMin = 4u << 20;   // of small stripes several are made by one job
constexpr uint64_t kBatchReadMax = 48u << 20;  // memory of one job
constexpr size_t kBatchStripesMax = 2000;
constexpr size_t kSeenMax = 1u << 17;  // updates, bases and files remembered between passes
constexpr int kRetriesMax = 3;  // of blocked stripes in `fold --wait`: a repair may unblock them
constexpr auto kRetryAfter = seconds(2);
constexpr auto kRestMax = seconds(2);          // between folds nobody asked for
constexpr auto kDelayMax = milliseconds(500);  // of one commit
constexpr FoldScheduler::Limits kStrict{.dead_share = 0.05, .small_bytes = 1u << 20, .fill = 0};

}  // namespace

FoldScheduler::FoldScheduler(BackgroundContext& context, BackgroundIds& ids,
                             std::shared_ptr<EventLoop> loop, Options options)
    : context_(context), ids_(ids), loop_(std::move(loop)), options_(options) {}

void FoldScheduler::start() {
  aged_ = next_pass_ = loop_->now();
  if (options_.automatic) loop_->after(kTick, [this] { tick(); });
}

void FoldScheduler::tick() {
  const auto now = loop_->now();
  if (now - aged_ >= options_.age) {
    aged_ = now;
    young_ = next_young_;
    if (const auto next = read_counter(context_.store.begin(), "next_id/stripe", 1)) {
      next_young_ = next.value();
    }
  }
  if (!active_ && running_ == 0 && now >= next_pass_) {
    begin_pass();
  } else if (active_ && phase_ == Phase::merging) {
    step();
  }
  loop_->after(kTick, [this] { tick(); });
}

void FoldScheduler::sweep_now() {
  if (asked_) return;
  asked_ = true;
  limits_ = kStrict;
  retries_ = kRetriesMax;
  begin_pass();
}

void FoldScheduler::begin_pass() {
  active_ = true;
  phase_ = Phase::moving;
  moving_from_.reset();
  if (asked_ || loop_->now() - moved_ >= options_.age / 2) moving_from_ = InlinePlace{0, 0};
  cursor_ = 0;
  ++pass_;
  batches_.clear();
  ready_.clear();
  scanned_ = false;
  awaited_.clear();
  blocked_ = next_backlog_ = 0;
  go_on();
}

void FoldScheduler::go_on() {
  if (posted_ || !active_ || running_ >= jobs_max()) return;  // the end of a job calls this again
  if (resting_ && !in_haste()) return;
  posted_ = true;
  loop_->post([this] {
    posted_ = false;
    step();
  });
}

// Mounts write to the same disks, so at least half of the time is left to them.
void FoldScheduler::go_on_after(MonotonicTime began) {
  if (in_haste() || resting_) return go_on();
  resting_ = true;
  loop_->after(std::min<Duration>(loop_->now() - began, kRestMax), [this] {
    resting_ = false;
    go_on();
  });
}

void FoldScheduler::step() {
  if (!active_ || running_ >= jobs_max() || (resting_ && !in_haste())) return;
  switch (phase_) {
    case Phase::moving:
      return step_moves();
    case Phase::folding:
      return step_folds();
    case Phase::merging:
      return step_merges();
  }
}

// --- Inline blocks ---

// One slice at a time. In a cloud without inline blocks this is one look.
void FoldScheduler::step_moves() {
  if (running_ > 0) return;  // the end of the slice calls this again
  bool any = false;
  if (moving_from_) {
    const auto scanned = context_.store.begin().scan(
        key::inline_block(moving_from_->first, moving_from_->second),
        key::after_prefix(key::inline_block(0, 0).substr(0, 1)), [&](auto, auto) {
          any = true;
          return false;
        });
    if (!scanned) failed("looking for inline blocks", scanned.error());
  }
  if (!any) return moves_done();
  ++running_;
  context_.threads.submit(
      [this, from = *moving_from_, pass = pass_, began = loop_->now(), loop = loop_] {
        auto outcome = std::make_shared<result<InlineMoveOutcome>>(move_inline_blocks(
            context_, ids_, from, [this](InodeId ino) { return may_move(ino); }));
        loop->post([this, outcome, pass, began] { finished_moves(*outcome, pass, began); });
      });
}

// A file that was left lately may be opened again soon, and others left with it share its stripe.
bool FoldScheduler::may_move(InodeId ino) {
  if (options_.is_owned(ino)) {
    unowned_.erase(ino);
    return false;
  }
  if (asked_ || options_.age == Duration::zero()) return true;
  const auto it = unowned_.find(ino);
  if (it == unowned_.end()) {
    if (unowned_.size() >= kSeenMax) return true;
    unowned_[ino] = {loop_->now(), pass_};
    return false;
  }
  it->second.pass = pass_;
  return loop_->now() - it->second.first >= options_.age;
}

void FoldScheduler::finished_moves(const result<InlineMoveOutcome>& outcome, uint64_t pass,
                                   MonotonicTime began) {
  --running_;
  std::optional<InlinePlace> next;
  if (!outcome) {
    failed("moving inline blocks into stripes", outcome.error());
  } else {
    const auto& o = outcome.value();
    merged_.stripes_made += o.stripes_made;
    merged_.blocks_moved += o.blocks_moved;
    merged_.blocks_changed += o.blocks_changed;
    merged_.bytes_written += o.bytes_written;
    if (!o.obstacle.empty()) last_failure_ = o.obstacle;
    // When the sites take nothing the rest waits for another pass.
    if (o.obstacle.empty() || o.blocks_moved > 0) next = o.next;
  }
  if (pass == pass_) {  // else one that was asked for has begun at the beginning
    moving_from_ = next;
    if (!next) {
      moved_ = loop_->now();
      std::erase_if(unowned_, [&](const auto& u) { return u.second.pass != pass_; });
    }
  }
  go_on_after(began);
}

void FoldScheduler::moves_done() {
  phase_ = Phase::folding;
  go_on();
}

// --- Folds ---

void FoldScheduler::step_folds() {
  const auto base = next_fold_base(context_.store.begin(), cursor_);
  if (!base) failed("looking for stripes to fold", base.error());
  if (!base || !base.value()) {
    if (running_ == 0)
      folds_done();  // else wait: their outcomes say which stripes must not be merged
    return;
  }
  cursor_ = *base.value() + 1;
  begin_fold(*base.value());
  go_on();
}

void FoldScheduler::folds_done() {
  std::erase_if(updates_, [&](const auto& u) { return u.second.pass != pass_; });
  std::erase_if(waiting_, [&](const auto& w) { return w.second.pass != pass_; });
  backlog_ = next_backlog_;
  if (asked_ && blocked_ > 0 && retries_ > 0) {
    --retries_;
    active_ = false;
    loop_->after(kRetryAfter, [this] {
      if (asked_ && !active_) begin_pass();
    });
    return;
  }
  phase_ = Phase::merging;
  cursor_ = 0;
  go_on();
}

bool FoldScheduler::is_ripe(StripeId update) {
  const auto now = loop_->now();
  const auto it = updates_.find(update);
  if (it == updates_.end()) {
    if (updates_.size() >= kSeenMax) return true;
    updates_[update] = {now, pass_};
    return options_.age == Duration::zero();
  }
  it->second.pass = pass_;
  return now - it->second.first >= options_.age || backlog_ > options_.backlog_bytes_max;
}

void FoldScheduler::begin_fold(StripeId base) {
  FoldOptions options;
  options.live_share_min = 1 - limits_.dead_share;
  if (!asked_) options.is_ripe = [this](StripeId update) { return is_ripe(update); };
  // While commits are delayed, do not wait for a stripe that is overwritten all the time.
  options.without_unripe = backlog_ > options_.backlog_bytes_max;
  if (const auto it = waiting_.find(base); it != waiting_.end()) {
    const auto waited = loop_->now() - it->second.first;
    options.without_unripe |= waited > options_.heat_max;
    options.blocked_too_long = waited > options_.blocked_max;
  }
  ++running_;
  context_.threads.submit([this, base, options, began = loop_->now(), loop = loop_] {
    auto outcome =
        std::make_shared<result<FoldOutcome>>(fold_stripe(context_, ids_, base, options));
    loop->post([this, base, outcome, began] { finished_fold(base, *outcome, began); });
  });
}

void FoldScheduler::finished_fold(StripeId base, const result<FoldOutcome>& outcome,
                                  MonotonicTime began) {
  --running_;
  if (!outcome) {
    failed("folding", outcome.error());
    return go_on_after(began);
  }
  const auto& o = outcome.value();
  fold_bytes_ += o.bytes_between_sites;
  copied_bytes_ += o.bytes_copied_at_sites;
  switch (o.kind) {
    case FoldOutcome::Kind::nothing:
      break;
    case FoldOutcome::Kind::merge_updates:  // in this pass and the next ones, until there are
                                            // enough
      if (const auto it = waiting_.find(base); it != waiting_.end()) it->second.pass = pass_;
      break;
    case FoldOutcome::Kind::folded:
      ++stripes_folded_;
      blocks_folded_ += o.blocks_folded;
      waiting_.erase(base);
      if (o.more && o.blocks_folded > 0) {
        cursor_ = std::min(cursor_, base);
      } else {
        next_backlog_ += o.unripe_bytes;
      }
      break;
    case FoldOutcome::Kind::merge: {
      Batch batch;
      const Transaction txn = context_.store.begin();
      const auto record = get_stripe(txn, base);
      if (!record || !record.value()) break;
      const StripeKind kind = kind_of(*record.value());
      batch.stripes.push_back({base, kind, 0, 0});
      for (const StripeId id : o.sources) batch.stripes.push_back({id, kind, 0, 0});
      begin(std::move(batch));
      break;
    }
    case FoldOutcome::Kind::blocked:
      ++blocked_;
      last_failure_ = o.reason;
      wait_for(base, o);
      break;
    case FoldOutcome::Kind::waiting:
    case FoldOutcome::Kind::changed:
    case FoldOutcome::Kind::busy:
      next_backlog_ += o.update_bytes;
      wait_for(base, o);
      break;
  }
  go_on_after(began);
}

// Until the fold is done, neither the base nor the stripes with its updates may be merged.
void FoldScheduler::wait_for(StripeId base, const FoldOutcome& outcome) {
  if (const auto it = waiting_.find(base); it != waiting_.end()) {
    it->second.pass = pass_;
  } else if (waiting_.size() < kSeenMax) {
    waiting_[base] = {loop_->now(), pass_};
  }
  if (awaited_.size() + outcome.sources.size() > kSeenMax) return;
  awaited_.insert(base);
  awaited_.insert(outcome.sources.begin(), outcome.sources.end());
}

Duration FoldScheduler::commit_delay() const {
  if (!options_.automatic || backlog_ <= options_.backlog_bytes_max) return Duration::zero();
  const double over = double(backlog_) / double(std::max<uint64_t>(1, options_.backlog_bytes_max));
  return std::min<Duration>(kDelayMax, milliseconds(static_cast<int64_t>(50 * (over - 1)) + 1));
}

// --- Merges ---

uint64_t FoldScheduler::full_stripe(const StripeKind& kind) const {
  const auto code = make_erasure_code(kind.code);
  return code ? uint64_t{kind.shard_bytes} * static_cast<uint64_t>(code.value()->k()) : 0;
}

void FoldScheduler::step_merges() {
  if (ready_.empty() && !scanned_) scan_merges();
  if (!ready_.empty()) {
    Batch batch = std::move(ready_.front());
    ready_.pop_front();
    begin(std::move(batch));
    go_on();
  } else if (scanned_) {
    merges_done();
  } else if (asked_) {
    go_on();  // otherwise at the next tick
  }
}

void FoldScheduler::merges_done() {
  active_ = false;
  next_pass_ = loop_->now() + options_.pause;
  if (asked_) {
    asked_ = false;
    limits_ = Limits();
  }
}

void FoldScheduler::scan_merges() {
  const Transaction txn = context_.store.begin();
  std::vector<pb::Stripe> stripes;
  const std::string end =
      asked_ ? key::after_prefix(key::stripe(0).substr(0, 1)) : key::stripe(young_);
  const auto scanned =
      txn.scan(key::stripe(cursor_), end, [&](std::string_view, std::string_view v) {
        pb::Stripe stripe;
        if (stripe.ParseFromArray(v.data(), static_cast<int>(v.size()))) {
          stripes.push_back(std::move(stripe));
        }
        return stripes.size() < kStep;
      });
  if (!scanned) failed("looking for stripes to merge", scanned.error());
  for (const auto& stripe : stripes) {
    cursor_ = stripe.id() + 1;
    if (stripe.members_size() > 0 || awaited_.contains(stripe.id())) continue;
    pb::StripeLive live;
    const auto found = txn.get(key::live(stripe.id()), live);
    // XOR rows have no slots to merge; members without live blocks are removed with their group.
    if (found && found.value() && live.slots() > 0) consider(stripe, live);
  }
  if (stripes.size() == kStep) return;
  for (auto& [kind, batch] : batches_) flush(kind, std::move(batch));
  batches_.clear();
  scanned_ = true;
}

// Dead bytes are all bytes of data columns that no live block uses. That includes the rest of a
// slot whose block was replaced by a shorter one.
void FoldScheduler::consider(const pb::Stripe& stripe, const pb::StripeLive& live) {
  MergeCandidate candidate{stripe.id(), kind_of(stripe), 0, live.bytes()};
  const auto code = make_erasure_code(stripe.code());
  if (!code || stripe.shards_size() < code.value()->k()) return;
  for (int c = 0; c < code.value()->k(); ++c) candidate.data_bytes += stripe.shards(c).bytes();
  const double dead =
      1.0 - double(candidate.live_bytes) / double(std::max<uint64_t>(1, candidate.data_bytes));
  const uint64_t full = full_stripe(candidate.kind);
  // Two of them fit into one new stripe, so each merge leaves fewer stripes than before.
  const bool small = candidate.data_bytes < std::min(limits_.small_bytes, full / 4);
  if (dead <= limits_.dead_share && !small) return;
  Batch& batch = batches_[candidate.kind];
  const uint64_t room = std::max(full, kBatchLiveMin);
  if (!batch.stripes.empty() && (batch.live + candidate.live_bytes > room ||
                                 batch.read + candidate.data_bytes > kBatchReadMax ||
                                 batch.stripes.size() >= kBatchStripesMax)) {
    ready_.push_back(std::exchange(batch, {}));
  }
  batch.live += candidate.live_bytes;
  batch.read += candidate.data_bytes;
  batch.stripes.push_back(std::move(candidate));
}

// At the end of a pass, merges incomplete batches too if that frees space or turns several small
// stripes into a large one.
void FoldScheduler::flush(const StripeKind& kind, Batch batch) {
  const double dead = 1.0 - double(batch.live) / double(std::max<uint64_t>(1, batch.read));
  const bool filled = double(batch.live) >= limits_.fill * double(full_stripe(kind));
  if (dead > limits_.dead_share || (batch.stripes.size() > 1 && filled)) {
    ready_.push_back(std::move(batch));
  }
}

void FoldScheduler::begin(Batch batch) {
  ++running_;
  context_.threads.submit([this, stripes = std::move(batch.stripes), began = loop_->now(),
                           loop = loop_] {
    auto outcome = std::make_shared<result<MergeOutcome>>(merge_stripes(context_, ids_, stripes));
    loop->post([this, outcome, began] { finished(*outcome, began); });
  });
}

void FoldScheduler::finished(const result<MergeOutcome>& outcome, MonotonicTime began) {
  --running_;
  if (!outcome) {
    failed("merging stripes", outcome.error());
  } else {
    const auto& o = outcome.value();
    merged_.stripes_merged += o.stripes_merged;
    merged_.stripes_made += o.stripes_made;
    merged_.blocks_moved += o.blocks_moved;
    merged_.blocks_changed += o.blocks_changed;
    merged_.bytes_read += o.bytes_read;
    merged_.bytes_written += o.bytes_written;
    if (!o.obstacle.empty()) last_failure_ = o.obstacle;
  }
  go_on_after(began);
}

void FoldScheduler::failed(const char* what, const Error& error) {
  ++failures_;
  last_failure_ = error.message();
  spdlog::warn("{}: {}", what, last_failure_);
}

void FoldScheduler::describe(pb::FoldReply& reply) const {
  reply.set_idle(idle());
  reply.set_stripes_merged(merged_.stripes_merged);
  reply.set_stripes_made(merged_.stripes_made);
  reply.set_blocks_moved(merged_.blocks_moved);
  reply.set_bytes_read(merged_.bytes_read);
  reply.set_bytes_written(merged_.bytes_written);
  reply.set_stripes_folded(stripes_folded_);
  reply.set_blocks_folded(blocks_folded_);
  reply.set_bytes_between_sites(fold_bytes_);
  reply.set_bytes_copied_at_sites(copied_bytes_);
  reply.set_stripes_blocked(blocked_);
  reply.set_failures(failures_);
  reply.set_last_failure(last_failure_);
}

}  // namespace datacloud
