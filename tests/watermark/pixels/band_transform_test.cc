// Bands come back exactly, are independent of each other, and marks lie where they should.
#include "watermark/pixels/band_transform.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/support/seeded.h"

namespace datacloud::watermark {
namespace {

MarkRaster logo(uint32_t width, uint32_t height, uint8_t hole = 0) {
  Bytes rgba(size_t{width} * height * 4);
  for (size_t i = 0; i < rgba.size(); i += 4) {
    rgba[i] = 250;
    rgba[i + 1] = static_cast<uint8_t>(i);
    rgba[i + 2] = 10;
    rgba[i + 3] = hole != 0 && (i / 4) % hole == 1 ? 0 : 255;
  }
  return make_mark_raster(width, height, std::move(rgba)).value();
}

Surface surface_of(uint32_t width, uint32_t height, uint32_t bits, std::vector<ChannelRole> roles) {
  Surface surface;
  surface.width = surface.base_width = width;
  surface.height = surface.base_height = height;
  surface.bits = bits;
  surface.roles = std::move(roles);
  return surface;
}

using enum ChannelRole;

void transform(const Surface& surface, const MarkRaster& mark, const MarkPlace& place,
               const MarkStrength& strength, Bytes& samples, bool marking,
               const MarkKernels& kernels = *usable_mark_kernels().front()) {
  const MarkLayout layout(surface, mark, place);
  BandTransform bands(surface, layout, strength, SecretKey(Bytes(32, 7)), kernels);
  const size_t band_bytes = band_rows(surface) * surface.row_bytes();
  for (size_t at = 0; at < samples.size(); at += band_bytes) {
    const auto part =
        MutableByteView(samples).subspan(at, std::min(band_bytes, samples.size() - at));
    const auto band = static_cast<uint32_t>(at / band_bytes);
    marking ? bands.mark(band, part) : bands.unmark(band, part);
  }
}

TEST(BandTransform, EverythingComesBack) {
  Seeded random;
  for (int round = 0; round < 60; ++round) {
    std::vector<ChannelRole> roles;
    for (uint64_t c = random.number(1, 5); c > 0; --c)
      roles.push_back(static_cast<ChannelRole>(random.number(0, 4)));
    const Surface surface = surface_of(static_cast<uint32_t>(random.number(1, 90)),
                                       static_cast<uint32_t>(random.number(1, 600)),
                                       random.number(0, 1) ? 8 : 16, roles);
    const MarkRaster mark = logo(static_cast<uint32_t>(random.number(1, 40)),
                                 static_cast<uint32_t>(random.number(1, 40)),
                                 static_cast<uint8_t>(random.number(2, 9)));
    MarkPlace place;
    place.placement = static_cast<Placement>(random.number(0, 6));
    place.size_permille = static_cast<uint32_t>(random.number(0, 1) * random.number(1, 1000));
    const MarkStrength strength =
        random.number(0, 1) ? MarkStrength{153, 4, 8} : MarkStrength{256, 8, 0};
    const Bytes original = random.bytes(surface.row_bytes() * surface.height);
    Bytes samples = original;
    transform(surface, mark, place, strength, samples, true);
    Bytes portable = original;
    transform(surface, mark, place, strength, portable, true, kPortableMarkKernels);
    ASSERT_EQ(samples, portable);
    transform(surface, mark, place, strength, samples, false);
    ASSERT_EQ(samples, original) << "round " << round;
  }
}

TEST(BandTransform, AlphaIsNeverMarkedAndTilesCoverEverythingElse) {
  Seeded random;
  const Surface surface = surface_of(61, 300, 8, {red, green, blue, none});
  const Bytes original = random.bytes(surface.row_bytes() * surface.height);
  Bytes samples = original;
  transform(surface, logo(7, 5), {Placement::tile, 0, 0, 0}, {256, 8, 0}, samples, true);
  size_t changed = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    if (i % 4 == 3) {
      ASSERT_EQ(samples[i], original[i]) << i;
    } else {
      changed += samples[i] != original[i];
    }
  }
  // Noise hits the old value once in 256.
  EXPECT_GT(changed, surface.row_samples() * 3 / 4 * surface.height * 98 / 100);
}

TEST(BandTransform, OutsideOfTheMarkNothingChanges) {
  const Surface surface = surface_of(200, 100, 16, {grey});
  const Bytes original(surface.row_bytes() * surface.height, 99);
  Bytes samples = original;
  transform(surface, logo(20, 10), {Placement::at, 50, 30, 0}, {256, 8, 0}, samples, true);
  for (uint32_t y = 0; y < 100; ++y)
    for (uint32_t x = 0; x < 200; ++x) {
      const bool inside = x >= 50 && x < 70 && y >= 30 && y < 40;
      const size_t at = (size_t{y} * 200 + x) * 2;
      if (!inside) {
        ASSERT_EQ(samples[at], 99) << x << " " << y;
      }
    }
  EXPECT_NE(samples, original);
}

TEST(BandTransform, AnOverviewIsMarkedWhereItsPageIs) {
  Surface overview = surface_of(100, 50, 8, {grey});
  overview.base_width = 400;
  overview.base_height = 200;
  const Bytes original(overview.row_bytes() * overview.height, 99);
  Bytes samples = original;
  transform(overview, logo(80, 40), {Placement::at, 200, 100, 0}, {256, 8, 0}, samples, true);
  size_t inside = 0;
  for (uint32_t y = 0; y < 50; ++y)
    for (uint32_t x = 0; x < 100; ++x) {
      if (samples[y * 100 + x] == 99) continue;
      ASSERT_TRUE(x >= 50 && x < 70 && y >= 25 && y < 35) << x << " " << y;
      ++inside;
    }
  EXPECT_GT(inside, 180u);  // of 200
}

TEST(BandTransform, AnotherKeyOrPageGivesOtherNoise) {
  const Surface surface = surface_of(64, 64, 8, {grey});
  Surface second = surface;
  second.page = 1;
  const MarkRaster mark = logo(64, 64);
  Bytes one(64 * 64, 5), two = one;
  transform(surface, mark, {Placement::tile, 0, 0, 0}, {256, 8, 0}, one, true);
  transform(second, mark, {Placement::tile, 0, 0, 0}, {256, 8, 0}, two, true);
  EXPECT_NE(one, two);
}

TEST(MarkRaster, HashAndPackingDependOnWhatIsVisibleOnly) {
  Bytes rgba = {1, 2, 3, 255, 9, 9, 9, 0};
  const auto mark = make_mark_raster(2, 1, rgba).value();
  rgba[4] = 77;  // below full transparency
  EXPECT_EQ(make_mark_raster(2, 1, rgba).value().hash(), mark.hash());
  rgba[0] = 77;
  EXPECT_NE(make_mark_raster(2, 1, rgba).value().hash(), mark.hash());
  const Bytes packed = pack_mark(mark);
  EXPECT_EQ(unpack_mark(2, 1, packed).value().rgba, mark.rgba);
  EXPECT_FALSE(unpack_mark(1, 1, packed));
  EXPECT_FALSE(unpack_mark(4096, 4096, packed));
  EXPECT_FALSE(make_mark_raster(2, 1, Bytes(8)));  // nothing to see
}

}  // namespace
}  // namespace datacloud::watermark
