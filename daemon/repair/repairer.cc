// Passes over the queue.
#include "daemon/repair/repairer.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/log.h"
#include "common/proto/admin.pb.h"
#include "daemon/metadata/counters.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"

namespace datacloud {
namespace {

constexpr size_t kScanned = 256;        // entries looked at per step
constexpr size_t kPutOffMax = 100'000;  // remembered; 10 MB
constexpr size_t kLinesMax = 10'000;
constexpr size_t kSweepStep = 500;  // stripes per step of a sweep
constexpr auto kPutOffFirst = seconds(1);
constexpr auto kPutOffLongest = seconds(60);
constexpr const char* kSweepCounter = "repair_sweep";

}  // namespace

Repairer::Repairer(BackgroundContext& context, BackgroundIds& ids, std::shared_ptr<EventLoop> loop,
                   int jobs_max)
    : context_(context),
      ids_(ids),
      loop_(std::move(loop)),
      jobs_max_(static_cast<size_t>(std::max(1, jobs_max))) {}

result<void> Repairer::open(const Transaction& txn) {
  TRY(sweep_from_, read_counter(txn, kSweepCounter, 0));
  if (sweep_from_ == 0) return success();
  sweeping_ = true;
  loop_->post([this] { sweep_step(); });
  return success();
}

void Repairer::kick() {
  from_start_ = true;
  go_on();
}

void Repairer::go_on() {
  again_ = true;
  if (passing_) return;
  passing_ = true;
  loop_->post([this] { step(); });
}

void Repairer::restart() {
  put_off_.clear();
  kick();
}

void Repairer::step() {
  if (std::exchange(again_, false)) cursor_ = from_start_ ? std::string() : first_;
  if (running_.size() >= jobs_max_) {
    passing_ = false;  // the end of a job starts the next pass
    again_ = true;
    return;
  }
  const auto queued = queued_repairs(context_.store.begin(), cursor_, kScanned);
  if (!queued) {
    spdlog::error("repair queue: {}", queued.error().message());
    passing_ = false;
    return;
  }
  if (cursor_.empty() || cursor_ == first_) {
    whole_pass_ = cursor_.empty();
    if (whole_pass_) from_start_ = false;
    first_ = queued.value().empty() ? std::string() : queued.value().front().key;
  }
  for (const auto& entry : queued.value()) {
    if (running_.size() >= jobs_max_) break;
    cursor_ = entry.key + '\0';
    if (running_.contains(entry.stripe)) continue;
    if (const auto it = put_off_.find(entry.stripe);
        it != put_off_.end() && it->second.until > loop_->now()) {
      continue;
    }
    begin(entry);
  }
  if (queued.value().size() < kScanned && !again_ && running_.size() < jobs_max_) {
    if (whole_pass_ || !running_.empty()) {
      passing_ = false;
      return;
    }
    cursor_.clear();
  }
  loop_->post([this] { step(); });
}

void Repairer::begin(const QueuedRepair& entry) {
  running_.insert(entry.stripe);
  context_.threads.submit([this, entry, loop = loop_] {
    auto outcome =
        std::make_shared<result<RepairOutcome>>(StripeRepair(context_, ids_, entry.stripe).run());
    loop->post([this, entry, outcome] { finished(entry, std::move(*outcome)); });
  });
}

void Repairer::finished(const QueuedRepair& entry, result<RepairOutcome> outcome) {
  running_.erase(entry.stripe);
  if (!outcome) {
    ++counts_.failures;
    put_off(entry, outcome.error().message());
    return go_on();
  }
  count(outcome.value());
  switch (outcome.value().kind) {
    case RepairOutcome::Kind::whole:
    case RepairOutcome::Kind::gone: {
      put_off_.erase(entry.stripe);
      if (!dequeue(entry)) return;
      break;
    }
    case RepairOutcome::Kind::improved:
    case RepairOutcome::Kind::postponed:
    case RepairOutcome::Kind::busy:
      put_off(entry, outcome.value().reason);
      break;
  }
  go_on();
}

// False when nothing more can be done. A stripe stays queued if damage was recorded after the job
// looked.
bool Repairer::dequeue(const QueuedRepair& entry) {
  Transaction txn = context_.store.begin();
  const auto stripe = get_stripe(txn, entry.stripe);
  if (stripe && stripe.value()) {
    const auto needs = stripe_needs(txn, *stripe.value(), context_.duties());
    if (needs && needs.value().any()) return true;
  }
  txn.erase(entry.key);
  return context_.committer.apply(std::move(txn)).has_value();
}

void Repairer::put_off(const QueuedRepair& entry, const std::string& reason) {
  if (put_off_.size() >= kPutOffMax && !put_off_.contains(entry.stripe)) return;
  auto& state = put_off_[entry.stripe];
  state.reason = reason;
  const auto pause = std::min<Duration>(kPutOffFirst * (1 << std::min(state.attempts, 10)),
                                        Duration(kPutOffLongest));
  ++state.attempts;
  state.until = loop_->now() + pause;
}

void Repairer::count(const RepairOutcome& outcome) {
  counts_.shards_repaired += outcome.shards.size();
  for (const auto& [site, bytes] : outcome.bytes_read) counts_.bytes_read += bytes;
  for (const auto& [site, bytes] : outcome.bytes_written) counts_.bytes_written += bytes;
  for (const auto& line : outcome.shards) {
    spdlog::info(
        "stripe {} column {}: {} to site {}, {} bytes read, {} written, {} between sites, {} ms",
        line.stripe, line.column, line.method, context_.site_name(line.to), line.bytes_read,
        line.bytes_written, line.bytes_between_sites, line.took.count());
    lines_.push_back(line);
    ++next_line_;
    if (lines_.size() > kLinesMax) lines_.pop_front();
  }
}

std::vector<std::string> Repairer::obstacles(size_t count_max) const {
  std::vector<std::string> texts;
  for (const auto& [stripe, state] : put_off_) {
    if (texts.size() >= count_max) break;
    texts.push_back(fmt::format("stripe {}: {}", stripe,
                                state.reason.empty() ? "other work holds it" : state.reason));
  }
  return texts;
}

uint64_t Repairer::lines(uint64_t after, pb::RepairReply& reply) const {
  const uint64_t first = next_line_ - lines_.size();
  for (uint64_t i = std::max(after, first); i < next_line_; ++i) {
    const ShardRepair& line = lines_[static_cast<size_t>(i - first)];
    auto* out = reply.add_lines();
    out->set_stripe(line.stripe);
    out->set_column(static_cast<uint32_t>(line.column));
    out->set_from_site(line.from);
    out->set_to_site(line.to);
    out->set_method(line.method);
    out->set_bytes(line.bytes);
    out->set_bytes_read(line.bytes_read);
    out->set_bytes_written(line.bytes_written);
    out->set_bytes_between_sites(line.bytes_between_sites);
    out->set_took_ms(static_cast<uint64_t>(line.took.count()));
  }
  return next_line_;
}

void Repairer::details(uint64_t after, uint64_t until, pb::RepairDetailsReply& reply) const {
  const uint64_t first = next_line_ - lines_.size();
  for (uint64_t i = std::max(after, first); i < std::min(until, next_line_); ++i) {
    const ShardRepair& line = lines_[static_cast<size_t>(i - first)];
    auto* out = reply.add_lines();
    out->set_number(i);
    auto read = line.read_at;
    read.try_emplace(line.to, 0);
    for (const auto& [site, bytes] : read) {
      auto* moved = out->add_sites();
      moved->set_site(site);
      moved->set_bytes_read(bytes);
      moved->set_bytes_written(site == line.to ? line.bytes_written : 0);
    }
  }
}

void Repairer::make_sweep_due(Transaction& txn) {
  sweep_from_ = 1;
  put_counter(txn, kSweepCounter, sweep_from_);
  if (std::exchange(sweeping_, true)) return;
  loop_->post([this] { sweep_step(); });
}

void Repairer::sweep_step() {
  const auto duties = context_.duties();
  Transaction txn = context_.store.begin();
  std::vector<pb::Stripe> found;
  const std::string end = key::after_prefix(key::stripe(0).substr(0, 1));
  const auto scanned =
      txn.scan(key::stripe(sweep_from_), end, [&](std::string_view, std::string_view v) {
        pb::Stripe stripe;
        if (stripe.ParseFromArray(v.data(), static_cast<int>(v.size()))) {
          found.push_back(std::move(stripe));
        }
        return found.size() < kSweepStep;
      });
  bool failed = !scanned;
  for (const auto& stripe : found) {
    failed = failed || !enqueue_repair(txn, stripe, duties);
  }
  if (failed) {
    spdlog::error("looking for stripes to repair: records cannot be read");
    sweeping_ = false;
    return;
  }
  const bool over = found.size() < kSweepStep;
  sweep_from_ = over ? 0 : found.back().id() + 1;
  if (over) {
    txn.erase(key::meta(kSweepCounter));
    sweeping_ = false;
  } else {
    put_counter(txn, kSweepCounter, sweep_from_);
  }
  if (!context_.committer.apply(std::move(txn))) return;
  kick();
  if (!over) loop_->after(milliseconds(1), [this] { sweep_step(); });
}

}  // namespace datacloud
