// rename, with RENAME_NOREPLACE, RENAME_EXCHANGE and RENAME_WHITEOUT, in the order of checks of
// Linux's VFS.
//
// Care is taken where several records are one inode (both parents the same directory, or a parent
// that is itself replaced): each inode is read once, changed in one place and put once.
//
// Readdir positions: a file renamed within its directory keeps its own, and a name that is replaced
// or exchanged keeps the name's. So a listing under way meets a file that is renamed once, under
// either name, and a name that always existed once, whichever file it stood for. With
// RENAME_WHITEOUT the old name always exists: it keeps its position, and the new one gets another.
#include <sys/stat.h>

#include <cerrno>

#include "common/proto/file_time.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/namespace_ops.h"
#include "daemon/records/namespace_records.h"

namespace datacloud {
namespace {

using namespace names;

constexpr uint32_t kNoReplace = 1, kExchange = 2, kWhiteout = 4;

// The records a rename reads and changes.
struct Plan {
  pb::Inode old_parent, new_parent;  // new_parent unused when `same_parent`
  bool same_parent = false;
  pb::Entry source_entry;
  pb::Inode source;
  std::optional<pb::Entry> target_entry;
  std::optional<pb::Inode> target;

  pb::Inode& to() { return same_parent ? old_parent : new_parent; }
};

result<Plan> read_plan(const Transaction& txn, const pb::RenameRequest& request) {
  Plan plan;
  TRY(plan.old_parent, get_directory(txn, request.parent()));
  plan.same_parent = request.parent() == request.new_parent();
  if (!plan.same_parent) {
    TRY(plan.new_parent, get_directory(txn, request.new_parent()));
  }
  TRY(plan.source_entry, get_entry(txn, request.parent(), request.name()));
  TRY(plan.source, get_inode(txn, plan.source_entry.ino()));
  if (plan.to().nlink() == 0) {
    return failure(Error::posix(ENOENT, "the target directory was removed"));
  }
  TRY(plan.target_entry, find_entry(txn, request.new_parent(), request.new_name()));
  if (plan.target_entry) {
    TRY(plan.target, get_inode(txn, plan.target_entry->ino()));
  }
  return plan;
}

// Entries belong to the tree of their directory, also that of a nested tree's root. So only the two
// directories matter, as between file systems.
result<void> check_trees(const Transaction& txn, const Plan& plan, bool exchange,
                         const TreeArea* area) {
  if (!plan.same_parent) {
    TRY(trees::check_move(txn, plan.old_parent, plan.new_parent, area));
  }
  if (exchange || !plan.target || !is_directory(*plan.target) ||
      plan.target->ino() == plan.source.ino()) {
    return success();
  }
  return trees::check_removal(*plan.target, area);
}

// Both names go, or are given to another file.
result<void> check_flags(const Plan& plan) {
  TRY(check_no_flags(plan.old_parent));
  TRY(check_no_flags(plan.source));
  const pb::Inode& to = plan.same_parent ? plan.old_parent : plan.new_parent;
  TRY(check_not_immutable(to));
  if (!plan.target) return success();
  TRY(check_no_flags(to));
  return check_no_flags(*plan.target);
}

result<void> check_rename(const Transaction& txn, const pb::RenameRequest& request,
                          const Plan& plan) {
  const bool exchange = request.flags() & kExchange;
  if ((request.flags() & kNoReplace) && plan.target) {
    return failure(Error::posix(EEXIST, "'" + request.new_name() + "'"));
  }
  if (exchange && !plan.target) {
    return failure(Error::posix(ENOENT, "'" + request.new_name() + "'"));
  }
  if (!plan.target || plan.target->ino() != plan.source.ino()) {
    TRY(check_flags(plan));
  }
  if (!plan.same_parent && is_directory(plan.source)) {
    TRY(const bool into_itself, is_at_or_above(txn, plan.source.ino(), request.new_parent()));
    if (into_itself) {
      return failure(Error::posix(EINVAL, "'" + request.name() + "' cannot move below itself"));
    }
  }
  if (!plan.same_parent && plan.target && is_directory(*plan.target)) {
    TRY(const bool holds_source, is_at_or_above(txn, plan.target->ino(), request.parent()));
    if (holds_source) {
      return failure(Error::posix(exchange ? EINVAL : ENOTEMPTY,
                                  "'" + request.new_name() + "' holds what is to be moved"));
    }
  }
  if (exchange || !plan.target || plan.target->ino() == plan.source.ino()) return success();
  if (is_directory(plan.source) && !is_directory(*plan.target)) {
    return failure(Error::posix(ENOTDIR, "'" + request.new_name() + "'"));
  }
  if (!is_directory(plan.source) && is_directory(*plan.target)) {
    return failure(Error::posix(EISDIR, "'" + request.new_name() + "'"));
  }
  if (is_directory(*plan.target)) {
    TRY(const bool occupied, has_entries(txn, plan.target->ino()));
    if (occupied) return failure(Error::posix(ENOTEMPTY, "'" + request.new_name() + "'"));
  }
  return success();
}

// `child` has moved from one directory to another: its parent and their link counts.
void move_directory(pb::Inode& child, pb::Inode& from, pb::Inode& to) {
  if (!is_directory(child) || from.ino() == to.ino()) return;
  add_links(from, -1);
  add_links(to, 1);
  child.set_parent(to.ino());
}

void touch_parents(Transaction& txn, Plan& plan, int64_t now_ns) {
  touch_directory(plan.old_parent, now_ns);
  put_inode(txn, plan.old_parent);
  if (plan.same_parent) return;
  touch_directory(plan.new_parent, now_ns);
  put_inode(txn, plan.new_parent);
}

result<Renamed> exchange_entries(Transaction& txn, const pb::RenameRequest& request, Plan& plan,
                                 const TreeArea* area) {
  TRY(trees::entered(txn, plan.source, plan.to(), area));
  TRY(trees::entered(txn, *plan.target, plan.old_parent, area));
  replace_entry(txn, request.parent(), request.name(), plan.source_entry, *plan.target);
  replace_entry(txn, request.new_parent(), request.new_name(), *plan.target_entry, plan.source);
  move_directory(plan.source, plan.old_parent, plan.to());
  move_directory(*plan.target, plan.to(), plan.old_parent);
  touch_parents(txn, plan, request.now_ns());
  set_ctime(plan.source, from_ns(request.now_ns()));
  set_ctime(*plan.target, from_ns(request.now_ns()));
  put_inode(txn, plan.source);
  put_inode(txn, *plan.target);
  return Renamed{std::move(plan.source), std::move(plan.target), std::nullopt};
}

result<Renamed> move_entry(Transaction& txn, const pb::RenameRequest& request, Plan& plan,
                           const TreeArea* area, InodeId new_ino, BirthTime birth) {
  TRY(trees::entered(txn, plan.source, plan.to(), area));
  std::optional<pb::Inode> whiteout;
  if (request.flags() & kWhiteout) {
    TRY(whiteout, make_whiteout(txn, plan.old_parent, request, new_ino, birth));
    replace_entry(txn, request.parent(), request.name(), plan.source_entry, *whiteout);
  } else {
    remove_entry(txn, request.parent(), request.name(), plan.source_entry);
  }
  if (!plan.target && plan.same_parent && !whiteout) {
    rename_entry(txn, plan.old_parent, request.new_name(), plan.source_entry, plan.source);
  } else if (plan.target) {
    replace_entry(txn, request.new_parent(), request.new_name(), *plan.target_entry, plan.source);
    if (is_directory(*plan.target)) {
      add_links(plan.to(), -1);
      TRY(trees::directory_removed(txn, *plan.target));
    }
    drop_name(txn, *plan.target, request.now_ns());
  } else {
    add_entry(txn, plan.to(), request.new_name(), plan.source);
  }
  move_directory(plan.source, plan.old_parent, plan.to());
  touch_parents(txn, plan, request.now_ns());
  set_ctime(plan.source, from_ns(request.now_ns()));
  put_inode(txn, plan.source);
  return Renamed{std::move(plan.source), std::move(plan.target), std::move(whiteout)};
}

}  // namespace

result<Renamed> rename(Transaction& txn, const pb::RenameRequest& request, const TreeArea* area,
                       InodeId new_ino, BirthTime birth) {
  const bool two_ways = (request.flags() & kExchange) && request.flags() != kExchange;
  if (request.flags() & ~(kNoReplace | kExchange | kWhiteout) || two_ways) {
    return failure(Error::posix(EINVAL, "rename flags " + std::to_string(request.flags())));
  }
  TRY(check_name(request.name()));
  TRY(check_name(request.new_name()));
  TRY(auto plan, read_plan(txn, request));
  const bool exchange = request.flags() & kExchange;
  TRY(check_trees(txn, plan, exchange, area));
  TRY(check_rename(txn, request, plan));
  // Two names of one inode: POSIX lets both stand and changes nothing.
  if (plan.target && plan.target->ino() == plan.source.ino()) {
    return Renamed{std::move(plan.source), std::nullopt, std::nullopt};
  }
  return exchange ? exchange_entries(txn, request, plan, area)
                  : move_entry(txn, request, plan, area, new_ino, birth);
}

}  // namespace datacloud
