// Sweeps and batches.
#include "daemon/folder.h"

#include <algorithm>

#include "common/erasure_code.h"
#include "common/log.h"
#include "daemon/counters.h"
#include "daemon/record_keys.h"

namespace datacloud {
namespace {

constexpr size_t kStep = 500;  // stripes looked at per step
constexpr auto kTick = seconds(1);
constexpr auto kAge = seconds(60);              // younger stripes are left alone
constexpr uint64_t kShardDataBytes = 4u << 20;  // of a full stripe's data shard
constexpr uint64_t kBatchReadMax = 48u << 20;   // memory of one job
constexpr size_t kBatchStripesMax = 2000;
constexpr Folder::Limits kStrict{.dead_share = 0.05, .small_bytes = 4u << 20, .fill = 0};

}  // namespace

Folder::Folder(BackgroundContext& context, BackgroundIds& ids, std::shared_ptr<EventLoop> loop,
               int jobs_max, bool automatic)
    : context_(context),
      ids_(ids),
      loop_(std::move(loop)),
      jobs_max_(std::max(1, jobs_max)),
      automatic_(automatic) {}

void Folder::start() {
  aged_ = loop_->now();
  if (automatic_) loop_->after(kTick, [this] { tick(); });
}

void Folder::tick() {
  if (loop_->now() - aged_ > kAge) {
    aged_ = loop_->now();
    young_ = next_young_;
    if (const auto next = read_counter(context_.store.begin(), "next_id/stripe", 1)) {
      next_young_ = next.value();
    }
  }
  if (!sweeping_ && running_ < jobs_max_ && young_ > 0) step();
  loop_->after(kTick, [this] { tick(); });
}

void Folder::sweep_now() {
  if (asked_) return;
  asked_ = true;
  limits_ = kStrict;
  batches_.clear();
  cursor_ = 0;
  if (sweeping_) return;
  sweeping_ = true;
  loop_->post([this] { step(); });
}

uint64_t Folder::full_stripe(const std::string& profile) const {
  const auto code = make_erasure_code(profile);
  return code ? kShardDataBytes * static_cast<uint64_t>(code.value()->k()) : 0;
}

void Folder::step() {
  if (running_ >= jobs_max_) {  // a job that ends goes on
    sweeping_ = false;
    return;
  }
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
  if (!scanned) spdlog::error("looking for stripes to merge: {}", scanned.error().message());
  for (const auto& stripe : stripes) {
    pb::StripeLive live;
    const auto found = txn.get(key::live(stripe.id()), live);
    if (found && found.value()) consider(stripe, live);
    cursor_ = stripe.id() + 1;
  }
  const bool over = stripes.size() < kStep;
  if (over) {
    for (auto& [code, batch] : batches_) flush(code, std::move(batch));
    batches_.clear();
    cursor_ = 0;
    if (asked_) {
      asked_ = false;
      limits_ = Limits();
    }
  }
  sweeping_ = asked_ && running_ < jobs_max_;
  if (sweeping_) loop_->post([this] { step(); });
}

void Folder::consider(const pb::Stripe& stripe, const pb::StripeLive& live) {
  MergeCandidate candidate{stripe.id(), stripe.code(), 0, live.bytes()};
  for (const uint32_t length : stripe.slot_length()) candidate.data_bytes += length;
  const double dead = 1.0 - double(candidate.live_bytes) / double(candidate.data_bytes);
  const bool small = candidate.data_bytes < limits_.small_bytes;
  if (dead <= limits_.dead_share && !small) return;
  Batch& batch = batches_[stripe.code()];
  const uint64_t full = full_stripe(stripe.code());
  if (!batch.stripes.empty() && (batch.live + candidate.live_bytes > full ||
                                 batch.read + candidate.data_bytes > kBatchReadMax ||
                                 batch.stripes.size() >= kBatchStripesMax)) {
    begin(std::exchange(batch, {}));
  }
  batch.live += candidate.live_bytes;
  batch.read += candidate.data_bytes;
  batch.stripes.push_back(std::move(candidate));
}

// What is left at the end of a sweep is merged where it pays: space comes back, or several small
// stripes become a large one.
void Folder::flush(const std::string& code, Batch batch) {
  const double dead = 1.0 - double(batch.live) / double(std::max<uint64_t>(1, batch.read));
  const bool filled = double(batch.live) >= limits_.fill * double(full_stripe(code));
  if (dead > limits_.dead_share || (batch.stripes.size() > 1 && filled)) begin(std::move(batch));
}

void Folder::begin(Batch batch) {
  ++running_;
  context_.threads.submit([this, stripes = std::move(batch.stripes), loop = loop_] {
    auto outcome = std::make_shared<result<MergeOutcome>>(merge_stripes(context_, ids_, stripes));
    loop->post([this, outcome] { finished(*outcome); });
  });
}

void Folder::finished(const result<MergeOutcome>& outcome) {
  --running_;
  if (!outcome) {
    ++failures_;
    last_failure_ = outcome.error().message();
    spdlog::warn("merging stripes: {}", last_failure_);
  } else {
    const auto& o = outcome.value();
    totals_.stripes_merged += o.stripes_merged;
    totals_.stripes_made += o.stripes_made;
    totals_.blocks_moved += o.blocks_moved;
    totals_.blocks_changed += o.blocks_changed;
    totals_.bytes_read += o.bytes_read;
    totals_.bytes_written += o.bytes_written;
    if (!o.obstacle.empty()) last_failure_ = o.obstacle;
  }
  if (asked_ && !sweeping_) {
    sweeping_ = true;
    loop_->post([this] { step(); });
  }
}

void Folder::describe(pb::FoldReply& reply) const {
  reply.set_idle(idle());
  reply.set_stripes_merged(totals_.stripes_merged);
  reply.set_stripes_made(totals_.stripes_made);
  reply.set_blocks_moved(totals_.blocks_moved);
  reply.set_bytes_read(totals_.bytes_read);
  reply.set_bytes_written(totals_.bytes_written);
  reply.set_failures(failures_);
  reply.set_last_failure(last_failure_);
}

}  // namespace datacloud
