// The keyless check of a stripe's answers, and how many samples find how much damage.
#include <algorithm>
#include <cmath>

#include "common/audit_tag.h"

namespace datacloud {
namespace {

// Whether the columns of `trusted` (at least k) are columns of one codeword.
bool consistent(const ErasureCode& code, ColumnSet trusted, const std::vector<Bytes>& mus) {
  ColumnSet basis = 0;  // k of them determine the others
  for (int c = 0; c < code.n() && __builtin_popcount(basis) < code.k(); ++c) {
    if (contains(trusted, c)) basis |= ColumnSet{1} << c;
  }
  const ColumnSet rest = trusted & ~basis;
  if (rest == 0) return true;
  std::vector<ByteView> shards(static_cast<size_t>(code.n()));
  std::vector<Bytes> computed;
  for (int c = 0; c < code.n(); ++c) {
    if (contains(basis, c)) shards[static_cast<size_t>(c)] = mus[static_cast<size_t>(c)];
    if (contains(rest, c)) computed.emplace_back(kAuditBlockBytes);
  }
  std::vector<MutableByteView> out(computed.begin(), computed.end());
  if (!code.decode(rest, basis, shards, out)) return false;
  size_t i = 0;
  for (int c = 0; c < code.n(); ++c) {
    if (contains(rest, c) && computed[i++] != mus[static_cast<size_t>(c)]) return false;
  }
  return true;
}

}  // namespace

std::optional<ColumnSet> columns_in_error(const ErasureCode& code, ColumnSet present,
                                          const std::vector<Bytes>& mus) {
  if (code.packets() != 1 || mus.size() != static_cast<size_t>(code.n())) return std::nullopt;
  std::vector<int> columns;
  for (int c = 0; c < code.n(); ++c) {
    if (!contains(present, c)) continue;
    if (mus[static_cast<size_t>(c)].size() != kAuditBlockBytes) return std::nullopt;
    columns.push_back(c);
  }
  const int redundancy = static_cast<int>(columns.size()) - code.k();
  if (redundancy < 0) return std::nullopt;
  if (consistent(code, present, mus)) return ColumnSet{0};
  // e wrong answers are told apart from others only with 2 e redundant ones.
  if (redundancy < 2) return std::nullopt;
  for (const int c : columns) {
    const ColumnSet without = ColumnSet{1} << c;
    if (consistent(code, present & ~without, mus)) return without;
  }
  if (redundancy < 4) return std::nullopt;
  for (size_t a = 0; a < columns.size(); ++a) {
    for (size_t b = a + 1; b < columns.size(); ++b) {
      const ColumnSet without = ColumnSet{1} << columns[a] | ColumnSet{1} << columns[b];
      if (consistent(code, present & ~without, mus)) return without;
    }
  }
  return std::nullopt;
}

double detection_probability(uint64_t blocks, uint64_t bad, uint64_t samples) {
  bad = std::min(bad, blocks);
  samples = std::min(samples, blocks);
  if (samples > blocks - bad) return 1;
  // C(l-z, r) / C(l, r) is the product over i < z of (l - r - i) / (l - i).
  double missed = 1;
  const uint64_t factors = std::min(bad, samples), other = std::max(bad, samples);
  for (uint64_t i = 0; i < factors; ++i) {
    missed *= static_cast<double>(blocks - other - i) / static_cast<double>(blocks - i);
  }
  return 1 - missed;
}

uint64_t samples_to_detect(uint64_t blocks, uint64_t bad, double probability) {
  if (bad == 0) return blocks;
  uint64_t low = 0, high = blocks;
  while (low < high) {
    const uint64_t middle = (low + high) / 2;
    if (detection_probability(blocks, bad, middle) >= probability) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

}  // namespace datacloud
