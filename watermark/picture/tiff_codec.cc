// libtiff 4.5 with callbacks for reading, writing and messages (tiff_codec.h).
#include "watermark/picture/tiff_codec.h"

#include <tiffio.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

namespace datacloud::watermark {
namespace {

constexpr tmsize_t kAllocationBytesMax = tmsize_t{192} << 20;

// The latest message, for error texts. Warnings concern metadata, which we do not touch.
struct Messages {
  std::string latest = "no reason given";
};

int keep_message(TIFF*, void* user, const char*, const char* format, va_list arguments) {
  char text[256];
  std::vsnprintf(text, sizeof text, format, arguments);
  static_cast<Messages*>(user)->latest = text;
  return 1;
}
int drop_message(TIFF*, void*, const char*, const char*, va_list) { return 1; }

using Handle = std::unique_ptr<TIFF, decltype(&TIFFCleanup)>;

Handle open_with(void* client, const char* mode, Messages& messages, TIFFReadWriteProc read,
                 TIFFReadWriteProc write, TIFFSeekProc seek, TIFFSizeProc size) {
  TIFFOpenOptions* options = TIFFOpenOptionsAlloc();
  if (options == nullptr) return Handle(nullptr, &TIFFCleanup);
  TIFFOpenOptionsSetErrorHandlerExtR(options, keep_message, &messages);
  TIFFOpenOptionsSetWarningHandlerExtR(options, drop_message, nullptr);
  TIFFOpenOptionsSetMaxSingleMemAlloc(options, kAllocationBytesMax);
  const auto close = [](thandle_t) { return 0; };
  const auto map = [](thandle_t, void**, toff_t*) { return 0; };
  const auto unmap = [](thandle_t, void*, toff_t) {};
  TIFF* tiff = TIFFClientOpenExt("picture", mode, client, read, write, seek, close, size, map,
                                 unmap, options);
  TIFFOpenOptionsFree(options);
  return Handle(tiff, &TIFFCleanup);
}

class Decoder : public TiffDecoder {
 public:
  explicit Decoder(const ByteSource& source) : source_(source), tiff_(nullptr, &TIFFCleanup) {}

  result<void> start() {
    // m: no memory mapping; O: offsets are loaded as they are needed.
    tiff_ = open_with(this, "rmO", messages_, &Decoder::read, &Decoder::no_write, &Decoder::seek,
                      &Decoder::size);
    if (tiff_ == nullptr)
      return failure(Errc::corrupt, source_.name() + ": damaged TIFF: " + messages_.latest);
    return success();
  }

  result<void> decode(uint64_t directory, bool tiled, uint32_t block,
                      MutableByteView out) override {
    const auto failed = [&] {
      return failure(Errc::corrupt, source_.name() + ": strip or tile " + std::to_string(block) +
                                        " does not decode: " + messages_.latest);
    };
    if (!at_directory_ || directory != directory_) {
      at_directory_ = TIFFSetSubDirectory(tiff_.get(), directory) == 1;
      directory_ = directory;
      if (!at_directory_) return failed();
    }
    const auto wanted = static_cast<tmsize_t>(out.size());
    const tmsize_t got = tiled ? TIFFReadEncodedTile(tiff_.get(), block, out.data(), wanted)
                               : TIFFReadEncodedStrip(tiff_.get(), block, out.data(), wanted);
    if (got != wanted) return failed();
    return success();
  }

 private:
  static tmsize_t read(thandle_t client, void* to, tmsize_t length) {
    auto& self = *static_cast<Decoder*>(client);
    if (length <= 0 || self.position_ >= self.source_.size()) return 0;
    const uint64_t bytes =
        std::min<uint64_t>(static_cast<uint64_t>(length), self.source_.size() - self.position_);
    if (!self.source_.read(self.position_, {static_cast<uint8_t*>(to), bytes})) return -1;
    self.position_ += bytes;
    return static_cast<tmsize_t>(bytes);
  }
  static tmsize_t no_write(thandle_t, void*, tmsize_t) { return -1; }
  static toff_t seek(thandle_t client, toff_t offset, int whence) {
    auto& self = *static_cast<Decoder*>(client);
    self.position_ = (whence == SEEK_CUR   ? self.position_
                      : whence == SEEK_END ? self.source_.size()
                                           : 0) +
                     offset;
    return self.position_;
  }
  static toff_t size(thandle_t client) { return static_cast<Decoder*>(client)->source_.size(); }

  const ByteSource& source_;
  Messages messages_;
  uint64_t position_ = 0;
  uint64_t directory_ = 0;
  bool at_directory_ = false;
  Handle tiff_;
};

// What libtiff writes, from the first byte behind the header on.
struct Sink {
  static constexpr uint64_t kHeaderBytes = 16;
  uint64_t position = 0, end = 0;
  Bytes bytes;

  static tmsize_t no_read(thandle_t, void*, tmsize_t) { return 0; }
  static tmsize_t write(thandle_t client, void* from, tmsize_t length) {
    auto& self = *static_cast<Sink*>(client);
    const auto* data = static_cast<const uint8_t*>(from);
    const auto count = static_cast<uint64_t>(length);
    if (self.position + count > kHeaderBytes) {
      const uint64_t skip = self.position < kHeaderBytes ? kHeaderBytes - self.position : 0;
      const uint64_t at = self.position + skip - kHeaderBytes;
      if (self.bytes.size() < at + count - skip) self.bytes.resize(at + count - skip);
      std::memcpy(self.bytes.data() + at, data + skip, count - skip);
    }
    self.position += count;
    self.end = std::max(self.end, self.position);
    return length;
  }
  static toff_t seek(thandle_t client, toff_t offset, int whence) {
    auto& self = *static_cast<Sink*>(client);
    self.position = (whence == SEEK_CUR   ? self.position
                     : whence == SEEK_END ? self.end
                                          : 0) +
                    offset;
    return self.position;
  }
  static toff_t size(thandle_t client) { return static_cast<Sink*>(client)->end; }
};

bool is_deflate(uint16_t compression) {
  return compression == kTiffAdobeDeflate || compression == kTiffDeflate;
}

bool set_encoding(TIFF* tiff, const TiffEncoding& encoding) {
  const uint16_t compression = encoding.compression;
  bool good = TIFFSetField(tiff, TIFFTAG_COMPRESSION, compression) == 1;
  if (is_deflate(compression)) {
    good = good && TIFFSetField(tiff, TIFFTAG_DEFLATE_SUBCODEC,
                                encoding.library == 1 ? DEFLATE_SUBCODEC_LIBDEFLATE
                                                      : DEFLATE_SUBCODEC_ZLIB) == 1;
    if (encoding.level != 0)
      good = good && TIFFSetField(tiff, TIFFTAG_ZIPQUALITY, int{encoding.level}) == 1;
  }
  if (compression == kTiffZstd && encoding.level != 0)
    good = good && TIFFSetField(tiff, TIFFTAG_ZSTD_LEVEL, int{encoding.level}) == 1;
  if (compression == kTiffLzma && encoding.level != 0)
    good = good && TIFFSetField(tiff, TIFFTAG_LZMAPRESET, int{encoding.level}) == 1;
  if (compression != kTiffNone && compression != kTiffPackBits)
    good = good && TIFFSetField(tiff, TIFFTAG_PREDICTOR, encoding.predictor) == 1;
  return good;
}

}  // namespace

const char* tiff_compression_refused(uint16_t compression) {
  switch (compression) {
    case kTiffNone:
    case kTiffLzw:
    case kTiffAdobeDeflate:
    case kTiffPackBits:
    case kTiffDeflate:
    case kTiffLzma:
    case kTiffZstd:
      return nullptr;
    case 2:
    case 3:
    case 4:
      return "CCITT fax";
    case 6:
    case 7:
      return "JPEG";
    case 33003:
    case 33005:
    case 34712:
      return "JPEG 2000";
    case 34887:
      return "LERC";
    case 50001:
      return "WebP";
    case 50002:
    case 52546:
      return "JPEG XL";
    default:
      return "an unknown compression";
  }
}

result<std::unique_ptr<TiffDecoder>> TiffDecoder::open(const ByteSource& source) {
  auto decoder = std::make_unique<Decoder>(source);
  TRY(decoder->start());
  return std::unique_ptr<TiffDecoder>(std::move(decoder));
}

result<Bytes> tiff_encode(const TiffEncoding& encoding, uint32_t width, uint16_t channels,
                          uint16_t bits, MutableByteView samples) {
  const uint64_t row_bytes = uint64_t{width} * channels * (bits / 8);
  const auto rows = static_cast<uint32_t>(samples.size() / row_bytes);
  Messages messages;
  Sink sink;
  const Handle tiff = open_with(&sink, encoding.big_endian ? "w8b" : "w8l", messages,
                                &Sink::no_read, &Sink::write, &Sink::seek, &Sink::size);
  const auto failed = [&] {
    return failure(Errc::io, "a strip or tile cannot be encoded: " + messages.latest);
  };
  if (tiff == nullptr) return failed();
  bool good = TIFFSetField(tiff.get(), TIFFTAG_IMAGEWIDTH, width) == 1 &&
              TIFFSetField(tiff.get(), TIFFTAG_IMAGELENGTH, rows) == 1 &&
              TIFFSetField(tiff.get(), TIFFTAG_ROWSPERSTRIP, rows) == 1 &&
              TIFFSetField(tiff.get(), TIFFTAG_BITSPERSAMPLE, bits) == 1 &&
              TIFFSetField(tiff.get(), TIFFTAG_SAMPLESPERPIXEL, channels) == 1 &&
              TIFFSetField(tiff.get(), TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG) == 1 &&
              TIFFSetField(tiff.get(), TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK) == 1 &&
              set_encoding(tiff.get(), encoding);
  if (channels > 1) {
    const std::vector<uint16_t> extra(channels - 1, EXTRASAMPLE_UNSPECIFIED);
    good = good && TIFFSetField(tiff.get(), TIFFTAG_EXTRASAMPLES, channels - 1, extra.data()) == 1;
  }
  const auto size = static_cast<tmsize_t>(samples.size());
  if (!good || TIFFWriteEncodedStrip(tiff.get(), 0, samples.data(), size) != size) return failed();
  return std::move(sink.bytes);
}

TiffEncoding find_tiff_encoding(TiffEncoding encoding, uint32_t width, uint16_t channels,
                                uint16_t bits, ByteView samples, ByteView encoded) {
  const TiffEncoding plain = encoding;
  std::vector<std::pair<uint8_t, uint8_t>> tries = {{0, 0}};
  if (is_deflate(encoding.compression)) {
    tries.clear();
    for (const uint8_t level : {6, 9, 1, 12, 5, 7, 8, 4, 3, 2, 10, 11}) {
      tries.emplace_back(1, level);
      if (level <= 9) tries.emplace_back(0, level);
    }
  } else if (encoding.compression == kTiffZstd) {
    for (uint8_t level = 1; level <= 19; ++level) tries.emplace_back(0, level);
  } else if (encoding.compression == kTiffLzma) {
    for (uint8_t level = 1; level <= 9; ++level) tries.emplace_back(0, level);
  }
  for (const auto& [library, level] : tries) {
    encoding.library = library;
    encoding.level = level;
    Bytes copy = to_bytes(samples);
    const auto made = tiff_encode(encoding, width, channels, bits, copy);
    if (made && std::ranges::equal(made.value(), encoded)) return encoding;
  }
  return plain;
}

}  // namespace datacloud::watermark
