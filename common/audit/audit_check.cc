// The keyless check of a stripe's answers, and how many samples find how much damage.
#include <algorithm>
#include <cmath>

#include "common/tags/audit_tag.h"

namespace datacloud {
namespace {

ColumnSet data_columns(const ErasureCode& code) { return (ColumnSet{1} << code.k()) - 1; }

bool determined(const ErasureCode& code, ColumnSet present) {
  return code.minimum_to_decode(data_columns(code), present, {}).has_value();
}

// Whether the columns of `trusted`, which determine the data, are columns of one codeword: the data
// they make, encoded again, must be all of them again.
bool consistent(const ErasureCode& code, ColumnSet trusted, const std::vector<Bytes>& answers) {
  const auto k = static_cast<size_t>(code.k());
  const auto basis = code.minimum_to_decode(data_columns(code), trusted, {});
  if (!basis) return false;
  std::vector<ByteView> shards(answers.size());
  size_t length = 0;
  for (size_t c = 0; c < answers.size(); ++c) {
    if (!contains(trusted, static_cast<int>(c))) continue;
    shards[c] = answers[c];
    length = answers[c].size();
  }
  std::vector<Bytes> decoded;
  std::vector<size_t> lost;
  for (size_t c = 0; c < k; ++c) {
    if (!contains(trusted, static_cast<int>(c))) lost.push_back(c);
  }
  decoded.resize(lost.size(), Bytes(length));
  std::vector<MutableByteView> out(decoded.begin(), decoded.end());
  const ColumnSet wanted = data_columns(code) & ~trusted;
  if (wanted != 0 && !code.decode(wanted, basis.value(), shards, out)) return false;
  for (size_t i = 0; i < lost.size(); ++i) shards[lost[i]] = decoded[i];
  std::vector<Bytes> computed(static_cast<size_t>(code.m()), Bytes(length));
  std::vector<MutableByteView> parity(computed.begin(), computed.end());
  code.encode({shards.begin(), shards.begin() + code.k()}, parity);
  for (size_t p = 0; p < computed.size(); ++p) {
    const size_t c = k + p;
    if (contains(trusted, static_cast<int>(c)) && computed[p] != answers[c]) return false;
  }
  return true;
}

}  // namespace

std::optional<ColumnSet> columns_in_error(const ErasureCode& code, ColumnSet present,
                                          const std::vector<Bytes>& mus) {
  if (mus.size() != static_cast<size_t>(code.n())) return std::nullopt;
  std::vector<int> columns;
  for (int c = 0; c < code.n(); ++c) {
    if (!contains(present, c)) continue;
    const size_t length = mus[static_cast<size_t>(c)].size();
    if (length == 0 || length % static_cast<size_t>(code.packets()) != 0) return std::nullopt;
    columns.push_back(c);
    if (length != mus[static_cast<size_t>(columns[0])].size()) return std::nullopt;
  }
  if (!determined(code, present)) return std::nullopt;
  if (consistent(code, present, mus)) return ColumnSet{0};
  // e wrong answers are told apart from others only where any 2 e columns could still be lost.
  const int spare = code.guaranteed_tolerance() - (code.n() - static_cast<int>(columns.size()));
  if (spare < 2) return std::nullopt;
  for (const int c : columns) {
    const ColumnSet without = ColumnSet{1} << c;
    if (consistent(code, present & ~without, mus)) return without;
  }
  if (spare < 4) return std::nullopt;
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
