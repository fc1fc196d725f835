// Folding as the administrator asks for it.
#include <fmt/format.h>

#include "daemon/maintenance/maintenance.h"
#include "daemon/records/block_map.h"
#include "daemon/records/namespace_ops.h"

namespace datacloud {
namespace {

constexpr size_t kStripesExplainedMax = 1000;

}  // namespace

Answer Maintenance::fold(const CallPtr& call) {
  if (call->request.fold().start()) fold_scheduler_.sweep_now();
  pb::Reply reply;
  fold_scheduler_.describe(*reply.mutable_fold());
  return std::optional(std::move(reply));
}

Answer Maintenance::explain_folds(const pb::FoldExplainRequest& request) {
  const Transaction txn = store_.begin();
  TRY(const auto inode,
      request.path().empty() ? get_inode(txn, request.ino()) : resolve_path(txn, request.path()));
  TRY(const auto found, stripes_of_inode(txn, inode.ino(), kStripesExplainedMax));
  const auto& stripes = found.ids;
  pb::AdminReply admin;
  auto& out = *admin.mutable_fold_explain();
  for (const StripeId id : stripes) {
    TRY(const auto lines, explain_fold(background_context_, txn, id, {}));
    if (lines.empty()) continue;
    auto& base = *out.add_bases();
    base.set_stripe(id);
    for (const auto& line : lines) base.add_lines(line);
  }
  out.set_stripes(stripes.size());
  pb::Reply reply;
  reply.set_admin(admin.SerializeAsString());
  return std::optional(std::move(reply));
}

}  // namespace datacloud
