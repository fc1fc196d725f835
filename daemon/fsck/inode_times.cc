#include "daemon/fsck/inode_times.h"

#include <fmt/format.h>

#include "common/proto/file_time.h"

namespace datacloud {
namespace {

std::string wrong_time(const char* name, bool has_time, const pb::Time& time, int64_t ns) {
  if (!has_time) return "";
  const std::string told =
      fmt::format("its {} of {} s and {} ns ", name, time.seconds(), time.nanos());
  if (!can_be_time(time)) return told + "is none";
  if (fits_ns({time.seconds(), time.nanos()})) return told + "fits into nanoseconds";
  return ns != 0 ? told + "is there in nanoseconds too" : "";
}

}  // namespace

std::string correct_times(pb::Inode& inode) {
  std::string wrong;
  const auto add = [&](std::string text) {
    if (!text.empty()) wrong += (wrong.empty() ? "" : ", ") + text;
    return !text.empty();
  };
  if (add(wrong_time("atime", inode.has_atime(), inode.atime(), inode.atime_ns()))) {
    set_atime(inode, atime_of(inode));
  }
  if (add(wrong_time("mtime", inode.has_mtime(), inode.mtime(), inode.mtime_ns()))) {
    set_mtime(inode, mtime_of(inode));
  }
  if (add(wrong_time("ctime", inode.has_ctime(), inode.ctime(), inode.ctime_ns()))) {
    set_ctime(inode, ctime_of(inode));
  }
  return wrong;
}

bool uses_times(const pb::Inode& inode) {
  return inode.has_atime() || inode.has_mtime() || inode.has_ctime() || inode.btime_ns() != 0;
}

}  // namespace datacloud
