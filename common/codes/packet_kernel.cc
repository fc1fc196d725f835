// GFNI, ISA-L and XOR loops. Pure; see packet_kernel.h.
#include "common/codes/packet_kernel.h"

#include <isa-l/erasure_code.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>

namespace datacloud {
namespace {

constexpr size_t kTableBytes = 32;
constexpr size_t kCacheBytes = 512u << 10;  // what the pieces of all packets take together
constexpr size_t kPieceBytesMin = 4u << 10, kPieceBytesMax = 32u << 10;
constexpr size_t kIsalBytesMax = 1u << 30;  // ISA-L counts in int
constexpr int kIsalTargetsMax = 6;          // of one of its passes

size_t piece_bytes(int packets) {
  const size_t fair = kCacheBytes / static_cast<size_t>(std::max(packets, 1)) / 4096 * 4096;
  return std::clamp(fair, kPieceBytesMin, kPieceBytesMax);
}

// target = (add ? target : 0) ^ the sources. One pass over the target for `count` sources, so
// that it is loaded and stored less often than with one source at a time.
template <int count, bool add>
void xor_pass(uint8_t* __restrict target, const std::array<const uint8_t*, 4>& sources,
              size_t length) {
  const uint8_t *a = sources[0], *b = sources[1], *c = sources[2], *d = sources[3];
  for (size_t i = 0; i < length; ++i) {
    uint8_t x = a[i];
    if constexpr (add) x ^= target[i];
    if constexpr (count > 1) x ^= b[i];
    if constexpr (count > 2) x ^= c[i];
    if constexpr (count > 3) x ^= d[i];
    target[i] = x;
  }
}

template <bool add>
void xor_some(uint8_t* target, const std::array<const uint8_t*, 4>& sources, size_t count,
              size_t length) {
  switch (count) {
    case 1:
      return xor_pass<1, add>(target, sources, length);
    case 2:
      return xor_pass<2, add>(target, sources, length);
    case 3:
      return xor_pass<3, add>(target, sources, length);
    default:
      return xor_pass<4, add>(target, sources, length);
  }
}

void xor_sources(const std::vector<uint8_t>& summands, const uint8_t* const* sources,
                 uint8_t* target, size_t length) {
  if (summands.empty()) std::memset(target, 0, length);
  for (size_t first = 0; first < summands.size(); first += 4) {
    const size_t count = std::min<size_t>(4, summands.size() - first);
    std::array<const uint8_t*, 4> some{};
    for (size_t i = 0; i < count; ++i) some[i] = sources[summands[first + i]];
    if (first == 0)
      xor_some<false>(target, some, count, length);
    else
      xor_some<true>(target, some, count, length);
  }
}

}  // namespace

PacketKernel::PacketKernel(const GfMatrix& matrix, Arithmetic arithmetic)
    : source_count_(matrix.columns()), target_count_(matrix.rows()) {
  assert(source_count_ <= kKernelPacketsMax && target_count_ <= kKernelPacketsMax);
  for (int t = 0; t < target_count_; ++t) {
    const ByteView row = matrix.row(t);
    plain_xor_ = plain_xor_ && std::all_of(row.begin(), row.end(), [](uint8_t x) { return x < 2; });
    std::vector<uint8_t> summands;
    for (int s = 0; s < source_count_; ++s)
      if (row[s] != 0) summands.push_back(static_cast<uint8_t>(s));
    summands_.push_back(std::move(summands));
  }
  if (plain_xor_) return;
  summands_.clear();
  if (arithmetic == Arithmetic::fastest) gfni_ = gfni_pass();
  make_tables(matrix);
}

void PacketKernel::make_tables(const GfMatrix& matrix) {
  if (gfni_ == nullptr) {
    Bytes coefficients;
    for (int t = 0; t < target_count_; ++t) {
      const ByteView row = matrix.row(t);
      coefficients.insert(coefficients.end(), row.begin(), row.end());
    }
    tables_.resize(kTableBytes * coefficients.size());
    ec_init_tables(source_count_, target_count_, coefficients.data(), tables_.data());
    return;
  }
  matrices_.reserve(static_cast<size_t>(source_count_) * target_count_);
  for (int first = 0; first < target_count_; first += kGfniTargetsMax) {
    const int end = std::min(first + kGfniTargetsMax, target_count_);
    for (int s = 0; s < source_count_; ++s)
      for (int t = first; t < end; ++t) matrices_.push_back(gfni_matrix(matrix.at(t, s)));
  }
}

void PacketKernel::apply(const uint8_t* const* sources, uint8_t* const* targets,
                         size_t length) const {
  if (target_count_ == 0) return;
  std::array<const uint8_t*, kKernelPacketsMax> from;
  std::array<uint8_t*, kKernelPacketsMax> to;
  std::copy_n(sources, source_count_, from.begin());
  std::copy_n(targets, target_count_, to.begin());
  const int targets_of_pass = plain_xor_ ? 0 : gfni_ != nullptr ? kGfniTargetsMax : kIsalTargetsMax;
  const size_t piece_max =
      target_count_ <= targets_of_pass ? kIsalBytesMax : piece_bytes(source_count_ + target_count_);
  for (size_t done = 0; done < length;) {
    const size_t piece = std::min(piece_max, length - done);
    apply_piece(from.data(), to.data(), piece);
    for (int s = 0; s < source_count_; ++s) from[s] += piece;
    for (int t = 0; t < target_count_; ++t) to[t] += piece;
    done += piece;
  }
}

// ISA-L takes non-const pointers but only reads tables and sources.
void PacketKernel::apply_piece(const uint8_t** sources, uint8_t** targets, size_t length) const {
  if (plain_xor_) {
    for (int t = 0; t < target_count_; ++t) xor_sources(summands_[t], sources, targets[t], length);
  } else if (gfni_ == nullptr) {
    ec_encode_data(static_cast<int>(length), source_count_, target_count_,
                   const_cast<uint8_t*>(tables_.data()), const_cast<uint8_t**>(sources), targets);
  } else {
    for (int first = 0; first < target_count_; first += kGfniTargetsMax)
      gfni_(matrices_.data() + static_cast<size_t>(first) * source_count_, source_count_,
            std::min(kGfniTargetsMax, target_count_ - first), sources, targets + first, length);
  }
}

void multiply_add(uint8_t factor, ByteView source, MutableByteView target) {
  assert(source.size() == target.size());
  if (factor == 0) return;
  if (factor == 1) return xor_pass<1, true>(target.data(), {source.data()}, source.size());
  std::array<uint8_t, kTableBytes> table;
  gf_vect_mul_init(factor, table.data());
  for (size_t done = 0; done < source.size();) {
    const size_t piece = std::min(source.size() - done, kIsalBytesMax);
    uint8_t* to = target.data() + done;
    ec_encode_data_update(static_cast<int>(piece), 1, 1, 0, table.data(),
                          const_cast<uint8_t*>(source.data()) + done, &to);
    done += piece;
  }
}

}  // namespace datacloud
