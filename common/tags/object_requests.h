// What stores are asked to compute next to the data, and what they answer (object_store.h).
//
// Shared with the OSD class, so it needs the standard library only.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/tags/audit_challenge.h"

namespace datacloud {

inline constexpr uint64_t kObjectBytesMax = 64u << 20;  // larger puts and replies are refused

// Attributes of a shard object.
inline constexpr const char* kInstanceAttribute = "i";  // the instance id, u64 little-endian
inline constexpr const char* kTagsAttribute = "t";      // 16 bytes per audit block, in order

// Bytes XORed into a new object, or into one of its attributes, at `offset`.
struct XorRange {
  uint64_t offset = 0;
  Bytes bytes;
};

// A new object made at its site from an existing one.
struct Derivation {
  std::string source;            // an object of the same site, not changed
  uint64_t source_instance = 0;  // what the source's kInstanceAttribute must say, else corrupt
  uint64_t instance = 0;         // what the new object's will say; not the source's
  uint64_t size = 0;             // of the new object, >= the source's; zero-extended before the XOR
  std::vector<XorRange> data;    // within size
  // On kTagsAttribute, which is first zero-extended to 16 bytes for each audit block of `size`.
  std::vector<XorRange> tags;
};
inline constexpr size_t kXorRangesMax = 16384;  // of data and of tags each
struct DeriveReply {
  uint64_t bytes_transferred = 0;  // between caller and site, both ways: data, not protocol
};

// outputs[j] = sum over i of coefficients[j][i] * ranges[i] over GF(2^8), polynomial 0x11D. Ranges
// all have one length; bytes past the object's end count as zero.
struct Combination {
  std::vector<ByteRange> ranges;
  std::vector<std::vector<uint8_t>> coefficients;  // one row per output, one entry per range
};
inline constexpr size_t kCombinationRangesMax = 256;
inline constexpr size_t kCombinationOutputsMax = 256;
struct CombineReply {
  std::vector<Bytes> outputs;
  uint64_t bytes_transferred = 0;
  bool at_site = false;  // computed next to the data; else the ranges were read from outside
};

// The answer to an AuditChallenge (audit_challenge.h), to be believed only after verification
// (audit_tag.h).
struct AuditProof {
  Bytes mu;  // 4096 bytes
  std::array<uint8_t, 16> tag{};
  uint64_t object_size = 0;
  uint64_t instance = 0;  // as the object's attribute says
  uint64_t bytes_transferred = 0;
  bool at_site = false;  // computed next to the data; else the blocks were read from outside
};

// What is wrong with a request, as a text for people; null when it is within its bounds.
const char* fault_of(const Derivation&);
const char* fault_of(const Combination&);
const char* fault_of(const AuditChallenge&);

// Ranges in ascending order that touch nowhere and together do what `ranges` do: where those
// overlap, their bytes are added. For writers that cannot read what they have just written.
std::vector<XorRange> coalesce(const std::vector<XorRange>& ranges);

}  // namespace datacloud
