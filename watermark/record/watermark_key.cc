// Key files and derivation (watermark_key.h).
#include "watermark/record/watermark_key.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "common/base/check.h"
#include "common/base/hex.h"
#include "common/crypto/secret_file.h"

namespace datacloud::watermark {
namespace {

constexpr std::string_view kFirstLine = "datacloud-watermark-key 1\nkey ";
constexpr size_t kCheckBytes = 8;
constexpr size_t kKeyBytes = 32;
constexpr size_t kFileBytesMax = 256;

std::string check_of(std::string_view text) {
  uint8_t digest[EVP_MAX_MD_SIZE];
  DC_CHECK(EVP_Digest(text.data(), text.size(), digest, nullptr, EVP_sha256(), nullptr) == 1);
  return to_hex({digest, kCheckBytes});
}

}  // namespace

std::string encode_watermark_key(const SecretKey& key) {
  std::string text = std::string(kFirstLine) + to_hex(key.view()) + "\n";
  return text + "check " + check_of(text) + "\n";
}

result<SecretKey> parse_watermark_key(std::string_view text, const std::string& name) {
  const auto refuse = [&](const char* why) {
    return failure(Errc::invalid, "watermark key " + name + " " + why);
  };
  if (!text.starts_with(kFirstLine))
    return refuse("is no watermark key file; `datacloud watermark apply --key-out` makes one");
  Bytes key(kKeyBytes);
  const size_t body = kFirstLine.size() + 2 * kKeyBytes + 1;
  if (text.size() < body || !from_hex(text.substr(kFirstLine.size(), 2 * kKeyBytes), key) ||
      text !=
          std::string(text.substr(0, body)) + "check " + check_of(text.substr(0, body)) + "\n") {
    OPENSSL_cleanse(key.data(), key.size());
    return refuse("is damaged; take it from its backup");
  }
  SecretKey parsed{ByteView(key)};
  OPENSSL_cleanse(key.data(), key.size());
  return parsed;
}

result<SecretKey> create_watermark_key(const std::filesystem::path& path) {
  const SecretKey key = SecretKey::random();
  std::string text = encode_watermark_key(key);
  auto written = write_secret_file(path, text, "the key file");
  OPENSSL_cleanse(text.data(), text.size());
  if (written) return key;
  if (!written.error().is(Errc::exists)) return failure(written.error());
  return failure(Errc::exists, "the key file " + path.string() +
                                   " exists already; use it with --key, or choose another name");
}

result<SecretKey> read_watermark_key(const std::filesystem::path& path) {
  TRY(auto text, read_secret_file(path, kFileBytesMax, "the watermark key",
                                  "without the key that the picture was marked with, nothing "
                                  "restores it"));
  auto key = parse_watermark_key(text, path.string());
  OPENSSL_cleanse(text.data(), text.size());
  return key;
}

PictureKeys derive_picture_keys(const SecretKey& watermark_key, ByteView bound) {
  const std::string info = "datacloud watermark 1" + std::string(as_text(bound));
  Bytes keys = hkdf_sha256(watermark_key.view(), info, 3 * kKeyBytes);
  const ByteView all(keys);
  PictureKeys out{SecretKey(all.subspan(0, kKeyBytes)),
                  SecretKey(all.subspan(kKeyBytes, kKeyBytes)),
                  SecretKey(all.subspan(2 * kKeyBytes, kKeyBytes))};
  OPENSSL_cleanse(keys.data(), keys.size());
  return out;
}

}  // namespace datacloud::watermark
