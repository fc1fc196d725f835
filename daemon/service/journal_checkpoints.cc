// See journal_checkpoints.h.
#include "daemon/service/journal_checkpoints.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "daemon/checkpoint/checkpoint_rules.h"
#include "daemon/metadata/journal_records.h"

namespace datacloud {

class JournalCheckpoints::Journal final : public CheckpointJournal {
 public:
  Journal(JournalCommitter& committer, uint64_t bytes_max)
      : committer_(committer), bytes_max_(bytes_max) {}

  // A failure has ended the daemon by then, or the root is too large, which its writer has checked.
  void append_root(Bytes content, std::function<void()> done) override {
    (void)committer_.append(journal::EntryKind::root, content,
                            [done = std::move(done)](const journal::LogPosition&) { done(); });
  }
  void trim(uint64_t floor) override {
    const uint64_t before = committer_.bytes();
    committer_.trim(floor);
    trimmed_ += before - std::min(before, committer_.bytes());
  }
  uint64_t bytes() const override { return trimmed_ + committer_.bytes(); }
  uint64_t bytes_max() const override { return bytes_max_; }

 private:
  JournalCommitter& committer_;
  const uint64_t bytes_max_;
  uint64_t trimmed_ = 0;
};

namespace {

CheckpointJobOptions checkpoint_options(const ServiceDependencies& deps, const pb::JournalSet& set,
                                        const SecretKey& key) {
  CheckpointJobOptions options;
  options.journal = journal_id(deps.cloud.uuid()).value();  // the journal has begun with it
  options.metadata_key = key;
  options.code = deps.code;
  options.losses = static_cast<int>(set.losses());
  options.takes = [&deps](SiteId id) {
    return std::any_of(deps.cloud.sites().begin(), deps.cloud.sites().end(), [&](const auto& site) {
      return site.id() == id && site.duty() == pb::SITE_ACTIVE;
    });
  };
  return options;
}

}  // namespace

JournalCheckpoints::JournalCheckpoints(ServiceDependencies& deps, const pb::JournalSet& set,
                                       const SecretKey& metadata_key)
    : journal_(std::make_unique<Journal>(*deps.journal, deps.journal_config.bytes_max)),
      job_(std::make_unique<CheckpointJob>(deps.store, *deps.journal, deps.sites, deps.loop,
                                           *journal_,
                                           checkpoint_options(deps, set, metadata_key))) {}

JournalCheckpoints::~JournalCheckpoints() = default;

void JournalCheckpoints::describe(pb::JournalStatus& out) const {
  const CheckpointProgress progress = job_->progress();
  if (!progress.newest) return;
  out.set_checkpoint(covered_entry(*progress.newest));
  out.set_checkpoint_ns(progress.newest->made_ns());
}

void JournalCheckpoints::check(StatusProblems& problems) const {
  const CheckpointProgress progress = job_->progress();
  if (!progress.failure.empty()) {
    problems.add(Health::degraded,
                 fmt::format("no checkpoint of the metadata could be made: {}; the journal grows "
                             "until one is",
                             progress.failure));
  }
  if (!progress.newest) {
    if (progress.failure.empty() && progress.running) return;
    problems.add(
        Health::degraded,
        "there is no checkpoint of the metadata at the sites yet: the loss of the daemon's "
        "machine would lose all data");
  } else if (progress.newest->losses_survived() < progress.newest->losses()) {
    problems.add(
        Health::degraded,
        fmt::format("the newest checkpoint of the metadata survives the loss of {} sites "
                    "and not of {}: another is made when the sites that were away are back",
                    progress.newest->losses_survived(), progress.newest->losses()));
  }
}

}  // namespace datacloud
