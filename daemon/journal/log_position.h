// Where a journal is: epochs, chain hashes, positions. docs/journal.md.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>

namespace datacloud::journal {

using JournalId = std::array<uint8_t, 16>;  // the cloud's UUID, as bytes
using ChainHash = std::array<uint8_t, 32>;  // SHA-256 of an entry's bytes, padding included

// A leadership. Totally ordered; the nonce is random, so that two claimers that choose one number
// differ. A number is 1 to kEpochNumberMax; {0, 0} is before all of them.
struct Epoch {
  uint64_t number = 0;
  uint64_t nonce = 0;
  auto operator<=>(const Epoch&) const = default;
};
inline constexpr uint64_t kEpochNumberMax = (uint64_t{1} << 62) - 1;  // RADOS compares below 2^63

// The end of a log: its last entry. Sequence 0, without epoch and hash: no entry.
struct LogPosition {
  Epoch epoch;
  uint64_t sequence = 0;
  ChainHash hash{};
  bool operator==(const LogPosition&) const = default;
};

// Which of two logs is adopted: the one whose last entry has the higher (epoch, sequence).
inline bool ends_before(const LogPosition& a, const LogPosition& b) {
  return a.epoch != b.epoch ? a.epoch < b.epoch : a.sequence < b.sequence;
}

// "7.00c0ffee00000001", as names of segments and texts have it.
std::string epoch_text(const Epoch&);

}  // namespace datacloud::journal
