// What `status` and `top` say beyond the records' counts: protection, queues with their rates and
// expected ends, audits, scrubs.
#include "daemon/maintenance/maintenance.h"

namespace datacloud {

void Maintenance::describe_details(const StripeStatistics::Counts& counts,
                                   pb::StatusDetails& details) const {
  for (const uint64_t stripes : counts.stripes_by_remaining) {
    details.add_stripes_by_remaining(stripes);
  }
  details.set_repair_queued(counts.repair_queued);
  details.set_repair_put_off(repairer_.put_off());
  details.set_shards_repaired(repairer_.counts().shards_repaired);
  details.set_audit_cycle_done(auditor_.cycle_progress());
  for (const auto& info : deps_.cloud.sites()) {
    auto* out = details.add_audits();
    out->set_site(info.id());
    out->set_duty(info.duty());
    out->set_suspect(auditor_.suspect(info.id()));
    const auto history = auditor_.history().find(info.id());
    if (history != auditor_.history().end()) *out->mutable_history() = history->second;
  }
  pb::FoldReply fold;
  fold_scheduler_.describe(fold);
  for (const auto& [site, walk] : continuous_scrub_.walks()) {
    auto* out = details.add_scrubs();
    *out->mutable_walk() = walk;
    const auto share = continuous_scrub_.listed_share(site);
    out->set_walking(share.has_value());
    out->set_listed_share(share.value_or(0));
  }
  details.set_scrub_cycle_ms(deps_.config.scrub_cycle_ms);
  details.set_stripes_merged(fold.stripes_merged());
  details.set_background_paused(background_.paused());
  details.set_trees(counts.trees);
  details.set_inline_blocks(counts.inline_blocks);
  details.set_patches(counts.patches);
  details.set_rows(counts.rows);
  details.set_row_bytes(counts.row_bytes);
  details.set_members(counts.members);
  details.set_dead_members(counts.dead_members);
  details.set_dead_bytes(counts.dead_bytes);
  describe_background(*details.mutable_background());
  add_queues(counts, details);
}

void Maintenance::sample_queues() {
  QueueCounts done{};
  done[static_cast<size_t>(QueueKind::repair)] = repairer_.counts().shards_repaired;
  done[static_cast<size_t>(QueueKind::deletions)] = collector_.counts().objects;
  for (const auto& [site, history] : auditor_.history()) {
    done[static_cast<size_t>(QueueKind::audit)] += history.shards_checked();
  }
  queue_rates_.sample(loop_.now(), done);
}

void Maintenance::add_queues(const StripeStatistics::Counts& counts,
                             pb::StatusDetails& details) const {
  const auto add = [&](const char* name, QueueKind kind, uint64_t waiting) {
    auto* queue = details.add_queues();
    queue->set_name(name);
    queue->set_waiting(waiting);
    const double rate = queue_rates_.rate(kind);
    queue->set_per_second(rate);
    queue->set_expected_s(waiting == 0 ? 0 : rate > 0 ? static_cast<double>(waiting) / rate : -1);
  };
  add("repair", QueueKind::repair, counts.repair_queued);
  add("deletions", QueueKind::deletions, counts.pending_deletions);
  uint64_t shards = 0;
  for (const auto& [site, at_site] : counts.sites) shards += at_site.shards;
  const double left = 1 - std::min(1.0, auditor_.cycle_progress());
  add("audit", QueueKind::audit, static_cast<uint64_t>(static_cast<double>(shards) * left));
  // The continuous audit keeps to its cycle, whatever its speed.
  details.mutable_queues()->rbegin()->set_expected_s(
      left * static_cast<double>(deps_.config.audit_cycle_ms) / 1000);
  if (deps_.config.audit_cycle_ms == 0) details.mutable_queues()->RemoveLast();
}

}  // namespace datacloud
