// Fingerprints in the machine's byte order, one after another: the file never leaves its machine.
#include "daemon/scrub/listed_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace datacloud {
namespace {

constexpr size_t kNumber = sizeof(uint64_t);
constexpr size_t kReadNames = 32u << 10;  // at once

}  // namespace

uint64_t ListedNames::fingerprint(std::string_view name) {
  uint64_t value = 0;
  if (name.size() >= 16) std::from_chars(name.data(), name.data() + 16, value, 16);
  return value;
}

bool ListedNames::Part::has(uint64_t print) const {
  return std::binary_search(prints.begin(), prints.end(), print);
}

ListedNames::ListedNames(std::shared_ptr<FileLayer> files, std::string path,
                         std::unique_ptr<File> out, uint64_t size)
    : files_(std::move(files)), path_(std::move(path)), out_(std::move(out)), size_(size) {}

result<ListedNames> ListedNames::create(std::shared_ptr<FileLayer> files, std::string path) {
  TRY(auto out, files->open(path, FileLayer::Open::truncate));
  return ListedNames(std::move(files), std::move(path), std::move(out), 0);
}

result<ListedNames> ListedNames::resume(std::shared_ptr<FileLayer> files, std::string path,
                                        uint64_t names) {
  TRY(const auto found, files->stat(path));
  if (found.size < names * kNumber || found.size % kNumber != 0) {
    return failure(Errc::corrupt,
                   fmt::format("{} has {} bytes, not whole or less than {} names of {} bytes", path,
                               found.size, names, kNumber));
  }
  TRY(auto out, files->open(path, FileLayer::Open::append));
  return ListedNames(std::move(files), std::move(path), std::move(out), found.size / kNumber);
}

result<void> ListedNames::add(const std::vector<std::string>& names) {
  std::vector<uint64_t> prints;
  prints.reserve(names.size());
  for (const auto& name : names) prints.push_back(fingerprint(name));
  TRY(out_->append({reinterpret_cast<const uint8_t*>(prints.data()), prints.size() * kNumber}));
  size_ += prints.size();
  return success();
}

result<void> ListedNames::sync() { return out_->sync(); }

result<ListedNames::Part> ListedNames::load(uint64_t part, uint64_t parts) {
  Part loaded{parts, part, {}};
  loaded.prints.reserve(size_ / parts + size_ / parts / 8);
  TRY(const auto in, files_->open(path_, FileLayer::Open::read));
  std::vector<uint64_t> prints(kReadNames);
  for (uint64_t at = 0; at < size_;) {
    const size_t count = std::min<uint64_t>(kReadNames, size_ - at);
    TRY(const size_t bytes,
        in->pread(at * kNumber, {reinterpret_cast<uint8_t*>(prints.data()), count * kNumber}));
    if (bytes != count * kNumber) {
      return failure(Errc::corrupt, fmt::format("{} has lost names since it was written", path_));
    }
    for (size_t i = 0; i < count; ++i) {
      if (loaded.covers(prints[i])) loaded.prints.push_back(prints[i]);
    }
    at += count;
  }
  std::sort(loaded.prints.begin(), loaded.prints.end());
  return loaded;
}

result<void> ListedNames::remove() {
  out_.reset();
  return files_->unlink(path_);
}

}  // namespace datacloud
