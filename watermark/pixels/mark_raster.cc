// Mark pictures: normal form, hash, packing (mark_raster.h).
#include "watermark/pixels/mark_raster.h"

#include <openssl/evp.h>
#include <zstd.h>

#include <cstring>

#include "common/base/check.h"

namespace datacloud::watermark {

MarkHash MarkRaster::hash() const {
  static constexpr char kName[] = "datacloud watermark mark 1";
  uint8_t sides[8];
  for (int i = 0; i < 4; ++i) {
    sides[i] = static_cast<uint8_t>(width >> (8 * i));
    sides[4 + i] = static_cast<uint8_t>(height >> (8 * i));
  }
  MarkHash out;
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  const bool hashed = context != nullptr &&
                      EVP_DigestInit_ex(context, EVP_sha256(), nullptr) == 1 &&
                      EVP_DigestUpdate(context, kName, sizeof kName) == 1 &&
                      EVP_DigestUpdate(context, sides, sizeof sides) == 1 &&
                      EVP_DigestUpdate(context, rgba.data(), rgba.size()) == 1 &&
                      EVP_DigestFinal_ex(context, out.data(), nullptr) == 1;
  EVP_MD_CTX_free(context);
  DC_CHECK(hashed);
  return out;
}

result<MarkRaster> make_mark_raster(uint32_t width, uint32_t height, Bytes rgba) {
  if (width == 0 || height == 0 || width > kMarkSideMax || height > kMarkSideMax ||
      uint64_t{width} * height > kMarkPixelsMax)
    return failure(Errc::invalid, "a mark has 1 to " + std::to_string(kMarkSideMax) +
                                      " pixels a side and at most 4 million; make it smaller");
  if (rgba.size() != uint64_t{width} * height * 4)
    return failure(Errc::invalid, "the mark's pixels are incomplete");
  bool covers = false;
  for (size_t i = 0; i < rgba.size(); i += 4) {
    if (rgba[i + 3] >= 128) {
      rgba[i + 3] = 255;
      covers = true;
    } else {
      std::memset(&rgba[i], 0, 4);
    }
  }
  if (!covers)
    return failure(Errc::invalid, "the mark is transparent everywhere; nothing would be marked");
  return MarkRaster{width, height, std::move(rgba)};
}

Bytes pack_mark(const MarkRaster& mark) {
  Bytes out(ZSTD_compressBound(mark.rgba.size()));
  const size_t size = ZSTD_compress(out.data(), out.size(), mark.rgba.data(), mark.rgba.size(), 9);
  DC_CHECK(ZSTD_isError(size) == 0);
  out.resize(size);
  return out;
}

result<MarkRaster> unpack_mark(uint32_t width, uint32_t height, ByteView packed) {
  if (width == 0 || height == 0 || width > kMarkSideMax || height > kMarkSideMax ||
      uint64_t{width} * height > kMarkPixelsMax)
    return failure(Errc::corrupt, "the mark's size is out of bounds");
  Bytes rgba(uint64_t{width} * height * 4);
  const size_t size = ZSTD_decompress(rgba.data(), rgba.size(), packed.data(), packed.size());
  if (ZSTD_isError(size) != 0 || size != rgba.size())
    return failure(Errc::corrupt, "the mark's pixels do not unpack");
  const Bytes before = rgba;
  TRY(auto mark, make_mark_raster(width, height, std::move(rgba)));
  if (mark.rgba != before) return failure(Errc::corrupt, "the mark is not in its normal form");
  return mark;
}

}  // namespace datacloud::watermark
