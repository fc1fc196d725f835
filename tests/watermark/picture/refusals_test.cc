// What is refused, and by which name; damage and absurd numbers end in an error, soon.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>

#include "tests/support/seeded.h"
#include "tests/support/temporary_directory.h"
#include "tests/watermark/support.h"
#include "watermark/picture/picture.h"

namespace datacloud::watermark {
namespace {

class Refusals : public testing::Test {
 protected:
  Refusals() {
    TIFFSetWarningHandler(nullptr);
    TIFFSetErrorHandler(nullptr);
  }
  std::string file() const { return (directory_.path() / "p").string(); }
  // What opening and reading everything says; empty: nothing is wrong.
  std::string said() const {
    auto source = open_source(file());
    if (!source) return source.error().text();
    auto picture = open_picture(std::move(source.value()));
    if (!picture) return picture.error().text();
    for (size_t i = 0; i < picture.value()->surfaces().size(); ++i) {
      const auto& surface = picture.value()->surfaces()[i];
      Bytes row(surface.row_bytes());
      for (uint32_t y = 0; y < surface.height; ++y) {
        const auto read = picture.value()->read_rows(i, y, row);
        if (!read) return read.error().text();
      }
    }
    return "";
  }
  void expect_refused(const TiffShape& shape, const std::string& word) {
    write_tiff(file(), shape);
    EXPECT_NE(said().find(word), std::string::npos) << said();
    EXPECT_NE(said().find(file()), std::string::npos) << said();
  }

  TemporaryDirectory directory_{TemporaryDirectory::fast_parent()};
};

TEST_F(Refusals, NameWhatTheyRefuse) {
  TiffShape shape;
  shape.compression = COMPRESSION_JPEG;
  expect_refused(shape, "JPEG");
  shape = {};
  shape.sample_format = SAMPLEFORMAT_INT;
  expect_refused(shape, "signed");
  shape = {};
  shape.bits = 32;
  shape.sample_format = SAMPLEFORMAT_IEEEFP;
  expect_refused(shape, "floating point");
  shape = {};
  shape.bits = 32;
  expect_refused(shape, "32 bits");
  PngShape png;
  png.colour = PNG_COLOR_TYPE_PALETTE;
  write_png(file(), png);
  EXPECT_NE(said().find("palette"), std::string::npos) << said();
  png = {};
  png.colour = PNG_COLOR_TYPE_GRAY;
  png.bits = 1;
  png.text = false;
  write_png(file(), png);
  EXPECT_NE(said().find("1 bit per sample"), std::string::npos) << said();
  write_file(file(), as_bytes("\xff\xd8\xff\xe0 a JPEG of sorts"));
  EXPECT_NE(said().find("is JPEG"), std::string::npos) << said();
  write_file(file(), {});
  EXPECT_NE(said().find("neither TIFF nor PNG"), std::string::npos) << said();
}

TEST_F(Refusals, OneBitAndPaletteTiff) {
  TIFF* tiff = TIFFOpen(file().c_str(), "w");
  TIFFSetField(tiff, TIFFTAG_IMAGEWIDTH, 64);
  TIFFSetField(tiff, TIFFTAG_IMAGELENGTH, 4);
  TIFFSetField(tiff, TIFFTAG_BITSPERSAMPLE, 1);
  TIFFSetField(tiff, TIFFTAG_SAMPLESPERPIXEL, 1);
  TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
  Bytes row(32, 0x55);
  TIFFWriteEncodedStrip(tiff, 0, row.data(), 32);
  TIFFClose(tiff);
  EXPECT_NE(said().find("1 bit per sample"), std::string::npos) << said();
  TiffShape shape;
  shape.channels = 1;
  shape.photometric = PHOTOMETRIC_PALETTE;
  expect_refused(shape, "palette");
}

TEST_F(Refusals, EveryTruncationIsAnError) {
  for (const bool png : {false, true}) {
    TiffShape shape;
    shape.compression = COMPRESSION_LZW;
    shape.overviews = 1;
    png ? write_png(file(), {}) : write_tiff(file(), shape);
    const Bytes whole = read_file(file());
    ASSERT_EQ(said(), "");
    for (size_t length = 0; length < whole.size(); length += 1 + length / 40) {
      write_file(file(), ByteView(whole).first(length));
      ASSERT_NE(said(), "") << length;
    }
  }
}

// Whatever bytes are changed, the answer comes soon and is an error or a picture.
TEST_F(Refusals, ChangedBytesDoNoHarm) {
  Seeded random;
  for (int kind = 0; kind < 4; ++kind) {
    TiffShape shape;
    shape.compression = kind == 1 ? COMPRESSION_ADOBE_DEFLATE : COMPRESSION_NONE;
    shape.tile = kind == 2 ? 32 : 0;
    shape.mode = kind == 2 ? "w8" : "w";
    shape.height = 20;
    kind == 3 ? write_png(file(), {}) : write_tiff(file(), shape);
    const Bytes whole = read_file(file());
    // Directories stand behind the samples, chunks before them.
    const size_t from = kind == 3 ? 0 : whole.size() - std::min<size_t>(whole.size(), 400);
    const size_t to = kind == 3 ? std::min<size_t>(whole.size(), 200) : whole.size();
    for (int round = 0; round < 400; ++round) {
      Bytes changed = whole;
      for (uint64_t i = random.number(1, 4); i > 0; --i)
        changed[random.number(from, to - 1)] = static_cast<uint8_t>(random.number(0, 255));
      write_file(file(), changed);
      auto source = open_source(file());
      ASSERT_TRUE(source);
      auto picture = open_picture(std::move(source.value()));
      if (!picture) {
        EXPECT_FALSE(picture.error().text().empty());
        continue;
      }
      const auto& surface = picture.value()->surfaces()[0];
      Bytes row(surface.row_bytes());
      (void)picture.value()->read_rows(0, 0, row);
    }
  }
}

TEST_F(Refusals, AbsurdSizesAreRefusedBeforeAnythingIsTaken) {
  TiffShape shape;
  write_tiff(file(), shape);
  const Bytes whole = read_file(file());
  const auto set = [&](uint16_t tag, uint32_t value) {  // of a little-endian classic TIFF
    Bytes changed = whole;
    const size_t directory = changed[4] | changed[5] << 8 | changed[6] << 16;
    for (size_t at = directory + 2; at + 12 <= changed.size(); at += 12) {
      if ((changed[at] | changed[at + 1] << 8) != tag) continue;
      changed[at + 2] = 4;  // LONG
      for (int i = 0; i < 4; ++i) changed[at + 8 + i] = static_cast<uint8_t>(value >> (8 * i));
      write_file(file(), changed);
      return;
    }
    FAIL() << "no tag " << tag;
  };
  for (const uint32_t value : {0u, 0x7fffffffu, 0xffffffffu})
    for (const uint16_t tag : {TIFFTAG_IMAGEWIDTH, TIFFTAG_IMAGELENGTH, TIFFTAG_SAMPLESPERPIXEL}) {
      set(tag, value);
      EXPECT_NE(said(), "") << tag << " " << value;
    }
}

// A few kilobytes that would unpack to gigabytes: refused by the size of the strip.
TEST_F(Refusals, ABombIsNotUnpacked) {
  TIFF* tiff = TIFFOpen(file().c_str(), "w");
  TIFFSetField(tiff, TIFFTAG_IMAGEWIDTH, 60000);
  TIFFSetField(tiff, TIFFTAG_IMAGELENGTH, 60000);
  TIFFSetField(tiff, TIFFTAG_BITSPERSAMPLE, 8);
  TIFFSetField(tiff, TIFFTAG_SAMPLESPERPIXEL, 1);
  TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
  TIFFSetField(tiff, TIFFTAG_COMPRESSION, COMPRESSION_ADOBE_DEFLATE);
  TIFFSetField(tiff, TIFFTAG_ROWSPERSTRIP, 60000);
  Bytes rows(60000 * 10);
  TIFFWriteRawStrip(tiff, 0, rows.data(), 4000);
  TIFFClose(tiff);
  EXPECT_NE(said().find("64 MiB are the limit"), std::string::npos) << said();
}

}  // namespace
}  // namespace datacloud::watermark
