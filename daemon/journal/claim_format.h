// A claim at a directory site as bytes: one file, whose pages have one writer each. Pure;
// docs/journal.md, "Directory sites".
#pragma once

#include <optional>

#include "common/base/error.h"
#include "common/base/file_layer.h"
#include "daemon/journal/log_position.h"

namespace datacloud::journal {

inline constexpr size_t kClaimPageBytes = kWriteThroughBytes;
inline constexpr size_t kClaimFileBytes = 4 * kClaimPageBytes;
// Pages: who claims (never changed), who superseded it (by successors), the floor in turns (by it).
inline constexpr size_t kClaimPage = 0, kSupersededPage = 1, kFloorPage = 2;

struct Claim {
  JournalId journal{};
  Epoch epoch;
  uint64_t index = 0;  // in the file's name; grows by 1 with every claim at the site
  bool seals = false;  // not a leader's: the log is sealed
  uint64_t floor = 1;  // as the claimer found it
  bool operator==(const Claim&) const = default;
};

// What a claim file says.
struct ClaimFile {
  Claim claim;
  bool superseded = false;
  uint64_t floor = 1;        // the highest of the claim's own and of what its owner has written
  uint64_t floor_count = 0;  // writes of the floor so far
};

Bytes encode_claim_file(const Claim&);                    // the whole file, not superseded
Bytes encode_superseded_page(uint64_t by_index);          // one page
Bytes encode_floor_page(uint64_t count, uint64_t floor);  // one page
size_t floor_page_of(uint64_t count);                     // its number: in turns
result<ClaimFile> decode_claim_file(ByteView);            // corrupt

}  // namespace datacloud::journal
