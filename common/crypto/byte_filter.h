// Reversible rearrangements of a block's bytes that make rasters compress better.
//
// Samples of 16, 32 or 64 bits have high bytes that repeat and low bytes that do not. Delta
// replaces each sample by its difference to the one before; shuffle then writes byte 0 of all
// samples, byte 1 of all samples, and so on, so that equal bytes stand together. What is left over
// at the end of the block, less than a sample, stays as it is. Worked bytes: docs/format.md,
// "Sealed block".
//
// Pure functions; any thread. `out` has the length of `in`, and is no part of it.
#pragma once

#include <cstdint>
#include <optional>

#include "common/base/bytes.h"

namespace datacloud {

struct ByteFilter {
  uint8_t sample_bytes = 1;  // 1: no filter; 2, 4, 8
  bool delta = false;        // only with a filter

  bool none() const { return sample_bytes == 1; }
  friend bool operator==(const ByteFilter&, const ByteFilter&) = default;
};

// The four bits of a sealed block's header. nullopt: no filter has this code.
uint8_t filter_code(ByteFilter);
std::optional<ByteFilter> filter_of(uint8_t code);

void apply_filter(ByteFilter, ByteView in, MutableByteView out);
void undo_filter(ByteFilter, ByteView in, MutableByteView out);

}  // namespace datacloud
