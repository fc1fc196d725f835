// fsck through the daemon: records against each other at once, sites against records in the
// background. Nothing is changed without `repair`, and metadata only while no mount is connected.
#include <fmt/format.h>

#include "common/admin.pb.h"
#include "common/log.h"
#include "daemon/block_map.h"
#include "daemon/fsck.h"
#include "daemon/service.h"

namespace datacloud {
namespace {

constexpr int kFindingsMax = 10'000;

std::optional<pb::Reply> wrapped(const pb::FsckReply& fsck) {
  pb::AdminReply admin;
  *admin.mutable_fsck() = fsck;
  pb::Reply reply;
  reply.set_admin(admin.SerializeAsString());
  return reply;
}

}  // namespace

struct MetadataService::FsckRun {
  pb::FsckReply reply;
};

MetadataService::Answer MetadataService::fsck(const pb::FsckRequest& request) {
  if (request.run() != 0) {
    if (!fsck_ || fsck_->reply.run() != request.run()) {
      return failure(Errc::not_found, fmt::format("there is no fsck number {}", request.run()));
    }
    fsck_->reply.set_objects_checked(missing_scrub_.progress().shards_checked);
    return wrapped(fsck_->reply);
  }
  if (fsck_ && !fsck_->reply.done()) {
    return failure(Errc::unavailable, "another fsck is running; wait for it to end");
  }
  auto run = std::make_shared<FsckRun>();
  run->reply.set_run(fsck_ ? fsck_->reply.run() + 1 : 1);
  TRY(fsck_records(request.repair(), run->reply));
  fsck_ = run;
  if (!request.sites()) {
    run->reply.set_done(true);
    return wrapped(run->reply);
  }
  const auto over = [run] { run->reply.set_done(true); };
  const auto told = [this, run, repair = request.repair()](const std::vector<pb::Damage>& found) {
    for (const auto& damage : found) add_missing(damage, repair, run->reply);
    if (!repair) return;
    Transaction txn = store_.begin();
    for (const auto& damage : found) (void)record_damage(txn, damage);
    (void)commit(std::move(txn));
    repairer_.kick();
  };
  if (!missing_scrub_.look_only(over, told)) {
    run->reply.set_failure("another search of the sites is running; try again");
    run->reply.set_done(true);
  }
  return wrapped(run->reply);
}

void MetadataService::add_missing(const pb::Damage& damage, bool repair, pb::FsckReply& reply) {
  reply.set_findings_total(reply.findings_total() + 1);
  if (reply.findings_size() >= kFindingsMax) return;
  Site* site = deps_.sites.find(damage.site());
  auto* finding = reply.add_findings();
  finding->set_kind("missing");
  finding->set_text(fmt::format("stripe {} column {} is missing at site {}", damage.stripe(),
                                damage.column(), site != nullptr ? site->name() : "?"));
  finding->set_action("it is rebuilt from the others");
  finding->set_mended(repair);
  if (repair) reply.set_mended_total(reply.mended_total() + 1);
}

result<void> MetadataService::fsck_records(bool repair, pb::FsckReply& reply) {
  bool mounted = false;
  for (const auto& [id, session] : sessions_.all()) mounted = mounted || !session->tool();
  Transaction txn = store_.begin();
  const bool mend = repair && !mounted;
  bool new_ino_used = false;
  TRY(fsck_metadata(txn, mend, reply, [&] {
    new_ino_used = true;
    return inode_ids_.peek(txn);
  }));
  if (repair && mounted && reply.findings_total() > 0) {
    reply.set_failure(
        "metadata is mended only while nothing is mounted: unmount and run fsck again");
  }
  if (mend && !txn.empty()) {
    TRY(commit(std::move(txn)));
    if (new_ino_used) inode_ids_.take();
  }
  return success();
}

}  // namespace datacloud
