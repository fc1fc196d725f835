// Seals the blocks of one stripe in parallel while the stripe is still being filled.
//
// Blocks are grouped, in order, into chunks of about kChunkPlainBytes; each chunk is one task and
// one piece of memory that is later put as it is. `sealed` runs once, on a sealing thread or in
// close(), when the stage was closed and all chunks are done.
//
// Threads: add() and close() by one thread at a time; outcome() once `sealed` has run.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "common/base/executor.h"
#include "common/crypto/sealed_block.h"
#include "fs/write/stripe_builder.h"

namespace datacloud {

class SealStage : public std::enable_shared_from_this<SealStage> {
 public:
  SealStage(const BlockSealer& sealer, Executor& executor, std::function<void()> sealed)
      : sealer_(sealer), executor_(executor), sealed_(std::move(sealed)) {}

  void add(const BlockAddress&, SharedBytes plain, Compression);
  void close();

  // The chunks in order (given away), or the first failure.
  result<std::vector<std::shared_ptr<const SealedChunk>>> outcome();

 private:
  struct Chunk;
  void dispatch();
  void seal(Chunk&) const;
  void one_done();

  const BlockSealer& sealer_;
  Executor& executor_;
  std::function<void()> sealed_;
  std::shared_ptr<Chunk> open_;
  std::vector<std::shared_ptr<Chunk>> chunks_;
  std::atomic<int> unfinished_{1};  // chunks, and the stage itself until it is closed
};

}  // namespace datacloud
