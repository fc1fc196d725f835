// A base and opened patches of any numbers, as whoever holds the key could have sealed them: what
// is put together obeys the rules, and is what writing the ranges one after the other gives.
#include "common/crypto/block_patches.h"

#include <algorithm>

#include "tests/fuzz/fuzz_target.h"

namespace datacloud::fuzz {
namespace block_patches_input {

constexpr uint32_t kBlock = 4096;

// Takes numbers and bytes from the front of the input.
class Input {
 public:
  explicit Input(ByteView bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  uint64_t number(size_t width) {
    uint64_t value = 0;
    for (size_t i = 0; i < width; ++i) {
      value = value << 8 | (bytes_.empty() ? 0 : bytes_[0]);
      if (!bytes_.empty()) bytes_ = bytes_.subspan(1);
    }
    return value;
  }
  Bytes bytes(size_t size) {
    size = std::min(size, bytes_.size());
    Bytes out(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(size));
    bytes_ = bytes_.subspan(size);
    return out;
  }

 private:
  ByteView bytes_;
};

void run(ByteView bytes) {
  Input input(bytes);
  const auto count = static_cast<uint32_t>(input.number(1));
  const ContentVersion version = input.number(8);
  const Bytes base = input.bytes(input.number(2));
  std::vector<VersionedPatch> patches;
  while (!input.empty() && patches.size() < kBlockPatchesMax + 2) {
    VersionedPatch one;
    one.version = input.number(8);
    one.patch.base = input.number(8);
    one.patch.offset = static_cast<uint32_t>(input.number(4));
    one.patch.block_bytes = static_cast<uint32_t>(input.number(4));
    one.patch.plain = input.bytes(input.number(2));
    patches.push_back(std::move(one));
  }
  const auto made = patched_block(base, version, patches, count, kBlock);
  if (!made) {
    require(made.error().is(Errc::corrupt), "a bad chain is corrupt");
    return;
  }
  require(patches.size() == count && count <= kBlockPatchesMax, "all patches, and not too many");
  Bytes expected = base;
  ContentVersion state = version;
  for (const auto& one : patches) {
    require(one.patch.base == state && one.version > state, "each is made for the one before it");
    state = one.version;
    require(one.patch.block_bytes <= kBlock, "a block stays one of its file");
    expected.resize(one.patch.block_bytes);
    require(one.patch.offset + one.patch.plain.size() <= expected.size(), "it lies in its block");
    std::copy(one.patch.plain.begin(), one.patch.plain.end(), expected.begin() + one.patch.offset);
  }
  require(made.value() == expected && expected.size() <= kBlock, "the newest bytes");
}

void put(Bytes& out, uint64_t value, size_t width) {
  for (size_t i = width; i > 0; --i) out.push_back(static_cast<uint8_t>(value >> 8 * (i - 1)));
}

std::vector<Bytes> seeds() {
  std::vector<Bytes> all;
  for (const uint32_t count : {0u, 1u, 3u, 8u}) {
    Bytes seed;
    put(seed, count, 1);
    put(seed, 9, 8);
    put(seed, 10, 2);
    seed.insert(seed.end(), 10, 'b');
    for (uint32_t i = 0; i < count; ++i) {
      put(seed, 10 + i, 8);
      put(seed, 9 + i, 8);
      put(seed, 5 * i, 4);
      put(seed, 100 - 7 * i, 4);
      put(seed, 3, 2);
      seed.insert(seed.end(), 3, 'p');
    }
    run(seed);
    all.push_back(std::move(seed));
  }
  return all;
}

}  // namespace block_patches_input

FuzzTarget block_patches_target() {
  return {"block_patches", block_patches_input::run, block_patches_input::seeds};
}

}  // namespace datacloud::fuzz
