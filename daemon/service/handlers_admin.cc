// What the administrator asks about files and traffic. Status is in handlers_status.cc; what
// changes something is in daemon/maintenance.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/namespace_ops.h"
#include "daemon/service/service.h"

namespace datacloud {
namespace {

constexpr size_t kStripesPerPart = 1000;    // of one locate; rows of groups come on top
constexpr size_t kSlotBytesMax = 4u << 20;  // slots are left out of stripes beyond

result<void> add_damage(const Transaction& txn, StripeId stripe, pb::LocateReply& out) {
  const std::string prefix = key::damage(stripe, 0).substr(0, 9);
  return txn.scan(prefix, key::after_prefix(prefix), [&](std::string_view, std::string_view v) {
    return out.add_damaged()->ParseFromArray(v.data(), static_cast<int>(v.size()));
  });
}

// The XOR rows of the stripes' groups follow them.
result<void> add_rows_of(const Transaction& txn, std::vector<StripeId>& stripes) {
  std::vector<StripeId> rows;
  for (const StripeId id : stripes) {
    TRY(const auto stripe, get_stripe(txn, id));
    if (!stripe || stripe->row() == 0) continue;
    if (std::find(rows.begin(), rows.end(), stripe->row()) == rows.end()) {
      rows.push_back(stripe->row());
    }
  }
  stripes.insert(stripes.end(), rows.begin(), rows.end());
  return success();
}

}  // namespace

result<pb::LocatePartReply> MetadataService::locate_from(const std::string& path, InodeId ino,
                                                         uint64_t first_block) const {
  const Transaction txn = store_.begin();
  TRY(auto inode, path.empty() ? get_inode(txn, ino) : resolve_path(txn, path));
  pb::LocateReply out;
  out.set_path(path);
  if (path.empty() && S_ISDIR(inode.mode())) {
    TRY(*out.mutable_path(), directory_path(txn, inode.ino()));
  }
  TRY(auto found, stripes_of_inode(txn, inode.ino(), kStripesPerPart, first_block));
  if (found.blocks_lost > 0) {  // told as damage of no stripe
    auto* lost = out.add_damaged();
    lost->set_reason("blocks whose data are lost");
    lost->set_instance(found.blocks_lost);
  }
  TRY(add_rows_of(txn, found.ids));
  *out.mutable_inode() = std::move(inode);
  size_t bytes = 0;
  for (const StripeId id : found.ids) {
    TRY(auto stripe, get_stripe(txn, id));
    if (!stripe) continue;
    if (bytes > kSlotBytesMax) {
      stripe->clear_slot_column();
      stripe->clear_slot_offset();
    }
    bytes += stripe->ByteSizeLong();
    for (int c = 0; c < stripe->shards_size(); ++c) {
      const auto& shard = stripe->shards(c);
      Site* site = deps_.sites.find(shard.site());
      std::string location;
      if (shard.state() == pb::SHARD_PRESENT && site != nullptr) {
        location = site->store().location(
            namer_.object_name({id, static_cast<uint8_t>(c), shard.instance()}));
      }
      bytes += location.size() + 4;
      out.add_shard_locations(std::move(location));
    }
    *out.add_stripes() = std::move(*stripe);
    TRY(add_damage(txn, id, out));
  }
  pb::LocatePartReply part;
  part.set_locate(out.SerializeAsString());
  part.set_inline_blocks(found.blocks_inline);
  part.set_patched_blocks(found.blocks_patched);
  if (found.next_block) part.set_next_block(*found.next_block);
  return part;
}

// For older programs, which ask for everything in one answer.
Answer MetadataService::locate(const CallPtr& call) {
  const auto& request = call->request.locate();
  TRY(const auto part, locate_from(request.path(), request.ino(), 0));
  if (part.has_next_block()) {
    return failure(Errc::unsupported,
                   "the file has more stripes than one answer takes; use a newer datacloud");
  }
  pb::Reply reply;
  reply.mutable_locate()->ParseFromString(part.locate());
  return std::optional(std::move(reply));
}

Answer MetadataService::locate_part(const pb::LocatePartRequest& request) {
  pb::AdminReply admin;
  TRY(*admin.mutable_locate_part(),
      locate_from(request.path(), request.ino(), request.first_block()));
  pb::Reply reply;
  reply.set_admin(admin.SerializeAsString());
  return std::optional(std::move(reply));
}

// What mounts have reported and what this daemon has moved itself.
Answer MetadataService::traffic(const CallPtr& call) {
  pb::Reply reply;
  add_traffic(*reply.mutable_traffic());
  if (call->request.traffic().reset()) {
    mount_traffic_.clear();
    for (Site* site : deps_.sites.all()) site->reset_traffic();
    traffic_since_ = loop_.now();
  }
  return std::optional(std::move(reply));
}

void MetadataService::add_traffic(pb::TrafficReply& out) {
  for (Site* site : deps_.sites.all()) {
    for (int p = 0; p < kPurposeCount; ++p) {
      const auto own = site->traffic().row(static_cast<Purpose>(p));
      const auto mounts = mount_traffic_.find({site->id(), static_cast<uint32_t>(p)});
      pb::SiteTraffic row;
      if (mounts != mount_traffic_.end()) row = mounts->second;
      row.set_site(site->id());
      row.set_purpose(p);
      row.set_bytes_read(row.bytes_read() + own.bytes_read);
      row.set_bytes_written(row.bytes_written() + own.bytes_written);
      row.set_operations(row.operations() + own.operations);
      if (row.operations() > 0) *out.add_rows() = std::move(row);
    }
  }
  const auto since = loop_.now() - traffic_since_;
  out.set_since_ms(std::chrono::duration_cast<milliseconds>(since).count());
}

}  // namespace datacloud
