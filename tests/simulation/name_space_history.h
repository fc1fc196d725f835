// Whether what two sessions were answered can be explained: some order of their operations, in
// which one that was answered before another began comes first, gives every answer (linearizable).
//
// The model is a directory of names. The search tries every order of what overlapped, as Wing and
// Gong do; states and sets of operations that were tried are remembered.
#pragma once

#include <cerrno>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace datacloud {

struct NameOperation {
  enum class Kind { create, unlink, rename, set_mode, look };
  Kind kind = Kind::look;
  uint64_t id = 0;  // and what it creates
  std::string name, to;
  uint32_t mode = 0;
};

struct NameAnswer {
  int error = 0;
  uint64_t made_by = 0;  // what the name is: the operation that created it
  uint32_t mode = 0;
  auto operator<=>(const NameAnswer&) const = default;
};

struct AnsweredOperation {
  NameOperation operation;
  NameAnswer answer;
  uint64_t began = 0, ended = 0;  // on one clock
};

using NameSpace = std::map<std::string, std::pair<uint64_t, uint32_t>>;

inline NameAnswer apply_to(NameSpace& names, const NameOperation& operation) {
  const auto at = names.find(operation.name);
  const bool there = at != names.end();
  using Kind = NameOperation::Kind;
  if (operation.kind == Kind::create) {
    if (there) return {EEXIST};
    names[operation.name] = {operation.id, operation.mode};
    return {0, operation.id, operation.mode};
  }
  if (!there) return {ENOENT};
  const NameAnswer found{0, at->second.first, at->second.second};
  switch (operation.kind) {
    case Kind::unlink:
      names.erase(at);
      return {0, found.made_by, 0};
    case Kind::rename:
      names[operation.to] = at->second;
      names.erase(operation.name);
      return {0, found.made_by, 0};
    case Kind::set_mode:
      at->second.second = operation.mode;
      return {0, found.made_by, operation.mode};
    default:
      return found;
  }
}

class OrderSearch {
 public:
  explicit OrderSearch(const std::vector<AnsweredOperation>& all) : all_(all) {}
  // The states in which it may have ended; none: nothing explains the answers.
  std::set<NameSpace> from(const std::set<NameSpace>& begin) {
    for (const auto& state : begin) go_on(0, state);
    return ends_;
  }

 private:
  void go_on(uint64_t done, const NameSpace& state) {
    if (!tried_.emplace(done, state).second) return;
    if (done == (uint64_t{1} << all_.size()) - 1) {
      ends_.insert(state);
      return;
    }
    uint64_t first_end = UINT64_MAX;
    for (size_t i = 0; i < all_.size(); ++i) {
      if ((done >> i & 1) == 0) first_end = std::min(first_end, all_[i].ended);
    }
    for (size_t i = 0; i < all_.size(); ++i) {
      if ((done >> i & 1) != 0 || all_[i].began > first_end) continue;
      NameSpace next = state;
      if (apply_to(next, all_[i].operation) == all_[i].answer) go_on(done | uint64_t{1} << i, next);
    }
  }

  const std::vector<AnsweredOperation>& all_;
  std::set<std::pair<uint64_t, NameSpace>> tried_;
  std::set<NameSpace> ends_;
};

inline std::string text_of(const std::vector<AnsweredOperation>& all) {
  static const char* const kKinds[] = {"create", "unlink", "rename", "set_mode", "look"};
  std::string out;
  for (const auto& one : all) {
    const auto& o = one.operation;
    out += "\n  " + std::to_string(one.began) + " to " + std::to_string(one.ended) + ": " +
           kKinds[static_cast<int>(o.kind)] + " " + o.name + (o.to.empty() ? "" : " to " + o.to) +
           " (" + std::to_string(o.id) + ", mode " + std::to_string(o.mode) + ") answered error " +
           std::to_string(one.answer.error) + ", file " + std::to_string(one.answer.made_by) +
           ", mode " + std::to_string(one.answer.mode);
  }
  return out;
}

}  // namespace datacloud
