// The records of checkpoints at the sites. Nothing depends on them but the removal of objects: a
// root in the journal says by itself where its checkpoint is.
#include <fmt/format.h>

#include "common/proto/checkpoint.pb.h"
#include "daemon/checkpoint/checkpoint_rules.h"
#include "daemon/checkpoint/journal_audit.h"
#include "daemon/fsck/record_passes.h"

namespace datacloud {

namespace {

// Nothing depends on it: another cycle begins.
result<void> check_audit(RecordPasses& passes) {
  TRY(const auto stored, passes.view.get(key::meta(kJournalAuditRecord)));
  if (!stored) return success();
  TRY(passes.count());
  pb::JournalAuditState state;
  if (parses(*stored, state) && valid_journal_audit(state)) return success();
  passes.add({.kind = "journal",
              .text = "the record of the journal's audit is damaged",
              .action = "it is erased, and the audit begins anew",
              .records = {{key::meta(kJournalAuditRecord), stored, std::nullopt}}});
  return success();
}

}  // namespace

result<void> check_checkpoints(RecordPasses& passes) {
  TRY(check_audit(passes));
  const std::string first = key::meta(kCheckpointRecord);
  auto at = passes.view.scan(first, key::after_prefix(first));
  for (; at.valid(); at.next()) {
    TRY(passes.count());
    const std::string_view name = at.key().substr(first.size());
    pb::CheckpointRecord record;
    if (parses(at.value(), record) && valid_checkpoint(record) &&
        name == checkpoint_name(record.number())) {
      continue;
    }
    passes.add({.kind = "journal",
                .text = fmt::format("the record of checkpoint {} is damaged", name),
                .action = "it is erased; objects of that checkpoint may stay at the sites, and "
                          "another checkpoint is made",
                .records = {erased(at)},
                .offline_only = true});
  }
  return at.status();
}

}  // namespace datacloud
