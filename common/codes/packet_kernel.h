// Bulk arithmetic of a code: targets = matrix * sources over GF(2^8), packet by packet.
//
// Where the matrix has coefficients beside 0 and 1, GFNI (packet_kernel_gfni.h) or, on processors
// without it, ISA-L's table kernels; else plain XOR over the sources that take part. Where the
// sources are read more than once, long packets are worked off in pieces that stay in the
// processor's second-level cache; in one pass nothing is gained by that.
//
// Thread safety: immutable after construction.
#pragma once

#include <vector>

#include "common/base/bytes.h"
#include "common/codes/gf_matrix.h"
#include "common/codes/packet_kernel_gfni.h"

namespace datacloud {

inline constexpr int kKernelPacketsMax = 64;  // sources, and targets, of one kernel

class PacketKernel {
 public:
  enum class Arithmetic { fastest, isal };  // isal: as on a processor without GFNI, for tests

  // Rows are targets, columns are sources; at most kKernelPacketsMax of each.
  explicit PacketKernel(const GfMatrix&, Arithmetic = Arithmetic::fastest);

  // Overwrites the targets; all packets have `length` bytes. Targets do not overlap sources.
  void apply(const uint8_t* const* sources, uint8_t* const* targets, size_t length) const;

 private:
  void apply_piece(const uint8_t** sources, uint8_t** targets, size_t length) const;
  void make_tables(const GfMatrix&);

  int source_count_, target_count_;
  bool plain_xor_ = true;
  GfniPass gfni_ = nullptr;
  std::vector<uint64_t> matrices_;  // of GFNI: pass by pass, for each source its targets
  Bytes tables_;                    // ISA-L's expansion, 32 bytes per coefficient
  std::vector<std::vector<uint8_t>> summands_;  // of plain XOR: the sources of each target
};

// target ^= factor * source, of equal length.
void multiply_add(uint8_t factor, ByteView source, MutableByteView target);

}  // namespace datacloud
