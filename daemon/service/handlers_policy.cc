// Requests of the administrator that only daemon and tool know (admin.proto): policies of
// directories are here, most others in daemon/maintenance.
#include <fmt/format.h>
#include <sys/stat.h>

#include "common/base/log.h"
#include "common/crypto/sealed_block.h"
#include "common/proto/admin.pb.h"
#include "common/stripe/placement.h"
#include "common/stripe/shard_size.h"
#include "daemon/maintenance/maintenance.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/namespace_ops.h"
#include "daemon/records/stripe_groups.h"
#include "daemon/service/service.h"

namespace datacloud {
namespace {

constexpr uint32_t kBlockBytesMin = 4096, kBlockBytesMax = 1u << 20;

result<void> change_policy(const pb::PolicyRequest& request, SiteSet& sites, pb::Policy& policy) {
  if (!request.code().empty()) {
    TRY(const auto code, make_erasure_code(request.code()));
    policy.set_code(code->name());
  }
  if (request.block_bytes() != 0) {
    const uint32_t bytes = request.block_bytes();
    if (bytes < kBlockBytesMin || bytes > kBlockBytesMax || (bytes & (bytes - 1)) != 0) {
      return failure(
          Errc::invalid,
          fmt::format("a block of {} bytes: blocks are 4 KiB to 1 MiB, a power of two", bytes));
    }
    policy.set_block_bytes(bytes);
  }
  if (request.shard_bytes() != 0) {
    const uint32_t bytes = request.shard_bytes();
    if (!is_recorded_shard_bytes(bytes)) {
      return failure(
          Errc::invalid,
          fmt::format("a shard of {} bytes: shards are 64 KiB to 4 MiB, a power of two", bytes));
    }
    policy.set_shard_bytes(recorded_shard_bytes(bytes));
  }
  if (policy.block_bytes() > shard_bytes_of(policy.shard_bytes())) {
    return failure(
        Errc::invalid,
        fmt::format("blocks of {} KiB do not fit into shards of {} KiB: set --block and "
                    "--shard together",
                    policy.block_bytes() >> 10, shard_bytes_of(policy.shard_bytes()) >> 10));
  }
  if (request.compress() == "zstd") {
    policy.set_compression(static_cast<uint32_t>(Compression::zstd));
  } else if (request.compress() == "none") {
    policy.set_compression(static_cast<uint32_t>(Compression::none));
  } else if (!request.compress().empty()) {
    return failure(Errc::invalid, fmt::format("compression \"{}\" is not known: zstd or none",
                                              request.compress()));
  }
  if (request.has_group()) {
    if (request.group() == 1 || request.group() > kGroupMembersMax) {
      return failure(Errc::invalid, fmt::format("a group of {} stripes: 2 to {}, or 0 for none",
                                                request.group(), kGroupMembersMax));
    }
    policy.set_group(request.group());
  }
  if (request.has_home_site()) {
    Site* home = request.home_site().empty() ? nullptr : sites.find(request.home_site());
    if (home == nullptr && !request.home_site().empty()) {
      return failure(Errc::not_found,
                     fmt::format("the cloud has no site \"{}\"; `datacloud status` "
                                 "lists them",
                                 request.home_site()));
    }
    policy.set_home_site(home != nullptr ? home->id() : 0);
  }
  return success();
}

}  // namespace

Answer MetadataService::admin(const CallPtr& call) {
  pb::AdminRequest request;
  if (!request.ParseFromString(call->request.admin())) {
    return failure(Errc::invalid, "the administrator's request does not parse");
  }
  if (auto no = forbidden(*call, request)) return failure(*no);
  switch (request.op_case()) {
    case pb::AdminRequest::kNode:
      return node(call, request.node());
    case pb::AdminRequest::kPolicy:
      return policy(call, request.policy());
    case pb::AdminRequest::kWatch:
      return watch(call, request.watch());
    case pb::AdminRequest::kFeature:
      return feature(call, request.feature());
    case pb::AdminRequest::kTree:
      return maintenance_->tree(call, request.tree(), features_.has(Feature::trees));
    case pb::AdminRequest::kJournal:
      return journal(call, request.journal());
    case pb::AdminRequest::kLeader:
      return leader(call, request.leader());
    case pb::AdminRequest::kSiteKey:
      return site_key(call, SiteId{request.site_key().site()});
    case pb::AdminRequest::kLocatePart:
      return locate_part(request.locate_part());
    default:
      return maintenance_->admin(call, request);
  }
}

// What is there already keeps its policy; what is made in the directory from now on inherits it.
Answer MetadataService::policy(const CallPtr& call, const pb::PolicyRequest& request) {
  Transaction txn = store_.begin();
  TRY(auto inode,
      request.path().empty() ? get_inode(txn, request.ino()) : resolve_path(txn, request.path()));
  pb::AdminReply admin;
  auto& out = *admin.mutable_policy();
  if (request.change()) {
    if (!S_ISDIR(inode.mode())) {
      return failure(Errc::invalid,
                     "policies are set on directories; a file keeps the one it was "
                     "made with");
    }
    TRY(change_policy(request, deps_.sites, *inode.mutable_policy()));
    txn.put(key::inode(inode.ino()), inode);
    TRY(committer_.apply(std::move(txn)));
  }
  TRY(const auto code, make_erasure_code(inode.policy().code()));
  *out.mutable_policy() = inode.policy();
  if (S_ISDIR(inode.mode())) {
    TRY(*out.mutable_path(), directory_path(store_.begin(), inode.ino()));
  }
  Site* home = deps_.sites.find(SiteId{inode.policy().home_site()});
  out.set_tolerance(
      compute_tolerance(*code, static_cast<int>(deps_.sites.size()), home != nullptr).text);
  out.set_overhead(double(code->n()) / code->k());
  out.set_k(code->k());
  if (home != nullptr) {
    out.set_home_site(home->name());
    out.set_home_columns(home_columns(*code));
  }
  if (!request.change()) return std::optional(wrapped(admin));
  answer_when_durable(call, wrapped(admin));
  return later();
}

// Of a site that has joined since the mount said hello.
Answer MetadataService::site_key(const CallPtr& call, SiteId site) {
  if (session_of(*call).tool()) {
    return failure(Errc::invalid, "this request is for mounts only");
  }
  const auto key = deps_.audit_keys.find(site);
  if (key == deps_.audit_keys.end()) {
    return failure(Errc::not_found, fmt::format("the cloud has no site number {}", site));
  }
  pb::AdminReply admin;
  admin.mutable_site_key()->set_key(std::string(as_text(key->second.view())));
  return std::optional(wrapped(admin));
}

}  // namespace datacloud
