// The part of a shard's audit tags that depends on its bytes (audit_tag.h), made as they pass by:
// the sums over alpha^c m_c, to which the PRF is added once the shard has its name.
//
// Bytes are looked at a little later than they are given, in runs of many blocks, which is what the
// arithmetic is fast at; given 64 KiB at a time they are still in a near cache then.
//
// Thread safety: none.
#pragma once

#include <array>

#include "common/tags/audit_tag.h"

namespace datacloud {

class TagSums {
 public:
  // Null: nothing is summed.
  explicit TagSums(const AuditTagger* tagger) : tagger_(tagger) {}

  // The next bytes of the shard, which must stay as they are until finish() has returned.
  void add(ByteView);
  uint64_t bytes() const { return bytes_; }
  // 16 bytes per audit block. Nothing may be added afterwards.
  Bytes finish();

 private:
  void sum(ByteView blocks);
  void sum_waiting();
  void keep_rest();

  const AuditTagger* tagger_;
  uint64_t bytes_ = 0;
  ByteView waiting_;                             // behind what is kept in block_
  std::array<uint8_t, kAuditBlockBytes> block_;  // its start came with an earlier piece of memory
  size_t filled_ = 0;
  Bytes sums_;
};

}  // namespace datacloud
