// Audits as the administrator asks for them.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

#include "daemon/maintenance/maintenance.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/namespace_ops.h"

namespace datacloud {
namespace {

constexpr int kPathsMax = 1000;
constexpr size_t kInodesMax = 1'000'000;  // below the paths of one audit
constexpr size_t kStripesMax = 1'000'000;

// The regular files at and below an inode.
result<void> files_below(const Transaction& txn, const pb::Inode& top,
                         std::vector<InodeId>& files) {
  std::vector<InodeId> directories;
  if (S_ISDIR(top.mode())) {
    directories.push_back(top.ino());
  } else {
    files.push_back(top.ino());
  }
  while (!directories.empty()) {
    const InodeId directory = directories.back();
    directories.pop_back();
    const std::string prefix = key::entry(directory, "");
    TRY(txn.scan(prefix, key::after_prefix(prefix), [&](std::string_view, std::string_view v) {
      pb::Entry entry;
      if (!entry.ParseFromArray(v.data(), static_cast<int>(v.size()))) return true;
      if (S_ISDIR(entry.type())) directories.push_back(entry.ino());
      if (S_ISREG(entry.type())) files.push_back(entry.ino());
      return files.size() + directories.size() < kInodesMax;
    }));
    if (files.size() + directories.size() >= kInodesMax) {
      return failure(Errc::invalid, fmt::format("more than {} files below the paths: audit "
                                                "everything, or fewer paths",
                                                kInodesMax));
    }
  }
  return success();
}

}  // namespace

Answer Maintenance::audit(const CallPtr& call) {
  const auto& request = call->request.audit();
  uint64_t run = request.run();
  if (run == 0) {
    if (request.paths_size() + request.inodes_size() > kPathsMax) {
      return failure(Errc::invalid, fmt::format("more than {} paths at once", kPathsMax));
    }
    Auditor::Scope scope;
    scope.shard_samples = request.shard_samples();
    scope.block_samples = request.block_samples();
    const Transaction txn = store_.begin();
    std::vector<pb::Inode> tops;
    for (const auto& path : request.paths()) {
      TRY(tops.emplace_back(), resolve_path(txn, path));
    }
    for (const InodeId ino : request.inodes()) {
      TRY(tops.emplace_back(), get_inode(txn, ino));
    }
    for (const auto& top : tops) {
      std::vector<InodeId> files;
      TRY(files_below(txn, top, files));
      for (const InodeId ino : files) {
        TRY(const auto found, stripes_of_inode(txn, ino, kStripesMax));
        const auto& stripes = found.ids;
        scope.stripes.insert(scope.stripes.end(), stripes.begin(), stripes.end());
      }
    }
    std::sort(scope.stripes.begin(), scope.stripes.end());
    scope.stripes.erase(std::unique(scope.stripes.begin(), scope.stripes.end()),
                        scope.stripes.end());
    scope.everything = tops.empty();
    TRY(run, auditor_.start(std::move(scope)));
  }
  pb::Reply reply;
  TRY(auditor_.describe(run, *reply.mutable_audit()));
  add_site_infos(reply.mutable_audit()->mutable_sites());
  return std::optional(std::move(reply));
}

Answer Maintenance::audit_export(const pb::AuditExportRequest& request) {
  pb::AdminReply admin;
  TRY(*admin.mutable_audit_export(), audit_exports_.page(request));
  return std::optional(wrapped(admin));
}

Answer Maintenance::audit_standing(const pb::AuditStandingRequest& request) {
  pb::AdminReply admin;
  TRY(*admin.mutable_audit_standing(), audit_exports_.standing(request));
  return std::optional(wrapped(admin));
}

Answer Maintenance::audit_log() {
  pb::AdminReply admin;
  auto& log = *admin.mutable_audit_log();
  log.set_log(auditor_.log().SerializeAsString());
  add_site_infos(log.mutable_sites());
  return std::optional(wrapped(admin));
}

}  // namespace datacloud
