// Trees: directories are declared to be one, listed, and dissolved. What takes long is the
// converter's (tree_converter.h); answers here say how it is getting on.
#include <fmt/format.h>
#include <sys/stat.h>

#include "common/base/log.h"
#include "daemon/maintenance/maintenance.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/namespace_ops.h"

namespace datacloud {
namespace {

constexpr size_t kListedMax = 256;                  // by one answer; the next begins behind
constexpr auto kListingTimeMax = milliseconds(20);  // paths are looked for in large directories

result<pb::Inode> inode_of(const Transaction& txn, const pb::TreeRequest& request) {
  return request.path().empty() ? get_inode(txn, request.ino()) : resolve_path(txn, request.path());
}

// For texts.
std::string name_of(const Transaction& txn, const pb::TreeRequest& request,
                    const pb::Inode& inode) {
  if (!request.path().empty()) return request.path();
  auto path = directory_path(txn, inode.ino());
  return path && !path.value().empty() ? std::move(path).value()
                                       : fmt::format("inode {}", inode.ino());
}

}  // namespace

result<pb::TreeReply::State> Maintenance::describe_tree(const pb::Tree& tree) const {
  const Transaction txn = store_.begin();
  pb::TreeReply::State state;
  *state.mutable_tree() = tree;
  state.mutable_tree()->clear_cursor();  // no business of others, and may be long
  TRY(*state.mutable_counters(), trees::read_counters(txn, tree.id()));
  if (tree.root() != 0) {
    if (auto path = directory_path(txn, tree.root())) state.set_path(std::move(path).value());
  }
  const TreeArea* area = tree_converter_.area();
  if (area != nullptr && area->id == tree.id()) state.set_converted(tree_converter_.converted());
  state.set_failure(tree_converter_.failure_of(tree.id()));
  return state;
}

// From this id on; a page.
result<pb::TreeReply> Maintenance::list_trees(uint32_t first) const {
  std::vector<pb::Tree> found;
  TRY(store_.begin().scan(key::tree(first), "U", [&](std::string_view, std::string_view value) {
    pb::Tree tree;
    if (tree.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
      found.push_back(std::move(tree));
    }
    return found.size() < kListedMax;
  }));
  pb::TreeReply reply;
  const auto began = monotonic_now();
  for (const auto& tree : found) {
    TRY(*reply.add_trees(), describe_tree(tree));
    if (monotonic_now() - began > kListingTimeMax) break;
  }
  return reply;
}

result<pb::Tree> Maintenance::tree_to_show(const pb::TreeRequest& request) const {
  const Transaction txn = store_.begin();
  uint32_t id = request.id();
  if (id == 0) {
    TRY(const auto inode, inode_of(txn, request));
    // Of a directory whose conversion is running, also before it carries the id.
    const TreeArea* area = tree_converter_.area();
    id = area != nullptr && area->root == inode.ino() ? area->id : inode.tree();
    if (id == 0) {
      return failure(Errc::not_found,
                     fmt::format("{} is in no tree; `datacloud tree list` shows them",
                                 name_of(txn, request, inode)));
    }
  }
  TRY(auto tree, trees::find(txn, id));
  if (tree) return std::move(*tree);
  // Given up, or dissolved: who waits for it gets an answer.
  pb::Tree gone;
  gone.set_id(id);
  gone.set_state(pb::TREE_REMOVED);
  return gone;
}

result<pb::Tree> Maintenance::change_tree(const pb::TreeRequest& request) {
  Transaction txn = store_.begin();
  TRY(const auto inode, inode_of(txn, request));
  const std::string name = name_of(txn, request, inode);
  if (const TreeArea* area = tree_converter_.area()) {
    const auto path = directory_path(txn, area->root);
    return failure(
        Errc::unavailable,
        fmt::format(
            "tree {} ({}) is being {}: wait until that is done, `datacloud tree list` shows "
            "how far it is",
            area->id, path ? path.value() : fmt::format("inode {}", area->root),
            area->removing() ? "removed" : "made"));
  }
  pb::Tree tree;
  if (request.change() == pb::TreeRequest::CREATE) {
    TRY(tree, trees::create_tree(txn, inode, name, wall_now_ns()));
  } else {
    TRY(tree, trees::remove_tree(txn, inode, name));
  }
  TRY(committer_.apply(std::move(txn)));
  spdlog::info("tree {} ({}) is to be {}", tree.id(), name,
               request.change() == pb::TreeRequest::CREATE ? "made" : "dissolved");
  if (trees::is_running(tree)) tree_converter_.begin(tree);
  return tree;
}

Answer Maintenance::tree(const CallPtr& call, const pb::TreeRequest& request, bool enabled) {
  pb::AdminReply admin;
  auto& out = *admin.mutable_tree();
  switch (request.change()) {
    case pb::TreeRequest::LIST: {
      TRY(out, list_trees(request.id()));
      return std::optional(wrapped(admin));
    }
    case pb::TreeRequest::SHOW: {
      TRY(const auto tree, tree_to_show(request));
      TRY(*out.add_trees(), describe_tree(tree));
      return std::optional(wrapped(admin));
    }
    case pb::TreeRequest::CREATE:
      if (!enabled) {
        return failure(Errc::unsupported,
                       "the cloud does not use trees: `datacloud feature enable trees` switches "
                       "them on, for good");
      }
      [[fallthrough]];
    case pb::TreeRequest::REMOVE: {
      TRY(const auto tree, change_tree(request));
      TRY(*out.add_trees(), describe_tree(tree));
      responder_.answer_when_durable(call, wrapped(admin));
      return later();
    }
    default:
      return failure(Errc::unsupported, "the daemon does not know this change of trees");
  }
}

}  // namespace datacloud
