// Inodes with their attributes, block runs and orphan records, side by side by inode.
//
// An inode without a record, or with one that does not parse, is rebuilt from what belongs to it:
// a file from its runs, a directory from its entries. What it was called then still names it.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

#include "common/base/features.h"
#include "common/base/inode_flags.h"
#include "daemon/fsck/acl_findings.h"
#include "daemon/fsck/inode_times.h"
#include "daemon/fsck/lost_runs.h"
#include "daemon/fsck/record_passes.h"
#include "daemon/records/block_map.h"
#include "daemon/records/namespace_records.h"
#include "daemon/records/reservations.h"

namespace datacloud {
namespace {

using Cursor = RecordSnapshot::Cursor;

// What belongs to one inode.
struct Gathered {
  InodeId ino = 0;
  pb::Inode record;
  std::optional<std::string> raw;  // as stored
  bool parsed = false;
  uint64_t attributes = 0, blocks = 0, mapped_end = 0;
  uint32_t acls = 0;                    // the flags of those that it has
  std::optional<uint64_t> cookie_last;  // of a directory's positions
  bool runs = false, entries = false;
  bool last_block = false;  // the block the file ends in is mapped
  bool broken_runs = false;
  std::optional<StoredRun> last;
  std::vector<RecordChange> stale;
  std::optional<std::string> reservation;  // as stored
  reservations::Held held;                 // as it should be
  uint64_t held_mapped = 0;                // blocks of it with contents
};

class InodeRecords {
 public:
  explicit InodeRecords(RecordPasses& p) : p_(p) {}

  result<void> run() {
    pb::Cloud cloud;
    TRY(p_.view.get(key::meta("cloud"), cloud));
    policy_ = cloud.root_policy();
    for (;;) {
      const uint64_t next = std::min({id_at(inodes_), id_at(attributes_), id_at(runs_),
                                      id_at(orphans_), id_at(entries_), id_at(reservations_)});
      if (next == ~uint64_t{0}) break;
      Gathered at{.ino = next};
      TRY(gather(at));
      if (at.parsed) {
        check(at);
      } else {
        make_anew(at);
      }
    }
    for (const Cursor* cursor :
         {&inodes_, &attributes_, &runs_, &orphans_, &entries_, &reservations_}) {
      TRY(cursor->status());
    }
    return success();
  }

 private:
  result<void> gather(Gathered& at) {
    for (; id_at(inodes_) == at.ino && inodes_.valid(); inodes_.next()) {
      TRY(p_.count());
      at.raw = std::string(inodes_.value());
      at.parsed = inodes_.key().size() == 9 && parses(inodes_.value(), at.record) &&
                  names::validate_inode(at.ino, at.record);
      if (at.parsed) {
        check_block_size(at);
        check_times(at);
        check_flags(at);
      }
      p_.ino_max = std::max(p_.ino_max, at.ino);
    }
    for (; id_at(attributes_) == at.ino && attributes_.valid(); attributes_.next()) {
      TRY(p_.count());
      ++at.attributes;
      if (at.parsed) check_acl(p_, attributes_, at.record, at.raw, at.acls, at.attributes);
      if (!at.parsed && at.stale.size() < p_.limits.findings_max) {
        at.stale.push_back(erased(attributes_));
      }
    }
    if (at.parsed) check_acl_flags(at);
    for (; id_at(orphans_) == at.ino && orphans_.valid(); orphans_.next()) {
      TRY(p_.count());
      if (!at.parsed) at.stale.push_back(erased(orphans_));
    }
    for (; id_at(reservations_) == at.ino && reservations_.valid(); reservations_.next()) {
      TRY(p_.count());
      gather_reservation(at);
    }
    for (; id_at(runs_) == at.ino && runs_.valid(); runs_.next()) {
      TRY(p_.count());
      TRY(add_run(at));
    }
    if (id_at(entries_) == at.ino && entries_.valid()) {
      at.entries = true;
      entries_.seek(key::after_prefix(key::entry(at.ino, "")));
    }
    return success();
  }

  // Ranges that touch, overlap or have no order mean the blocks in them.
  void gather_reservation(Gathered& at) {
    const bool file = at.parsed && S_ISREG(at.record.mode());
    pb::Reservation record;
    const bool whole = reservations_.key().size() == 9 && parses(reservations_.value(), record);
    if (!at.parsed || reservations_.key().size() != 9) {
      at.stale.push_back(erased(reservations_));
      if (at.parsed) {
        p_.add({.kind = "namespace",
                .text = "a reservation is stored under a key that is none",
                .action = "it is put into quarantine",
                .records = {erased(reservations_)}});
      }
      return;
    }
    at.reservation = std::string(reservations_.value());
    if (whole && file) at.held = reservations::Held::of(record);
    if (at.held.ranges().empty() || at.held.ranges().size() > reservations::kRangesMax) {
      at.held = {};
      return p_.add({.kind = "namespace",
                     .text = fmt::format("the reservation of inode {} {}", at.ino,
                                         !file    ? "is not of a file"
                                         : !whole ? "does not parse"
                                                  : "has no ranges, or too many"),
                     .action = "it is put into quarantine: the space is given back",
                     .records = {erased(reservations_)}});
    }
    if (const std::string right = at.held.record().SerializeAsString(); right != *at.reservation) {
      p_.add({.kind = "namespace",
              .text = fmt::format("ranges of the reservation of inode {} overlap, touch or are not "
                                  "in order",
                                  at.ino),
              .action = "the blocks in them stay reserved, in the fewest ranges",
              .records = {replaced(key::reservation(at.ino), at.reservation, right)}});
    }
  }

  // Once the runs are known. The flag says whether there is a record, which is what counts.
  void check_reservation(const Gathered& at) {
    using Field = InodeChange::Field;
    const bool any = !at.held.ranges().empty();
    const bool flagged = at.record.flags() & kInodeReserved;
    if (any || flagged || at.record.blocks_reserved() != 0) {
      p_.note_use(std::string(describe(Feature::reservations).name),
                  [&] { return fmt::format("inode {}", at.ino); });
    }
    const uint64_t blocks = at.held.blocks();
    if (any) {
      p_.count_reserved(at.record.tree(), at.record.policy().code(),
                        blocks * at.record.policy().block_bytes());
    }
    const uint64_t right = blocks - std::min(blocks, at.held_mapped);
    if (any != flagged) {
      pb::Inode inode = at.record;
      inode.set_flags(any ? inode.flags() | kInodeReserved : inode.flags() & ~kInodeReserved);
      inode.set_blocks_reserved(any ? right : 0);
      return p_.add(
          {.kind = "namespace",
           .text = any ? fmt::format("inode {} does not know of its reservation", at.ino)
                       : fmt::format("inode {} has no record of what it has reserved", at.ino),
           .action = any ? "it is told" : "it has reserved nothing",
           .records = {replaced(key::inode(at.ino), at.raw, inode.SerializeAsString())}});
    }
    if (right != at.record.blocks_reserved() && !at.broken_runs) {
      p_.add({.kind = "block-map",
              .text = fmt::format("inode {}: {} blocks are reserved and empty, {} are counted",
                                  at.ino, right, at.record.blocks_reserved()),
              .action = "the count is set",
              .inodes = {{at.ino, Field::reserved, at.record.blocks_reserved(), right}}});
    }
  }

  // New stripes would be of another size than the policy meant; nothing that is there depends on
  // it.
  void check_shard_size(Gathered& at) {
    if (names::has_shard_size(at.record)) return;
    const uint32_t was = at.record.policy().shard_bytes();
    at.record.mutable_policy()->clear_shard_bytes();
    p_.add({.kind = "namespace",
            .text = fmt::format("inode {} has shards of {} bytes, which is no size of shards",
                                at.ino, was),
            .action = "it gets the largest size",
            .records = {replaced(key::inode(at.ino), at.raw, at.record.SerializeAsString())}});
  }

  // The runs are counted with the size they get.
  void check_block_size(Gathered& at) {
    if (names::has_block_size(at.record)) return check_shard_size(at);
    const uint32_t was = at.record.policy().block_bytes();
    at.record.mutable_policy()->set_block_bytes(policy_.block_bytes());
    if (!names::has_shard_size(at.record)) at.record.mutable_policy()->clear_shard_bytes();
    p_.add({.kind = "namespace",
            .text = fmt::format("inode {} has blocks of {} bytes, which is no size of blocks",
                                at.ino, was),
            .action = fmt::format("it gets the cloud's, {} bytes", policy_.block_bytes()),
            .records = {replaced(key::inode(at.ino), at.raw, at.record.SerializeAsString())}});
  }

  void check_times(Gathered& at) {
    if (std::string wrong = correct_times(at.record); !wrong.empty()) {
      p_.add({.kind = "namespace",
              .text = fmt::format("inode {}: {}", at.ino, wrong),
              .action = "what is shown now is kept, in the one form for it",
              .records = {replaced(key::inode(at.ino), at.raw, at.record.SerializeAsString())}});
    }
    if (uses_times(at.record)) {
      p_.note_use("times", [&] { return fmt::format("inode {}", at.ino); });
    }
  }

  // A file is without a name from the beginning only as long as it has no links.
  void check_flags(Gathered& at) {
    const uint32_t flags = at.record.flags();
    uint32_t kept = flags & kInodeFlagsKnown;
    if (at.record.nlink() > 0 || !S_ISREG(at.record.mode())) kept &= ~kInodeUnnamed;
    if (!S_ISREG(at.record.mode()) && !S_ISDIR(at.record.mode()))
      kept &= kInodeFlagsInherited | kInodeFlagsOfAcls;
    if (kept & kInodeFlagsOfPrograms) {
      p_.note_use("file-flags", [&] { return fmt::format("inode {}", at.ino); });
    }
    if (kept == flags) return;
    at.record.set_flags(kept);
    p_.add({.kind = "namespace",
            .text = fmt::format("inode {} has flags {:#x}, which are not for it", at.ino,
                                flags & ~kept),
            .action = "they are taken away",
            .records = {replaced(key::inode(at.ino), at.raw, at.record.SerializeAsString())}});
  }

  // A flag that is missing would let everybody in whom the ACL keeps out.
  void check_acl_flags(Gathered& at) {
    const uint32_t flags = at.record.flags() & kInodeFlagsOfAcls;
    if (at.acls != 0) {
      p_.note_use("posix-acl", [&] { return fmt::format("inode {}", at.ino); });
    }
    if (flags == at.acls) return;
    at.record.set_flags((at.record.flags() & ~kInodeFlagsOfAcls) | at.acls);
    p_.add({.kind = "namespace",
            .text = fmt::format("inode {} says {:#x} of its ACLs, and has those of {:#x}", at.ino,
                                flags, at.acls),
            .action = "it says what it has",
            .records = {replaced(key::inode(at.ino), at.raw, at.record.SerializeAsString())}});
  }

  result<void> add_run(Gathered& at) {
    pb::Run run;
    at.runs = true;
    if (!parses(runs_.value(), run) || !is_run(runs_.key(), run)) {  // check_runs.cc
      at.broken_runs = true;
      return success();
    }
    if (at.parsed && S_ISDIR(at.record.mode())) {
      p_.add({.kind = "block-map",
              .text = fmt::format("run {} of inode {}, which is a directory", run.first_block(),
                                  at.ino),
              .action = "it is erased",
              .records = {erased(runs_)}});
      return success();
    }
    if (is_lost(run)) p_.report.blocks_lost += run.count();
    if (run.first_block() < at.mapped_end && at.last) {
      TRY(overlapped(at, run));
    }
    at.last = StoredRun{at.ino, run, std::string(runs_.value()), std::nullopt};
    at.mapped_end = std::max<uint64_t>(at.mapped_end, run.first_block() + run.count());
    at.blocks += run.count();
    at.held_mapped += at.held.overlap(run.first_block(), run.first_block() + run.count());
    p_.version_max = std::max<uint64_t>(p_.version_max, run.version() + run.count());
    const uint64_t block = at.record.policy().block_bytes();
    if (block == 0) return success();  // of no inode
    const uint64_t last = at.record.size() / block;
    at.last_block |= last >= run.first_block() && last < run.first_block() + run.count();
    return success();
  }

  // The run before reaches into this one. If the reverse map knows it as shorter, so it is; else
  // this one keeps its blocks, and the one before what is on either side.
  result<void> overlapped(Gathered& at, const pb::Run& run) {
    using Fate = RunPart::Fate;
    StoredRun before = *at.last;
    const uint64_t first = before.run.first_block(), end = first + before.run.count();
    if (end <= run.first_block()) return success();  // another one still before does
    Finding finding{.kind = "block-map",
                    .text = fmt::format("run {} of inode {} overlaps the run before it",
                                        run.first_block(), at.ino)};
    const uint64_t kept = run.first_block() - first;
    pb::Owner owner;
    TRY(auto reference, find_reference(p_.view, at.ino, before.run));
    auto& raw = reference.raw;
    const bool own = names_slots(before.run) && raw && parses(*raw, owner) &&
                     owner.ino() == at.ino && owner.first_block() == first;
    before.further = own && reference.further;
    if (own && owner.count() > 0 && owner.count() <= kept) {
      pb::Run shorter = before.run;
      shorter.set_count(owner.count());
      finding.action = "that one gets the length the reverse map tells";
      finding.records = {
          replaced(key::run(at.ino, first), before.raw, shorter.SerializeAsString())};
    } else {
      if (own) before.owner = std::move(raw);
      const uint64_t behind = run.first_block() + run.count();
      TRY(const uint64_t next, next_run(p_.view, at.ino, run.first_block()));
      const uint64_t tail = std::min(end, next) > behind ? std::min(end, next) - behind : 0;
      const auto fate = is_lost(before.run) ? Fate::lost : Fate::kept;
      finding.action = "that one is cut where this one is";
      std::vector<RunPart> parts{{kept, fate}};
      if (tail > 0) {
        parts.push_back({behind - run.first_block(), Fate::left_out});
        parts.push_back({tail, fate});
      }
      finding.records = split_run(before, parts, ~uint64_t{0});
    }
    p_.add(std::move(finding));
    return success();
  }

  void check(const Gathered& at) {
    using Field = InodeChange::Field;
    ++p_.recount.inodes;
    const uint64_t block = at.record.policy().block_bytes();
    uint64_t logical = at.blocks * block;
    if (at.last_block && at.record.size() % block != 0) {
      logical -= block - at.record.size() % block;
    }
    p_.recount.blocks_logical_bytes += logical;
    if (at.record.tree() != 0) p_.count_in_tree(at.record.tree(), logical);
    if (at.runs && !S_ISREG(at.record.mode()) && !S_ISDIR(at.record.mode())) {
      pb::Inode file = at.record;
      file.set_mode(S_IFREG | 0600);
      if (!names::has_block_size(file)) *file.mutable_policy() = policy_;
      return p_.add({.kind = "namespace",
                     .text = fmt::format("inode {} has blocks and is no file", at.ino),
                     .action = "it becomes a file, for root alone",
                     .records = {replaced(key::inode(at.ino), at.raw, file.SerializeAsString())}});
    }
    check_reservation(at);
    if (at.attributes != at.record.xattr_count()) {
      p_.add({.kind = "namespace",
              .text = fmt::format("inode {} counts {} attributes and has {}", at.ino,
                                  at.record.xattr_count(), at.attributes),
              .action = "the count is set",
              .inodes = {{at.ino, Field::attributes, at.record.xattr_count(), at.attributes}}});
    }
    if (at.blocks != at.record.blocks_mapped() && !at.broken_runs) {
      p_.add({.kind = "block-map",
              .text = fmt::format("inode {}: {} blocks are mapped, {} are counted", at.ino,
                                  at.blocks, at.record.blocks_mapped()),
              .action = "the count is set",
              .inodes = {{at.ino, Field::blocks, at.record.blocks_mapped(), at.blocks}}});
    }
  }

  void make_anew(Gathered& at) {
    const bool root = at.ino == kRootInode;
    const bool something = at.runs || at.entries || root;
    if (!something && !at.raw) {  // only attributes, an orphan record, or a run that is told of
      if (at.stale.empty()) return;
      return p_.add({.kind = "namespace",
                     .text = fmt::format("{} belongs to inode {}, which does not exist",
                                         at.attributes > 0           ? "an attribute"
                                         : at.stale[0].key[0] == 'H' ? "a reservation"
                                                                     : "an orphan record",
                                         at.ino),
                     .action = "it is erased",
                     .records = std::move(at.stale)});
    }
    Finding finding{.kind = "namespace"};
    finding.text = at.raw ? fmt::format("the record of inode {} is damaged", at.ino)
                          : fmt::format("inode {} has {} and does not exist", at.ino,
                                        at.entries ? "entries" : "blocks");
    if (!something) {
      finding.action = "it is erased: nothing belongs to it";
      finding.records = std::move(at.stale);
      finding.records.push_back({key::inode(at.ino), at.raw, std::nullopt});
      return p_.add(std::move(finding));
    }
    finding.action = at.entries || root
                         ? "the directory is made anew, for root alone, with its entries"
                         : "the file is made anew, for root alone; its size is rounded up to "
                           "whole blocks";
    finding.records.push_back(replaced(key::inode(at.ino), at.raw, made(at).SerializeAsString()));
    p_.add(std::move(finding));
  }

  pb::Inode made(const Gathered& at) const {
    pb::Inode inode;
    inode.set_ino(at.ino);
    inode.set_generation(1);
    inode.set_xattr_count(static_cast<uint32_t>(at.attributes));
    *inode.mutable_policy() = policy_;
    if (at.entries || at.ino == kRootInode) {
      inode.set_mode(S_IFDIR | 0700);
      inode.set_nlink(2);
      if (at.ino == kRootInode) inode.set_parent(kRootInode);
      inode.set_size(names::kDirectorySize);
      inode.set_next_cookie(names::kFirstCookie);  // the directories' pass sets it behind the last
    } else {
      inode.set_mode(S_IFREG | 0600);
      inode.set_nlink(1);
      inode.set_blocks_mapped(at.blocks);
      inode.set_size(at.mapped_end * policy_.block_bytes());
    }
    return inode;
  }

  RecordPasses& p_;
  Cursor inodes_ = p_.view.scan_all('I'), attributes_ = p_.view.scan_all('X'),
         runs_ = p_.view.scan_all('M'), orphans_ = p_.view.scan_all('O'),
         entries_ = p_.view.scan_all('E'), reservations_ = p_.view.scan_all('H');
  pb::Policy policy_;
};

}  // namespace

result<void> check_inode_records(RecordPasses& passes) { return InodeRecords(passes).run(); }

}  // namespace datacloud
