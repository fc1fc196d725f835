// The plain part of sealed blocks and patches, and what their tags bind; layouts in docs/format.md.
// For sealed_block.cc, sealed_patch.cc and their tests.
#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <string>

#include "common/base/bytes.h"
#include "common/crypto/sealed_block.h"

namespace datacloud::sealed {

constexpr uint8_t kBlockFormat1 = 1, kBlockFormat2 = 2, kPatchFormat = 0x42;
constexpr size_t kUuidBytesMax = 64;

struct BlockHeader {
  Compression compression = Compression::none;
  ByteFilter filter;
  uint16_t realm_generation = 0;
  uint32_t generation = 0;
  uint32_t plain_length = 0;
};
// Format 1 where it can say it: programs that know nothing else read such blocks.
void encode(const BlockHeader&, uint8_t (&to)[kSealedHeaderBytes]);
// nullopt for anything seal() would not have written.
std::optional<BlockHeader> decode_block(ByteView from);

struct PatchHeader {
  Compression compression = Compression::none;
  uint16_t realm_generation = 0;
  uint32_t generation = 0;
  uint32_t offset = 0;
  uint32_t plain_length = 0;
  uint32_t block_length = 0;
};
void encode(const PatchHeader&, uint8_t (&to)[kSealedPatchHeaderBytes]);
std::optional<PatchHeader> decode_patch(ByteView from);

// What a tag binds: the header, then the address, for patches the base's version, then the cloud's
// UUID. (All of the UUID, however long, is bound by the key too.)
class AdditionalData {
 public:
  AdditionalData(ByteView header, const BlockAddress&, const ContentVersion* base,
                 const std::string& uuid);
  ByteView view() const { return {bytes_.data(), length_}; }

 private:
  std::array<uint8_t, kSealedPatchHeaderBytes + 36 + kUuidBytesMax> bytes_;
  size_t length_;
};

}  // namespace datacloud::sealed
