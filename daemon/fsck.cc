// Both checkers, and what they say in one list.
#include "daemon/fsck.h"

#include <algorithm>

#include "common/clock.h"
#include "daemon/block_map.h"
#include "daemon/check_namespace.h"
#include "daemon/totals.h"

namespace datacloud {
namespace {

constexpr int kFindingsMax = 10'000;

void add(pb::FsckReply& reply, const char* kind, const std::string& text, const std::string& action,
         bool mended) {
  reply.set_findings_total(reply.findings_total() + 1);
  if (mended) reply.set_mended_total(reply.mended_total() + 1);
  if (reply.findings_size() >= kFindingsMax) return;
  auto* finding = reply.add_findings();
  finding->set_kind(kind);
  finding->set_text(text);
  finding->set_action(action);
  finding->set_mended(mended);
}

}  // namespace

result<void> fsck_metadata(Transaction& txn, bool mend, pb::FsckReply& reply,
                           const std::function<InodeId()>& new_ino) {
  const int64_t now_ns = wall_now_ns();
  TRY(const auto names, check_namespace(txn, mend, now_ns, new_ino));
  for (const auto& finding : names) {
    add(reply, "namespace", finding.text, finding.action, mend && !finding.action.empty());
  }
  TRY(const auto before, check_block_map(txn));
  std::vector<std::string> after = before;
  if (mend && !before.empty()) {
    TRY(mend_block_map(txn));
    TRY(after, check_block_map(txn));
  }
  for (const auto& text : before) {
    const bool left = std::find(after.begin(), after.end(), text) != after.end();
    add(reply, "block-map", text, left && mend ? "" : "what is derived is computed anew",
        mend && !left);
  }
  TRY(const auto totals, read_totals(txn));
  reply.set_records_checked(totals.inodes + totals.stripes);
  reply.set_records_total(reply.records_checked());
  return success();
}

}  // namespace datacloud
