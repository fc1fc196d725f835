// A file of small blocks, and updates of some of them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/daemon/fold/fold_rig.h"

namespace datacloud {

inline constexpr size_t kFoldBlock = 4096;

class ParityFoldRig : public FoldRig {
 protected:
  void TearDown() override { remove_cloud(); }

  // Three data columns of four blocks each, then updates of some.
  StripeId write_base(size_t blocks = 12, size_t bytes = kFoldBlock) {
    return write(random_blocks(0, blocks, bytes));
  }
  void overwrite(const std::vector<uint64_t>& blocks, size_t bytes = kFoldBlock) {
    for (const uint64_t block : blocks) write({{block, random_bytes(bytes)}});
  }
  size_t records(char kind) {
    size_t count = 0;
    on_loop([&] {
      EXPECT_TRUE(store_->begin().scan(std::string(1, kind), std::string(1, char(kind + 1)),
                                       [&](std::string_view, std::string_view) {
                                         ++count;
                                         return true;
                                       }));
    });
    return count;
  }
};

}  // namespace datacloud
