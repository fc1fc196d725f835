// Room at the sites: what statfs(2) shows, and what files have reserved of it.
//
// A reservation keeps as much free at the sites as its blocks take there once, whether they have
// contents or not: an overwrite needs room for the new block while the old one is still held. So
// while less is free than all of them together have reserved, only reserved blocks are written.
// What the sites have free is what they said last, at most two seconds ago, less what was committed
// since.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "daemon/jobs/reserved_space.h"
#include "daemon/maintenance/maintenance.h"
#include "daemon/metadata/totals.h"
#include "daemon/records/inline_blocks.h"
#include "daemon/records/namespace_ops.h"
#include "daemon/records/reservations.h"
#include "daemon/records/trees.h"
#include "daemon/service/service.h"

namespace datacloud {
namespace {

constexpr int kUpdateRangesMax = 64;
constexpr int64_t kBytesMax = int64_t{1} << 60;
constexpr uint64_t kBlocksMax = uint64_t{1} << 48;  // of 4 KiB: 2^60 bytes

result<std::vector<ReservedBytes>> by_columns(const reservations::Demand& demand) {
  std::vector<ReservedBytes> out;
  for (const auto& [code, bytes] : demand) {
    TRY(const auto known, make_erasure_code(code));
    out.push_back({known->k(), known->n(), bytes});
  }
  return out;
}

std::vector<uint64_t> values(const std::map<SiteId, uint64_t>& free) {
  std::vector<uint64_t> out;
  for (const auto& [site, bytes] : free) out.push_back(bytes);
  return out;
}

}  // namespace

// Of a tree: what it uses, and what the cloud has free for it. So df shows the tree's size.
Answer MetadataService::statfs(const CallPtr& call) {
  maintenance_->get_space([this, call](const SiteSpace::Report& report) {
    const Transaction txn = store_.begin();
    pb::Reply reply;
    auto* fs = reply.mutable_statfs();
    uint64_t free = report.bytes_free;
    reservations::Demand demand;
    if (auto reserved = reservations::demand(txn)) demand = std::move(reserved).value();
    if (!demand.empty()) {
      const auto columns = by_columns(demand);
      const auto left = columns ? left_after(maintenance_->space().free_now(), columns.value())
                                : std::optional<std::map<SiteId, uint64_t>>();
      const auto& code = *deps_.code;
      free = std::min(free, left ? logical_capacity(values(*left), code.k(), code.n()) : 0);
    }
    fs->set_bytes_total(report.bytes_total);
    fs->set_bytes_free(free);
    fs->set_bytes_reserved(reservations::total(demand));
    if (const auto totals = read_totals(txn)) fs->set_inodes(totals.value().inodes);
    const InodeId asked = call->request.statfs().ino();
    const auto inode = get_inode(txn, asked != 0 ? asked : kRootInode);
    if (inode && inode.value().tree() != 0) {
      const uint32_t id = inode.value().tree();
      if (const auto tree = trees::read_counters(txn, id)) {
        fs->set_bytes_total(tree.value().logical_bytes() + free);
        fs->set_inodes(tree.value().inodes());
      }
      if (const auto of_tree = reservations::demand_of_tree(txn, id))
        fs->set_bytes_reserved(reservations::total(of_tree.value()));
    }
    answer(call, std::move(reply));
  });
  return later();
}

bool MetadataService::knows_space(const CallPtr& call) {
  if (call->space_known) return true;
  const auto here = std::make_shared<bool>(true);
  maintenance_->get_space([this, call, here](const SiteSpace::Report&) {
    call->space_known = true;
    if (*here) return;
    dispatch(call);
    pump();
  });
  *here = false;
  return call->space_known;
}

result<bool> MetadataService::reservations_fit(const Transaction& txn, const std::string& code,
                                               int64_t more) const {
  TRY(auto demand, reservations::demand(txn));
  if (more > 0) demand[code] += static_cast<uint64_t>(more);
  if (demand.empty()) return true;
  const auto free = maintenance_->space().free_now();
  if (free.empty()) return more <= 0;  // nobody has been asked yet
  TRY(const auto columns, by_columns(demand));
  return left_after(free, columns).has_value();
}

// Whether the update may be applied as far as room at the sites goes.
result<bool> MetadataService::has_space(const Transaction& txn, const pb::Inode& inode,
                                        const pb::InodeUpdate& update) const {
  if (update.reserve_size() > 0) {
    TRY(const auto planned, reservations::plan(txn, inode, update));
    if (planned.too_many_ranges) return false;
    if (planned.blocks > 0) {
      const auto block = static_cast<int64_t>(inode.policy().block_bytes());
      if (block == 0 || planned.blocks > kBytesMax / block) return false;
      TRY(const bool fits, reservations_fit(txn, inode.policy().code(), planned.blocks * block));
      if (!fits) return false;
    }
  }
  const bool into_stripes =
      std::any_of(update.runs().begin(), update.runs().end(),
                  [](const pb::Run& run) { return !inline_blocks::has_records(run); });
  if (!into_stripes) return true;
  TRY(const bool fits, reservations_fit(txn, inode.policy().code(), 0));
  if (fits) return true;
  return reservations::covers(txn, inode, update);
}

result<void> MetadataService::check_reservations(const pb::InodeUpdate& update) const {
  if (update.reserve_size() == 0 && update.unreserve_size() == 0) return success();
  const auto invalid = [&](const std::string& what) {
    return failure(Errc::invalid, fmt::format("inode {}: {}", update.ino(), what));
  };
  if (!features_.has(Feature::reservations)) {
    return invalid("the cloud does not use reservations; `datacloud feature enable reservations`");
  }
  if (update.reserve_size() > kUpdateRangesMax || update.unreserve_size() > kUpdateRangesMax) {
    return invalid(fmt::format("more than {} ranges to reserve at once", kUpdateRangesMax));
  }
  for (const auto* ranges : {&update.reserve(), &update.unreserve()}) {
    for (const auto& range : *ranges) {
      if (range.first() > kBlocksMax || range.count() > kBlocksMax || range.count() == 0)
        return invalid("a range to reserve that no file has");
    }
  }
  return success();
}

void MetadataService::note_stored(const pb::CommitRequest& request) {
  for (const auto& stripe : request.stripes()) {
    for (const auto& shard : stripe.shards()) {
      if (shard.state() == pb::SHARD_PRESENT)
        maintenance_->space().stored(SiteId{shard.site()}, shard.bytes());
    }
  }
}

}  // namespace datacloud
