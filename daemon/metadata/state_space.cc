// See state_space.h. A piece is either whole or deleted: one that cannot be written whole is no
// reserve.
#include "daemon/metadata/state_space.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "common/base/log.h"

namespace datacloud {

StateSpace::StateSpace(std::shared_ptr<FileLayer> files, std::string directory)
    : files_(std::move(files)), directory_(std::move(directory)) {}

uint64_t StateSpace::floor_of(uint64_t bytes_total) const {
  return std::clamp(bytes_total / 16, kFloorMin, kFloorMax);
}

std::optional<Error> StateSpace::refusal() {
  std::lock_guard lock(mutex_);
  if (failed_) return failed_;
  const auto now = monotonic_now();
  if (looked_ != MonotonicTime{} && now - looked_ < kAge) return refusal_;
  looked_ = now;
  const auto space = files_->space(directory_);
  if (!space) return refusal_;  // its failure is told by whoever writes
  const uint64_t free = space.value().bytes_free, floor = floor_of(space.value().bytes_total);
  if (free >= floor) {
    if (refusal_) spdlog::info("the disk of {} has room again", directory_);
    refusal_.reset();
    return refusal_;
  }
  Error full(
      Errc::no_space,
      fmt::format("the daemon's disk is full: {} has {} MiB free of the {} MiB that are kept "
                  "free; make room there: until then no file is created or written",
                  directory_, free >> 20, floor >> 20));
  if (!refusal_) spdlog::error("{}", full.text());
  refusal_ = std::move(full);
  return refusal_;
}

void StateSpace::set_failed(const Error& error) {
  std::lock_guard lock(mutex_);
  failed_ = error;
}

bool StateSpace::writable() {
  const std::string probe = directory_ + "/writable.probe";
  auto file = files_->open(probe, FileLayer::Open::truncate);
  auto written = file ? file.value()->append(Bytes(4096, 1)) : result<void>(failure(file.error()));
  if (written) written = file.value()->sync();
  (void)files_->unlink(probe);
  if (!written) return false;
  const auto space = files_->space(directory_);
  return space && space.value().bytes_free >= floor_of(space.value().bytes_total);
}

bool StateSpace::give() {
  std::lock_guard lock(mutex_);
  for (int i = kPieces - 1; i >= 0; --i) {
    if (!files_->stat(piece(i))) continue;
    if (files_->unlink(piece(i))) {
      spdlog::warn("the disk of {} is full: a sixteenth of the reserve is used", directory_);
      return true;
    }
  }
  return false;
}

bool StateSpace::replenish() {
  std::lock_guard lock(mutex_);
  int missing = 0;
  while (missing < kPieces && files_->stat(piece(missing))) ++missing;
  if (missing == kPieces) return false;
  const auto space = files_->space(directory_);
  if (!space) return false;
  const uint64_t floor = floor_of(space.value().bytes_total), bytes = floor / kPieces;
  if (space.value().bytes_free < 2 * floor + bytes) return false;
  std::mt19937_64 random(static_cast<uint64_t>(missing) + 1);
  Bytes noise(bytes / 8 * 8);
  for (size_t at = 0; at < noise.size(); at += 8) {
    const uint64_t word = random();
    std::memcpy(noise.data() + at, &word, 8);
  }
  const std::string temporary = directory_ + "/reserve.new";
  auto file = files_->open(temporary, FileLayer::Open::truncate);
  auto written = file ? file.value()->append(noise) : result<void>(failure(file.error()));
  if (written) written = file.value()->sync();
  if (written) written = files_->rename(temporary, piece(missing));
  if (written) return true;
  spdlog::warn("the reserve for a full disk cannot be made: {}", written.error().message());
  (void)files_->unlink(temporary);
  return false;
}

}  // namespace datacloud
