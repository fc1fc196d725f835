#include "daemon/service/change_watchers.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "common/base/ids.h"

namespace datacloud {
namespace {

using Event = pb::WatchEvent;

constexpr uint32_t kRenameExchange = 2;

Event named(Event::Kind kind, InodeId parent, const std::string& name, InodeId ino,
            bool directory) {
  Event event;
  event.set_kind(kind);
  event.set_parent(parent);
  event.set_name(name);
  event.set_ino(ino);
  event.set_directory(directory);
  return event;
}

Event of_inode(Event::Kind kind, InodeId ino, bool directory) {
  Event event;
  event.set_kind(kind);
  event.set_ino(ino);
  event.set_directory(directory);
  return event;
}

}  // namespace

void ChangeWatchers::add(const Event& event) {
  for (auto& [number, watcher] : watchers_) {
    if (watcher.events.size() >= kEventsMax) {
      watcher.events.clear();
      watcher.overflow = true;
    }
    watcher.events.push_back(event);
  }
}

void ChangeWatchers::note(const pb::Request& request, const pb::Reply& reply) {
  if (watchers_.empty()) return;
  drop_idle();
  const bool directory = S_ISDIR(reply.attr().inode().mode());
  switch (request.op_case()) {
    case pb::Request::kCreate:
      if (request.create().unnamed()) return;
      add(named(Event::CREATE, request.create().parent(), request.create().name(),
                reply.attr().inode().ino(), directory));
      break;
    case pb::Request::kLink:
      add(named(Event::CREATE, request.link().parent(), request.link().name(), request.link().ino(),
                false));
      break;
    case pb::Request::kUnlink:
      add(named(Event::DELETE, request.unlink().parent(), request.unlink().name(),
                reply.attr().inode().ino(), request.unlink().directory()));
      break;
    case pb::Request::kRename: {
      const auto& rename = request.rename();
      const auto moved = [&](const pb::Inode& inode, InodeId from, const std::string& name,
                             InodeId to, const std::string& new_name) {
        ++last_cookie_;
        const bool is_directory = S_ISDIR(inode.mode());
        auto left = named(Event::MOVED_FROM, from, name, inode.ino(), is_directory);
        left.set_cookie(last_cookie_);
        auto arrived = named(Event::MOVED_TO, to, new_name, inode.ino(), is_directory);
        arrived.set_cookie(last_cookie_);
        add(left);
        add(arrived);
      };
      const auto& told = reply.rename();
      moved(told.moved(), rename.parent(), rename.name(), rename.new_parent(), rename.new_name());
      if (rename.flags() & kRenameExchange) {
        moved(told.replaced(), rename.new_parent(), rename.new_name(), rename.parent(),
              rename.name());
      }
      break;
    }
    case pb::Request::kSetattr:
      add(of_inode(Event::ATTRIB, request.setattr().ino(), directory));
      break;
    case pb::Request::kSetxattr:
      add(of_inode(Event::ATTRIB, request.setxattr().ino(), directory));
      break;
    case pb::Request::kRemovexattr:
      add(of_inode(Event::ATTRIB, request.removexattr().ino(), directory));
      break;
    case pb::Request::kCommit: {
      const auto& updates = request.commit().updates();
      for (int i = 0; i < updates.size() && i < reply.commit().outcomes_size(); ++i) {
        if (reply.commit().outcomes(i).outcome() != pb::UpdateOutcome::APPLIED) continue;
        // What only moves data from the records into stripes has no times.
        if (!updates[i].has_mtime() && !updates[i].has_mtime_ns()) continue;
        add(of_inode(Event::MODIFY, updates[i].ino(), false));
      }
      break;
    }
    default:
      return;
  }
  wake();
}

// Soon, so that changes of one moment travel together.
void ChangeWatchers::wake() {
  if (waking_) return;
  waking_ = true;
  loop_.post([this, alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return;
    waking_ = false;
    for (auto& [number, watcher] : watchers_) {
      if (watcher.waiting && (watcher.overflow || !watcher.events.empty())) reply(number, watcher);
    }
  });
}

void ChangeWatchers::reply(uint64_t number, Watcher& watcher) {
  pb::WatchReply out;
  out.set_watcher(number);
  out.set_overflow(std::exchange(watcher.overflow, false));
  while (!watcher.events.empty() && out.events_size() < static_cast<int>(kReplyEventsMax)) {
    *out.add_events() = std::move(watcher.events.front());
    watcher.events.pop_front();
  }
  watcher.asked_at = loop_.now();
  std::exchange(watcher.waiting, nullptr)(out);
}

void ChangeWatchers::drop_idle() {
  const auto now = loop_.now();
  std::erase_if(watchers_, [&](const auto& entry) {
    return !entry.second.waiting && now - entry.second.asked_at > kIdleMax;
  });
}

result<void> ChangeWatchers::poll(const pb::WatchRequest& request, Answer answer) {
  drop_idle();
  uint64_t number = request.watcher();
  if (number == 0) {
    if (watchers_.size() >= kWatchersMax) {
      return failure(Errc::unavailable,
                     fmt::format("{} programs watch changes, the most that can", kWatchersMax));
    }
    number = ++last_number_;
    Watcher& added = watchers_[number];
    added.waiting = std::move(answer);
    reply(number, added);
    return success();
  }
  const auto it = watchers_.find(number);
  if (it == watchers_.end()) {
    return failure(Errc::not_found, "the daemon does not know this watcher (any more)");
  }
  Watcher& watcher = it->second;
  if (watcher.waiting) {
    pb::WatchReply nothing;
    nothing.set_watcher(number);
    std::exchange(watcher.waiting, nullptr)(nothing);
  }
  watcher.waiting = std::move(answer);
  watcher.asked_at = loop_.now();
  const Duration wait = std::min<Duration>(milliseconds(request.wait_ms()), kWaitMax);
  if (watcher.overflow || !watcher.events.empty() || wait <= Duration::zero()) {
    reply(number, watcher);
    return success();
  }
  loop_.after(wait, [this, number, turn = ++watcher.waits, alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return;
    const auto it = watchers_.find(number);
    if (it == watchers_.end() || !it->second.waiting || it->second.waits != turn) return;
    reply(number, it->second);
  });
  return success();
}

}  // namespace datacloud
