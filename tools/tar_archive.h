// A tar archive (POSIX ustar) of texts, made in memory: what `support-bundle` writes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace datacloud {

class TarArchive {
 public:
  // `name`: at most 99 bytes. Mode 0600, owner root.
  void add(std::string_view name, std::string_view contents, int64_t time_s);
  // The archive with its end marker.
  std::string finish() &&;

 private:
  std::string bytes_;
};

}  // namespace datacloud
