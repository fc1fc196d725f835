// What sealing and opening need besides keys and headers: workers with OpenSSL's and zstd's
// contexts, kept and reused, and packing (filter, then zstd) in their memory. For sealed_block.cc
// and sealed_patch.cc.
//
// A worker belongs to one call at a time; the pool may be used from any thread.
#pragma once

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <zstd.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "common/crypto/block_cipher.h"
#include "common/crypto/inode_keys.h"
#include "common/crypto/sealed_block.h"

namespace datacloud {

class SealWorker {
 public:
  explicit SealWorker(EVP_CIPHER* aes);
  ~SealWorker();
  SealWorker(const SealWorker&) = delete;
  SealWorker& operator=(const SealWorker&) = delete;

  // Plain bytes as they are to be encrypted: compressed when that saves at least 1/16, else as they
  // are. `bytes` are valid until the next call.
  struct Packed {
    ByteView bytes;
    Packing packing;  // what was done
  };
  Packed pack(ByteView plain, Packing wanted);
  // Decrypts `body` and undoes the packing. nullopt and the reason, for people, when it does not
  // authenticate or does not unpack to `plain_length`.
  std::optional<Bytes> open(const SecretKey&, const uint8_t* nonce, ByteView aad, ByteView body,
                            const uint8_t* tag, Packing, uint32_t plain_length,
                            const char** problem);

  BlockCipher cipher;

 private:
  ZSTD_CCtx* compressor_;
  ZSTD_DCtx* decompressor_;
  Bytes packed_, filtered_;  // grown to what was needed; wiped at the end
};

struct BlockSealer::Impl {
  Impl(SecretKey data_key, std::string uuid);
  ~Impl();

  // Workers are as many as calls ever ran at once; the last one used is taken first, its caches
  // are warm.
  std::unique_ptr<SealWorker> take();
  void give_back(std::unique_ptr<SealWorker>);

  // Appends header, nonce, encrypted body and tag to `out`; its length. On failure `out` is as it
  // was. A null nonce: a random one.
  result<size_t> append(SealWorker&, const BlockAddress&, ByteView header, ByteView aad,
                        ByteView body, const uint8_t* nonce, Bytes& out);

  const std::string cloud_uuid;
  InodeKeys keys;
  EVP_CIPHER* const aes;
  std::mutex mutex;
  std::vector<std::unique_ptr<SealWorker>> idle;
};

// Returns a worker to its pool at the end of a call.
template <class Pool>
class BorrowedWorker {
 public:
  explicit BorrowedWorker(Pool& pool) : pool_(pool), worker_(pool.take()) {}
  ~BorrowedWorker() { pool_.give_back(std::move(worker_)); }
  BorrowedWorker(const BorrowedWorker&) = delete;
  BorrowedWorker& operator=(const BorrowedWorker&) = delete;
  SealWorker* operator->() const { return worker_.get(); }
  SealWorker& operator*() const { return *worker_; }

 private:
  Pool& pool_;
  std::unique_ptr<SealWorker> worker_;
};

// For error texts.
std::string describe(const BlockAddress&);
Error corrupt_block(const BlockAddress&, const std::string& what);
std::string no_realm_key(const BlockAddress&);

}  // namespace datacloud
