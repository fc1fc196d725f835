// Seals and opens blocks; layout and additional data are written down in docs/format.md.
#include "common/crypto/sealed_block.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>
#include <optional>
#include <vector>

#include "common/crypto/block_cipher.h"
#include "common/crypto/inode_keys.h"

namespace datacloud {
namespace {

constexpr uint8_t kFormat = 1;
constexpr int kZstdLevel = 1;
constexpr size_t kUuidBytesMax = 64;

struct Header {
  Compression compression = Compression::none;
  uint32_t generation = 0;
  uint32_t plain_length = 0;
};

template <class T>
void append_little_endian(uint8_t*& to, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) *to++ = static_cast<uint8_t>(value >> 8 * i);
}

uint32_t load_u32(const uint8_t* from) {
  return from[0] | from[1] << 8 | from[2] << 16 | uint32_t{from[3]} << 24;
}

void encode_header(const Header& header, uint8_t* to) {
  *to++ = kFormat;
  *to++ = static_cast<uint8_t>(header.compression);
  append_little_endian(to, uint16_t{0});
  append_little_endian(to, header.generation);
  append_little_endian(to, header.plain_length);
}

// nullopt for anything seal() would not have written.
std::optional<Header> decode_header(const uint8_t* from) {
  const uint8_t compression = from[1];
  if (from[0] != kFormat || compression > static_cast<uint8_t>(Compression::zstd) || from[2] != 0 ||
      from[3] != 0)
    return std::nullopt;
  const Header header{static_cast<Compression>(compression), load_u32(from + 4),
                      load_u32(from + 8)};
  if (header.plain_length == 0 || header.plain_length > kBlockBytesMax) return std::nullopt;
  return header;
}

// What the tag binds: the header, then realm, inode, block, version, then the cloud's UUID. (All of
// the UUID, however long, is bound by the key too.)
struct AdditionalData {
  AdditionalData(const uint8_t* header, const BlockAddress& address, const std::string& uuid) {
    uint8_t* at = bytes.data();
    at = std::copy_n(header, kSealedHeaderBytes, at);
    append_little_endian(at, address.realm);
    append_little_endian(at, address.inode);
    append_little_endian(at, address.block);
    append_little_endian(at, address.version);
    at = std::copy_n(uuid.data(), std::min(uuid.size(), kUuidBytesMax), at);
    length = at - bytes.data();
  }
  ByteView view() const { return {bytes.data(), length}; }

  std::array<uint8_t, kSealedHeaderBytes + 28 + kUuidBytesMax> bytes;
  size_t length;
};

// What one thread needs while it seals or opens; kept and reused.
struct Worker {
  explicit Worker(EVP_CIPHER* aes)
      : cipher(aes), compressor(ZSTD_createCCtx()), decompressor(ZSTD_createDCtx()) {
    // The plain length is in our header; what authenticates needs no checksum.
    ZSTD_CCtx_setParameter(compressor, ZSTD_c_compressionLevel, kZstdLevel);
    ZSTD_CCtx_setParameter(compressor, ZSTD_c_contentSizeFlag, 0);
    ZSTD_CCtx_setParameter(compressor, ZSTD_c_checksumFlag, 0);
  }
  ~Worker() {
    OPENSSL_cleanse(scratch.data(), scratch.size());
    ZSTD_freeCCtx(compressor);
    ZSTD_freeDCtx(decompressor);
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  BlockCipher cipher;
  ZSTD_CCtx* compressor;
  ZSTD_DCtx* decompressor;
  Bytes scratch;  // compressed plain bytes
};

std::string describe(const BlockAddress& a) {
  return "block " + std::to_string(a.block) + " of inode " + std::to_string(a.inode) +
         " (content version " + std::to_string(a.version) + ")";
}

Error corrupt(const BlockAddress& address, const char* what) {
  return Error(Errc::corrupt, describe(address) + " " + what);
}

}  // namespace

struct BlockSealer::Impl {
  Impl(SecretKey data_key, std::string uuid)
      : cloud_uuid(std::move(uuid)),
        keys(data_key, cloud_uuid),
        aes(EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr)) {}
  ~Impl() {
    idle.clear();
    EVP_CIPHER_free(aes);
  }

  // Workers are as many as calls ever ran at once; the last one used is taken first, its caches
  // are warm.
  std::unique_ptr<Worker> take() {
    {
      std::lock_guard lock(mutex);
      if (!idle.empty()) {
        auto worker = std::move(idle.back());
        idle.pop_back();
        return worker;
      }
    }
    return std::make_unique<Worker>(aes);
  }
  void give_back(std::unique_ptr<Worker> worker) {
    std::lock_guard lock(mutex);
    idle.push_back(std::move(worker));
  }

  const std::string cloud_uuid;
  InodeKeys keys;
  EVP_CIPHER* const aes;
  std::mutex mutex;
  std::vector<std::unique_ptr<Worker>> idle;
};

namespace {

// Returns a worker to its pool at the end of a call.
template <class Pool>
class Borrowed {
 public:
  explicit Borrowed(Pool& pool) : pool_(pool), worker_(pool.take()) {}
  ~Borrowed() { pool_.give_back(std::move(worker_)); }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;
  Worker* operator->() const { return worker_.get(); }
  Worker& operator*() const { return *worker_; }

 private:
  Pool& pool_;
  std::unique_ptr<Worker> worker_;
};

// The compressed bytes (in the worker's scratch) when they save at least 1/16, else nothing.
ByteView compress(Worker& worker, ByteView plain) {
  if (plain.size() < 16) return {};
  const size_t useful = plain.size() - plain.size() / 16;
  worker.scratch.resize(std::max(worker.scratch.size(), ZSTD_compressBound(plain.size())));
  const size_t length = ZSTD_compress2(worker.compressor, worker.scratch.data(),
                                       worker.scratch.size(), plain.data(), plain.size());
  if (ZSTD_isError(length) || length > useful) return {};
  return {worker.scratch.data(), length};
}

}  // namespace

BlockSealer::BlockSealer(SecretKey data_key, std::string cloud_uuid)
    : impl_(std::make_unique<Impl>(data_key, std::move(cloud_uuid))) {}

BlockSealer::~BlockSealer() = default;

result<size_t> BlockSealer::seal(const BlockAddress& address, ByteView plain,
                                 Compression compression, Bytes& out) const {
  return seal_with_nonce(address, plain, compression, nullptr, out);
}

result<size_t> BlockSealer::seal_with_nonce(const BlockAddress& address, ByteView plain,
                                            Compression compression, const uint8_t* nonce,
                                            Bytes& out) const {
  if (plain.empty() || plain.size() > kBlockBytesMax)
    return failure(Errc::invalid, describe(address) + " has " + std::to_string(plain.size()) +
                                      " bytes; a block has 1 to " + std::to_string(kBlockBytesMax));
  Borrowed worker(*impl_);
  ByteView body;
  if (compression == Compression::zstd) body = compress(*worker, plain);
  Header header{Compression::zstd, address.generation, static_cast<uint32_t>(plain.size())};
  if (body.empty()) {
    header.compression = Compression::none;
    body = plain;
  }
  if (nonce == nullptr) nonce = worker->cipher.next_nonce();
  if (nonce == nullptr)
    return failure(Errc::io, "the system's random number generator fails; cannot encrypt");

  uint8_t head[kSealedHeaderBytes];
  uint8_t tag[kSealedTagBytes];
  encode_header(header, head);
  const size_t before = out.size(), length = body.size() + kSealedOverheadBytes;
  if (out.capacity() < before + length) out.reserve(std::max(before + length, 2 * out.capacity()));
  // Copied and then encrypted in place: a vector cannot grow without writing its new bytes anyway.
  out.insert(out.end(), head, head + sizeof head);
  out.insert(out.end(), nonce, nonce + kSealedNonceBytes);
  out.insert(out.end(), body.begin(), body.end());
  const MutableByteView cipher_text(out.data() + out.size() - body.size(), body.size());
  if (!worker->cipher.seal(impl_->keys.key(address.realm, address.inode, address.generation), nonce,
                           AdditionalData(head, address, impl_->cloud_uuid).view(), cipher_text,
                           tag)) {
    OPENSSL_cleanse(out.data() + before, out.size() - before);
    out.resize(before);
    return failure(Errc::io, "OpenSSL cannot encrypt " + describe(address));
  }
  out.insert(out.end(), tag, tag + sizeof tag);
  return length;
}

result<Bytes> BlockSealer::open(BlockAddress address, ByteView sealed) const {
  if (sealed.size() <= kSealedOverheadBytes) return failure(corrupt(address, "is cut short"));
  const auto header = decode_header(sealed.data());
  if (!header) return failure(corrupt(address, "has a malformed header"));
  const ByteView body =
      sealed.subspan(kSealedHeaderBytes + kSealedNonceBytes, sealed.size() - kSealedOverheadBytes);
  const bool compressed = header->compression == Compression::zstd;
  // seal() keeps a compressed form only when it is shorter than the plain one.
  if (compressed ? body.size() >= header->plain_length : body.size() != header->plain_length)
    return failure(corrupt(address, "has a length that does not fit its header"));
  address.generation = header->generation;

  Borrowed worker(*impl_);
  Bytes plain;
  MutableByteView work;
  if (compressed) {
    worker->scratch.resize(std::max(worker->scratch.size(), body.size()));
    std::copy(body.begin(), body.end(), worker->scratch.begin());
    work = {worker->scratch.data(), body.size()};
  } else {
    plain.assign(body.begin(), body.end());
    work = plain;
  }
  const uint8_t* nonce = sealed.data() + kSealedHeaderBytes;
  const uint8_t* tag = sealed.data() + sealed.size() - kSealedTagBytes;
  if (!worker->cipher.open(impl_->keys.key(address.realm, address.inode, address.generation), nonce,
                           AdditionalData(sealed.data(), address, impl_->cloud_uuid).view(), work,
                           tag))
    return failure(corrupt(address, "does not authenticate"));
  if (compressed) {
    plain.resize(header->plain_length);
    const size_t length = ZSTD_decompressDCtx(worker->decompressor, plain.data(), plain.size(),
                                              work.data(), work.size());
    if (ZSTD_isError(length) || length != plain.size())
      return failure(corrupt(address, "does not decompress to its length"));
  }
  return plain;
}

}  // namespace datacloud
