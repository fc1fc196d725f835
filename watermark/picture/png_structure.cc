// Chunks of PNG, and finding out how rows were compressed (png_structure.h).
#include "watermark/picture/png_structure.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <utility>

#include "watermark/record/little_endian.h"

namespace datacloud::watermark {
namespace {

constexpr std::array<uint8_t, 8> kSignature = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
constexpr size_t kChunkExtraBytes = 12;  // length, type, CRC
constexpr uint32_t kChunkBytesMax = 0x7fffffff;
constexpr size_t kExifBytesMax = size_t{1} << 20;
constexpr size_t kTrialBytes = size_t{4} << 20;  // of filtered rows, compressed again for a trial

uint32_t big_endian_32(const uint8_t* bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | bytes[3];
}

Error damaged(const ByteSource& source, const char* what) {
  return Error(Errc::corrupt, source.name() + ": damaged PNG: " + what);
}

// EXIF data are a TIFF; a thumbnail would be its second directory.
bool exif_has_thumbnail(ByteView exif) {
  if (exif.size() < 8) return false;
  const bool big = exif[0] == 'M';
  const auto number = [&](size_t at, size_t bytes) {
    uint64_t value = 0;
    for (size_t i = 0; i < bytes && at + i < exif.size(); ++i)
      value |= uint64_t{exif[at + i]} << (8 * (big ? bytes - 1 - i : i));
    return value;
  };
  const uint64_t first = number(4, 4);
  if (first + 2 > exif.size()) return false;
  const uint64_t link = first + 2 + 12 * number(first, 2);
  return link + 4 <= exif.size() && number(link, 4) != 0;
}

class Parser {
 public:
  explicit Parser(const ByteSource& source) : source_(source) {}

  result<PngStructure> parse() {
    std::array<uint8_t, kPngSignatureBytes> signature;
    TRY(source_.read(0, signature));
    if (!is_png(signature)) return failure(damaged(source_, "no PNG signature"));
    uint64_t at = kPngSignatureBytes;
    for (size_t chunks = 0; !ended_; ++chunks) {
      if (chunks - out_.sample_chunks.size() > kPngChunksMax ||
          out_.sample_chunks.size() > kPngSampleChunksMax)
        return failure(damaged(source_, "too many chunks"));
      std::array<uint8_t, 8> head;
      TRY(source_.read(at, head));
      const uint32_t length = big_endian_32(head.data());
      if (length > kChunkBytesMax || at + kChunkExtraBytes + length > source_.size())
        return failure(damaged(source_, "it is cut short"));
      TRY(take(as_text(ByteView(head).subspan(4)), {at + 8, length}));
      at += kChunkExtraBytes + length;
    }
    if (out_.sample_chunks.empty()) return failure(damaged(source_, "it has no samples"));
    if (at < source_.size()) out_.after.push_back({at, source_.size() - at});
    return std::move(out_);
  }

 private:
  result<void> take(std::string_view type, ByteRange contents) {
    const ByteRange whole{contents.offset - 8, contents.length + kChunkExtraBytes};
    if (out_.width == 0) {
      if (type != "IHDR" || contents.length != 13)
        return failure(damaged(source_, "it does not begin with IHDR"));
      return header(contents);
    }
    if (type == "IDAT") {
      if (!out_.after.empty() || out_.record.length != 0)
        return failure(damaged(source_, "its IDAT chunks are not together"));
      if (out_.sample_chunks.empty()) out_.before = {0, whole.offset};
      out_.sample_chunks.push_back(contents);
      return success();
    }
    if (type == kPngRecordChunk) {
      if (out_.record.length != 0 || out_.sample_chunks.empty())
        return failure(damaged(source_, "its watermark record is at the wrong place"));
      out_.record = contents;
      return success();
    }
    out_.animated = out_.animated || type == "acTL";
    if (type == "eXIf") {
      Bytes exif(std::min<uint64_t>(contents.length, kExifBytesMax));
      TRY(source_.read(contents.offset, exif));
      out_.has_preview = out_.has_preview || exif_has_thumbnail(exif);
    }
    ended_ = type == "IEND";
    if (!out_.sample_chunks.empty()) out_.after.push_back(whole);
    return success();
  }

  result<void> header(ByteRange contents) {
    std::array<uint8_t, 13> raw;
    TRY(source_.read(contents.offset, raw));
    out_.width = big_endian_32(raw.data());
    out_.height = big_endian_32(raw.data() + 4);
    out_.bits = raw[8];
    out_.colour = raw[9];
    out_.interlaced = raw[12] == 1;
    if (out_.width == 0 || out_.height == 0) return failure(damaged(source_, "it has no size"));
    return success();
  }

  const ByteSource& source_;
  PngStructure out_;
  bool ended_ = false;
};

struct DeflateEnd {
  void operator()(z_stream* stream) const {
    deflateEnd(stream);
    delete stream;
  }
};
struct InflateEnd {
  void operator()(z_stream* stream) const {
    inflateEnd(stream);
    delete stream;
  }
};

// Whether these parameters make `compressed` of `plain`: of all of it, or of the beginning of both.
bool makes(const PngEncoding& encoding, ByteView plain, bool all, ByteView compressed) {
  std::unique_ptr<z_stream, DeflateEnd> stream(new z_stream{});
  if (deflateInit2(stream.get(), encoding.level, Z_DEFLATED, encoding.window_bits, encoding.memory,
                   encoding.strategy) != Z_OK)
    return false;
  stream->next_in = const_cast<Bytef*>(plain.data());
  stream->avail_in = static_cast<uInt>(plain.size());
  Bytes out(size_t{1} << 16);
  size_t at = 0;
  int state = Z_OK;
  do {
    stream->next_out = out.data();
    stream->avail_out = static_cast<uInt>(out.size());
    state = deflate(stream.get(), all ? Z_FINISH : Z_NO_FLUSH);
    if (state != Z_OK && state != Z_STREAM_END) return false;
    const size_t made = out.size() - stream->avail_out;
    if (made > compressed.size() - at) return false;
    for (size_t i = 0; i < made; ++i)  // the header is set afterwards
      if (at + i >= 2 && out[i] != compressed[at + i]) return false;
    at += made;
  } while (all ? state != Z_STREAM_END : stream->avail_in > 0);
  return !all || at == compressed.size();
}

void find_parameters(PngEncoding& encoding, ByteView plain, bool all, ByteView compressed) {
  const PngEncoding none = encoding;
  for (const int strategy : {Z_FILTERED, Z_DEFAULT_STRATEGY, Z_RLE, Z_HUFFMAN_ONLY}) {
    for (const int level : {6, 9, 7, 8, 5, 4, 3, 2, 1}) {
      for (const int memory : {8, 9}) {
        encoding.strategy = static_cast<uint8_t>(strategy);
        encoding.level = static_cast<uint8_t>(level);
        encoding.memory = static_cast<uint8_t>(memory);
        if (makes(encoding, plain, all, compressed)) return;
      }
    }
  }
  encoding = none;
}

// Unpacks a file's rows and notes their filters.
class RowReader {
 public:
  RowReader(const ByteSource& source, const PngStructure& png, const PngPasses& passes)
      : source_(source), png_(png), passes_(passes) {}

  result<PngEncoding> run(size_t pixel_bytes) {
    pixel_bytes_ = pixel_bytes;
    std::unique_ptr<z_stream, InflateEnd> stream(new z_stream{});
    if (inflateInit(stream.get()) != Z_OK) return failure(Errc::io, "zlib cannot start");
    Bytes in(size_t{1} << 16), out(size_t{1} << 16);
    begin_row();
    int state = Z_OK;
    for (const auto& chunk : png_.sample_chunks) {
      count_chunk(static_cast<uint32_t>(chunk.length));
      for (uint64_t done = 0; done < chunk.length && state == Z_OK;) {
        const MutableByteView part(in.data(), std::min<uint64_t>(in.size(), chunk.length - done));
        TRY(source_.read(chunk.offset + done, part));
        done += part.size();
        if (compressed_.size() < kTrialBytes + (size_t{1} << 17))
          compressed_.insert(compressed_.end(), part.begin(), part.end());
        stream->next_in = part.data();
        stream->avail_in = static_cast<uInt>(part.size());
        while (state == Z_OK && (stream->avail_in > 0 || stream->avail_out == 0)) {
          stream->next_out = out.data();
          stream->avail_out = static_cast<uInt>(out.size());
          state = inflate(stream.get(), Z_NO_FLUSH);
          if (state == Z_BUF_ERROR) state = Z_OK;
          if (state != Z_OK && state != Z_STREAM_END)
            return failure(damaged(source_, "its samples do not unpack"));
          take({out.data(), out.size() - stream->avail_out});
          if (stream->avail_in == 0 && stream->avail_out != 0) break;
        }
      }
    }
    if (compressed_.size() >= 2) {
      encoding_.zlib_header = static_cast<uint16_t>(compressed_[0] << 8 | compressed_[1]);
      const uint8_t window_bits = (compressed_[0] >> 4) + 8;
      encoding_.window_bits = std::clamp<uint8_t>(window_bits, 9, 15);
      find_parameters(encoding_, plain_, plain_.size() < kTrialBytes, compressed_);
    }
    return std::move(encoding_);
  }

 private:
  void count_chunk(uint32_t bytes) {
    auto& runs = encoding_.chunk_bytes;
    if (!runs.empty() && runs.back() == bytes)
      ++runs[runs.size() - 2];
    else
      runs.insert(runs.end(), {1, bytes});
  }
  void begin_row() {
    while (pass_ < passes_.size() && row_ == passes_[pass_].height) {
      ++pass_;
      row_ = 0;
    }
    if (pass_ < passes_.size()) left_ = 1 + passes_[pass_].width * pixel_bytes_;
    at_filter_ = true;
  }
  void take(ByteView bytes) {
    if (plain_.size() < kTrialBytes)
      plain_.insert(plain_.end(), bytes.begin(),
                    bytes.begin() + std::min(bytes.size(), kTrialBytes - plain_.size()));
    while (!bytes.empty() && pass_ < passes_.size()) {
      if (at_filter_) encoding_.filters.push_back(bytes[0]);
      at_filter_ = false;
      const size_t part = std::min(left_, bytes.size());
      left_ -= part;
      bytes = bytes.subspan(part);
      if (left_ != 0) continue;
      ++row_;
      begin_row();
    }
  }

  const ByteSource& source_;
  const PngStructure& png_;
  const PngPasses& passes_;
  size_t pixel_bytes_ = 1;
  size_t pass_ = 0, left_ = 0;
  uint32_t row_ = 0;
  bool at_filter_ = true;
  Bytes plain_, compressed_;
  PngEncoding encoding_;
};

}  // namespace

bool is_png(ByteView first) {
  return first.size() >= kSignature.size() &&
         std::equal(kSignature.begin(), kSignature.end(), first.begin());
}

result<PngStructure> parse_png(const ByteSource& source) { return Parser(source).parse(); }

result<PngEncoding> find_png_encoding(const ByteSource& source, const PngStructure& png,
                                      const PngPasses& passes) {
  const size_t channels = png.colour == 0 ? 1 : png.colour == 4 ? 2 : png.colour == 2 ? 3 : 4;
  return RowReader(source, png, passes).run(channels * (png.bits / 8));
}

Bytes encode_png_recipe(const PngEncoding& encoding) {
  FieldWriter out;
  out.sized(encoding.filters);
  out.number(static_cast<uint32_t>(encoding.chunk_bytes.size()));
  for (const uint32_t number : encoding.chunk_bytes) out.number(number);
  for (const uint8_t byte :
       {encoding.level, encoding.memory, encoding.strategy, encoding.window_bits})
    out.number(byte);
  out.number(encoding.zlib_header);
  out.raw(encoding.rest);
  return out.take();
}

result<PngEncoding> parse_png_recipe(ByteView bytes) {
  FieldReader in(bytes);
  PngEncoding encoding;
  encoding.filters = to_bytes(in.sized());
  const auto runs = in.number<uint32_t>();
  for (uint32_t i = 0; i < runs && in.good(); ++i)
    encoding.chunk_bytes.push_back(in.number<uint32_t>());
  for (uint8_t* byte :
       {&encoding.level, &encoding.memory, &encoding.strategy, &encoding.window_bits})
    *byte = in.number<uint8_t>();
  encoding.zlib_header = in.number<uint16_t>();
  encoding.rest = to_bytes(in.raw(32));
  const bool sane = encoding.level >= 1 && encoding.level <= 9 && encoding.memory >= 1 &&
                    encoding.memory <= 9 && encoding.strategy <= 4 && encoding.window_bits >= 9 &&
                    encoding.window_bits <= 15 && runs % 2 == 0 &&
                    std::ranges::all_of(encoding.filters, [](uint8_t f) { return f <= 4; });
  if (!in.finished() || !sane)
    return failure(Errc::corrupt, "the recipe of the original is damaged");
  return encoding;
}

}  // namespace datacloud::watermark
