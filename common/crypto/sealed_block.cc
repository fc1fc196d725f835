// Seals and opens blocks; layout and additional data are written down in docs/format.md.
#include "common/crypto/sealed_block.h"

#include "common/crypto/sealed_header.h"
#include "common/crypto/sealed_worker.h"

namespace datacloud {

BlockSealer::BlockSealer(SecretKey data_key, std::string cloud_uuid)
    : impl_(std::make_unique<Impl>(data_key, std::move(cloud_uuid))) {}

BlockSealer::~BlockSealer() = default;

void BlockSealer::add_realm_key(uint32_t realm, uint16_t generation, SecretKey key) {
  impl_->keys.add_realm_key(realm, generation, key);
}

result<size_t> BlockSealer::seal(const BlockAddress& address, ByteView plain, Packing packing,
                                 Bytes& out) const {
  return seal_with_nonce(address, plain, packing, nullptr, out);
}

result<size_t> BlockSealer::seal_with_nonce(const BlockAddress& address, ByteView plain,
                                            Packing packing, const uint8_t* nonce,
                                            Bytes& out) const {
  if (plain.empty() || plain.size() > kBlockBytesMax)
    return failure(Errc::invalid, describe(address) + " has " + std::to_string(plain.size()) +
                                      " bytes; a block has 1 to " + std::to_string(kBlockBytesMax));
  BorrowedWorker worker(*impl_);
  const auto packed = worker->pack(plain, packing);
  uint8_t head[kSealedHeaderBytes];
  sealed::encode(sealed::BlockHeader{packed.packing.compression, packed.packing.filter,
                                     address.realm_generation, address.generation,
                                     static_cast<uint32_t>(plain.size())},
                 head);
  const sealed::AdditionalData aad(head, address, nullptr, impl_->cloud_uuid);
  return impl_->append(*worker, address, head, aad.view(), packed.bytes, nonce, out);
}

result<Bytes> BlockSealer::open(BlockAddress address, ByteView sealed) const {
  if (sealed.size() <= kSealedOverheadBytes) return failure(corrupt_block(address, "is cut short"));
  const auto header = sealed::decode_block(sealed);
  if (!header) return failure(corrupt_block(address, "has a malformed header"));
  const ByteView body =
      sealed.subspan(kSealedHeaderBytes + kSealedNonceBytes, sealed.size() - kSealedOverheadBytes);
  // seal() keeps a compressed form only when it is shorter than the plain one.
  if (header->compression == Compression::zstd ? body.size() >= header->plain_length
                                               : body.size() != header->plain_length)
    return failure(corrupt_block(address, "has a length that does not fit its header"));
  address.generation = header->generation;
  address.realm_generation = header->realm_generation;
  const auto key =
      impl_->keys.key(address.realm, address.realm_generation, address.inode, address.generation);
  if (!key) return failure(corrupt_block(address, no_realm_key(address)));

  BorrowedWorker worker(*impl_);
  const char* problem = "";
  auto plain = worker->open(
      *key, sealed.data() + kSealedHeaderBytes,
      sealed::AdditionalData(sealed.first(kSealedHeaderBytes), address, nullptr, impl_->cloud_uuid)
          .view(),
      body, sealed.data() + sealed.size() - kSealedTagBytes, {header->compression, header->filter},
      header->plain_length, &problem);
  if (!plain) return failure(corrupt_block(address, problem));
  return std::move(*plain);
}

}  // namespace datacloud
