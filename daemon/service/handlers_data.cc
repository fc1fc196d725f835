// Block maps, commits of new stripes, and what mounts report about objects.
//
// A commit is checked before it is used: its ids must lie in live ranges of its session, its
// stripes must be decodable and at known sites, and it may map only slots of its own stripes, each
// once.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "common/base/inode_flags.h"
#include "common/stripe/write_quorum.h"
#include "daemon/maintenance/maintenance.h"
#include "daemon/records/block_map.h"
#include "daemon/records/clone_rules.h"
#include "daemon/records/inline_blocks.h"
#include "daemon/records/inline_commit.h"
#include "daemon/records/namespace_ops.h"
#include "daemon/records/stripe_groups.h"
#include "daemon/repair/site_jobs.h"
#include "daemon/service/service.h"

namespace datacloud {
namespace {

constexpr uint64_t kFileBytesMax = uint64_t{1} << 60;
constexpr int kReportsMax = 4096;  // objects abandoned or found bad, per request
constexpr uint32_t kSpecialModeBits = 06000;

bool is_gone(const Error& error) { return error.code() == std::errc::no_such_file_or_directory; }

// Every run lies in the slots of a stripe of this commit, and no slot is mapped twice.
result<void> check_runs(const pb::CommitRequest& request) {
  std::map<StripeId, std::vector<bool>> slots;
  for (const auto& stripe : request.stripes()) slots[stripe.id()].resize(stripe.slot_length_size());
  for (const auto& update : request.updates()) {
    for (const auto& run : update.runs()) {
      if (inline_blocks::has_records(run)) continue;  // names no stripe (Pieces::of)
      const auto it = slots.find(run.stripe());
      if (it == slots.end()) {
        return failure(Errc::invalid, fmt::format("inode {} maps stripe {}, which this commit does "
                                                  "not bring",
                                                  update.ino(), run.stripe()));
      }
      auto& mapped = it->second;
      if (run.count() == 0 || run.first_slot() >= mapped.size() ||
          run.count() > mapped.size() - run.first_slot()) {
        return failure(Errc::invalid, fmt::format("inode {} maps slots stripe {} does not have",
                                                  update.ino(), run.stripe()));
      }
      for (uint32_t i = 0; i < run.count(); ++i) {
        if (mapped[run.first_slot() + i]) {
          return failure(Errc::invalid, fmt::format("slot {} of stripe {} is mapped twice",
                                                    run.first_slot() + i, run.stripe()));
        }
        mapped[run.first_slot() + i] = true;
      }
    }
  }
  return success();
}

// As the mount sent it, but for homes at sites that have left: such a shard is at home where it is.
pb::Stripe without_homes(pb::Stripe stripe, SiteSet& sites) {
  for (auto& shard : *stripe.mutable_shards()) {
    if (shard.home_site() != 0 && sites.find(SiteId{shard.home_site()}) == nullptr) {
      shard.set_home_site(shard.site());
    }
  }
  return stripe;
}

}  // namespace

Answer MetadataService::map(const CallPtr& call) {
  return answer_apart(call,
                      [request = call->request.map()](const Transaction& txn) -> result<pb::Reply> {
                        TRY(auto map, read_map(txn, request));
                        pb::Reply reply;
                        *reply.mutable_map() = std::move(map);
                        return reply;
                      });
}

result<void> MetadataService::check_stripe(const pb::Stripe& stripe, SessionId session) const {
  const auto text = [&](const std::string& what) {
    return fmt::format("stripe {}: {}", stripe.id(), what);
  };
  TRY(validate_stripe(stripe));
  if (!ranges_.granted(session, IdKind::stripe, stripe.id(), 1)) {
    return failure(Errc::revoked, text("its id is not granted to this mount any more"));
  }
  TRY(const auto code, make_erasure_code(stripe.code()));
  ColumnSet usable = 0;
  for (int c = 0; c < stripe.shards_size(); ++c) {
    const auto& shard = stripe.shards(c);
    if (shard.state() == pb::SHARD_MISSING) continue;
    usable |= ColumnSet{1} << c;
    if (shard.state() != pb::SHARD_PRESENT) continue;
    if (!ranges_.granted(session, IdKind::instance, shard.instance(), 1)) {
      return failure(Errc::revoked, text(fmt::format("instance {} is not granted to this mount any "
                                                     "more",
                                                     shard.instance())));
    }
    // A mount that does not know this yet puts its shards elsewhere, under new ids.
    if (maintenance_->is_leaving(shard.site())) {
      return failure(Errc::revoked, text(fmt::format("site {} is being removed", shard.site())));
    }
    // The same when the site has left meanwhile; homes that have left are dropped (without_homes).
    if (deps_.sites.find(SiteId{shard.site()}) == nullptr) {
      TRY(const bool left,
          has_left(store_.begin(), [&](const auto& info) { return info.id() == shard.site(); }));
      return failure(left ? Errc::revoked : Errc::invalid,
                     text(fmt::format("there is no site {}", shard.site())));
    }
  }
  if (!decodes(*code, usable)) {
    return failure(Errc::invalid, text(fmt::format("{} of {} columns are stored; the others "
                                                   "cannot be computed from them",
                                                   __builtin_popcount(usable), code->n())));
  }
  return success();
}

result<void> MetadataService::check_commit(const pb::CommitRequest& request,
                                           SessionId session) const {
  for (const auto& stripe : request.stripes()) {
    TRY(check_stripe(stripe, session));
  }
  TRY(check_runs(request));
  TRY(check_clones(request));
  TRY(const auto pieces, inline_blocks::Pieces::of(request));
  if (!pieces.empty() && !features_.has(Feature::inline_data)) {
    return failure(
        Errc::invalid,
        "a commit brings bytes for the metadata: the cloud does not use inline; `datacloud "
        "feature enable inline`");
  }
  for (const auto& update : request.updates()) {
    if (update.clones_size() > 0 && !features_.has(Feature::shared_slots)) {
      return failure(Errc::invalid, fmt::format("inode {}: the cloud does not use shared-slots; "
                                                "`datacloud feature enable shared-slots`",
                                                update.ino()));
    }
    if (update.truncate_to() > kFileBytesMax || update.grow_to() > kFileBytesMax) {
      return failure(Error::posix(EFBIG, fmt::format("inode {}", update.ino())));
    }
    TRY(check_reservations(update));
    TRY(check_sent_time(update.has_mtime(), update.mtime(), update.has_mtime_ns(), time_range()));
    for (const auto& run : update.runs()) {
      if (ranges_.granted(session, IdKind::version, run.version(), run.count())) continue;
      return failure(Errc::revoked,
                     fmt::format("inode {}: content versions from {} are not granted to this mount "
                                 "any more",
                                 update.ino(), run.version()));
    }
  }
  return success();
}

// Last, when it is known which members live. A row was computed from what this mount wrote: a
// member that background work has touched since may hold something else. Without its row it just
// stays ungrouped.
result<void> MetadataService::add_rows(Transaction& txn, const pb::CommitRequest& request,
                                       SessionId session) const {
  for (const auto& row : request.stripes()) {
    if (!is_row(row)) continue;
    TRY(add_row(txn, without_homes(row, deps_.sites), [&](const pb::Stripe& member) {
      return std::all_of(member.shards().begin(), member.shards().end(),
                         [&](const pb::Shard& shard) {
                           return shard.state() != pb::SHARD_PRESENT ||
                                  ranges_.granted(session, IdKind::instance, shard.instance(), 1);
                         });
    }));
  }
  return success();
}

// The lease on a source says that no other mount has data for it that are not committed yet.
result<bool> MetadataService::may_clone(const Transaction& txn, const pb::Inode& target,
                                        const pb::InodeUpdate& update, SessionId session) const {
  for (const auto& clone : update.clones()) {
    if (leases_.held(session, clone.from_ino()) < pb::LEASE_READ) return false;
  }
  return may_share(txn, target, update);
}

// Whether the update's bytes go into the records. When not, the mount sends whole blocks in
// stripes.
result<bool> MetadataService::may_keep(const Transaction& txn, const pb::Inode& inode,
                                       const pb::InodeUpdate& update,
                                       const inline_blocks::Pieces& pieces, bool room) const {
  if (std::none_of(update.runs().begin(), update.runs().end(), inline_blocks::has_records))
    return true;
  if (!room) return false;
  return inline_blocks::may_patch(txn, inode, update, pieces, deps_.config.block_patches_max);
}

// What was acknowledged is made again, whatever room there is.
bool MetadataService::take_room(uint64_t bytes, bool again) {
  if (bytes == 0 || !again) return bytes == 0 || inline_room_.takes(bytes);
  inline_room_.add(bytes);
  return true;
}

Answer MetadataService::commit_data(const CallPtr& call) {
  const auto& request = call->request.commit();
  TRY(check_commit(request, call->session));
  const bool reserves =
      std::any_of(request.updates().begin(), request.updates().end(),
                  [](const pb::InodeUpdate& update) { return update.reserve_size() > 0; });
  const bool resending = session_of(*call).resending;
  if (reserves && !resending && !knows_space(call)) return later();
  Transaction txn = store_.begin();
  for (const auto& stripe : request.stripes()) {
    if (is_row(stripe)) continue;
    TRY(add_stripe(txn, without_homes(stripe, deps_.sites)));
  }
  TRY(const auto pieces, inline_blocks::Pieces::of(request));
  const bool room = take_room(pieces.bytes(), resending);
  pb::Reply reply;
  for (const auto& sent : request.updates()) {
    auto* outcome = reply.mutable_commit()->add_outcomes();
    const auto inode = get_inode(txn, sent.ino());
    if (!inode) {
      if (!is_gone(inode.error())) return failure(inode.error());
      outcome->set_outcome(pb::UpdateOutcome::GONE);
      continue;
    }
    // What was committed and lost with the records needs no lease: nobody else was told of a later
    // state, and it follows only the one it did.
    const bool again = resending && sent.follows_size() > 0;
    if (!again && leases_.held(call->session, sent.ino()) != pb::LEASE_WRITE) {
      return failure(Errc::stale, fmt::format("the write lease on inode {} is lost", sent.ino()));
    }
    // What was written before a flag was set has come before it: the lease was recalled for that.
    const bool cut = sent.has_truncate_to() && sent.truncate_to() < inode.value().size();
    const uint32_t flags = inode.value().flags();
    if (!again && ((flags & kInodeImmutable) || ((flags & kInodeAppend) && cut))) {
      outcome->set_outcome(pb::UpdateOutcome::OVERTAKEN);
      continue;
    }
    if (!may_follow(inode.value(), sent)) {
      outcome->set_outcome(pb::UpdateOutcome::OVERTAKEN);
      continue;
    }
    TRY(const bool can_share, may_clone(txn, inode.value(), sent, call->session));
    TRY(const bool can_keep, may_keep(txn, inode.value(), sent, pieces, room));
    if (!can_share || !can_keep) {
      outcome->set_outcome(pb::UpdateOutcome::NOT_SHARED);
      continue;
    }
    bool fits = true;
    if (features_.has(Feature::reservations) && !resending) {
      TRY(fits, has_space(txn, inode.value(), sent));
    }
    if (!fits) {
      maintenance_->get_space([](const SiteSpace::Report&) {});  // there may be room by now
      outcome->set_outcome(pb::UpdateOutcome::NO_SPACE);
      continue;
    }
    pb::InodeUpdate update = sent;
    // A write may only drop set-user-id and set-group-id; permissions change by setattr.
    if (update.has_mode()) {
      update.set_mode(inode.value().mode() & (update.mode() | ~kSpecialModeBits));
    }
    TRY(const auto updated,
        inline_blocks::update_with(txn, update, pieces, deps_.config.block_patches_max));
    outcome->set_blocks_mapped(updated.blocks_mapped());
    outcome->set_size(updated.size());
    outcome->set_blocks_reserved(updated.blocks_reserved());
  }
  // Slots may have stayed unmapped in any stripe of a dropped update.
  std::vector<StripeId> ids;
  for (const auto& stripe : request.stripes()) ids.push_back(stripe.id());
  if (!ids.empty()) {
    TRY(drop_unmapped_stripes(txn, ids));
  }
  TRY(add_rows(txn, request, call->session));
  TRY(commit(std::move(txn), *call, reply));
  note_stored(request);
  maintenance_->deletions_added();
  const Duration held_back = maintenance_->commit_delay();
  if (held_back > Duration::zero()) {  // folding has to catch up
    loop_.after(held_back, [this, call, reply, durable = request.durable()] {
      durable ? answer_when_durable(call, reply) : answer(call, reply);
    });
    return later();
  }
  if (!request.durable()) return std::optional(std::move(reply));
  answer_when_durable(call, std::move(reply));
  return later();
}

// The ids are revoked one by one, so that no later commit can name what is about to be deleted.
Answer MetadataService::abandon(const CallPtr& call) {
  const auto& objects = call->request.abandon().objects();
  if (objects.size() > kReportsMax) {
    return failure(Errc::invalid, fmt::format("more than {} objects at once", kReportsMax));
  }
  Transaction txn = store_.begin();
  for (const auto& object : objects) {
    if (object.column() >= 32 || deps_.sites.find(object.site()) == nullptr) continue;
    // Objects whose ids this mount does not hold (any more) are found by the garbage scrub.
    if (!ranges_.granted(call->session, IdKind::instance, object.instance(), 1)) continue;
    TRY(const auto stripe, get_stripe(txn, object.stripe()));
    if (stripe &&
        std::any_of(stripe->shards().begin(), stripe->shards().end(), [&](const pb::Shard& shard) {
          return shard.state() == pb::SHARD_PRESENT && shard.instance() == object.instance();
        })) {
      continue;
    }
    ranges_.revoke(txn, call->session, IdKind::instance, object.instance());
    TRY(add_pending_deletion(txn, object));
    session_of(*call).abandoned = true;
  }
  pb::Reply reply;
  TRY(commit(std::move(txn), *call, reply));
  maintenance_->deletions_added();
  return std::optional(std::move(reply));
}

Answer MetadataService::damage(const CallPtr& call) {
  const auto& found = call->request.damage().found();
  if (found.size() > kReportsMax) {
    return failure(Errc::invalid, fmt::format("more than {} reports at once", kReportsMax));
  }
  Transaction txn = store_.begin();
  for (const auto& damage : found) {
    if (deps_.sites.find(damage.site()) == nullptr) continue;
    TRY(record_damage(txn, damage));
  }
  pb::Reply reply;
  TRY(commit(std::move(txn), *call, reply));
  return std::optional(std::move(reply));
}

Answer MetadataService::sync(const CallPtr& call) {
  answer_when_durable(call, pb::Reply());
  return later();
}

}  // namespace datacloud
