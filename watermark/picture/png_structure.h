// What a PNG file consists of: its chunks, as bytes, and how its compressed rows were made.
//
// Bounded: at most kPngSampleChunksMax IDAT chunks and kPngChunksMax others. PNG specification,
// second edition.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "watermark/picture/byte_source.h"
#include "watermark/picture/png_rows.h"

namespace datacloud::watermark {

inline constexpr size_t kPngChunksMax = 100'000;
inline constexpr size_t kPngSampleChunksMax = size_t{1} << 20;
inline constexpr size_t kPngSignatureBytes = 8;
inline constexpr std::string_view kPngRecordChunk = "dcWM";  // ancillary, private, unsafe to copy

struct PngStructure {
  uint32_t width = 0, height = 0;
  uint8_t bits = 0, colour = 0;
  bool interlaced = false;
  ByteRange before;                      // everything before the first IDAT
  std::vector<ByteRange> sample_chunks;  // the contents of IDAT chunks
  std::vector<ByteRange> after;          // what follows the last IDAT, without the record's chunk
  ByteRange record;                      // contents of the record's chunk; empty: none
  bool animated = false;
  bool has_preview = false;  // a thumbnail inside of EXIF data
};

bool is_png(ByteView first_bytes);  // the first 8 of a file
result<PngStructure> parse_png(const ByteSource&);

// How the rows of a file were compressed.
struct PngEncoding {
  std::vector<uint8_t> filters;       // one per row, of all passes; empty: chosen for each row
  std::vector<uint32_t> chunk_bytes;  // of IDAT chunks, run by run: (count, bytes), ...
  uint8_t level = 6, memory = 8, strategy = 1, window_bits = 15;
  uint16_t zlib_header = 0;  // its first two bytes; 0: as zlib makes it
  Bytes rest;                // SHA-256 of the file without IDAT chunks and record
};
Bytes encode_png_recipe(const PngEncoding&);
result<PngEncoding> parse_png_recipe(ByteView);

// Reads the compressed rows of a file and tries what made them. `rows`: their lengths in bytes,
// with the filter's. The result is complete even if nothing tried fits: then the bytes will differ.
result<PngEncoding> find_png_encoding(const ByteSource&, const PngStructure&,
                                      const PngPasses& rows);

}  // namespace datacloud::watermark
