// libFuzzer's entry points for the target the program is called by: NAME_fuzz. Seeds come from the
// target itself: now and then the mutator starts again from one of them.
#include <algorithm>
#include <filesystem>

#include "tests/fuzz/fuzz_target.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t size_max);

namespace {

datacloud::fuzz::FuzzTarget chosen;

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char*** arguments) {
  const std::string program = std::filesystem::path((*arguments)[0]).filename();
  for (const auto& target : datacloud::fuzz::all_targets()) {
    if (program == target.name + std::string("_fuzz")) chosen = target;
  }
  datacloud::fuzz::require(chosen.run != nullptr, "the program's name is NAME_fuzz");
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  chosen.run({data, size});
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t size_max,
                                          unsigned seed) {
  static const std::vector<datacloud::Bytes> seeds = chosen.seeds();
  if (!seeds.empty() && (size <= 1 || seed % 64 == 0)) {
    const auto& start = seeds[seed / 64 % seeds.size()];
    size = std::min(start.size(), size_max);
    std::copy_n(start.begin(), size, data);
    if (seed / 4096 % 8 == 0) return size;
  }
  return LLVMFuzzerMutate(data, size, size_max);
}
