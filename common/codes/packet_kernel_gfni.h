// A code's matrix times its packets for processors with GFNI and AVX-512: GF2P8AFFINEQB multiplies
// 64 bytes by one constant of any GF(2^8), where ISA-L 2.30 needs two shuffles, and all targets of
// a pass are summed up in registers, so that each source is loaded once for up to eight of them.
//
// Pure; the function may be called from any thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace datacloud {

inline constexpr int kGfniTargetsMax = 8;  // of one pass

// targets[t] = the sum over s of matrices[s * target_count + t] applied to sources[s]; `length`
// bytes each. At least one source, 1 to kGfniTargetsMax targets, which overlap no source.
using GfniPass = void (*)(const uint64_t* matrices, int source_count, int target_count,
                          const uint8_t* const* sources, uint8_t* const* targets, size_t length);

// Null where this processor cannot.
GfniPass gfni_pass();

// What multiplies by a constant.
uint64_t gfni_matrix(uint8_t by);

}  // namespace datacloud
