// What a TIFF or BigTIFF file consists of: directories, where their strips or tiles lie, and where
// it says so. Only what marking needs is understood; everything else stays bytes.
//
// Parsing is bounded and never trusts a number: entries, directories, strips and arrays have
// limits, and everything must lie inside the file. TIFF 6.0; BigTIFF as in libtiff's
// bigtiffdesign.html.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "watermark/picture/byte_source.h"

namespace datacloud::watermark {

inline constexpr size_t kTiffPagesMax = 4096;
inline constexpr uint64_t kTiffBlocksMax = uint64_t{1} << 21;  // strips and tiles, all pages

// An array of StripOffsets or the like.
struct TiffArray {
  uint16_t tag = 0, type = 0;
  uint64_t count = 0;
  uint64_t entry = 0;   // where the directory's entry is
  uint64_t values = 0;  // where the values are: in the entry or elsewhere
};

struct TiffPage {
  ByteRange directory;  // in the file
  uint32_t width = 0, height = 0;
  uint16_t bits = 1, channels = 1, compression = 1, photometric = 0, planar = 1, predictor = 1;
  uint16_t fill_order = 1, sample_format = 1;
  bool mixed_bits = false, mixed_formats = false;
  bool tiled = false;
  uint32_t block_width = 0,
           block_height = 0;  // of a tile, or the picture's width and rows per strip
  std::vector<uint16_t> extra_samples;
  uint32_t subfile_type = 0;
  TiffArray offsets, counts;
  std::vector<ByteRange> blocks;  // of strips or tiles; empty ones: nothing is stored

  bool is_overview() const { return (subfile_type & 1) != 0; }
  bool is_transparency_mask() const { return (subfile_type & 4) != 0 || photometric == 4; }
  uint32_t blocks_across() const { return (width - 1) / block_width + 1; }
  uint32_t blocks_down() const { return (height - 1) / block_height + 1; }
  uint32_t planes() const { return planar == 2 ? channels : 1; }
};

struct TiffStructure {
  bool big = false, big_endian = false;
  std::vector<TiffPage> pages;  // in the order of the file; sub-directories after theirs
  // Of GDAL's optimised layouts: where it says that nobody has edited the file; 0: it does not.
  uint64_t unedited_claim = 0;
  bool has_preview = false;  // a thumbnail inside of Photoshop's or XMP's data

  size_t entry_bytes() const { return big ? 20 : 12; }
  uint64_t number(ByteView bytes) const;  // 1 to 8 bytes in the file's byte order
  void put(uint64_t value, MutableByteView bytes) const;
};

inline constexpr std::string_view kUneditedClaim = "KNOWN_INCOMPATIBLE_EDITION=NO\n ";
inline constexpr std::string_view kEditedClaim = "KNOWN_INCOMPATIBLE_EDITION=YES\n";

bool is_tiff(ByteView first_bytes);  // the first 4 of a file
result<TiffStructure> parse_tiff(const ByteSource&);
size_t tiff_type_bytes(uint16_t type);  // 0: no such type

}  // namespace datacloud::watermark
