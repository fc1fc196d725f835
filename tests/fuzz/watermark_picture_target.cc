// Pictures that somebody sends: structure of TIFF and PNG, and decoding through libtiff and libpng.
#include <algorithm>
#include <iterator>
#include <memory>
#include <string>

#include "tests/fuzz/fuzz_target.h"
#include "watermark/picture/picture.h"

namespace datacloud::fuzz {
namespace watermark_picture_input {

using namespace watermark;

class MemorySource : public ByteSource {
 public:
  explicit MemorySource(ByteView bytes) : bytes_(to_bytes(bytes)) {}
  const std::string& name() const override { return name_; }
  uint64_t size() const override { return bytes_.size(); }
  result<void> read(uint64_t offset, MutableByteView out) const override {
    if (offset > bytes_.size() || out.size() > bytes_.size() - offset)
      return failure(Errc::corrupt, "picture is cut short");
    std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(offset), out.size(), out.begin());
    return success();
  }

 private:
  const Bytes bytes_;
  const std::string name_ = "picture";
};

constexpr uint64_t kDecodedBytesMax = 1 << 20;

void run(ByteView input) {
  auto picture = open_picture(std::make_unique<MemorySource>(input));
  if (!picture) {
    require(!picture.error().text().empty(), "a refusal says why");
    return;
  }
  for (size_t i = 0; i < std::min<size_t>(picture.value()->surfaces().size(), 4); ++i) {
    const auto& surface = picture.value()->surfaces()[i];
    require(surface.width > 0 && surface.height > 0 && surface.channels() > 0,
            "surfaces have pixels");
    const uint64_t rows =
        std::min<uint64_t>(surface.height, kDecodedBytesMax / surface.row_bytes());
    if (rows == 0) continue;
    Bytes out(rows * surface.row_bytes());
    (void)picture.value()->read_rows(i, 0, out);
  }
}

void put(Bytes& out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<uint8_t>(value >> (8 * i)));
}

// 8 x 4 grey samples in two strips, uncompressed.
Bytes small_tiff(bool big) {
  Bytes out = copy_of("II");
  put(out, big ? 43 : 42, 2);
  if (big) {
    put(out, 8, 2);
    put(out, 0, 2);
  }
  const uint64_t samples = big ? 16 : 8, arrays = samples + 32, directory = arrays + (big ? 0 : 16);
  put(out, directory, big ? 8 : 4);
  out.resize(samples + 32, 9);
  if (!big) {
    for (const uint64_t number : {samples, samples + 16, uint64_t{16}, uint64_t{16}})
      put(out, number, 4);
  }
  struct Entry {
    uint16_t tag, type;
    uint64_t count, value;
  };
  // In BigTIFF two numbers of 32 bits fit into an entry.
  const Entry entries[] = {
      {256, 3, 1, 8}, {257, 3, 1, 4}, {258, 3, 1, 8},
      {259, 3, 1, 1}, {262, 3, 1, 1}, {273, 4, 2, big ? samples | (samples + 16) << 32 : arrays},
      {277, 3, 1, 1}, {278, 3, 1, 2}, {279, 4, 2, big ? 16 | uint64_t{16} << 32 : arrays + 8}};
  put(out, std::size(entries), big ? 8 : 2);
  for (const auto& entry : entries) {
    put(out, entry.tag, 2);
    put(out, entry.type, 2);
    put(out, entry.count, big ? 8 : 4);
    put(out, entry.value, big ? 8 : 4);
  }
  put(out, 0, big ? 8 : 4);
  return out;
}

// A grey pixel, as libpng writes it.
Bytes small_png() {
  return {0x89, 'P',  'N',  'G',  '\r', '\n', 0x1a, '\n', 0,    0,    0,    13,   'I',  'H',
          'D',  'R',  0,    0,    0,    1,    0,    0,    0,    1,    8,    0,    0,    0,
          0,    0x3a, 0x7e, 0x9b, 0x55, 0,    0,    0,    10,   'I',  'D',  'A',  'T',  0x78,
          0x9c, 0x63, 0x60, 0,    0,    0,    2,    0,    1,    0x48, 0xaf, 0xa4, 0x71, 0,
          0,    0,    0,    'I',  'E',  'N',  'D',  0xae, 0x42, 0x60, 0x82};
}

std::vector<Bytes> seeds() {
  std::vector<Bytes> all = {small_tiff(false), small_tiff(true), small_png()};
  for (const auto& seed : all) {
    auto picture = open_picture(std::make_unique<MemorySource>(seed));
    require(picture.has_value(), "a seed is a picture");
    Bytes row(picture.value()->surfaces()[0].row_bytes());
    require(picture.value()->read_rows(0, 0, row).has_value(), "a seed has samples");
  }
  return all;
}

}  // namespace watermark_picture_input

FuzzTarget watermark_picture_target() {
  return {"watermark_picture", watermark_picture_input::run, watermark_picture_input::seeds};
}

}  // namespace datacloud::fuzz
