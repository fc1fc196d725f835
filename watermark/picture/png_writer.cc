// Filtering, compressing and cutting into chunks (png_writer.h).
#include "watermark/picture/png_writer.h"

#include <algorithm>
#include <cstring>

#include "watermark/picture/tiff_picture.h"

namespace datacloud::watermark {
namespace {

constexpr uint32_t kChunkBytes = 64 << 10;
constexpr uint64_t kCopyBytes = uint64_t{4} << 20;

void put_big_endian(uint32_t value, uint8_t* to) {
  for (int i = 0; i < 4; ++i) to[i] = static_cast<uint8_t>(value >> (24 - 8 * i));
}

}  // namespace

result<std::unique_ptr<PictureWriter>> PngWriter::start(const ByteSource& file,
                                                        const PngStructure& png,
                                                        const PngPasses& passes,
                                                        const Surface& surface,
                                                        PngEncoding encoding, OutputFile& out) {
  std::unique_ptr<PngWriter> writer(
      new PngWriter(file, png, passes, surface, std::move(encoding), out));
  const PngEncoding& how = writer->encoding_;
  if (deflateInit2(&writer->deflate_, how.level, Z_DEFLATED, how.window_bits, how.memory,
                   how.strategy) != Z_OK)
    return failure(Errc::io, "zlib cannot start");
  writer->deflating_ = true;
  TRY(writer->copy(png.before));
  return std::unique_ptr<PictureWriter>(std::move(writer));
}

PngWriter::~PngWriter() {
  if (deflating_) deflateEnd(&deflate_);
}

result<void> PngWriter::copy(ByteRange range) {
  Bytes piece;
  while (range.length > 0) {
    piece.resize(std::min(kCopyBytes, range.length));
    TRY(file_.read(range.offset, piece));
    TRY(out_.write(end_, piece));
    end_ += piece.size();
    range.offset += piece.size();
    range.length -= piece.size();
  }
  return success();
}

result<void> PngWriter::write_chunk(std::string_view type, ByteView contents) {
  Bytes chunk(8 + contents.size() + 4);
  put_big_endian(static_cast<uint32_t>(contents.size()), chunk.data());
  std::memcpy(chunk.data() + 4, type.data(), 4);
  if (!contents.empty()) std::memcpy(chunk.data() + 8, contents.data(), contents.size());
  const uLong check = crc32_z(0, chunk.data() + 4, 4 + contents.size());
  put_big_endian(static_cast<uint32_t>(check), chunk.data() + 8 + contents.size());
  TRY(out_.write(end_, chunk));
  end_ += chunk.size();
  return success();
}

uint32_t PngWriter::chunk_bytes_wanted() const {
  return run_ < encoding_.chunk_bytes.size() ? encoding_.chunk_bytes[run_ + 1] : kChunkBytes;
}

void PngWriter::next_chunk() {
  if (run_ >= encoding_.chunk_bytes.size() || ++run_used_ < encoding_.chunk_bytes[run_]) return;
  run_ += 2;
  run_used_ = 0;
}

result<void> PngWriter::take_compressed(ByteView bytes) {
  while (!bytes.empty()) {
    const size_t wanted = chunk_bytes_wanted();
    const size_t part = std::min(wanted - chunk_.size(), bytes.size());
    chunk_.insert(chunk_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(part));
    // The original's header: some writers tell a smaller window than they used.
    for (size_t i = 0; i < part && compressed_ + i < 2 && encoding_.zlib_header != 0; ++i)
      chunk_[chunk_.size() - part + i] =
          static_cast<uint8_t>(encoding_.zlib_header >> (8 * (1 - (compressed_ + i))));
    compressed_ += part;
    bytes = bytes.subspan(part);
    if (chunk_.size() < wanted) continue;
    TRY(write_chunk("IDAT", chunk_));
    chunk_.clear();
    next_chunk();
  }
  return success();
}

result<void> PngWriter::compress(ByteView bytes, int flush) {
  uint8_t out[32 << 10];
  deflate_.next_in = const_cast<Bytef*>(bytes.data());
  deflate_.avail_in = static_cast<uInt>(bytes.size());
  for (;;) {
    deflate_.next_out = out;
    deflate_.avail_out = sizeof out;
    const int state = deflate(&deflate_, flush);
    if (state != Z_OK && state != Z_STREAM_END && state != Z_BUF_ERROR)
      return failure(Errc::io, "zlib cannot compress");
    TRY(take_compressed({out, sizeof out - deflate_.avail_out}));
    if (state == Z_STREAM_END || (flush == Z_NO_FLUSH && deflate_.avail_out != 0)) return success();
  }
}

result<void> PngWriter::pass_row(ByteView row) {
  const size_t pixel_bytes = surface_.channels() * (surface_.bits / 8);
  row_.assign(row.begin(), row.end());
  if (surface_.bits == 16) swap_samples(row_);
  uint8_t filter = 0;
  if (filters_used_ < encoding_.filters.size()) {
    filter = encoding_.filters[filters_used_++];
    filtered_.resize(row_.size());
    png_filter(filter, pixel_bytes, row_, above_, filtered_);
  } else {
    filter = png_choose_filter(pixel_bytes, row_, above_, filtered_, scratch_);
  }
  TRY(compress({&filter, 1}, Z_NO_FLUSH));
  TRY(compress(filtered_, Z_NO_FLUSH));
  above_.swap(row_);
  return success();
}

result<void> PngWriter::write_rows(size_t, ByteView rows) {
  if (png_.interlaced) {
    all_.insert(all_.end(), rows.begin(), rows.end());
    return success();
  }
  const size_t row_bytes = surface_.row_bytes();
  if (above_.empty()) above_.assign(row_bytes, 0);
  for (; !rows.empty(); rows = rows.subspan(row_bytes)) {
    TRY(pass_row(rows.first(row_bytes)));
  }
  return success();
}

result<void> PngWriter::interlaced_rows() {
  const size_t pixel_bytes = surface_.channels() * (surface_.bits / 8);
  for (const auto& pass : passes_) {
    Bytes row(pass.width * pixel_bytes);
    above_.assign(row.size(), 0);
    for (uint32_t y = 0; y < pass.height; ++y) {
      const uint8_t* from = all_.data() + (pass.y0 + size_t{y} * pass.dy) * surface_.row_bytes();
      for (uint32_t x = 0; x < pass.width; ++x)
        std::memcpy(row.data() + x * pixel_bytes,
                    from + (pass.x0 + size_t{x} * pass.dx) * pixel_bytes, pixel_bytes);
      TRY(pass_row(row));
    }
  }
  return success();
}

result<void> PngWriter::finish(ByteView record) {
  if (png_.interlaced) {
    TRY(interlaced_rows());
  }
  TRY(compress({}, Z_FINISH));
  if (!chunk_.empty()) {
    TRY(write_chunk("IDAT", chunk_));
    next_chunk();
  }
  while (run_ < encoding_.chunk_bytes.size() && chunk_bytes_wanted() == 0) {
    TRY(write_chunk("IDAT", {}));
    next_chunk();
  }
  if (!record.empty()) {
    TRY(write_chunk(kPngRecordChunk, record));
  }
  for (const auto& range : png_.after) {
    TRY(copy(range));
  }
  return success();
}

}  // namespace datacloud::watermark
