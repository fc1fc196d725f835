// Audit challenges and their answers: what a site is asked and what it computes.
//
// A challenge is a fresh 32-byte seed. It determines which audit blocks are asked for and a
// coefficient nu_i in F for each (docs/format.md, "Audit challenge"). The answer is one block
// mu = sum nu_i m_i and one tag sum nu_i sigma_i, whatever the number of blocks.
//
// Like audit_field.h, for the OSD class too: standard library and libcrypto only.
// Thread safety: values; functions are pure.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "common/tags/audit_field.h"

namespace datacloud {

inline constexpr size_t kAuditSeedBytes = 32;
inline constexpr uint64_t kAuditBlocksMax = (uint64_t{64} << 20) / kAuditBlockBytes;

inline uint64_t audit_blocks_of(uint64_t bytes) {
  return bytes / kAuditBlockBytes + (bytes % kAuditBlockBytes != 0);
}

struct AuditChallenge {
  std::array<uint8_t, kAuditSeedBytes> seed{};
  // Audit blocks of the column (of its parity length): what is sampled from, so that all columns of
  // a stripe are asked for the same. Those past an object's end count as zero and have no tag.
  uint64_t blocks_total = 0;  // at most kAuditBlocksMax
  uint64_t samples = 0;       // 0: every block
};

struct BlockRun {
  uint64_t first = 0;
  uint64_t count = 0;
};

// The blocks asked for below `blocks_held` (those an object has), ascending, neighbours joined.
std::vector<BlockRun> challenged_blocks(const AuditChallenge&, uint64_t blocks_held);
// The coefficients of blocks first .. first + count - 1.
std::vector<FieldElement> challenge_coefficients(const AuditChallenge&, BlockRun);

// Collects an answer run by run.
class AuditResponse {
 public:
  explicit AuditResponse(const AuditChallenge& challenge) : challenge_(challenge) {}
  // bytes: the blocks of the run (the object's last may be short); tags: 16 bytes for each.
  void add(BlockRun, ByteView bytes, ByteView tags);
  Bytes mu() const { return mu_.sum(); }  // 4096 bytes
  FieldElement tag() const { return field_element(tag_.sum()); }

 private:
  const AuditChallenge challenge_;
  FieldCombination mu_{kAuditBlockBytes};
  FieldCombination tag_{kFieldBytes};
};

}  // namespace datacloud
