// AES-256-CTR by OpenSSL (row_keystream.h).
#include "watermark/pixels/row_keystream.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstring>

#include "common/base/check.h"

namespace datacloud::watermark {

namespace {
constexpr size_t kPieceBytes = size_t{1} << 20;  // below the int that OpenSSL takes as length
}

struct RowKeystream::Context {
  EVP_CIPHER_CTX* cipher = EVP_CIPHER_CTX_new();
  ~Context() { EVP_CIPHER_CTX_free(cipher); }
};

RowKeystream::RowKeystream(const SecretKey& key) : context_(std::make_unique<Context>()) {
  DC_CHECK(context_->cipher != nullptr &&
           EVP_EncryptInit_ex(context_->cipher, EVP_aes_256_ctr(), nullptr, key.view().data(),
                              nullptr) == 1);
}
RowKeystream::~RowKeystream() = default;

void RowKeystream::row(uint32_t page, uint32_t plane, uint32_t band, uint32_t row,
                       MutableByteView out) {
  DC_CHECK(page < kPagesMax && plane < kPlanesMax && band < kBandsMax && row < 256);
  uint8_t counter[16] = {};
  counter[0] = static_cast<uint8_t>(page >> 8);
  counter[1] = static_cast<uint8_t>(page);
  counter[2] = static_cast<uint8_t>(plane >> 8);
  counter[3] = static_cast<uint8_t>(plane);
  counter[4] = static_cast<uint8_t>(band >> 16);
  counter[5] = static_cast<uint8_t>(band >> 8);
  counter[6] = static_cast<uint8_t>(band);
  counter[7] = static_cast<uint8_t>(row);
  std::memset(out.data(), 0, out.size());
  DC_CHECK(EVP_EncryptInit_ex(context_->cipher, nullptr, nullptr, nullptr, counter) == 1);
  for (size_t done = 0; done < out.size();) {
    const size_t piece = std::min(kPieceBytes, out.size() - done);
    int length = 0;
    DC_CHECK(EVP_EncryptUpdate(context_->cipher, out.data() + done, &length, out.data() + done,
                               static_cast<int>(piece)) == 1);
    done += piece;
  }
}

}  // namespace datacloud::watermark
