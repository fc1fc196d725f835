// Whole files: what is marked differs, what is restored is the original byte for byte.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/seeded.h"
#include "tests/support/temporary_directory.h"
#include "tests/watermark/support.h"
#include "watermark/picture/picture.h"
#include "watermark/work/watermark.h"

namespace datacloud::watermark {
namespace {

class RoundTrip : public testing::Test {
 protected:
  RoundTrip() {
    TIFFSetWarningHandler(nullptr);
    Bytes rgba(32 * 16 * 4, 255);
    for (size_t i = 0; i < rgba.size(); i += 4) rgba[i] = static_cast<uint8_t>(i);
    mark_ = make_mark_raster(32, 16, std::move(rgba)).value();
  }
  std::string at(const std::string& name) const { return (directory_.path() / name).string(); }

  result<WatermarkFacts> apply(const std::string& from, const std::string& to,
                               const MarkOptions& how) {
    TRY(const auto out, OutputFile::create(at(to), true));
    TRY(auto facts, apply_watermark(at(from), mark_, how, key_, *out, {}));
    TRY(out->commit());
    return facts;
  }
  result<RestoredFacts> remove(const std::string& from, const std::string& to,
                               const SecretKey& key) {
    TRY(const auto out, OutputFile::create(at(to), true));
    TRY(auto facts, remove_watermark(at(from), key, *out, {}));
    TRY(out->commit());
    return facts;
  }

  static Bytes samples_of(const std::string& path) {
    auto picture = open_picture(open_source(path).value()).value();
    Bytes all;
    for (size_t i = 0; i < picture->surfaces().size(); ++i) {
      const auto& surface = picture->surfaces()[i];
      Bytes part(surface.row_bytes() * surface.height);
      EXPECT_TRUE(picture->read_rows(i, 0, part));
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  }

  // Marks in both profiles and restores.
  void expect_exact(const std::string& name, bool file_identical = true) {
    for (const Profile profile : {Profile::notice, Profile::conceal}) {
      MarkOptions how;
      how.profile = profile;
      how.place.placement = Placement::tile;
      const auto marked = apply("in", "marked", how);
      ASSERT_TRUE(marked) << name << ": " << marked.error().text();
      const Bytes before = samples_of(at("in")), under = samples_of(at("marked"));
      ASSERT_EQ(before.size(), under.size()) << name;
      size_t changed = 0;
      for (size_t i = 0; i < before.size(); ++i) changed += before[i] != under[i];
      EXPECT_GT(changed, before.size() / 4) << name;
      ASSERT_TRUE(verify_watermark(at("marked"), key_, {})) << name;
      const auto restored = remove("marked", "out", key_);
      ASSERT_TRUE(restored) << name << ": " << restored.error().text();
      EXPECT_EQ(samples_of(at("out")), before) << name;
      EXPECT_EQ(restored.value().file_identical, file_identical) << name;
      EXPECT_EQ(read_file(at("out")) == read_file(at("in")), file_identical) << name;
    }
  }

  TemporaryDirectory directory_{TemporaryDirectory::fast_parent()};
  MarkRaster mark_;
  const SecretKey key_ = SecretKey::random();
};

TEST_F(RoundTrip, EveryLayoutOfTiff) {
  struct Compression {
    uint16_t compression, predictor;
  };
  const std::vector<Compression> compressions = {
      {COMPRESSION_NONE, 1},          {COMPRESSION_LZW, 1},           {COMPRESSION_LZW, 2},
      {COMPRESSION_ADOBE_DEFLATE, 1}, {COMPRESSION_ADOBE_DEFLATE, 2}, {COMPRESSION_PACKBITS, 1},
      {COMPRESSION_ZSTD, 2},          {COMPRESSION_LZMA, 1}};
  int number = 0;
  for (const auto& [compression, predictor] : compressions)
    for (const uint32_t tile : {0u, 32u})
      for (const uint16_t bits : {8, 16})
        for (const uint16_t planar : {PLANARCONFIG_CONTIG, PLANARCONFIG_SEPARATE}) {
          TiffShape shape;
          shape.compression = compression;
          shape.predictor = predictor;
          shape.tile = tile;
          shape.bits = bits;
          shape.planar = planar;
          // Byte orders and sizes in turn; each meets each of the rest often enough.
          shape.mode = std::vector<const char*>{"w", "w8", "wb", "w8b"}[number++ % 4];
          shape.overviews = number % 3;
          write_tiff(at("in"), shape);
          expect_exact(std::to_string(compression) + " " + std::to_string(predictor) + " tile " +
                       std::to_string(tile) + " bits " + std::to_string(bits) + " planar " +
                       std::to_string(planar) + " " + shape.mode);
        }
}

TEST_F(RoundTrip, GreyAlphaAndManyBandsOfTiff) {
  for (const uint16_t channels : {1, 2, 4, 7, 13})
    for (const uint16_t bits : {8, 16}) {
      TiffShape shape;
      shape.channels = channels;
      shape.bits = bits;
      shape.photometric = channels == 4 ? PHOTOMETRIC_RGB : PHOTOMETRIC_MINISBLACK;
      shape.extra.assign(channels == 4 ? 1 : channels - 1, EXTRASAMPLE_UNSPECIFIED);
      if (channels == 2 || channels == 4) shape.extra[0] = EXTRASAMPLE_UNASSALPHA;
      shape.compression = COMPRESSION_LZW;
      write_tiff(at("in"), shape);
      expect_exact(std::to_string(channels) + " channels");
      if (channels != 2 && channels != 4) continue;
      const Bytes before = samples_of(at("in")), under = samples_of(at("marked"));
      const size_t pixel = size_t{channels} * bits / 8;
      for (size_t i = 0; i < before.size(); ++i) {
        if (i % pixel >= pixel - bits / 8) {
          ASSERT_EQ(before[i], under[i]) << "alpha was marked";
        }
      }
    }
}

TEST_F(RoundTrip, StripsThatCrossBandsAndLongOnes) {
  for (const uint32_t rows : {1u, 7u, 100u, 700u})
    for (const uint16_t compression : {COMPRESSION_NONE, COMPRESSION_ADOBE_DEFLATE}) {
      TiffShape shape;
      shape.height = 700;
      shape.rows_per_strip = rows;
      shape.compression = compression;
      write_tiff(at("in"), shape);
      expect_exact(std::to_string(rows) + " rows per strip");
    }
  TiffShape shape;
  shape.height = 700;
  shape.width = 500;
  shape.tile = 304;  // no divisor and no multiple of a band
  shape.compression = COMPRESSION_LZW;
  write_tiff(at("in"), shape);
  expect_exact("tiles of 304");
}

TEST_F(RoundTrip, EveryKindOfPng) {
  for (const int colour : {PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_GRAY_ALPHA, PNG_COLOR_TYPE_RGB,
                           PNG_COLOR_TYPE_RGB_ALPHA})
    for (const int bits : {8, 16})
      for (const int interlace : {PNG_INTERLACE_NONE, PNG_INTERLACE_ADAM7}) {
        PngShape shape;
        shape.colour = colour;
        shape.bits = bits;
        shape.interlace = interlace;
        write_png(at("in"), shape);
        expect_exact("png " + std::to_string(colour) + " " + std::to_string(bits) + " " +
                     std::to_string(interlace));
      }
  for (const int level : {1, 4, 9})
    for (const int filters : {PNG_FILTER_NONE, PNG_FILTER_UP, PNG_ALL_FILTERS}) {
      PngShape shape;
      shape.width = 300;
      shape.level = level;
      shape.filters = filters;
      shape.chunk_bytes = 1000;
      write_png(at("in"), shape);
      expect_exact("png level " + std::to_string(level));
    }
  for (const uint32_t side : {1u, 2u, 5u, 9u}) {
    PngShape shape;
    shape.width = shape.height = side;
    shape.interlace = PNG_INTERLACE_ADAM7;
    write_png(at("in"), shape);
    MarkOptions how;
    how.place.placement = Placement::tile;
    ASSERT_TRUE(apply("in", "marked", how));
    ASSERT_TRUE(remove("marked", "out", key_));
    EXPECT_EQ(read_file(at("out")), read_file(at("in"))) << side;
  }
}

TEST_F(RoundTrip, ChunksThatAreUnknownStay) {
  write_png(at("in"), {});
  ASSERT_TRUE(apply("in", "marked", {}));
  const Bytes marked = read_file(at("marked"));
  const std::string_view text = as_text(marked);
  EXPECT_NE(text.find("dcWM"), text.npos);
  EXPECT_NE(text.find("tEXtTitle"), text.npos);
}

TEST_F(RoundTrip, SparseTilesStaySparse) {
  TiffShape shape;
  shape.tile = 32;
  shape.compression = COMPRESSION_ADOBE_DEFLATE;
  shape.height = 20000;
  TIFF* tiff = TIFFOpen(at("in").c_str(), "w");
  write_tiff_page(tiff, {}, false);
  TIFFSetField(tiff, TIFFTAG_IMAGEWIDTH, 100);
  TIFFSetField(tiff, TIFFTAG_IMAGELENGTH, 100);
  TIFFSetField(tiff, TIFFTAG_BITSPERSAMPLE, 8);
  TIFFSetField(tiff, TIFFTAG_SAMPLESPERPIXEL, 1);
  TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
  TIFFSetField(tiff, TIFFTAG_COMPRESSION, COMPRESSION_ADOBE_DEFLATE);
  TIFFSetField(tiff, TIFFTAG_TILEWIDTH, 32);
  TIFFSetField(tiff, TIFFTAG_TILELENGTH, 32);
  Bytes tile(32 * 32, 7);
  TIFFWriteEncodedTile(tiff, 5, tile.data(), static_cast<tmsize_t>(tile.size()));
  TIFFWriteDirectory(tiff);
  TIFFClose(tiff);
  expect_exact("sparse");
}

TEST_F(RoundTrip, AWrongKeyOrAChangedSampleIsAnErrorAndLeavesNothing) {
  TiffShape shape;
  shape.rows_per_strip = 90;
  write_tiff(at("in"), shape);
  ASSERT_TRUE(apply("in", "marked", {}));
  const auto wrong = remove("marked", "out", SecretKey::random());
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().text().find("the key is not the one"), std::string::npos);
  EXPECT_FALSE(verify_watermark(at("marked"), SecretKey::random(), {}));
  Seeded random;
  const Bytes marked = read_file(at("marked"));
  for (int round = 0; round < 30; ++round) {
    Bytes changed = marked;
    changed[8 + random.number(0, 70 * 90 * 3 - 1)] ^= static_cast<uint8_t>(random.number(1, 255));
    write_file(at("changed"), changed);
    const auto verified = verify_watermark(at("changed"), key_, {});
    ASSERT_FALSE(verified);
    EXPECT_NE(verified.error().text().find("samples were changed"), std::string::npos);
    ASSERT_FALSE(remove("changed", "out", key_));
  }
  EXPECT_FALSE(std::filesystem::exists(at("out")));
  // Nothing half written is left either.
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory_.path())) {
    (void)entry;
    ++files;
  }
  EXPECT_EQ(files, 3u);  // in, marked, changed
}

TEST_F(RoundTrip, ChangedMetadataAreAnError) {
  Seeded random;
  for (const bool png : {false, true}) {
    TiffShape shape;
    shape.compression = COMPRESSION_LZW;
    png ? write_png(at("in"), {}) : write_tiff(at("in"), shape);
    const auto facts = apply("in", "marked", {});
    ASSERT_TRUE(facts);
    const Bytes marked = read_file(at("marked"));
    // Every byte is one of samples, of metadata, or of the record: each is noticed.
    for (int round = 0; round < 200; ++round) {
      Bytes changed = marked;
      const size_t where = random.number(0, changed.size() - 1);
      changed[where] ^= static_cast<uint8_t>(1 << random.number(0, 7));
      write_file(at("changed"), changed);
      const auto restored = remove("changed", "out", key_);
      if (restored) {  // places of strips are not metadata, and a CRC of IDAT is not a sample
        ASSERT_EQ(read_file(at("out")), read_file(at("in"))) << where;
        continue;
      }
      ASSERT_FALSE(verify_watermark(at("changed"), key_, {})) << where;
    }
  }
}

TEST_F(RoundTrip, EachMarkingHasAnIdentityOfItsOwn) {
  write_tiff(at("in"), {});
  const auto one = apply("in", "marked", {}), two = apply("in", "again", {});
  ASSERT_TRUE(one && two);
  EXPECT_NE(one.value().record.uuid, two.value().record.uuid);
  EXPECT_NE(samples_of(at("marked")), samples_of(at("again")));
  const auto twice = apply("marked", "twice", {});
  ASSERT_FALSE(twice);
  EXPECT_TRUE(twice.error().is(Errc::exists));
}

TEST_F(RoundTrip, NothingIsOverwrittenWithoutBeingTold) {
  write_tiff(at("in"), {});
  write_file(at("there"), Bytes(3, 1));
  EXPECT_FALSE(OutputFile::create(at("there"), false));
  const auto out = OutputFile::create(at("new"), false);
  ASSERT_TRUE(out);
  ASSERT_TRUE(apply_watermark(at("in"), mark_, {}, key_, *out.value(), {}));
  EXPECT_FALSE(std::filesystem::exists(at("new")));
  write_file(at("new"), Bytes(3, 1));  // somebody else was quicker
  EXPECT_FALSE(out.value()->commit());
  EXPECT_EQ(read_file(at("new")), Bytes(3, 1));
}

}  // namespace
}  // namespace datacloud::watermark
