// Encoding, strict decoding and sealing of records (mark_record.h).
#include "watermark/record/mark_record.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <zstd.h>

#include <memory>

#include "common/base/check.h"
#include "common/base/hex.h"
#include "watermark/record/little_endian.h"

namespace datacloud::watermark {
namespace {

constexpr std::string_view kMagic = "DCWMARK1";
constexpr uint8_t kVersion = 1;
constexpr size_t kNonceBytes = 12, kTagBytes = 16;

using Context = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;

Error damaged(const char* what) {
  return Error(Errc::corrupt, std::string("the watermark record is damaged: ") + what);
}

// Everything before the sealed part's length.
void encode_head(const MarkRecord& record, FieldWriter& out) {
  out.raw(as_bytes(kMagic));
  out.number(static_cast<uint32_t>(kRecordHeadBytes + record.sealed.size()));
  out.raw(record.bound_bytes());
  out.raw(record.samples_mac);
}

bool sane(const MarkRecord& record) {
  const auto& strength = record.strength;
  return (record.profile == Profile::notice || record.profile == Profile::conceal) &&
         strength.noise_bits <= 8 && strength.spread < 128 && strength.opacity <= 256 &&
         record.place.placement <= Placement::at && record.place.size_permille <= 1000 &&
         record.mark_width >= 1 && record.mark_width <= kMarkSideMax && record.mark_height >= 1 &&
         record.mark_height <= kMarkSideMax &&
         (record.place.placement == Placement::at || (record.place.x == 0 && record.place.y == 0));
}

}  // namespace

const char* profile_name(Profile profile) {
  return profile == Profile::conceal ? "conceal" : "notice";
}

Bytes MarkRecord::bound_bytes() const {
  FieldWriter out;
  out.number(kVersion);
  out.number(static_cast<uint8_t>(profile));
  out.number(static_cast<uint8_t>(strength.noise_bits));
  out.number(static_cast<uint8_t>(strength.spread));
  out.raw(uuid);
  out.number(static_cast<uint16_t>(strength.opacity));
  out.number(static_cast<uint8_t>(place.placement));
  out.number(uint8_t{0});
  out.number(place.x);
  out.number(place.y);
  out.number(place.size_permille);
  out.number(mark_width);
  out.number(mark_height);
  out.raw(mark_hash);
  return out.take();
}

std::string MarkRecord::uuid_text() const {
  const std::string hex = to_hex(uuid);
  return hex.substr(0, 8) + "-" + hex.substr(8, 4) + "-" + hex.substr(12, 4) + "-" +
         hex.substr(16, 4) + "-" + hex.substr(20);
}

Bytes encode_record(const MarkRecord& record) {
  FieldWriter out;
  encode_head(record, out);
  out.number(static_cast<uint32_t>(record.sealed.size()));
  out.raw(record.sealed);
  return out.take();
}

result<MarkRecord> parse_record(ByteView bytes) {
  FieldReader in(bytes);
  if (as_text(in.raw(kMagic.size())) != kMagic) return failure(damaged("it does not begin as one"));
  if (in.number<uint32_t>() != bytes.size()) return failure(damaged("its length is wrong"));
  if (in.number<uint8_t>() != kVersion)
    return failure(Errc::unsupported,
                   "the picture was marked by a newer version of Data Cloud; use that");
  MarkRecord record;
  record.profile = static_cast<Profile>(in.number<uint8_t>());
  record.strength.noise_bits = in.number<uint8_t>();
  record.strength.spread = in.number<uint8_t>();
  in.copy(record.uuid);
  record.strength.opacity = in.number<uint16_t>();
  record.place.placement = static_cast<Placement>(in.number<uint8_t>());
  const uint8_t reserved = in.number<uint8_t>();
  record.place.x = in.number<uint32_t>();
  record.place.y = in.number<uint32_t>();
  record.place.size_permille = in.number<uint32_t>();
  record.mark_width = in.number<uint32_t>();
  record.mark_height = in.number<uint32_t>();
  in.copy(record.mark_hash);
  in.copy(record.samples_mac);
  record.sealed = to_bytes(in.sized());
  if (!in.finished()) return failure(damaged("it is cut short"));
  if (reserved != 0 || !sane(record)) return failure(damaged("a value is out of bounds"));
  return record;
}

Bytes encode_sealed_part(const SealedPart& part) {
  FieldWriter out;
  out.raw(part.original_mac);
  out.raw(part.original_sha256);
  out.number(part.original_bytes);
  out.sized(part.mark);
  Bytes packed(ZSTD_compressBound(part.recipe.size()));
  const size_t size =
      ZSTD_compress(packed.data(), packed.size(), part.recipe.data(), part.recipe.size(), 6);
  DC_CHECK(ZSTD_isError(size) == 0);
  packed.resize(size);
  out.number(static_cast<uint32_t>(part.recipe.size()));
  out.sized(packed);
  return out.take();
}

result<SealedPart> parse_sealed_part(ByteView bytes) {
  FieldReader in(bytes);
  SealedPart part;
  in.copy(part.original_mac);
  in.copy(part.original_sha256);
  part.original_bytes = in.number<uint64_t>();
  part.mark = to_bytes(in.sized());
  const uint32_t recipe = in.number<uint32_t>();
  const ByteView packed = in.sized();
  if (!in.finished() || recipe > kRecipeBytesMax)
    return failure(damaged("its sealed part is cut short"));
  // Before memory is taken for it.
  if (ZSTD_getFrameContentSize(packed.data(), packed.size()) != recipe)
    return failure(damaged("its sealed part does not unpack"));
  part.recipe.resize(recipe);
  const size_t size =
      ZSTD_decompress(part.recipe.data(), part.recipe.size(), packed.data(), packed.size());
  if (ZSTD_isError(size) != 0 || size != recipe)
    return failure(damaged("its sealed part does not unpack"));
  return part;
}

result<void> seal_record(const PictureKeys& keys, const SealedPart& part, MarkRecord& record) {
  const Bytes plain = encode_sealed_part(part);
  const size_t sealed = kNonceBytes + plain.size() + kTagBytes;
  if (kRecordHeadBytes + sealed > kRecordBytesMax)
    return failure(Errc::invalid,
                   "the picture has too many strips or tiles to describe; store it "
                   "with larger ones first");
  record.sealed.assign(sealed, 0);
  uint8_t* nonce = record.sealed.data();
  DC_CHECK(RAND_bytes(nonce, kNonceBytes) == 1);
  FieldWriter head;
  encode_head(record, head);
  const Bytes bound = head.take();
  const Context context(EVP_CIPHER_CTX_new(), &EVP_CIPHER_CTX_free);
  int length = 0;
  DC_CHECK(context != nullptr &&
           EVP_EncryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, keys.seal.view().data(),
                              nonce) == 1 &&
           EVP_EncryptUpdate(context.get(), nullptr, &length, bound.data(),
                             static_cast<int>(bound.size())) == 1 &&
           EVP_EncryptUpdate(context.get(), nonce + kNonceBytes, &length, plain.data(),
                             static_cast<int>(plain.size())) == 1 &&
           EVP_EncryptFinal_ex(context.get(), nonce + kNonceBytes + length, &length) == 1 &&
           EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes,
                               nonce + kNonceBytes + plain.size()) == 1);
  return success();
}

result<SealedPart> open_record(const PictureKeys& keys, const MarkRecord& record) {
  const Error wrong(Errc::corrupt,
                    "the key is not the one that the picture was marked with (or the picture's "
                    "watermark record was changed)");
  if (record.sealed.size() < kNonceBytes + kTagBytes) return failure(wrong);
  const uint8_t* nonce = record.sealed.data();
  Bytes plain(record.sealed.size() - kNonceBytes - kTagBytes);
  Bytes tag(record.sealed.end() - kTagBytes, record.sealed.end());
  FieldWriter head;
  encode_head(record, head);
  const Bytes bound = head.take();
  const Context context(EVP_CIPHER_CTX_new(), &EVP_CIPHER_CTX_free);
  int length = 0;
  DC_CHECK(context != nullptr && EVP_DecryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr,
                                                    keys.seal.view().data(), nonce) == 1);
  const bool opened =
      EVP_DecryptUpdate(context.get(), nullptr, &length, bound.data(),
                        static_cast<int>(bound.size())) == 1 &&
      EVP_DecryptUpdate(context.get(), plain.data(), &length, nonce + kNonceBytes,
                        static_cast<int>(plain.size())) == 1 &&
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, tag.data()) == 1 &&
      EVP_DecryptFinal_ex(context.get(), plain.data() + length, &length) == 1;
  if (!opened) return failure(wrong);
  return parse_sealed_part(plain);
}

}  // namespace datacloud::watermark
