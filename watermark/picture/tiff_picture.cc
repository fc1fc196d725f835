// What TIFF files are taken, and reading their samples (tiff_picture.h).
#include "watermark/picture/tiff_picture.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <tuple>
#include <utility>

#include "watermark/picture/parallel.h"
#include "watermark/picture/tiff_writer.h"
#include "watermark/record/little_endian.h"
#include "watermark/record/mark_record.h"

namespace datacloud::watermark {
namespace {

constexpr size_t kTrialBytesMax = size_t{2} << 20;
constexpr uint16_t kAssociatedAlpha = 1, kUnassociatedAlpha = 2;

std::string sample_kind(const TiffPage& page) {
  if (page.photometric == 3) return "a palette";
  if (page.mixed_bits || page.mixed_formats) return "channels of different types";
  if (page.sample_format == 2) return "signed samples";
  if (page.sample_format == 3) return "floating point samples";
  if (page.sample_format == 5 || page.sample_format == 6) return "complex samples";
  if (page.bits == 1) return "1 bit per sample";
  if (page.bits != 8 && page.bits != 16) return fmt::format("{} bits per sample", page.bits);
  if (page.sample_format != 1) return "samples of an unknown type";
  return "";
}

std::string colour_kind(uint16_t photometric) {
  switch (photometric) {
    case 0:
    case 1:
    case 2:
    case 5:
      return "";
    case 6:
      return "YCbCr colours";
    case 8:
    case 9:
    case 10:
      return "CIE L*a*b* colours";
    case 32803:
      return "a colour filter array (raw)";
    default:
      return fmt::format("photometric interpretation {}", photometric);
  }
}

// What is stored behind the samples of an uncompressed strip or tile is not theirs.
void cut_uncompressed_blocks(TiffPage& page) {
  if (page.compression != kTiffNone) return;
  const TiffGrid grid = grid_of(page);
  for (size_t i = 0; i < page.blocks.size(); ++i) {
    const auto row = static_cast<uint32_t>(i / grid.across % grid.down);
    page.blocks[i].length = std::min<uint64_t>(
        page.blocks[i].length, uint64_t{grid.rows_stored(page, row)} * grid.row_bytes());
  }
}

}  // namespace

uint32_t TiffGrid::rows_stored(const TiffPage& page, uint32_t row) const {
  return page.tiled ? height : std::min(height, page.height - row * height);
}

TiffGrid grid_of(const TiffPage& page) {
  TiffGrid grid;
  grid.across = page.blocks_across();
  grid.down = page.blocks_down();
  grid.width = page.block_width;
  grid.height = page.block_height;
  grid.pixel_bytes = size_t{page.planar == 2 ? uint16_t{1} : page.channels} * (page.bits / 8);
  return grid;
}

bool by_rows(const TiffPage& page) { return page.compression == kTiffNone && !page.tiled; }

void swap_samples(MutableByteView bytes) {
  for (size_t i = 0; i + 1 < bytes.size(); i += 2) std::swap(bytes[i], bytes[i + 1]);
}

Error TiffPicture::refused(const std::string& what) const {
  return Error(Errc::unsupported, source_->name() + " cannot be marked losslessly: it has " + what);
}

result<std::unique_ptr<Picture>> TiffPicture::open(std::unique_ptr<ByteSource> source) {
  std::unique_ptr<TiffPicture> picture(new TiffPicture(std::move(source)));
  TRY(picture->load());
  return std::unique_ptr<Picture>(std::move(picture));
}

result<void> TiffPicture::load_record() {
  if (source_->size() < kTiffTrailerBytes + kRecordHeadBytes) return success();
  Bytes trailer(kTiffTrailerBytes);
  TRY(source_->read(source_->size() - kTiffTrailerBytes, trailer));
  if (as_text(ByteView(trailer).subspan(8)) != kTiffTrailer) return success();
  const uint64_t length = FieldReader(trailer).number<uint64_t>();
  if (length > kRecordBytesMax || length > source_->size() - kTiffTrailerBytes)
    return failure(Errc::corrupt, source_->name() + ": the watermark record is damaged");
  record_.emplace(length);
  return source_->read(source_->size() - kTiffTrailerBytes - length, *record_);
}

result<void> TiffPicture::check_page(const TiffPage& page, uint64_t& sample_bytes) const {
  const std::string samples = sample_kind(page), colours = colour_kind(page.photometric);
  if (const char* name = tiff_compression_refused(page.compression))
    return failure(refused(std::string(name) + " compression; only lossless ones that can be "
                                               "written again are taken (none, LZW, Deflate, "
                                               "PackBits, Zstd, LZMA)"));
  if (!samples.empty())
    return failure(refused(samples + "; only 8 and 16 bits without sign are taken"));
  if (!colours.empty()) return failure(refused(colours + "; only grey, RGB and CMYK are taken"));
  if (page.fill_order != 1) return failure(refused("a reversed FillOrder"));
  if (page.predictor != 1 && page.predictor != 2)
    return failure(refused(fmt::format("predictor {}", page.predictor)));
  if (page.planar != 1 && page.planar != 2) return failure(refused("no known PlanarConfiguration"));
  const TiffGrid grid = grid_of(page);
  const size_t row = size_t{page.width} * grid.pixel_bytes;
  if (page.width > kPictureSideMax || page.height > kPictureSideMax || row > kRowBytesMax)
    return failure(refused(
        fmt::format("{} x {} pixels, which is beyond the limits", page.width, page.height)));
  sample_bytes += uint64_t{row} * page.height * page.planes();
  if (sample_bytes > kPictureBytesMax) return failure(refused("more than 1 TiB of samples"));
  const uint64_t block = uint64_t{grid.height} * grid.row_bytes();
  if (!by_rows(page) && block > kBlockBytesMax)
    return failure(refused(fmt::format(
        "strips or tiles of {} MiB, and 64 MiB are the limit; store it with smaller ones first "
        "(gdal_translate -co TILED=YES)",
        block >> 20)));
  for (size_t i = 0; i < page.blocks.size() && page.compression == kTiffNone; ++i) {
    const auto row_of_blocks = static_cast<uint32_t>(i / grid.across % grid.down);
    const uint64_t needed = uint64_t{grid.rows_stored(page, row_of_blocks)} * grid.row_bytes();
    if (page.blocks[i].length != 0 && page.blocks[i].length < needed)
      return failure(Errc::corrupt, source_->name() + ": a strip or tile is cut short");
  }
  return success();
}

result<void> TiffPicture::check_overlaps() {
  std::vector<ByteRange> ranges = {{0, tiff_.big ? uint64_t{16} : 8}};
  for (const auto& page : tiff_.pages) {
    ranges.push_back(page.directory);
    for (const auto* array : {&page.offsets, &page.counts}) {
      const bool inside = array->values >= page.directory.offset &&
                          array->values < page.directory.offset + page.directory.length;
      if (!inside) ranges.push_back({array->values, array->count * tiff_type_bytes(array->type)});
    }
    for (const auto& block : page.blocks)
      if (block.length != 0) ranges.push_back(block);
  }
  if (tiff_.unedited_claim != 0) ranges.push_back({tiff_.unedited_claim, kUneditedClaim.size()});
  std::ranges::sort(ranges, {}, &ByteRange::offset);
  for (size_t i = 1; i < ranges.size(); ++i)
    if (ranges[i - 1].offset + ranges[i - 1].length > ranges[i].offset)
      return failure(refused("strips, tiles or directories that overlap"));
  return success();
}

void TiffPicture::add_surfaces(size_t number, const TiffPage& base) {
  const TiffPage& page = tiff_.pages[number];
  std::vector<ChannelRole> roles(page.channels, ChannelRole::grey);
  if (page.photometric == 2 && page.channels >= 3)
    roles = {ChannelRole::red, ChannelRole::green, ChannelRole::blue};
  roles.resize(page.channels, ChannelRole::grey);
  const size_t extras = std::min<size_t>(page.extra_samples.size(), page.channels);
  for (size_t i = 0; i < extras; ++i) {
    const uint16_t kind = page.extra_samples[i];
    if (kind == kAssociatedAlpha || kind == kUnassociatedAlpha)
      roles[page.channels - extras + i] = ChannelRole::none;
  }
  Surface surface;
  surface.page = static_cast<uint32_t>(number);
  surface.width = page.width;
  surface.height = page.height;
  surface.bits = page.bits;
  surface.base_width = base.width;
  surface.base_height = base.height;
  for (uint32_t plane = 0; plane < page.planes(); ++plane) {
    surface.plane = plane;
    surface.roles = page.planar == 2 ? std::vector<ChannelRole>{roles[plane]} : roles;
    surfaces_.push_back(surface);
    planes_.push_back({number, plane * page.blocks_across() * page.blocks_down()});
  }
}

result<void> TiffPicture::load() {
  TRY(load_record());
  TRY(tiff_, parse_tiff(*source_));
  uint64_t sample_bytes = 0;
  size_t base = 0;
  for (size_t i = 0; i < tiff_.pages.size(); ++i) {
    TiffPage& page = tiff_.pages[i];
    if (page.is_transparency_mask()) continue;  // as alpha: never marked
    TRY(check_page(page, sample_bytes));
    cut_uncompressed_blocks(page);
    if (!page.is_overview()) base = i;
    const TiffPage& on = tiff_.pages[base].is_transparency_mask() ? page : tiff_.pages[base];
    add_surfaces(i, on.width >= page.width && on.height >= page.height ? on : page);
  }
  if (surfaces_.empty()) return failure(refused("no page but masks"));
  if (tiff_.has_preview)
    return failure(
        refused("a thumbnail in its Photoshop or XMP data, which would stay unmarked; "
                "remove it first (exiftool -Photoshop:All= -XMP:Thumbnails=)"));
  encodings_.resize(tiff_.pages.size());
  padding_.resize(tiff_.pages.size());
  return check_overlaps();
}

result<void> TiffPicture::read_strip_rows(const TiffPage& page, uint32_t first_block, uint32_t y,
                                          MutableByteView out) {
  const TiffGrid grid = grid_of(page);
  while (!out.empty()) {
    const uint32_t strip = y / grid.height, row = y % grid.height;
    const auto left = static_cast<uint32_t>(out.size() / grid.row_bytes());
    const uint32_t rows = std::min(left, grid.rows_stored(page, strip) - row);
    const MutableByteView part = out.first(rows * grid.row_bytes());
    const ByteRange& block = page.blocks[first_block + strip];
    if (block.length == 0)
      std::memset(part.data(), 0, part.size());
    else {
      TRY(source_->read(block.offset + row * grid.row_bytes(), part));
    }
    if (tiff_.big_endian && page.bits == 16) swap_samples(part);
    out = out.subspan(part.size());
    y += rows;
  }
  return success();
}

result<void> TiffPicture::read_block(const TiffPage& page, size_t thread, uint32_t block,
                                     MutableByteView out) {
  if (page.blocks[block].length == 0) {
    std::memset(out.data(), 0, out.size());
    return success();
  }
  return decoders_[thread]->decode(page.directory.offset, page.tiled, block, out);
}

// Tiles reach over the page's edges; what they hold there is usually one value.
void TiffPicture::note_padding(size_t number, const TiffGrid& grid, uint32_t row, uint32_t column,
                               ByteView block) {
  const TiffPage& page = tiff_.pages[number];
  const uint32_t columns = std::min(grid.width, page.width - column * grid.width);
  const uint32_t rows = std::min(grid.height, page.height - row * grid.height);
  size_t at = block.size();
  if (columns < grid.width)
    at = columns * grid.pixel_bytes;
  else if (rows < grid.height)
    at = rows * grid.row_bytes();
  if (at >= block.size() || padding_[number]) return;
  padding_[number] =
      page.bits == 8 ? block[at] : static_cast<uint16_t>(block[at] | block[at + 1] << 8);
}

result<void> TiffPicture::read_rows(size_t surface, uint32_t y, MutableByteView out) {
  const TiffPlane plane = planes_[surface];
  const TiffPage& page = tiff_.pages[plane.page];
  if (by_rows(page)) return read_strip_rows(page, plane.first_block, y, out);
  const TiffGrid grid = grid_of(page);
  const size_t page_row = size_t{page.width} * grid.pixel_bytes;
  const auto end = y + static_cast<uint32_t>(out.size() / page_row);
  const uint32_t first = y / grid.height, last = (end - 1) / grid.height;
  const size_t block_bytes = size_t{grid.height} * grid.row_bytes();
  const size_t threads = std::clamp<size_t>(kBlockBytesMax / block_bytes, 1, threads_wanted());
  while (decoders_.size() < threads) {
    TRY(auto decoder, TiffDecoder::open(*source_));
    decoders_.push_back(std::move(decoder));
  }
  Bytes begun;  // the strip that the rows before these ended in
  if (cached_page_ == plane.page && cached_block_ == plane.first_block + first) begun.swap(cached_);
  cached_.clear();
  std::mutex mutex;
  std::vector<Bytes> blocks(threads);
  const auto work = [&](size_t thread, size_t i) -> result<void> {
    const auto row = first + static_cast<uint32_t>(i / grid.across);
    const auto column = static_cast<uint32_t>(i % grid.across);
    const uint32_t number = plane.first_block + row * grid.across + column;
    Bytes& block = blocks[thread];
    block.resize(grid.rows_stored(page, row) * grid.row_bytes());
    const uint32_t block_top = row * grid.height;
    const uint32_t from = std::max(y, block_top);
    const uint32_t to = std::min<uint64_t>(end, uint64_t{block_top} + grid.height);
    if (i == 0 && !begun.empty())
      block.swap(begun);
    else {
      TRY(read_block(page, thread, number, block));
    }
    const size_t columns = std::min(grid.width, page.width - column * grid.width);
    for (uint32_t line = from; line < to; ++line)
      std::memcpy(out.data() + (line - y) * page_row + size_t{column} * grid.row_bytes(),
                  block.data() + (line - block_top) * grid.row_bytes(), columns * grid.pixel_bytes);
    const std::lock_guard lock(mutex);
    if (page.tiled && page.blocks[number].length != 0)
      note_padding(plane.page, grid, row, column, block);
    if (!page.tiled && row == last && uint64_t{block_top} + grid.height > end) {
      cached_page_ = plane.page;
      cached_block_ = number;
      cached_.swap(block);
    }
    return success();
  };
  return for_each_in_parallel(size_t{last - first + 1} * grid.across, threads, work);
}

result<TiffEncoding> TiffPicture::encoding_of(size_t number) {
  if (encodings_[number]) return *encodings_[number];
  const TiffPage& page = tiff_.pages[number];
  TiffEncoding encoding;
  encoding.compression = page.compression;
  encoding.predictor = page.predictor;
  encoding.big_endian = tiff_.big_endian;
  const TiffGrid grid = grid_of(page);
  // The fullest block tells best how it was compressed.
  size_t fullest = 0;
  for (size_t i = 0; i < page.blocks.size(); ++i)
    if (page.blocks[i].length > page.blocks[fullest].length) fullest = i;
  const auto row = static_cast<uint32_t>(fullest / grid.across % grid.down);
  const size_t bytes = grid.rows_stored(page, row) * grid.row_bytes();
  if (page.compression != kTiffNone && page.blocks[fullest].length != 0 &&
      bytes <= kTrialBytesMax) {
    if (decoders_.empty()) {
      TRY(auto decoder, TiffDecoder::open(*source_));
      decoders_.push_back(std::move(decoder));
    }
    Bytes samples(bytes), encoded(page.blocks[fullest].length);
    TRY(read_block(page, 0, static_cast<uint32_t>(fullest), samples));
    TRY(source_->read(page.blocks[fullest].offset, encoded));
    const uint16_t channels = page.planar == 2 ? 1 : page.channels;
    encoding = find_tiff_encoding(encoding, grid.width, channels, page.bits, samples, encoded);
  }
  encodings_[number] = encoding;
  return encoding;
}

result<Bytes> TiffPicture::recipe() {
  TiffRecipe recipe;
  recipe.file_bytes = source_->size();
  TRY(const auto rest, rest_of(*source_, tiff_));
  TRY(recipe.rest, sha256_of(*source_, rest));
  TRY(recipe.patches, changeable_bytes(*source_, tiff_));
  for (size_t i = 0; i < tiff_.pages.size(); ++i) {
    TiffPageRecipe page;
    if (!tiff_.pages[i].is_transparency_mask()) {
      TRY(const auto encoding, encoding_of(i));
      page = {encoding.library, encoding.level, padding_[i].value_or(0)};
    }
    recipe.pages.push_back(page);
  }
  return encode_tiff_recipe(recipe);
}

result<std::unique_ptr<PictureWriter>> TiffPicture::write_marked(OutputFile& out) {
  std::vector<TiffPageEncoding> encodings(tiff_.pages.size());
  for (size_t i = 0; i < encodings.size(); ++i) {
    if (tiff_.pages[i].is_transparency_mask()) continue;
    TRY(encodings[i].encoding, encoding_of(i));
  }
  return TiffWriter::start(*source_, tiff_, planes_, std::move(encodings),
                           TiffWriter::Purpose::mark, out);
}

// The original file as far as the marked one and the recipe tell it, and its structure.
result<TiffPicture::Original> TiffPicture::original_of(ByteView recipe_bytes) {
  const Error foreign(Errc::corrupt, source_->name() + ": its record is of another file");
  Original original;
  TRY(original.recipe, parse_tiff_recipe(recipe_bytes));
  if (original.recipe.pages.size() != tiff_.pages.size() ||
      original.recipe.file_bytes > source_->size())
    return failure(foreign);
  original.file = std::make_unique<PatchedSource>(*source_, original.recipe.file_bytes,
                                                  original.recipe.patches);
  TRY(original.tiff, parse_tiff(*original.file));
  if (original.tiff.pages.size() != tiff_.pages.size() || original.tiff.big != tiff_.big ||
      original.tiff.big_endian != tiff_.big_endian)
    return failure(foreign);
  for (size_t i = 0; i < tiff_.pages.size(); ++i) {
    TiffPage& page = original.tiff.pages[i];
    const TiffPage& here = tiff_.pages[i];
    const auto shape = [](const TiffPage& of) {
      return std::tuple(of.width, of.height, of.bits, of.channels, of.compression, of.photometric,
                        of.planar, of.predictor, of.tiled, of.block_width, of.block_height,
                        of.subfile_type, of.blocks.size());
    };
    if (shape(page) != shape(here)) return failure(foreign);
    if (!page.is_transparency_mask()) cut_uncompressed_blocks(page);
  }
  return original;
}

result<void> TiffPicture::check_rest(ByteView recipe_bytes) {
  TRY(const auto original, original_of(recipe_bytes));
  TRY(const auto rest, rest_of(*original.file, original.tiff));
  TRY(const auto digest, sha256_of(*original.file, rest));
  if (digest != original.recipe.rest)
    return failure(Errc::corrupt, source_->name() +
                                      ": metadata were changed after the picture was "
                                      "marked. Take the file as it was published");
  return success();
}

result<std::unique_ptr<PictureWriter>> TiffPicture::write_restored(OutputFile& out,
                                                                   ByteView recipe_bytes) {
  TRY(auto original, original_of(recipe_bytes));
  std::vector<TiffPageEncoding> encodings;
  for (size_t i = 0; i < original.tiff.pages.size(); ++i) {
    const TiffPage& page = original.tiff.pages[i];
    const TiffPageRecipe& recipe = original.recipe.pages[i];
    encodings.push_back(
        {{page.compression, page.predictor, original.tiff.big_endian, recipe.library, recipe.level},
         recipe.padding});
  }
  original_ = std::move(original.file);
  return TiffWriter::start(*original_, std::move(original.tiff), planes_, std::move(encodings),
                           TiffWriter::Purpose::restore, out);
}

}  // namespace datacloud::watermark
