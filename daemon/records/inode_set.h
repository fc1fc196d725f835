// A set of inode numbers: a bit each, in chunks that exist where there are any. What belongs
// together was mostly made together, so that its numbers lie together. At most an eighth of a byte
// per number ever given out, and some overhead where they lie scattered.
//
// Threads: one at a time.
#pragma once

#include <bitset>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>

#include "common/base/ids.h"

namespace datacloud {

class InodeSet {
 public:
  void insert(InodeId ino) {
    auto& chunk = chunks_[ino / kChunk];
    if (!chunk) chunk = std::make_unique<Chunk>();
    chunk->set(ino % kChunk);
  }
  void erase(InodeId ino) {
    const auto it = chunks_.find(ino / kChunk);
    if (it == chunks_.end()) return;
    it->second->reset(ino % kChunk);
    if (it->second->none()) chunks_.erase(it);
  }
  bool contains(InodeId ino) const {
    const auto it = chunks_.find(ino / kChunk);
    return it != chunks_.end() && it->second->test(ino % kChunk);
  }
  // In ascending order from `first` on, until `visit` returns false.
  void visit_from(InodeId first, const std::function<bool(InodeId)>& visit) const {
    for (auto it = chunks_.lower_bound(first / kChunk); it != chunks_.end(); ++it) {
      for (size_t i = 0; i < kChunk; ++i) {
        const InodeId ino = it->first * kChunk + i;
        if (ino >= first && it->second->test(i) && !visit(ino)) return;
      }
    }
  }

 private:
  static constexpr size_t kChunk = 2048;
  using Chunk = std::bitset<kChunk>;
  std::map<uint64_t, std::unique_ptr<Chunk>> chunks_;
};

}  // namespace datacloud
