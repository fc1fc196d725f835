// ustar headers (tar_archive.h).
#include "tools/tar_archive.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace datacloud {
namespace {

constexpr size_t kBlock = 512;

}  // namespace

void TarArchive::add(std::string_view name, std::string_view contents, int64_t time_s) {
  std::array<char, kBlock> header{};
  auto put = [&](size_t at, std::string_view text) {
    std::copy(text.begin(), text.end(), header.begin() + static_cast<ptrdiff_t>(at));
  };
  put(0, name.substr(0, 99));
  put(100, "0000600");
  put(108, "0000000");
  put(116, "0000000");
  put(124, fmt::format("{:011o}", contents.size()));
  put(136, fmt::format("{:011o}", std::max<int64_t>(time_s, 0)));
  put(148, "        ");  // the sum is taken with blanks in its place
  put(156, "0");
  put(257, std::string_view("ustar\0"
                            "00",
                            8));
  unsigned sum = 0;
  for (const char c : header) sum += static_cast<unsigned char>(c);
  put(148, fmt::format("{:06o}", sum));
  header[154] = '\0';
  bytes_.append(header.data(), header.size());
  bytes_.append(contents);
  bytes_.append((kBlock - contents.size() % kBlock) % kBlock, '\0');
}

std::string TarArchive::finish() && {
  bytes_.append(2 * kBlock, '\0');
  return std::move(bytes_);
}

}  // namespace datacloud
