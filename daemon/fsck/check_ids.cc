// Counters against what they have given out, grants, stored replies, pending deletions, totals.
#include <fmt/format.h>

#include "daemon/fsck/record_passes.h"
#include "daemon/jobs/background_context.h"
#include "daemon/sessions/retired_mark.h"

namespace datacloud {
namespace {

std::string big_endian(uint64_t value) { return key::inode(value).substr(1); }

class Ids {
 public:
  explicit Ids(RecordPasses& p) : p_(p) {}

  result<void> run() {
    TRY(inodes_, counter("next_id/inode", "inode ids", p_.ino_max));
    TRY(stripes_, counter("next_id/stripe", "stripe ids", p_.stripe_max));
    TRY(instances_, counter("next_id/instance", "instance ids", p_.instance_max));
    TRY(versions_, counter("next_id/version", "content versions",
                           p_.version_max == 0 ? 0 : p_.version_max - 1));
    if (p_.tree_max > 0) {
      TRY(counter("next_id/tree", "tree ids", p_.tree_max, kTreeJump));
    }
    TRY(grants());
    TRY(retired());
    TRY(replies());
    TRY(pending());
    return totals();
  }

 private:
  // Far behind: also ids that were given out and are not named any more stay used.
  static constexpr uint64_t kJump = uint64_t{1} << 40;
  static constexpr uint64_t kTreeJump = uint64_t{1} << 16;  // they have 32 bits

  // An id at or above the counter would be given out a second time. Returns the counter.
  result<uint64_t> counter(const char* name, const char* what, uint64_t used_max,
                           uint64_t jump = kJump) {
    const std::string k = key::meta(name);
    TRY(auto raw, p_.view.get(k));
    const bool whole = !raw || raw->size() == 8;
    const uint64_t next = raw && whole ? key::u64_at(*raw, 0) : 1;
    if (whole && (next > used_max || (used_max == kRootInode && !raw))) return next;
    p_.add({.kind = "ids",
            .text = fmt::format("the counter of {} would give {} again", what, used_max),
            .action = "it jumps far behind",
            .records = {replaced(k, std::move(raw), big_endian(used_max + jump))},
            .offline_only = true});
    return used_max + jump;
  }

  result<void> grants() {
    auto at = p_.view.scan_all('G');
    for (; at.valid(); at.next()) {
      TRY(p_.count());
      pb::GrantedRange range;
      const bool whole = at.key().size() == 10 && parses(at.value(), range);
      const uint64_t next = whole ? next_of(range.kind()) : 0;
      std::string wrong;
      if (!whole) {
        wrong = "a record of granted ids does not parse";
      } else if (range.count() == 0 || range.first() + range.count() > next) {
        wrong = fmt::format("ids {} to {} are granted and were never given out", range.first(),
                            range.first() + range.count());
      } else if (range.session() != kDaemonSession) {
        TRY(const auto session, p_.view.get(key::session(range.session())));
        if (session) continue;
        wrong = fmt::format("ids are granted to session {}, which does not exist", range.session());
      } else {
        continue;
      }
      p_.add({.kind = "ids",
              .text = std::move(wrong),
              .action = "the grant is revoked",
              .records = {erased(at)},
              .offline_only = true});
    }
    return at.status();
  }

  uint64_t next_of(uint32_t kind) const {
    switch (static_cast<IdKind>(kind)) {
      case IdKind::stripe:
        return stripes_;
      case IdKind::instance:
        return instances_;
      case IdKind::version:
        return versions_;
      case IdKind::inode:
        return inodes_;
    }
    return 0;
  }

  // Marks of sessions that have ended and whose mounts may come back.
  result<void> retired() {
    auto at = p_.view.scan_all('A');
    for (; at.valid(); at.next()) {
      const std::string_view name = std::string_view(at.key()).substr(1);
      if (!name.starts_with(kRetiredMark)) continue;
      TRY(p_.count());
      const SessionId id = retired_of_mark(at.key());
      if (id != 0) {
        TRY(const auto session, p_.view.get(key::session(id)));
        if (session) continue;
      }
      p_.add({.kind = "ids",
              .text = fmt::format("session {} is marked as ended and does not exist", id),
              .action = "its mark is erased",
              .records = {erased(at)}});
    }
    return at.status();
  }

  result<void> replies() {
    auto at = p_.view.scan_all('Q');
    while (at.valid()) {
      TRY(p_.count());
      const SessionId session = id_at(at);
      if (at.key() == key::pending_fence()) {
        at.next();
        continue;
      }
      TRY(const auto record, p_.view.get(key::session(session)));
      if (record) {
        at.seek(key::after_prefix(key::reply(session, 0).substr(0, 9)));
        continue;
      }
      p_.add({.kind = "ids",
              .text = fmt::format("a reply for session {}, which does not exist", session),
              .action = "it is erased",
              .records = {erased(at)}});
      at.next();
    }
    return at.status();
  }

  result<void> pending() {
    auto at = p_.view.scan_all('P');
    uint64_t last = 0;
    for (; at.valid(); at.next()) {
      TRY(p_.count());
      last = id_at(at);
      pb::PendingDeletion deletion;
      const bool whole = at.key().size() == 9 && parses(at.value(), deletion);
      pb::Stripe stripe;
      bool named = false;
      if (whole) {
        TRY(named, p_.view.get(key::stripe(deletion.stripe()), stripe));
        const auto column = static_cast<int>(deletion.column());
        named = named && column < stripe.shards_size() &&
                stripe.shards(column).instance() == deletion.instance() &&
                stripe.shards(column).state() == pb::SHARD_PRESENT;
      }
      if (whole && !named) continue;
      p_.add({.kind = "stripe",
              .text = named ? fmt::format("column {} of stripe {} is to be deleted and in use",
                                          deletion.column(), deletion.stripe())
                            : std::string("a pending deletion does not parse"),
              .action = "it is kept",
              .records = {erased(at)}});
    }
    TRY(at.status());
    TRY(counter("next_pending", "pending deletions", last));
    return success();
  }

  result<void> totals() {
    if (!p_.recount_whole) return success();
    TRY(const auto raw, p_.view.get(key::meta("totals")));
    Totals stored;
    const bool whole = raw && decode_totals(*raw, stored);
    if (whole && stored == p_.recount) return success();
    Finding finding{.kind = "totals",
                    .text = "the totals are not what the records add up to",
                    .action = "they are counted anew"};
    if (whole) {
      finding.off_by = difference(p_.recount, stored);
    } else {
      finding.records = {replaced(key::meta("totals"), raw, encode_totals(p_.recount))};
    }
    p_.add(std::move(finding));
    return success();
  }

  RecordPasses& p_;
  uint64_t inodes_ = 0, stripes_ = 0, instances_ = 0, versions_ = 0;
};

}  // namespace

result<void> check_ids(RecordPasses& passes) { return Ids(passes).run(); }

}  // namespace datacloud
