// Findings to replies, and mends one transaction at a time.
#include "daemon/fsck/fsck.h"

#include "daemon/metadata/record_keys.h"

namespace datacloud {

void tell_findings(const RecordCheckReport& report, pb::FsckReply& reply) {
  reply.set_findings_total(reply.findings_total() + report.findings_total);
  reply.set_blocks_lost(report.blocks_lost);
  for (const auto& finding : report.findings) {
    auto* out = reply.add_findings();
    out->set_number(static_cast<uint64_t>(reply.findings_size()));
    out->set_kind(finding.kind);
    out->set_text(finding.text);
    out->set_action(finding.action);
  }
}

result<void> mend_findings(MetadataStore& store, const std::vector<Finding>& findings,
                           const std::vector<uint64_t>& numbers, const MendHooks& hooks,
                           pb::FsckReply& reply) {
  for (const uint64_t number : numbers) {
    if (number == 0 || number > findings.size() ||
        number > static_cast<uint64_t>(reply.findings_size())) {
      continue;
    }
    const Finding& finding = findings[number - 1];
    auto* told = reply.mutable_findings(static_cast<int>(number - 1));
    if (told->mended()) continue;
    if (finding.offline_only && hooks.online) {
      told->set_obstacle("only while no daemon runs: stop it and run fsck again");
      continue;
    }
    Transaction txn = store.begin();
    TRY(auto obstacle, mend_finding(txn, finding, [&] { return hooks.new_ino(txn); }));
    if (obstacle) {
      told->set_obstacle(std::move(*obstacle));
      continue;
    }
    TRY(hooks.commit(std::move(txn)));
    told->clear_obstacle();
    told->set_mended(true);
    reply.set_mended_total(reply.mended_total() + 1);
  }
  return success();
}

result<pb::FsckReply> LocalFsck::check(RecordCheckProgress& progress) {
  const auto view = store_.snapshot();
  TRY(auto report, check_records(*view, limits_, progress));
  pb::FsckReply reply;
  tell_findings(report, reply);
  reply.set_records_checked(progress.records);
  reply.set_done(true);
  findings_ = std::move(report.findings);
  return reply;
}

result<void> LocalFsck::mend(const std::vector<uint64_t>& numbers, pb::FsckReply& reply) {
  MendHooks hooks;
  hooks.commit = [this](Transaction&& txn) -> result<void> {
    TRY(store_.commit(std::move(txn)));
    return success();
  };
  hooks.new_ino = [](Transaction& txn) {
    const std::string counter = key::meta("next_id/inode");
    const auto stored = txn.get(counter);
    const bool whole = stored && stored.value() && stored.value()->size() == 8;
    const InodeId next = whole ? key::u64_at(*stored.value(), 0) : kRootInode + 1;
    txn.put(counter, key::inode(next + 1).substr(1));
    return next;
  };
  TRY(mend_findings(store_, findings_, numbers, hooks, reply));
  return store_.wait_durable(store_.sequence());
}

}  // namespace datacloud
