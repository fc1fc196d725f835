// `datacloud tree`: directories declared as trees. The daemon converts what is in them by itself;
// the command waits for it and shows how far it is.
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <csignal>

#include "tools/admin_call.h"
#include "tools/commands.h"
#include "tools/exit_codes.h"
#include "tools/json_text.h"
#include "tools/mounted_path.h"
#include "tools/progress.h"
#include "tools/reports.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

using State = pb::TreeReply::State;

volatile std::sig_atomic_t interrupted = 0;

result<pb::TreeReply> ask(DaemonLink& link, const pb::TreeRequest& wanted) {
  pb::AdminRequest request;
  *request.mutable_tree() = wanted;
  TRY(auto reply, call_admin(link, request));
  return std::move(*reply.mutable_tree());
}

result<State> ask_one(DaemonLink& link, const pb::TreeRequest& wanted) {
  TRY(auto reply, ask(link, wanted));
  if (reply.trees_size() != 1) return failure(Errc::corrupt, "the daemon's answer names no tree");
  return std::move(*reply.mutable_trees(0));
}

result<pb::TreeRequest> about(const std::string& path, pb::TreeRequest::Change change) {
  pb::TreeRequest request;
  request.set_change(change);
  TRY(const auto inode, mounted_inode(path));
  struct stat st {};
  if (inode) {
    if (change != pb::TreeRequest::SHOW && ::stat(path.c_str(), &st) == 0 && !S_ISDIR(st.st_mode))
      return failure(Errc::invalid, path + " is no directory: a tree is one, with all below it");
    request.set_ino(*inode);
  } else {
    request.set_path(path.starts_with('/') ? path : "/" + path);
  }
  return request;
}

const char* state_name(pb::TreeState state) {
  switch (state) {
    case pb::TREE_READY:
      return "ready";
    case pb::TREE_CHECKING:
      return "checking";
    case pb::TREE_CONVERTING:
      return "converting";
    case pb::TREE_REMOVING:
      return "removing";
    case pb::TREE_REMOVED:
      return "removed";
    default:
      return "unknown";
  }
}

Json json_of(const State& state) {
  const auto& tree = state.tree();
  return {{"id", tree.id()},
          {"path", tree.root() != 0 ? Json(printable(state.path())) : Json()},
          {"root_inode", tree.root() != 0 ? Json(tree.root()) : Json()},
          {"parent", tree.parent()},
          {"state", state_name(tree.state())},
          {"created_ns", tree.created_ns()},
          {"inodes", state.counters().inodes()},
          {"logical_bytes", state.counters().logical_bytes()},
          {"converted", state.converted()},
          {"failure", state.failure().empty() ? Json() : Json(printable(state.failure()))}};
}

// A tree that is going away has no directory any more.
std::string path_of(const State& state) {
  return state.tree().root() == 0 ? "-" : printable(state.path());
}

void print_table(const std::vector<State>& states) {
  constexpr auto kRight = Table::Align::right;
  Table table({{"TREE", kRight},
               {"INODES", kRight},
               {"DATA", kRight},
               {"PARENT", kRight},
               {"STATE"},
               {"DIRECTORY"}});
  for (const auto& state : states) {
    table.add({std::to_string(state.tree().id()), std::to_string(state.counters().inodes()),
               human_bytes(state.counters().logical_bytes()),
               state.tree().parent() == 0 ? "-" : std::to_string(state.tree().parent()),
               state_name(state.tree().state()), path_of(state)});
  }
  fmt::print("{}", table.text(colour_wanted()));
}

void tell(const CommandContext& context, const State& state) {
  if (context.json) {
    fmt::print("{}", json_text(json_of(state)));
  } else {
    print_table({state});
  }
}

bool is_done(const State& state) {
  return state.tree().state() == pb::TREE_READY || state.tree().state() == pb::TREE_REMOVED;
}

// Until the conversion is done, has failed, or Ctrl-C.
result<State> wait_for_end(const CommandContext& context, DaemonLink& link, State state) {
  std::signal(SIGINT, [](int) { interrupted = 1; });
  Progress progress(context.json);
  PollPause pause;
  pb::TreeRequest request;
  request.set_change(pb::TreeRequest::SHOW);
  request.set_id(state.tree().id());
  while (!is_done(state) && state.failure().empty() && interrupted == 0) {
    const bool removing = state.tree().state() == pb::TREE_REMOVING;
    const uint64_t left = removing ? state.counters().inodes() : 0;
    progress.show(state.converted(), removing ? state.converted() + left : 0,
                  fmt::format("{}: {} {}", state_name(state.tree().state()), state.converted(),
                              state.tree().state() == pb::TREE_CHECKING ? "names" : "inodes"));
    pause.sleep();
    if (interrupted != 0) break;
    auto asked = ask_one(link, request);
    if (!asked) {
      return failure(asked.error().in(fmt::format(
          "the daemon goes on with tree {} when it is back, `datacloud tree list` shows "
          "how far it is",
          state.tree().id())));
    }
    State now = std::move(asked).value();
    // A tree that is gone has no path any more.
    if (now.path().empty()) now.set_path(state.path());
    state = std::move(now);
  }
  return state;
}

// A path that is none of the cloud may have been meant as one of this machine.
Error explained(const Error& error, const pb::TreeRequest& request, const std::string& path) {
  struct stat st {};
  if (request.path().empty() || error.errno_value() != ENOENT || ::stat(path.c_str(), &st) != 0)
    return error;
  return Error::posix(ENOENT,
                      path +
                          " is not below a mount of a cloud, and the cloud has no such path; "
                          "`findmnt -t fuse.datacloud` lists the mounts");
}

result<State> change(const CommandContext& context, const std::string& path,
                     pb::TreeRequest::Change what) {
  TRY(const auto request, about(path, what));
  TRY(auto link, connect_to_daemon(context));
  auto asked = ask_one(link, request);
  if (!asked) return failure(explained(asked.error(), request, path));
  State state = std::move(asked).value();
  return wait_for_end(context, link, std::move(state));
}

int tell_change(const CommandContext& context, const result<State>& changed,
                const std::string& path, pb::TreeState wanted, const char* done) {
  if (!changed) return report_failure(changed.error());
  const State& state = changed.value();
  if (!state.failure().empty()) {
    return report_failure(Error(Errc::invalid, printable(state.failure())).in(printable(path)));
  }
  if (!is_done(state)) {
    fmt::print(stderr,
               "datacloud: the daemon goes on with tree {} by itself; `datacloud tree list` shows "
               "how far it is\n",
               state.tree().id());
    return kExitFailed;
  }
  if (state.tree().state() != wanted) {  // removed since, or given up by a daemon that forgot why
    return report_failure(Error(
        Errc::not_found, fmt::format("tree {} is gone again: try once more to see what stands in "
                                     "the way",
                                     state.tree().id())));
  }
  if (context.json) {
    tell(context, state);
  } else {
    fmt::print("tree {}: {} {}\n", state.tree().id(), printable(path), done);
  }
  return kExitOk;
}

}  // namespace

int run_tree_create(const CommandContext& context, const std::string& path) {
  return tell_change(context, change(context, path, pb::TreeRequest::CREATE), path, pb::TREE_READY,
                     "is a tree now");
}

int run_tree_remove(const CommandContext& context, const std::string& path) {
  return tell_change(context, change(context, path, pb::TreeRequest::REMOVE), path,
                     pb::TREE_REMOVED, "is part of the tree around it");
}

int run_tree_show(const CommandContext& context, const std::string& path) {
  const auto show = [&]() -> result<State> {
    TRY(const auto request, about(path, pb::TreeRequest::SHOW));
    TRY(auto link, connect_to_daemon(context));
    auto state = ask_one(link, request);
    if (!state) return failure(explained(state.error(), request, path));
    return state;
  };
  const auto state = show();
  if (!state) return report_failure(state.error());
  tell(context, state.value());
  return kExitOk;
}

int run_tree_list(const CommandContext& context) {
  std::vector<State> states;
  const auto list = [&]() -> result<void> {
    TRY(auto link, connect_to_daemon(context));
    pb::TreeRequest request;
    for (;;) {
      TRY(auto page, ask(link, request));
      if (page.trees_size() == 0) return success();
      for (auto& state : *page.mutable_trees()) states.push_back(std::move(state));
      if (states.back().tree().id() == UINT32_MAX) return success();
      request.set_id(states.back().tree().id() + 1);
    }
  };
  if (const auto listed = list(); !listed) return report_failure(listed.error());
  if (context.json) {
    Json trees = Json::array();
    for (const auto& state : states) trees.push_back(json_of(state));
    fmt::print("{}", json_text({{"trees", std::move(trees)}}));
    return kExitOk;
  }
  if (states.empty()) {
    fmt::print("no trees; `datacloud tree create DIR` makes one\n");
  } else {
    print_table(states);
  }
  return kExitOk;
}

}  // namespace datacloud
