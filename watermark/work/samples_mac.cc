// HMAC by OpenSSL (samples_mac.h).
#include "watermark/work/samples_mac.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <string>

#include "common/base/check.h"
#include "watermark/record/little_endian.h"

namespace datacloud::watermark {

struct SamplesMac::Context {
  EVP_MAC* mac = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
  EVP_MAC_CTX* context = EVP_MAC_CTX_new(mac);
  ~Context() {
    EVP_MAC_CTX_free(context);
    EVP_MAC_free(mac);
  }
};

Digest band_digest(ByteView samples) {
  Digest out;
  DC_CHECK(EVP_Digest(samples.data(), samples.size(), out.data(), nullptr, EVP_sha256(), nullptr) ==
           1);
  return out;
}

SamplesMac::SamplesMac(const SecretKey& key, std::string_view which)
    : context_(std::make_unique<Context>()) {
  std::string digest = "SHA256";
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest.data(), 0),
      OSSL_PARAM_construct_end()};
  DC_CHECK(context_->context != nullptr &&
           EVP_MAC_init(context_->context, key.view().data(), key.view().size(), parameters) == 1);
  FieldWriter name;
  name.sized(as_bytes(which));
  add(name.take());
}
SamplesMac::~SamplesMac() = default;

void SamplesMac::add(ByteView bytes) {
  DC_CHECK(EVP_MAC_update(context_->context, bytes.data(), bytes.size()) == 1);
}

void SamplesMac::begin_surface(const Surface& surface) {
  FieldWriter shape;
  shape.raw(as_bytes("surface "));
  shape.number(surface.page);
  shape.number(surface.plane);
  shape.number(surface.width);
  shape.number(surface.height);
  shape.number(static_cast<uint32_t>(surface.channels()));
  shape.number(surface.bits);
  add(shape.take());
}

void SamplesMac::add_band(const Digest& digest) { add(digest); }

Digest SamplesMac::finish() {
  Digest out;
  size_t length = 0;
  DC_CHECK(EVP_MAC_final(context_->context, out.data(), &length, out.size()) == 1 &&
           length == out.size());
  return out;
}

bool equal_digests(const Digest& a, const Digest& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace datacloud::watermark
