// Object names: one AES-128 block over (stripe, column, instance), as hexadecimal.
#include "common/base/ids.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <array>
#include <cstdlib>

#include "common/base/hex.h"

namespace datacloud {
namespace {

using Block = std::array<uint8_t, 16>;

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* c) const { EVP_CIPHER_CTX_free(c); }
};
using Context = std::unique_ptr<EVP_CIPHER_CTX, FreeContext>;

void store_big_endian(uint64_t value, uint8_t* to) {
  for (int i = 7; i >= 0; --i, value >>= 8) to[i] = static_cast<uint8_t>(value);
}

uint64_t load_big_endian(const uint8_t* from) {
  uint64_t value = 0;
  for (int i = 0; i < 8; ++i) value = value << 8 | from[i];
  return value;
}

}  // namespace

// Key and cipher; each call works on a context of its own, so that threads share nothing else.
struct ShardNamer::Cipher {
  explicit Cipher(ByteView name_key) : aes(EVP_CIPHER_fetch(nullptr, "AES-128-ECB", nullptr)) {
    if (name_key.size() != key.size() || aes == nullptr) std::abort();
    std::copy(name_key.begin(), name_key.end(), key.begin());
  }
  ~Cipher() {
    OPENSSL_cleanse(key.data(), key.size());
    EVP_CIPHER_free(aes);
  }
  Cipher(const Cipher&) = delete;
  Cipher& operator=(const Cipher&) = delete;

  // A single block under a fixed key cannot fail short of memory running out.
  Block run(const Block& in, bool encrypt) const {
    Context context(EVP_CIPHER_CTX_new());
    Block out;
    int length = 0;
    if (!context ||
        EVP_CipherInit_ex2(context.get(), aes, key.data(), nullptr, encrypt, nullptr) != 1 ||
        EVP_CIPHER_CTX_set_padding(context.get(), 0) != 1 ||
        EVP_CipherUpdate(context.get(), out.data(), &length, in.data(), in.size()) != 1 ||
        length != static_cast<int>(out.size()))
      std::abort();
    return out;
  }

  EVP_CIPHER* const aes;
  Block key;
};

ShardNamer::ShardNamer(ByteView name_key) : cipher_(std::make_shared<const Cipher>(name_key)) {}

std::string ShardNamer::object_name(const ShardName& shard) const {
  if (shard.stripe > kStripeIdMax) return {};
  Block block;
  store_big_endian(shard.stripe << 8 | shard.column, block.data());
  store_big_endian(shard.instance, block.data() + 8);
  return to_hex(cipher_->run(block, true));
}

std::optional<ShardName> ShardNamer::parse(const std::string& object_name) const {
  Block block;
  if (!from_hex(object_name, block)) return std::nullopt;
  block = cipher_->run(block, false);
  const uint64_t head = load_big_endian(block.data());
  return ShardName{head >> 8, static_cast<uint8_t>(head), load_big_endian(block.data() + 8)};
}

}  // namespace datacloud
