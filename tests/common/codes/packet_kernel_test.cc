// The kernels of a code against the plain arithmetic of matrices, on every path of this processor.
#include "common/codes/packet_kernel.h"

#include <gtest/gtest.h>

#include "tests/support/seeded.h"

namespace datacloud {
namespace {

using Arithmetic = PacketKernel::Arithmetic;

struct Product {
  GfMatrix matrix;
  std::vector<Bytes> sources, expected;
};

Product product_of(int targets, int sources, size_t length, int largest, Seeded& random) {
  Product made{GfMatrix(targets, sources), {}, {}};
  for (int s = 0; s < sources; ++s) made.sources.push_back(random.bytes(length));
  for (int t = 0; t < targets; ++t) {
    Bytes sum(length);
    for (int s = 0; s < sources; ++s) {
      made.matrix.at(t, s) = static_cast<uint8_t>(random.number(0, largest));
      gf_add_scaled(made.matrix.at(t, s), made.sources[s], sum);
    }
    made.expected.push_back(std::move(sum));
  }
  return made;
}

// Targets stand in rooms with a rim, so that a byte written outside is seen.
void expect_computed(const Product& wanted, Arithmetic arithmetic, size_t rim) {
  const size_t length = wanted.sources[0].size();
  std::vector<Bytes> rooms(wanted.expected.size(), Bytes(length + 2 * rim, 0xA5));
  std::vector<const uint8_t*> from;
  std::vector<uint8_t*> to;
  for (const auto& source : wanted.sources) from.push_back(source.data());
  for (auto& room : rooms) to.push_back(room.data() + rim);
  PacketKernel(wanted.matrix, arithmetic).apply(from.data(), to.data(), length);
  for (size_t t = 0; t < rooms.size(); ++t) {
    Bytes room(rim, 0xA5);
    room.insert(room.end(), wanted.expected[t].begin(), wanted.expected[t].end());
    room.resize(length + 2 * rim, 0xA5);
    ASSERT_EQ(rooms[t], room) << "target " << t << " of " << rooms.size() << " from " << from.size()
                              << " sources of " << length << " bytes";
  }
}

TEST(PacketKernel, EveryPathComputesTheProduct) {
  Seeded random;
  for (int targets : {1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 64})
    for (int sources : {1, 2, 10, 33, 64})
      for (size_t length : {0, 1, 31, 63, 64, 65, 127, 128, 129, 255, 1000}) {
        const auto wanted = product_of(targets, sources, length, 255, random);
        expect_computed(wanted, Arithmetic::fastest, 65);
        expect_computed(wanted, Arithmetic::isal, 65);
      }
}

TEST(PacketKernel, LongPacketsAreTheSameInPieces) {
  Seeded random;
  for (int targets : {2, 9})
    for (int largest : {1, 255}) {
      const auto wanted = product_of(targets, 3, 200'003, largest, random);
      expect_computed(wanted, Arithmetic::fastest, 1);
      expect_computed(wanted, Arithmetic::isal, 1);
    }
}

}  // namespace
}  // namespace datacloud
