// Headers to bytes and back. A decoder takes only what the encoder writes, so that one content has
// one form.
#include "common/crypto/sealed_header.h"

namespace datacloud::sealed {
namespace {

template <class T>
uint8_t* append(uint8_t* to, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) *to++ = static_cast<uint8_t>(value >> 8 * i);
  return to;
}

uint16_t load_u16(const uint8_t* from) { return static_cast<uint16_t>(from[0] | from[1] << 8); }
uint32_t load_u32(const uint8_t* from) {
  return from[0] | from[1] << 8 | from[2] << 16 | uint32_t{from[3]} << 24;
}

std::optional<Compression> compression_of(uint8_t code) {
  if (code > static_cast<uint8_t>(Compression::zstd)) return std::nullopt;
  return static_cast<Compression>(code);
}

}  // namespace

void encode(const BlockHeader& header, uint8_t (&to)[kSealedHeaderBytes]) {
  const bool old = header.filter.none() && header.realm_generation == 0;
  uint8_t* at = to;
  *at++ = old ? kBlockFormat1 : kBlockFormat2;
  *at++ = static_cast<uint8_t>(static_cast<uint8_t>(header.compression) | filter_code(header.filter)
                                                                              << 4);
  at = append(at, header.realm_generation);
  at = append(at, header.generation);
  append(at, header.plain_length);
}

std::optional<BlockHeader> decode_block(ByteView from) {
  if (from.size() < kSealedHeaderBytes) return std::nullopt;
  const auto compression = compression_of(from[1] & 0x0f);
  const auto filter = filter_of(from[1] >> 4);
  if (!compression || !filter) return std::nullopt;
  const BlockHeader header{*compression, *filter, load_u16(&from[2]), load_u32(&from[4]),
                           load_u32(&from[8])};
  if (header.plain_length == 0 || header.plain_length > kBlockBytesMax) return std::nullopt;
  // A filter without compression would only cost.
  if (!header.filter.none() && header.compression == Compression::none) return std::nullopt;
  uint8_t again[kSealedHeaderBytes];
  encode(header, again);
  if (!std::equal(again, again + sizeof again, from.begin())) return std::nullopt;
  return header;
}

void encode(const PatchHeader& header, uint8_t (&to)[kSealedPatchHeaderBytes]) {
  uint8_t* at = to;
  *at++ = kPatchFormat;
  *at++ = static_cast<uint8_t>(header.compression);
  at = append(at, header.realm_generation);
  at = append(at, header.generation);
  at = append(at, header.offset);
  at = append(at, header.plain_length);
  append(at, header.block_length);
}

std::optional<PatchHeader> decode_patch(ByteView from) {
  if (from.size() < kSealedPatchHeaderBytes || from[0] != kPatchFormat) return std::nullopt;
  const auto compression = compression_of(from[1]);
  if (!compression) return std::nullopt;
  const PatchHeader header{*compression,       load_u16(&from[2]),  load_u32(&from[4]),
                           load_u32(&from[8]), load_u32(&from[12]), load_u32(&from[16])};
  if (header.block_length > kBlockBytesMax || header.plain_length == 0 ||
      header.plain_length > header.block_length ||
      header.offset > header.block_length - header.plain_length) {
    return std::nullopt;
  }
  return header;
}

AdditionalData::AdditionalData(ByteView header, const BlockAddress& address,
                               const ContentVersion* base, const std::string& uuid) {
  uint8_t* at = std::copy(header.begin(), header.end(), bytes_.data());
  at = append(at, address.realm);
  at = append(at, address.inode);
  at = append(at, address.block);
  at = append(at, address.version);
  if (base != nullptr) at = append(at, *base);
  at = std::copy_n(uuid.data(), std::min(uuid.size(), kUuidBytesMax), at);
  length_ = static_cast<size_t>(at - bytes_.data());
}

}  // namespace datacloud::sealed
