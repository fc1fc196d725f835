// Portable kernels (vectors of 16 bytes, which compilers lower to what the processor has), and the
// choice among all (mark_kernels.h).
#include "watermark/pixels/mark_kernels.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

namespace datacloud::watermark {
namespace {

#define DATACLOUD_MARK_TARGET
#define VECTOR_BYTES 16
#include "watermark/pixels/mark_kernels.inc"

}  // namespace

const MarkKernels kPortableMarkKernels{"portable", row<uint8_t, true>, row<uint8_t, false>,
                                       row<uint16_t, true>, row<uint16_t, false>};

const std::vector<const MarkKernels*>& usable_mark_kernels() {
  static const auto usable = [] {
    std::vector<const MarkKernels*> found;
    for (const auto* kernels : {avx512_mark_kernels(), avx2_mark_kernels()}) {
      if (kernels != nullptr) found.push_back(kernels);
    }
    found.push_back(&kPortableMarkKernels);
    if (const char* wanted = std::getenv("DATACLOUD_WATERMARK_KERNELS")) {
      std::stable_partition(found.begin(), found.end(), [wanted](const auto* kernels) {
        return std::string_view(kernels->name) == wanted;
      });
    }
    return found;
  }();
  return usable;
}

}  // namespace datacloud::watermark
