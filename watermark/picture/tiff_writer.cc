// Copying, encoding and placing (tiff_writer.h).
#include "watermark/picture/tiff_writer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/base/check.h"
#include "watermark/picture/parallel.h"
#include "watermark/picture/tiff_picture.h"
#include "watermark/picture/tiff_recipe.h"
#include "watermark/record/little_endian.h"

namespace datacloud::watermark {
namespace {

constexpr uint64_t kCopyBytes = uint64_t{4} << 20;
constexpr size_t kFreeTriesMax = 64;
constexpr uint64_t kClassicEnd = uint64_t{1} << 32;

}  // namespace

result<std::unique_ptr<PictureWriter>> TiffWriter::start(const ByteSource& file, TiffStructure tiff,
                                                         const std::vector<TiffPlane>& planes,
                                                         std::vector<TiffPageEncoding> encodings,
                                                         Purpose purpose, OutputFile& out) {
  std::unique_ptr<TiffWriter> writer(
      new TiffWriter(file, std::move(tiff), planes, std::move(encodings), purpose, out));
  TRY(writer->copy_rest());
  return std::unique_ptr<PictureWriter>(std::move(writer));
}

// Everything outside of the blocks that will be written.
result<void> TiffWriter::copy_rest() {
  for (const auto& page : tiff_.pages) {
    placed_.push_back(page.blocks);
    if (page.is_transparency_mask() || page.compression == kTiffNone) continue;
    for (const auto& block : page.blocks)
      if (block.length != 0) free_.push_back(block);
  }
  std::ranges::sort(free_, {}, &ByteRange::offset);
  size_t kept = 0;  // neighbours become one
  for (size_t i = 1; i < free_.size(); ++i) {
    if (free_[kept].offset + free_[kept].length == free_[i].offset)
      free_[kept].length += free_[i].length;
    else
      free_[++kept] = free_[i];
  }
  if (!free_.empty()) free_.resize(kept + 1);
  TRY(const auto rest, rest_of(file_, tiff_));
  Bytes piece;
  for (ByteRange range : rest) {
    while (range.length > 0) {
      piece.resize(std::min(kCopyBytes, range.length));
      TRY(file_.read(range.offset, piece));
      TRY(out_.write(range.offset, piece));
      range.offset += piece.size();
      range.length -= piece.size();
    }
  }
  end_ = file_.size();
  return success();
}

result<void> TiffWriter::write_rows(size_t surface, ByteView rows) {
  const TiffPlane& plane = planes_[surface];
  const TiffPage& page = tiff_.pages[plane.page];
  const TiffGrid grid = grid_of(page);
  if (surface != surface_) {
    DC_CHECK(pending_.empty());
    surface_ = surface;
    next_row_ = 0;
  }
  if (by_rows(page)) return write_strip_rows(plane, rows);
  if (!pending_.empty()) {
    pending_.insert(pending_.end(), rows.begin(), rows.end());
    rows = pending_;
  }
  const size_t page_row = size_t{page.width} * grid.pixel_bytes;
  const uint64_t have = rows.size() / page_row;
  const bool ends = next_row_ + have == page.height;
  const auto block_rows =
      static_cast<uint32_t>(ends ? (have + grid.height - 1) / grid.height : have / grid.height);
  const size_t used = std::min<size_t>(rows.size(), size_t{block_rows} * grid.height * page_row);
  if (block_rows > 0) {
    TRY(write_block_rows(plane, next_row_ / grid.height, block_rows, rows.first(used)));
  }
  next_row_ += static_cast<uint32_t>(used / page_row);
  Bytes left(rows.begin() + static_cast<ptrdiff_t>(used), rows.end());
  pending_.swap(left);
  return success();
}

result<void> TiffWriter::write_strip_rows(const TiffPlane& plane, ByteView rows) {
  const TiffPage& page = tiff_.pages[plane.page];
  const TiffGrid grid = grid_of(page);
  Bytes swapped;
  while (!rows.empty()) {
    const uint32_t strip = next_row_ / grid.height, row = next_row_ % grid.height;
    const size_t number = plane.first_block + strip;
    const uint64_t whole = uint64_t{grid.rows_stored(page, strip)} * grid.row_bytes();
    const auto have = static_cast<uint32_t>(rows.size() / grid.row_bytes());
    const uint32_t count = std::min(have, grid.rows_stored(page, strip) - row);
    ByteView part = rows.first(count * grid.row_bytes());
    ByteRange& at = placed_[plane.page][number];
    const bool zeros = std::ranges::all_of(part, [](uint8_t byte) { return byte == 0; });
    if (at.length == 0 && !(purpose_ == Purpose::restore && zeros)) {  // was not stored
      end_ += end_ % 2;
      at = {end_, whole};
      end_ += whole;
    }
    if (at.length != 0) {
      if (tiff_.big_endian && page.bits == 16) {
        swapped = to_bytes(part);
        swap_samples(swapped);
        part = swapped;
      }
      TRY(out_.write(at.offset + row * grid.row_bytes(), part));
    }
    rows = rows.subspan(part.size());
    next_row_ += count;
  }
  return success();
}

void TiffWriter::cut_block(const TiffPage& page, const TiffPageEncoding& encoding, uint32_t row,
                           uint32_t column, uint32_t first, ByteView rows, Bytes& block) const {
  const TiffGrid grid = grid_of(page);
  const size_t page_row = size_t{page.width} * grid.pixel_bytes;
  const uint32_t top = row * grid.height;
  const uint32_t lines = std::min(grid.height, page.height - top);
  const size_t columns = std::min(grid.width, page.width - column * grid.width);
  block.resize(grid.rows_stored(page, row) * grid.row_bytes());
  if (columns < grid.width || lines < grid.rows_stored(page, row)) {
    for (size_t i = 0; i < block.size(); i += page.bits / 8) {
      block[i] = static_cast<uint8_t>(encoding.padding);
      if (page.bits == 16) block[i + 1] = static_cast<uint8_t>(encoding.padding >> 8);
    }
  }
  for (uint32_t line = 0; line < lines; ++line)
    std::memcpy(block.data() + line * grid.row_bytes(),
                rows.data() + (top - first * grid.height + line) * page_row +
                    size_t{column} * grid.row_bytes(),
                columns * grid.pixel_bytes);
}

// `rows` begin with block row `first` and hold `count` of them, the last one perhaps cut by the
// page.
result<void> TiffWriter::write_block_rows(const TiffPlane& plane, uint32_t first, uint32_t count,
                                          ByteView rows) {
  const TiffPage& page = tiff_.pages[plane.page];
  const TiffGrid grid = grid_of(page);
  const TiffPageEncoding& encoding = encodings_[plane.page];
  const size_t block_bytes = size_t{grid.height} * grid.row_bytes();
  const size_t threads = std::clamp<size_t>(kBlockBytesMax / block_bytes, 1, threads_wanted());
  const uint16_t channels = page.planar == 2 ? 1 : page.channels;
  struct Made {
    Bytes bytes;
    bool zeros = false;
  };
  // A few at a time, so that what is encoded never takes much memory.
  const size_t all = size_t{count} * grid.across;
  const size_t together = std::max<size_t>(threads, (size_t{8} << 20) / block_bytes);
  std::vector<Bytes> scratch(threads);
  for (size_t done = 0; done < all;) {
    std::vector<Made> made(std::min(together, all - done));
    const auto encode = [&](size_t thread, size_t i) -> result<void> {
      const auto row = first + static_cast<uint32_t>((done + i) / grid.across);
      const auto column = static_cast<uint32_t>((done + i) % grid.across);
      cut_block(page, encoding, row, column, first, rows, scratch[thread]);
      made[i].zeros = std::ranges::all_of(scratch[thread], [](uint8_t byte) { return byte == 0; });
      TRY(made[i].bytes,
          tiff_encode(encoding.encoding, grid.width, channels, page.bits, scratch[thread]));
      return success();
    };
    TRY(for_each_in_parallel(made.size(), threads, encode));
    for (size_t i = 0; i < made.size(); ++i) {
      const size_t number = plane.first_block + first * grid.across + done + i;
      TRY(place(plane.page, number, made[i].bytes, made[i].zeros));
    }
    done += made.size();
  }
  return success();
}

uint64_t TiffWriter::find_room(size_t bytes) {
  for (size_t i = first_free_; i < free_.size() && i < first_free_ + kFreeTriesMax; ++i) {
    ByteRange& range = free_[i];
    const uint64_t skip = range.offset % 2;  // blocks begin at even offsets
    if (range.length < bytes + skip) continue;
    const uint64_t at = range.offset + skip;
    range.offset += bytes + skip;
    range.length -= bytes + skip;
    return at;
  }
  // What is left of the first ones will hardly fit any later block.
  if (first_free_ < free_.size()) ++first_free_;
  const uint64_t at = end_ + end_ % 2;
  end_ = at + bytes;
  return at;
}

result<void> TiffWriter::place(size_t page, size_t block, const Bytes& encoded, bool zeros) {
  const ByteRange old = tiff_.pages[page].blocks[block];
  ByteRange& at = placed_[page][block];
  if (old.length == 0 && purpose_ == Purpose::restore && zeros) return success();
  const bool in_place = tiff_.pages[page].compression == kTiffNone || purpose_ == Purpose::restore;
  if (in_place && old.length != 0 && encoded.size() <= old.length) {
    at = {old.offset, encoded.size()};
  } else if (purpose_ == Purpose::restore || tiff_.pages[page].compression == kTiffNone) {
    at = {end_ + end_ % 2, encoded.size()};
    end_ = at.offset + at.length;
  } else {
    at = {find_room(encoded.size()), encoded.size()};
  }
  return out_.write(at.offset, encoded);
}

result<void> TiffWriter::store_numbers(const TiffArray& array, const std::vector<ByteRange>& blocks,
                                       bool offsets) {
  const auto value = [&](size_t i) { return offsets ? blocks[i].offset : blocks[i].length; };
  uint64_t largest = 0;
  for (size_t i = 0; i < blocks.size(); ++i) largest = std::max(largest, value(i));
  size_t each = tiff_type_bytes(array.type);
  const bool fits = each == 8 || largest < uint64_t{1} << (8 * each);
  if (!fits) {
    if (!tiff_.big && largest >= kClassicEnd)
      return failure(Errc::unsupported,
                     out_.name() +
                         " would be larger than 4 GiB, which TIFF cannot be; make the "
                         "original a BigTIFF first (gdal_translate -co BIGTIFF=YES)");
    each = tiff_.big ? 8 : 4;
  }
  Bytes raw(blocks.size() * each);
  for (size_t i = 0; i < blocks.size(); ++i)
    tiff_.put(value(i), MutableByteView(raw).subspan(i * each, each));
  if (fits) return out_.write(array.values, raw);
  const size_t wide = tiff_.big ? 8 : 4;
  Bytes entry(2 + wide + wide);  // type, count, value or where the values are
  const MutableByteView view(entry);
  tiff_.put(tiff_.big ? 16 : 4, view.first(2));
  tiff_.put(blocks.size(), view.subspan(2, wide));
  if (raw.size() <= wide) {
    std::memcpy(entry.data() + 2 + wide, raw.data(), raw.size());
  } else {
    end_ = (end_ + 7) / 8 * 8;
    if (!tiff_.big && end_ + raw.size() >= kClassicEnd)
      return failure(Errc::unsupported,
                     out_.name() + " would be larger than 4 GiB, which TIFF cannot be");
    tiff_.put(end_, view.subspan(2 + wide, wide));
    TRY(out_.write(end_, raw));
    end_ += raw.size();
  }
  return out_.write(array.entry + 2, entry);
}

result<void> TiffWriter::update_page(size_t number) {
  const TiffPage& page = tiff_.pages[number];
  if (page.is_transparency_mask()) return success();
  if (std::ranges::equal(placed_[number], page.blocks)) return success();
  TRY(store_numbers(page.offsets, placed_[number], true));
  return store_numbers(page.counts, placed_[number], false);
}

result<void> TiffWriter::finish(ByteView record) {
  DC_CHECK(pending_.empty());
  for (size_t i = 0; i < tiff_.pages.size(); ++i) {
    TRY(update_page(i));
  }
  if (tiff_.unedited_claim != 0) {
    bool moved = purpose_ == Purpose::mark;
    for (size_t i = 0; i < tiff_.pages.size(); ++i)
      moved = moved || !std::ranges::equal(placed_[i], tiff_.pages[i].blocks);
    if (moved) {
      TRY(out_.write(tiff_.unedited_claim, as_bytes(kEditedClaim)));
    }
  }
  if (out_.size() < end_) {
    TRY(out_.set_size(end_));
  }
  if (record.empty()) return success();
  FieldWriter trailer;
  trailer.number(uint64_t{record.size()});
  trailer.raw(as_bytes(kTiffTrailer));
  TRY(out_.write(end_, record));
  return out_.write(end_ + record.size(), trailer.take());
}

}  // namespace datacloud::watermark
