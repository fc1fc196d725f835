// Parsing of directories (tiff_structure.h).
#include "watermark/picture/tiff_structure.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

namespace datacloud::watermark {
namespace {

constexpr size_t kEntriesMax = 4096;
constexpr size_t kPreviewSearchBytes = size_t{4} << 20;
constexpr size_t kGhostBytes = 512;

enum Tag : uint16_t {
  kSubfileType = 254,
  kWidth = 256,
  kLength = 257,
  kBits = 258,
  kCompression = 259,
  kPhotometric = 262,
  kFillOrder = 266,
  kStripOffsets = 273,
  kChannels = 277,
  kRowsPerStrip = 278,
  kStripCounts = 279,
  kPlanar = 284,
  kPredictor = 317,
  kTileWidth = 322,
  kTileLength = 323,
  kTileOffsets = 324,
  kTileCounts = 325,
  kSubDirectories = 330,
  kExtraSamples = 338,
  kSampleFormat = 339,
  kXmp = 700,
  kPhotoshop = 34377,
};

class Parser {
 public:
  explicit Parser(const ByteSource& source) : source_(source) {}
  result<TiffStructure> parse();

 private:
  Error damaged(const std::string& what) const {
    return Error(Errc::corrupt, source_.name() + ": damaged TIFF: " + what);
  }
  result<uint64_t> number_at(uint64_t offset, size_t bytes) const {
    uint8_t raw[8];
    TRY(source_.read(offset, {raw, bytes}));
    return out_.number({raw, bytes});
  }
  result<uint64_t> directory(uint64_t offset,
                             std::vector<uint64_t>& below);  // the next one's offset
  result<TiffArray> entry(uint64_t offset) const;
  result<std::vector<uint64_t>> numbers(const TiffArray&, uint64_t count_max) const;
  result<void> take(const TiffArray&, TiffPage&, std::vector<uint64_t>& below, bool& strips);
  result<void> small_field(const TiffArray&, TiffPage&);
  result<void> find_blocks(TiffPage&, bool strips);
  result<void> look_for_preview(const TiffArray&);
  result<void> find_ghost();

  const ByteSource& source_;
  TiffStructure out_;
  std::set<uint64_t> seen_;
  uint64_t blocks_ = 0;
};

result<TiffArray> Parser::entry(uint64_t offset) const {
  Bytes raw(out_.entry_bytes());
  TRY(source_.read(offset, raw));
  const ByteView view(raw);
  TiffArray array;
  array.entry = offset;
  array.tag = static_cast<uint16_t>(out_.number(view.subspan(0, 2)));
  array.type = static_cast<uint16_t>(out_.number(view.subspan(2, 2)));
  const size_t wide = out_.big ? 8 : 4;
  array.count = out_.number(view.subspan(4, wide));
  const size_t each = tiff_type_bytes(array.type);
  array.values = offset + 4 + wide;
  if (each != 0 && array.count > wide / each) {
    array.values = out_.number(view.subspan(4 + wide, wide));
    // Unknown tags may be damaged; they are only copied.
    if (array.count > source_.size() / each || array.values > source_.size() - array.count * each)
      array.count = 0;
  }
  return array;
}

result<std::vector<uint64_t>> Parser::numbers(const TiffArray& array, uint64_t count_max) const {
  const size_t each = tiff_type_bytes(array.type);
  if ((array.type != 1 && array.type != 3 && array.type != 4 && array.type != 13 &&
       array.type != 16 && array.type != 18) ||
      array.count == 0 || array.count > count_max)
    return failure(damaged("tag " + std::to_string(array.tag) + " has no usable values"));
  Bytes raw(array.count * each);
  TRY(source_.read(array.values, raw));
  std::vector<uint64_t> out(array.count);
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = out_.number(ByteView(raw).subspan(i * each, each));
  return out;
}

result<void> Parser::look_for_preview(const TiffArray& array) {
  const uint64_t bytes = array.count * tiff_type_bytes(array.type);
  Bytes raw(std::min<uint64_t>(bytes, kPreviewSearchBytes));
  TRY(source_.read(array.values, raw));
  const std::string_view text = as_text(raw);
  const std::string_view resource_5("8BIM\x04\x0c", 6), resource_4("8BIM\x04\x09", 6);
  if (array.tag == kPhotoshop
          ? text.find(resource_5) != text.npos || text.find(resource_4) != text.npos
          : text.find("xmpGImg:image") != text.npos)
    out_.has_preview = true;
  return success();
}

result<void> Parser::small_field(const TiffArray& array, TiffPage& page) {
  TRY(const auto values, numbers(array, 1u << 16));
  const uint64_t value = values[0];
  const auto narrow = [value] { return static_cast<uint16_t>(std::min<uint64_t>(value, 0xffff)); };
  const bool mixed =
      std::any_of(values.begin(), values.end(), [&](uint64_t v) { return v != value; });
  switch (array.tag) {
    case kSubfileType:
      page.subfile_type = static_cast<uint32_t>(value);
      break;
    case kWidth:
      page.width = static_cast<uint32_t>(value);
      break;
    case kLength:
      page.height = static_cast<uint32_t>(value);
      break;
    case kBits:
      page.bits = narrow();
      page.mixed_bits = mixed;
      break;
    case kCompression:
      page.compression = narrow();
      break;
    case kPhotometric:
      page.photometric = narrow();
      break;
    case kFillOrder:
      page.fill_order = narrow();
      break;
    case kChannels:
      page.channels = narrow();
      break;
    case kRowsPerStrip:
      if (!page.tiled) page.block_height = static_cast<uint32_t>(value);
      break;
    case kPlanar:
      page.planar = narrow();
      break;
    case kPredictor:
      page.predictor = narrow();
      break;
    case kTileWidth:
      page.tiled = true;
      page.block_width = static_cast<uint32_t>(value);
      break;
    case kTileLength:
      page.tiled = true;
      page.block_height = static_cast<uint32_t>(value);
      break;
    case kSampleFormat:
      page.sample_format = narrow();
      page.mixed_formats = mixed;
      break;
    case kExtraSamples:
      for (const uint64_t v : values) page.extra_samples.push_back(static_cast<uint16_t>(v));
      break;
    default:
      break;
  }
  return success();
}

result<void> Parser::take(const TiffArray& array, TiffPage& page, std::vector<uint64_t>& below,
                          bool& strips) {
  switch (array.tag) {
    case kStripOffsets:
    case kTileOffsets:
      page.offsets = array;
      strips = array.tag == kStripOffsets;
      return success();
    case kStripCounts:
    case kTileCounts:
      page.counts = array;
      return success();
    case kSubDirectories: {
      TRY(const auto offsets, numbers(array, kTiffPagesMax));
      below.insert(below.end(), offsets.begin(), offsets.end());
      return success();
    }
    case kXmp:
    case kPhotoshop:
      return look_for_preview(array);
    case kSubfileType:
    case kWidth:
    case kLength:
    case kBits:
    case kCompression:
    case kPhotometric:
    case kFillOrder:
    case kChannels:
    case kRowsPerStrip:
    case kPlanar:
    case kPredictor:
    case kTileWidth:
    case kTileLength:
    case kExtraSamples:
    case kSampleFormat:
      return small_field(array, page);
    default:
      return success();
  }
}

result<void> Parser::find_blocks(TiffPage& page, bool strips) {
  if (page.width == 0 || page.height == 0 || page.channels == 0)
    return failure(damaged("a page has no width, height or channels"));
  if (page.offsets.count == 0 || page.counts.count == 0 || strips == page.tiled)
    return failure(damaged("a page does not say where its samples are"));
  if (!page.tiled) {
    page.block_width = page.width;
    if (page.block_height == 0 || page.block_height > page.height) page.block_height = page.height;
  }
  if (page.block_width == 0 || page.block_height == 0)
    return failure(damaged("a page's tiles have no size"));
  const uint64_t expected = uint64_t{page.blocks_across()} * page.blocks_down() * page.planes();
  blocks_ += expected;
  if (expected > kTiffBlocksMax || blocks_ > kTiffBlocksMax)
    return failure(Errc::unsupported, source_.name() + " has more than " +
                                          std::to_string(kTiffBlocksMax) +
                                          " strips or tiles; store it with larger ones first");
  if (page.offsets.count != expected || page.counts.count != expected)
    return failure(damaged("the number of strips or tiles does not fit the page's size"));
  TRY(const auto offsets, numbers(page.offsets, expected));
  TRY(const auto counts, numbers(page.counts, expected));
  page.blocks.resize(expected);
  for (size_t i = 0; i < expected; ++i) {
    if (offsets[i] == 0 || counts[i] == 0) {
      if (offsets[i] != counts[i]) return failure(damaged("a strip or tile has no place"));
      continue;
    }
    if (offsets[i] > source_.size() || counts[i] > source_.size() - offsets[i])
      return failure(damaged("a strip or tile lies behind the file's end: it is cut short"));
    page.blocks[i] = {offsets[i], counts[i]};
  }
  return success();
}

result<uint64_t> Parser::directory(uint64_t offset, std::vector<uint64_t>& below) {
  if (!seen_.insert(offset).second) return failure(damaged("its directories form a circle"));
  if (seen_.size() > kTiffPagesMax)
    return failure(Errc::unsupported,
                   source_.name() + " has more than " + std::to_string(kTiffPagesMax) + " pages");
  const size_t head = out_.big ? 8 : 2, link = out_.big ? 8 : 4;
  TRY(const uint64_t entries, number_at(offset, head));
  if (entries == 0 || entries > kEntriesMax)
    return failure(damaged("a directory has no sane length"));
  TiffPage page;
  page.directory = {offset, head + entries * out_.entry_bytes() + link};
  bool strips = false;
  std::vector<TiffArray> arrays;
  for (uint64_t i = 0; i < entries; ++i) {
    TRY(const auto array, entry(offset + head + i * out_.entry_bytes()));
    arrays.push_back(array);
  }
  // Whether a page is tiled first: RowsPerStrip means nothing then, and tags need not be in order.
  for (const auto& array : arrays) page.tiled = page.tiled || array.tag == kTileWidth;
  for (const auto& array : arrays) {
    TRY(take(array, page, below, strips));
  }
  TRY(find_blocks(page, strips));
  out_.pages.push_back(std::move(page));
  return number_at(offset + head + entries * out_.entry_bytes(), link);
}

// GDAL's COG driver describes its layout between the header and the first directory.
result<void> Parser::find_ghost() {
  const uint64_t begin = out_.big ? 16 : 8;
  if (source_.size() <= begin) return success();
  Bytes raw(std::min<uint64_t>(kGhostBytes, source_.size() - begin));
  TRY(source_.read(begin, raw));
  const std::string_view text = as_text(raw);
  if (!text.starts_with("GDAL_STRUCTURAL_METADATA_SIZE=")) return success();
  const size_t at = text.find(kUneditedClaim);
  if (at != text.npos) out_.unedited_claim = begin + at;
  return success();
}

result<TiffStructure> Parser::parse() {
  uint8_t head[16] = {};
  TRY(source_.read(0, {head, 8}));
  if (!is_tiff({head, 4})) return failure(damaged("no TIFF header"));
  out_.big_endian = head[0] == 'M';
  out_.big = out_.number({head + 2, 2}) == 43;
  if (out_.big) {
    TRY(source_.read(0, {head, 16}));
    if (out_.number({head + 4, 2}) != 8) return failure(damaged("no BigTIFF header"));
  }
  TRY(find_ghost());
  uint64_t next = out_.big ? out_.number({head + 8, 8}) : out_.number({head + 4, 4});
  while (next != 0) {
    std::vector<uint64_t> below;
    TRY(next, directory(next, below));
    while (!below.empty()) {  // sub-directories may be chained and have some of their own
      const uint64_t offset = below.back();
      below.pop_back();
      std::vector<uint64_t> deeper;
      TRY(const uint64_t sibling, directory(offset, deeper));
      below.insert(below.end(), deeper.rbegin(), deeper.rend());
      if (sibling != 0 && std::find(below.begin(), below.end(), sibling) == below.end() &&
          !seen_.contains(sibling))
        below.push_back(sibling);
    }
  }
  if (out_.pages.empty()) return failure(damaged("it has no page"));
  return std::move(out_);
}

}  // namespace

uint64_t TiffStructure::number(ByteView bytes) const {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes.size(); ++i)
    value = value << 8 | bytes[big_endian ? i : bytes.size() - 1 - i];
  return value;
}

void TiffStructure::put(uint64_t value, MutableByteView bytes) const {
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[big_endian ? bytes.size() - 1 - i : i] = static_cast<uint8_t>(value >> (8 * i));
}

size_t tiff_type_bytes(uint16_t type) {
  switch (type) {
    case 1:
    case 2:
    case 6:
    case 7:
      return 1;
    case 3:
    case 8:
      return 2;
    case 4:
    case 9:
    case 11:
    case 13:
      return 4;
    case 5:
    case 10:
    case 12:
    case 16:
    case 17:
    case 18:
      return 8;
    default:
      return 0;
  }
}

bool is_tiff(ByteView first) {
  if (first.size() < 4) return false;
  const bool little = first[0] == 'I' && first[1] == 'I' && first[3] == 0;
  const bool big = first[0] == 'M' && first[1] == 'M' && first[2] == 0;
  const uint8_t version = little ? first[2] : first[3];
  return (little || big) && (version == 42 || version == 43);
}

result<TiffStructure> parse_tiff(const ByteSource& source) { return Parser(source).parse(); }

}  // namespace datacloud::watermark
