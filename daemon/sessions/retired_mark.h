// The record that says of a session that it has ended and is kept for its mount to come back:
// 'A' "retired/NUMBER" -> "1".
#pragma once

#include <charconv>
#include <string>
#include <string_view>

#include "common/base/ids.h"

namespace datacloud {

inline constexpr std::string_view kRetiredMark = "retired/";

inline std::string retired_mark(SessionId id) {
  return std::string(kRetiredMark) + std::to_string(id);
}

// By the key of the record; 0 when it names no session.
inline SessionId retired_of_mark(std::string_view key) {
  const size_t digits = 1 + kRetiredMark.size();
  SessionId id = 0;
  if (key.size() <= digits) return 0;
  const char* end = key.data() + key.size();
  const auto read = std::from_chars(key.data() + digits, end, id);
  return read.ec == std::errc() && read.ptr == end ? id : 0;
}

}  // namespace datacloud
