// The cycle: its record, its pace, what it tells (journal_audit.h).
#include "daemon/checkpoint/journal_audit.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "daemon/checkpoint/checkpoint_rules.h"
#include "daemon/metadata/record_keys.h"

namespace datacloud {
namespace {

constexpr uint64_t kBytesPerSecondMin = 64 << 10;  // or a small journal would be read all day
constexpr auto kPauseMin = milliseconds(20);
constexpr int kRootsMax = 64;

void cut(google::protobuf::RepeatedPtrField<pb::JournalAuditState::Finding>& findings) {
  while (findings.size() > JournalAudit::kFindingsMax) findings.erase(findings.begin());
}

}  // namespace

bool valid_journal_audit(const pb::JournalAuditState& state) {
  const bool hash = state.previous().empty() || state.previous().size() == 32;
  return hash && state.sites_size() <= journal::kJournalSitesMax &&
         state.roots_size() <= kRootsMax && state.open_size() <= JournalAudit::kFindingsMax &&
         state.found_size() <= JournalAudit::kFindingsMax;
}

JournalAudit::JournalAudit(MetadataStore& store, Committer& committer, SiteSet& sites,
                           std::shared_ptr<EventLoop> loop, journal::QuorumLog& log,
                           CheckpointJob& checkpoints, JournalAuditOptions options)
    : store_(store),
      committer_(committer),
      sites_(sites),
      loop_(std::move(loop)),
      log_(log),
      checkpoints_(checkpoints),
      options_(std::move(options)) {}

JournalAudit::~JournalAudit() = default;

// On the loop, as long as the audit is there.
std::function<void()> JournalAudit::here(std::function<void(JournalAudit&)> f) {
  return [this, weak = std::weak_ptr<char>(alive_), f = std::move(f)] {
    if (weak.lock()) f(*this);
  };
}

result<void> JournalAudit::start() {
  auto read = store_.begin().get(key::meta(kJournalAuditRecord), state_);
  if (!read || !valid_journal_audit(state_)) {
    spdlog::warn("the record of the journal's audit is damaged; it begins anew");
    state_ = {};
  }
  saved_ = started_ = loop_->now();
  if (state_.began_ns() != 0) {
    running_ = resumed_ = true;
    step_after(kPauseMin);
  }
  look();
  return success();
}

void JournalAudit::look() {
  const Duration age = std::chrono::nanoseconds(wall_now_ns() - state_.finished_ns());
  bool due = options_.cycle > Duration::zero() && (age >= options_.cycle || age < Duration(0));
  // The first one is not begun at once: a daemon that starts has enough to do.
  if (state_.finished_ns() == 0) due = due && loop_->now() - started_ >= options_.cycle / 24;
  if (!running_ && (due || asked_)) begin();
  loop_->after(options_.look, here([](JournalAudit& self) { self.look(); }));
}

void JournalAudit::request(std::function<void()> done) {
  waiting_.push_back(std::move(done));
  asked_ = true;
  if (!running_) begin();
}

void JournalAudit::begin() {
  running_ = true;
  asked_for_checkpoint_ = false;
  resumed_ = false;
  walk_.reset();
  wrong_.clear();
  state_.set_began_ns(wall_now_ns());
  state_.clear_sites();
  state_.clear_roots();
  state_.clear_cycle();
  state_.clear_found();
  state_.set_next(1);
  state_.clear_previous();
  state_.set_piece(0);
  for (const auto& one : log_.members()) state_.add_sites(static_cast<uint32_t>(one.site));
  save(true);
  loop_->post(here([](JournalAudit& self) { self.step(); }));
}

void JournalAudit::step() {
  if (state_.sites_size() > 0) return walk_site();
  if (state_.roots_size() > 0) return check_checkpoint();
  end();
}

void JournalAudit::step_after(Duration pause) {
  loop_->after(pause, here([](JournalAudit& self) { self.step(); }));
}

void JournalAudit::end() {
  const auto& cycle = state_.cycle();
  if (cycle.findings() > 0) {
    spdlog::warn(
        "the audit of the journal has found {} things wrong at the sites, of which {} are "
        "repaired",
        cycle.findings(), cycle.repaired());
  }
  *state_.mutable_last() = cycle;
  state_.clear_cycle();
  state_.mutable_open()->Swap(state_.mutable_found());
  state_.clear_found();
  state_.set_began_ns(0);
  state_.set_finished_ns(wall_now_ns());
  running_ = asked_ = false;
  save(true);
  for (const auto& done : std::exchange(waiting_, {})) done();
}

void JournalAudit::note_finding(uint32_t site, const std::string& text, bool repaired) {
  auto& cycle = *state_.mutable_cycle();
  cycle.set_findings(cycle.findings() + 1);
  state_.set_findings(state_.findings() + 1);
  if (repaired) {
    cycle.set_repaired(cycle.repaired() + 1);
    state_.set_repaired(state_.repaired() + 1);
    return spdlog::warn("audit of the journal: {}; it is repaired", text);
  }
  spdlog::error("audit of the journal: {}", text);
  auto* finding = state_.add_found();
  finding->set_time_ns(wall_now_ns());
  finding->set_site(site);
  finding->set_text(text);
  cut(*state_.mutable_found());
}

void JournalAudit::ask_for_checkpoint(const std::string& why) {
  if (std::exchange(asked_for_checkpoint_, true)) return;
  checkpoints_.request(why);
}

void JournalAudit::save(bool at_once) {
  if (!at_once && loop_->now() - saved_ < options_.save) return;
  saved_ = loop_->now();
  Transaction txn = store_.begin();
  txn.put(key::meta(kJournalAuditRecord), state_);
  (void)committer_.apply(std::move(txn));  // a failure ends the daemon
}

// So that a cycle of its own reads about half of the time.
Duration JournalAudit::pause_after(uint64_t bytes) const {
  double rate = static_cast<double>(options_.bytes_per_second_max);
  if (!asked_) {
    const double half = std::chrono::duration<double>(options_.cycle).count() / 2;
    const auto last = static_cast<double>(state_.last().bytes());
    const double even = std::max<double>(kBytesPerSecondMin, half > 0 ? last / half : 0);
    rate = rate > 0 ? std::min(rate, even) : even;
  }
  if (rate <= 0) return Duration(0);
  const auto pause = std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(static_cast<double>(bytes) / rate));
  return asked_ ? pause : std::max<Duration>(pause, kPauseMin);
}

const journal::MemberState* JournalAudit::member(uint32_t site) {
  members_ = log_.members();
  for (const auto& one : members_) {
    if (one.site == static_cast<int>(site)) return &one;
  }
  return nullptr;
}

void JournalAudit::describe(pb::JournalAudit& out) const {
  out.set_running(running_);
  out.set_finished_ns(state_.finished_ns());
  out.set_entries(state_.last().entries());
  out.set_columns(state_.last().columns());
  out.set_passed_over(state_.last().passed_over());
  out.set_findings(state_.findings());
  out.set_repaired(state_.repaired());
  for (const auto* findings : {&state_.open(), &state_.found()}) {
    for (const auto& finding : *findings) out.add_problems(finding.text());
  }
  out.set_unrepaired(static_cast<uint64_t>(out.problems_size()));
}

}  // namespace datacloud
