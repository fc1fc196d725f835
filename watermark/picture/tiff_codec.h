// Strips and tiles, one at a time, through libtiff. The only file that includes its header is
// tiff_codec.cc.
//
// Decoding reads one block of a page of a file; encoding makes a file of one strip in memory and
// takes its bytes. Both are bounded by kBlockBytesMax and report libtiff's own words on failure.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "watermark/picture/byte_source.h"

namespace datacloud::watermark {

// TIFF's numbers for compressions that are lossless and that we read and write.
enum TiffCompression : uint16_t {
  kTiffNone = 1,
  kTiffLzw = 5,
  kTiffAdobeDeflate = 8,
  kTiffPackBits = 32773,
  kTiffDeflate = 32946,
  kTiffLzma = 34925,
  kTiffZstd = 50000,
};
// Null when it is one of those above, else what it is called: "JPEG", "LERC", ...
const char* tiff_compression_refused(uint16_t compression);

class TiffDecoder {
 public:
  // `source` must live as long as this.
  static result<std::unique_ptr<TiffDecoder>> open(const ByteSource& source);
  virtual ~TiffDecoder() = default;
  // Block number `block` of the page whose directory is at `directory`, in native byte order;
  // corrupt unless it has exactly out.size() bytes.
  virtual result<void> decode(uint64_t directory, bool tiled, uint32_t block,
                              MutableByteView out) = 0;
};

// How blocks are compressed. `library` and `level` have meanings per compression: of deflate 0 is
// zlib, 1 libdeflate; 0 as level: the library's default.
struct TiffEncoding {
  uint16_t compression = kTiffNone;
  uint16_t predictor = 1;
  bool big_endian = false;
  uint8_t library = 0;
  uint8_t level = 0;
};

// Rows of `width` pixels of `channels` samples in native byte order; `samples` is overwritten.
result<Bytes> tiff_encode(const TiffEncoding&, uint32_t width, uint16_t channels, uint16_t bits,
                          MutableByteView samples);

// The encoding that makes `encoded` of `samples`, tried among what libraries commonly write; the
// default one when none does.
TiffEncoding find_tiff_encoding(TiffEncoding, uint32_t width, uint16_t channels, uint16_t bits,
                                ByteView samples, ByteView encoded);

}  // namespace datacloud::watermark
