// libFuzzer's entry points for the target named by FUZZ_TARGET. Seeds come from the target itself:
// now and then the mutator starts again from one of them.
#include <algorithm>

#include "tests/fuzz/fuzz_target.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t size_max);

namespace {

const datacloud::fuzz::FuzzTarget& target() {
  static const auto instance = datacloud::fuzz::FUZZ_TARGET();
  return instance;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  target().run({data, size});
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t size_max,
                                          unsigned seed) {
  static const std::vector<datacloud::Bytes> seeds = target().seeds();
  if (!seeds.empty() && (size <= 1 || seed % 64 == 0)) {
    const auto& start = seeds[seed / 64 % seeds.size()];
    size = std::min(start.size(), size_max);
    std::copy_n(start.begin(), size, data);
    if (seed / 4096 % 8 == 0) return size;
  }
  return LLVMFuzzerMutate(data, size, size_max);
}
