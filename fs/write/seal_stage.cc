// Chunked parallel sealing.
#include "fs/write/seal_stage.h"

#include <optional>
#include <utility>

namespace datacloud {
namespace {

// Small enough that the chunks of a 1 MiB write use several cores, large enough that a chunk is
// worth a task and a column is a short list of parts.
constexpr size_t kChunkPlainBytes = 256 << 10;

}  // namespace

struct SealStage::Chunk {
  struct Item {
    BlockAddress address;
    SharedBytes plain;
    Compression compression;
  };
  std::vector<Item> items;
  size_t plain_bytes = 0;
  SealedChunk sealed;
  std::optional<Error> error;
};

void SealStage::add(const BlockAddress& address, SharedBytes plain, Compression compression) {
  if (!open_) open_ = std::make_shared<Chunk>();
  open_->plain_bytes += plain->size();
  open_->items.push_back({address, std::move(plain), compression});
  if (open_->plain_bytes >= kChunkPlainBytes) dispatch();
}

void SealStage::close() {
  if (open_) dispatch();
  one_done();
}

void SealStage::dispatch() {
  auto chunk = std::exchange(open_, nullptr);
  chunks_.push_back(chunk);
  ++unfinished_;
  executor_.post([self = shared_from_this(), chunk = std::move(chunk)] {
    self->seal(*chunk);
    self->one_done();
  });
}

void SealStage::seal(Chunk& chunk) const {
  Bytes& out = chunk.sealed.bytes;
  out.reserve(chunk.plain_bytes + chunk.items.size() * kSealedOverheadBytes);
  for (const auto& item : chunk.items) {
    auto length = sealer_.seal(item.address, *item.plain, item.compression, out);
    if (!length) {
      chunk.error = length.error().in("sealing block " + std::to_string(item.address.block) +
                                      " of inode " + std::to_string(item.address.inode));
      break;
    }
    chunk.sealed.lengths.push_back(static_cast<uint32_t>(length.value()));
  }
  chunk.items.clear();
}

void SealStage::one_done() {
  if (--unfinished_ == 0) std::exchange(sealed_, nullptr)();
}

result<std::vector<std::shared_ptr<const SealedChunk>>> SealStage::outcome() {
  std::vector<std::shared_ptr<const SealedChunk>> sealed;
  for (auto& chunk : chunks_) {
    if (chunk->error) return *chunk->error;
    sealed.emplace_back(chunk, &chunk->sealed);
  }
  chunks_.clear();
  return sealed;
}

}  // namespace datacloud
