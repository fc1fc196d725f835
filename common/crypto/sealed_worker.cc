// Packing, encryption and the pool of workers; see sealed_worker.h.
#include "common/crypto/sealed_worker.h"

#include <algorithm>

namespace datacloud {
namespace {

constexpr int kZstdLevel = 1;
constexpr size_t kCompressedFrom = 16;  // fewer bytes cannot save a sixteenth

MutableByteView room(Bytes& memory, size_t size) {
  if (memory.size() < size) memory.resize(size);
  return {memory.data(), size};
}

}  // namespace

SealWorker::SealWorker(EVP_CIPHER* aes)
    : cipher(aes), compressor_(ZSTD_createCCtx()), decompressor_(ZSTD_createDCtx()) {
  // The plain length is in our header; what authenticates needs no checksum.
  ZSTD_CCtx_setParameter(compressor_, ZSTD_c_compressionLevel, kZstdLevel);
  ZSTD_CCtx_setParameter(compressor_, ZSTD_c_contentSizeFlag, 0);
  ZSTD_CCtx_setParameter(compressor_, ZSTD_c_checksumFlag, 0);
}

SealWorker::~SealWorker() {
  OPENSSL_cleanse(packed_.data(), packed_.size());
  OPENSSL_cleanse(filtered_.data(), filtered_.size());
  ZSTD_freeCCtx(compressor_);
  ZSTD_freeDCtx(decompressor_);
}

SealWorker::Packed SealWorker::pack(ByteView plain, Packing wanted) {
  const Packed as_it_is{plain, {}};
  if (wanted.compression != Compression::zstd || plain.size() < kCompressedFrom) return as_it_is;
  ByteView from = plain;
  if (!wanted.filter.none()) {
    const auto filtered = room(filtered_, plain.size());
    apply_filter(wanted.filter, plain, filtered);
    from = filtered;
  }
  const size_t useful = plain.size() - plain.size() / 16;
  const auto to = room(packed_, ZSTD_compressBound(plain.size()));
  const size_t length = ZSTD_compress2(compressor_, to.data(), to.size(), from.data(), from.size());
  if (ZSTD_isError(length) || length > useful) return as_it_is;
  return {ByteView(to).first(length), wanted};
}

std::optional<Bytes> SealWorker::open(const SecretKey& key, const uint8_t* nonce, ByteView aad,
                                      ByteView body, const uint8_t* tag, Packing packing,
                                      uint32_t plain_length, const char** problem) {
  Bytes plain;
  if (packing.compression == Compression::none) {
    plain.assign(body.begin(), body.end());
    if (cipher.open(key, nonce, aad, plain, tag)) return plain;
    *problem = "does not authenticate";
    return std::nullopt;
  }
  const auto work = room(packed_, body.size());
  std::copy(body.begin(), body.end(), work.begin());
  if (!cipher.open(key, nonce, aad, work, tag)) {
    *problem = "does not authenticate";
    return std::nullopt;
  }
  plain.resize(plain_length);
  MutableByteView to = plain;
  if (!packing.filter.none()) to = room(filtered_, plain_length);
  const size_t length =
      ZSTD_decompressDCtx(decompressor_, to.data(), to.size(), work.data(), work.size());
  if (ZSTD_isError(length) || length != plain_length) {
    *problem = "does not decompress to its length";
    return std::nullopt;
  }
  if (!packing.filter.none()) undo_filter(packing.filter, to, plain);
  return plain;
}

BlockSealer::Impl::Impl(SecretKey data_key, std::string uuid)
    : cloud_uuid(std::move(uuid)),
      keys(data_key, cloud_uuid),
      aes(EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr)) {}

BlockSealer::Impl::~Impl() {
  idle.clear();
  EVP_CIPHER_free(aes);
}

std::unique_ptr<SealWorker> BlockSealer::Impl::take() {
  {
    std::lock_guard lock(mutex);
    if (!idle.empty()) {
      auto worker = std::move(idle.back());
      idle.pop_back();
      return worker;
    }
  }
  return std::make_unique<SealWorker>(aes);
}

void BlockSealer::Impl::give_back(std::unique_ptr<SealWorker> worker) {
  std::lock_guard lock(mutex);
  idle.push_back(std::move(worker));
}

result<size_t> BlockSealer::Impl::append(SealWorker& worker, const BlockAddress& address,
                                         ByteView header, ByteView aad, ByteView body,
                                         const uint8_t* nonce, Bytes& out) {
  const auto key =
      keys.key(address.realm, address.realm_generation, address.inode, address.generation);
  if (!key) return failure(Errc::invalid, describe(address) + ": " + no_realm_key(address));
  if (nonce == nullptr) nonce = worker.cipher.next_nonce();
  if (nonce == nullptr)
    return failure(Errc::io, "the system's random number generator fails; cannot encrypt");
  uint8_t tag[kSealedTagBytes];
  const size_t before = out.size();
  const size_t length = header.size() + kSealedNonceBytes + body.size() + sizeof tag;
  if (out.capacity() < before + length) out.reserve(std::max(before + length, 2 * out.capacity()));
  // Copied and then encrypted in place: a vector cannot grow without writing its new bytes anyway.
  out.insert(out.end(), header.begin(), header.end());
  out.insert(out.end(), nonce, nonce + kSealedNonceBytes);
  out.insert(out.end(), body.begin(), body.end());
  const MutableByteView cipher_text(out.data() + out.size() - body.size(), body.size());
  if (!worker.cipher.seal(*key, nonce, aad, cipher_text, tag)) {
    OPENSSL_cleanse(out.data() + before, out.size() - before);
    out.resize(before);
    return failure(Errc::io, "OpenSSL cannot encrypt " + describe(address));
  }
  out.insert(out.end(), tag, tag + sizeof tag);
  return length;
}

std::string describe(const BlockAddress& a) {
  return "block " + std::to_string(a.block) + " of inode " + std::to_string(a.inode) +
         " (content version " + std::to_string(a.version) + ")";
}

Error corrupt_block(const BlockAddress& address, const std::string& what) {
  return Error(Errc::corrupt, describe(address) + " " + what);
}

std::string no_realm_key(const BlockAddress& address) {
  return "needs generation " + std::to_string(address.realm_generation) + " of the key of realm " +
         std::to_string(address.realm) + ", which is not here";
}

}  // namespace datacloud
