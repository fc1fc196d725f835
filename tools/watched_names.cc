#include "tools/watched_names.h"

#include <fmt/format.h>

#include <algorithm>

namespace datacloud {
namespace {

using Event = pb::WatchEvent;

std::string with_slash(std::string path) {
  if (path.empty() || path.back() != '/') path += '/';
  return path;
}

}  // namespace

result<void> WatchedNames::remember(uint64_t directory, const Entry& entry) {
  forget(directory, entry.name);
  if (inos_.size() >= kNamesMax) {
    return failure(
        Errc::no_space,
        fmt::format("more than {} names to watch: choose a smaller directory", kNamesMax));
  }
  inos_[{directory, entry.name}] = entry.ino;
  names_[entry.ino].emplace(directory, entry.name);
  return success();
}

// The inode that had the name; 0: none did.
uint64_t WatchedNames::forget(uint64_t directory, const std::string& name) {
  const auto it = inos_.find({directory, name});
  if (it == inos_.end()) return 0;
  const uint64_t ino = it->second;
  inos_.erase(it);
  auto& names = names_[ino];
  names.erase({directory, name});
  if (names.empty()) names_.erase(ino);
  return ino;
}

result<void> WatchedNames::add_directory(uint64_t ino, const std::string& path) {
  if (!recursive_ || directories_.empty() || roots_.empty()) roots_.emplace(ino, path);
  std::vector<std::pair<uint64_t, std::string>> open{{ino, with_slash(path)}};
  while (!open.empty()) {
    const auto [at, there] = open.back();
    open.pop_back();
    directories_[at] = there;
    TRY(const auto entries, list_(there));
    for (const auto& entry : entries) {
      TRY(remember(at, entry));
      if (recursive_ && entry.directory) open.emplace_back(entry.ino, there + entry.name + "/");
    }
  }
  return success();
}

void WatchedNames::add_file(uint64_t ino, const std::string& path) { files_[ino] = path; }

result<void> WatchedNames::look_again() {
  const auto roots = std::exchange(roots_, {});
  directories_.clear();
  inos_.clear();
  names_.clear();
  leaving_ = leaving_cookie_ = 0;
  for (const auto& [ino, path] : roots) {
    TRY(add_directory(ino, path));
    roots_.emplace(ino, path);
  }
  return success();
}

void WatchedNames::forget_directory(uint64_t ino) {
  std::vector<uint64_t> open{ino};
  while (!open.empty()) {
    const uint64_t at = open.back();
    open.pop_back();
    if (directories_.erase(at) == 0) continue;
    std::vector<std::string> names;
    for (auto it = inos_.lower_bound({at, ""}); it != inos_.end() && it->first.first == at; ++it) {
      names.push_back(it->first.second);
      if (directories_.contains(it->second)) open.push_back(it->second);
    }
    for (const auto& name : names) forget(at, name);
  }
}

void WatchedNames::rename_directory(uint64_t ino, const std::string& path) {
  const std::string before = directories_[ino];
  for (auto& [at, there] : directories_) {
    if (there.starts_with(before)) there = path + there.substr(before.size());
  }
}

WatchLine WatchedNames::line(uint64_t directory, const std::string& name, const char* event,
                             bool is_directory) const {
  WatchLine out{directories_.at(directory), {event}, name};
  if (is_directory) out.events.emplace_back("ISDIR");
  return out;
}

void WatchedNames::add_lines(const Event& event, std::vector<WatchLine>& out) const {
  const bool attributes = event.kind() == Event::ATTRIB;
  const auto tell = [&](WatchLine line) {
    out.push_back(line);
    if (attributes) return;
    line.events = {"CLOSE_WRITE", "CLOSE"};
    out.push_back(std::move(line));
  };
  const char* what = attributes ? "ATTRIB" : "MODIFY";
  if (const auto file = files_.find(event.ino()); file != files_.end())
    tell({file->second, {what}, ""});
  const auto names = names_.find(event.ino());
  if (names == names_.end()) return;
  for (const auto& [directory, name] : names->second) {
    if (directories_.contains(directory)) tell(line(directory, name, what, event.directory()));
  }
}

result<std::vector<WatchLine>> WatchedNames::apply(const Event& event) {
  std::vector<WatchLine> out;
  const bool watched = directories_.contains(event.parent());
  switch (event.kind()) {
    case Event::CREATE: {
      if (!watched) break;
      out.push_back(line(event.parent(), event.name(), "CREATE", event.directory()));
      TRY(remember(event.parent(), {event.name(), event.ino(), event.directory()}));
      // Whatever is made in it is told after it.
      if (recursive_ && event.directory())
        directories_[event.ino()] = directories_[event.parent()] + event.name() + "/";
      break;
    }
    case Event::DELETE: {
      if (!watched) break;
      out.push_back(line(event.parent(), event.name(), "DELETE", event.directory()));
      const uint64_t ino = forget(event.parent(), event.name());
      if (event.directory()) forget_directory(ino);
      break;
    }
    case Event::MOVED_FROM:
      leaving_ = leaving_cookie_ = 0;
      if (!watched) break;
      out.push_back(line(event.parent(), event.name(), "MOVED_FROM", event.directory()));
      forget(event.parent(), event.name());
      if (event.directory() && directories_.contains(event.ino())) {
        leaving_ = event.ino();
        leaving_cookie_ = event.cookie();
      }
      break;
    case Event::MOVED_TO: {
      const bool known = leaving_ == event.ino() && leaving_cookie_ == event.cookie();
      leaving_ = leaving_cookie_ = 0;
      if (!watched) {
        if (known && !roots_.contains(event.ino())) forget_directory(event.ino());
        break;
      }
      out.push_back(line(event.parent(), event.name(), "MOVED_TO", event.directory()));
      TRY(remember(event.parent(), {event.name(), event.ino(), event.directory()}));
      if (!recursive_ || !event.directory()) break;
      const std::string path = directories_[event.parent()] + event.name() + "/";
      if (known) {
        rename_directory(event.ino(), path);
      } else {
        TRY(add_directory(event.ino(), path));
      }
      break;
    }
    default:
      add_lines(event, out);
  }
  return out;
}

}  // namespace datacloud
