// The logs of sites, one after another, and their repair (journal_audit.h).
#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "daemon/checkpoint/journal_audit.h"

namespace datacloud {
namespace {

using journal::MemberState;

struct WalkJob {
  std::shared_ptr<journal::LogStore> log;
  journal::LogWalk walk;
  result<journal::WalkedPiece> done = journal::WalkedPiece();
};

}  // namespace

// Until the site has what was committed when its walk began. Then it is read.
void JournalAudit::walk_site() {
  const MemberState* site = member(state_.sites(0));
  if (site == nullptr || site->state == MemberState::State::sealed) return site_over();
  if (!walk_) {
    walk_.emplace();
    walk_->next = std::max<uint64_t>(1, state_.next());
    walk_->end = log_.committed();
    if (state_.previous().size() == walk_->previous.emplace().size()) {
      const ByteView previous = as_bytes(state_.previous());
      std::copy(previous.begin(), previous.end(), walk_->previous->begin());
    } else {
      walk_->previous.reset();
    }
    patience_end_ = {};
  }
  if (waits_for_site(*site)) return;
  walk();
}

// True: it is looked at again in a moment, or passed over.
bool JournalAudit::waits_for_site(const MemberState& site) {
  if (site.state == MemberState::State::ok && site.acknowledged >= walk_->end.sequence)
    return false;
  const auto now = loop_->now();
  if (patience_end_ == MonotonicTime() || site.acknowledged != waited_at_) {
    patience_end_ = now + options_.patience;
    waited_at_ = site.acknowledged;
  }
  if (now < patience_end_ && (site.state != MemberState::State::away || !wrong_.empty())) {
    step_after(options_.poll);
    return true;
  }
  if (!wrong_.empty()) {
    note_finding(state_.sites(0), wrong_ + "; it could not be read since", false);
  } else {
    auto& cycle = *state_.mutable_cycle();
    cycle.set_passed_over(cycle.passed_over() + 1);
  }
  site_over();
  return true;
}

void JournalAudit::walk() {
  auto job = std::make_shared<WalkJob>();
  job->log = log_.log_at(static_cast<int>(state_.sites(0)));
  if (!job->log) return site_over();
  job->walk = *walk_;
  const auto read = [job, journal = options_.journal, key = options_.metadata_key,
                     bytes = options_.piece_bytes] {
    journal::EntryOpener opener(key);
    job->done = journal::walk_log(*job->log, journal, opener, job->walk, bytes);
  };
  options_.run(read, here([job](JournalAudit& self) {
                 self.walk_ = job->walk;
                 self.walked(job->done);
               }));
}

void JournalAudit::walked(const result<journal::WalkedPiece>& piece) {
  const uint32_t site = state_.sites(0);
  auto& cycle = *state_.mutable_cycle();
  if (!piece) {
    if (!piece.error().is(Errc::corrupt)) {
      const MemberState* state = member(site);
      spdlog::info("audit of the journal: {} is passed over: {}", state ? state->name : "a site",
                   piece.error().message());
      cycle.set_passed_over(cycle.passed_over() + 1);
      if (!wrong_.empty()) note_finding(site, wrong_ + "; it could not be read since", false);
      return site_over();
    }
    if (std::exchange(resumed_, false)) {  // the journal may have been put back since it was saved
      walk_.reset();
      state_.set_next(1);
      state_.clear_previous();
      return step_after(Duration(0));
    }
    return found_wrong(piece.error().text());
  }
  cycle.set_entries(cycle.entries() + piece.value().entries);
  cycle.set_bytes(cycle.bytes() + piece.value().bytes);
  note_roots(piece.value().roots);
  state_.set_next(walk_->next);
  state_.clear_previous();
  if (walk_->previous) state_.set_previous(std::string(as_text(ByteView(*walk_->previous))));
  if (piece.value().entries > 0) resumed_ = false;
  if (walk_->over()) {
    if (!wrong_.empty()) note_finding(site, wrong_, true);
    return site_over();
  }
  save(false);
  step_after(pause_after(piece.value().bytes));
}

// Of checkpoints that are kept, each once.
void JournalAudit::note_roots(const std::vector<journal::LogEntry>& entries) {
  const auto kept = checkpoints_.kept();
  for (const auto& entry : entries) {
    journal::EntryOpener opener(options_.metadata_key);
    pb::CheckpointRoot root;
    const auto content = opener.open(entry);
    if (!content ||
        !root.ParseFromArray(content.value().data(), static_cast<int>(content.value().size()))) {
      continue;
    }
    const bool known = std::any_of(state_.roots().begin(), state_.roots().end(),
                                   [&](const auto& r) { return r.number() == root.number(); });
    if (known || std::find(kept.begin(), kept.end(), root.number()) == kept.end()) continue;
    auto* noted = state_.add_roots();
    noted->set_number(root.number());
    noted->set_entry(entry.header.sequence);
  }
}

// It is repaired once in a cycle, and then read from its floor on again.
void JournalAudit::found_wrong(const std::string& how) {
  const uint32_t site = state_.sites(0);
  const MemberState* state = member(site);
  const std::string text =
      "the journal at site " + (state ? state->name : std::to_string(site)) + " is wrong: " + how;
  if (!wrong_.empty()) {
    note_finding(site, text + "; it could not be repaired", false);
    ask_for_checkpoint("the journal of a site is damaged");
    return site_over();
  }
  wrong_ = text;
  const bool begun = log_.rewrite(static_cast<int>(site));
  spdlog::warn("{}; {}", text,
               begun ? "its log begins anew, and is fed from the others"
                     : "too few other sites have what is committed, so it is only caught up");
  walk_.reset();
  state_.set_next(1);
  state_.clear_previous();
  step_after(begun ? Duration(0) : options_.poll);
}

void JournalAudit::site_over() {
  walk_.reset();
  wrong_.clear();
  resumed_ = false;
  state_.mutable_sites()->erase(state_.mutable_sites()->begin());
  state_.set_next(1);
  state_.clear_previous();
  save(true);
  step_after(Duration(0));
}

}  // namespace datacloud
