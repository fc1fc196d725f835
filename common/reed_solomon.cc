// Reed-Solomon arithmetic on ISA-L's kernels. Pure; see reed_solomon.h.
#include "common/reed_solomon.h"

#include <isa-l/erasure_code.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <numeric>

namespace datacloud {
namespace {

constexpr int kColumnsMax = 32;
constexpr size_t kTableBytes = 32;  // ISA-L's table of one coefficient
// Long shards are worked off in pieces whose k + m parts stay in the second-level cache.
constexpr size_t kPieceBytes = 32u << 10;

using Sources = std::array<const uint8_t*, kColumnsMax>;
using Targets = std::array<uint8_t*, kColumnsMax>;

// targets[r] = sum over s of coefficient(r, s) * sources[s]. ISA-L takes non-const pointers but
// only reads tables and sources.
void multiply(size_t length, int source_count, int target_count, const uint8_t* tables,
              Sources sources, Targets targets) {
  for (size_t done = 0; done < length;) {
    const size_t piece = std::min(kPieceBytes, length - done);
    ec_encode_data(static_cast<int>(piece), source_count, target_count,
                   const_cast<uint8_t*>(tables), const_cast<uint8_t**>(sources.data()),
                   targets.data());
    for (int s = 0; s < source_count; ++s) sources[s] += piece;
    for (int t = 0; t < target_count; ++t) targets[t] += piece;
    done += piece;
  }
}

// The `count` lowest columns of a set (data columns before parity columns).
ColumnSet lowest(ColumnSet set, int count) {
  ColumnSet taken = 0;
  for (; count > 0 && set != 0; --count) {
    const ColumnSet bit = set & (~set + 1);
    taken |= bit;
    set ^= bit;
  }
  return taken;
}

}  // namespace

ReedSolomon::ReedSolomon(int k, int m)
    : k_(k),
      m_(m),
      name_("rs-" + std::to_string(k) + "-" + std::to_string(m)),
      generator_(static_cast<size_t>(k + m) * k),
      encode_tables_(kTableBytes * k * m) {
  assert(k >= 1 && m >= 0 && k + m <= kColumnsMax);
  gf_gen_cauchy1_matrix(generator_.data(), n(), k_);
  if (m_ > 0)
    ec_init_tables(k_, m_, generator_.data() + static_cast<size_t>(k_) * k_, encode_tables_.data());
}

result<ColumnSet> ReedSolomon::minimum_to_decode(ColumnSet wanted, ColumnSet available,
                                                 const std::vector<uint32_t>& cost) const {
  const ColumnSet all = n() == kColumnsMax ? ~ColumnSet{0} : (ColumnSet{1} << n()) - 1;
  if ((wanted & ~all) != 0 || (!cost.empty() && cost.size() != static_cast<size_t>(n())))
    return failure(Errc::invalid, name_ + " has " + std::to_string(n()) +
                                      " columns; columns or costs asked for do not fit it");
  available &= all;
  ColumnSet chosen = wanted & available;
  if (chosen == wanted) return chosen;
  if (std::popcount(available) < k_)
    return failure(Errc::unavailable, "only " + std::to_string(std::popcount(available)) + " of " +
                                          std::to_string(n()) + " shards are available, " + name_ +
                                          " needs " + std::to_string(k_));
  // MDS: any k columns do, so the cheapest ones beside those that are wanted themselves.
  std::array<int, kColumnsMax> order;
  const auto end = order.begin() + n();
  std::iota(order.begin(), end, 0);
  if (!cost.empty())
    std::stable_sort(order.begin(), end, [&](int a, int b) { return cost[a] < cost[b]; });
  for (auto c = order.begin(); c != end && std::popcount(chosen) < k_; ++c)
    if (contains(available, *c)) chosen |= ColumnSet{1} << *c;
  return chosen;
}

void ReedSolomon::encode(const std::vector<ByteView>& data,
                         const std::vector<MutableByteView>& parity) const {
  assert(data.size() == static_cast<size_t>(k_) && parity.size() == static_cast<size_t>(m_));
  if (m_ == 0) return;
  const size_t length = parity[0].size();
  Sources sources{};
  Targets targets{};
  for (int c = 0; c < k_; ++c) {
    assert(data[c].size() == length);
    sources[c] = data[c].data();
  }
  for (int p = 0; p < m_; ++p) {
    assert(parity[p].size() == length);
    targets[p] = parity[p].data();
  }
  multiply(length, k_, m_, encode_tables_.data(), sources, targets);
}

result<void> ReedSolomon::decode(ColumnSet wanted, ColumnSet present,
                                 const std::vector<ByteView>& shards,
                                 const std::vector<MutableByteView>& out) const {
  if (wanted == 0) return success();
  if ((wanted & present) != 0 || shards.size() != static_cast<size_t>(n()) ||
      out.size() != static_cast<size_t>(std::popcount(wanted)) ||
      (n() < kColumnsMax && ((wanted | present) >> n()) != 0))
    return failure(Errc::invalid, name_ + ": decode called with columns that do not fit the code");
  if (std::popcount(present) < k_)
    return failure(Errc::unavailable, "only " + std::to_string(std::popcount(present)) +
                                          " shards are present, " + name_ + " needs " +
                                          std::to_string(k_));
  const ColumnSet source_set = lowest(present, k_);
  const size_t length = out[0].size();
  Sources sources{};
  Targets targets{};
  int s = 0;
  for (int c = 0; c < n(); ++c) {
    if (!contains(source_set, c)) continue;
    if (shards[c].size() != length)
      return failure(Errc::invalid, name_ + ": shard of column " + std::to_string(c) + " has " +
                                        std::to_string(shards[c].size()) + " bytes instead of " +
                                        std::to_string(length));
    sources[s++] = shards[c].data();
  }
  for (size_t i = 0; i < out.size(); ++i) {
    if (out[i].size() != length)
      return failure(Errc::invalid, name_ + ": decode targets differ in length");
    targets[i] = out[i].data();
  }
  const Tables tables = decode_tables(wanted, source_set);
  if (!tables) return failure(Errc::unavailable, name_ + ": the shards present do not decode");
  multiply(length, k_, static_cast<int>(out.size()), tables->data(), sources, targets);
  return success();
}

void ReedSolomon::encode_delta(int c, int p, ByteView delta, MutableByteView out) const {
  assert(c >= 0 && c < k_ && p >= 0 && p < m_ && out.size() == delta.size());
  const uint8_t* table = encode_tables_.data() + kTableBytes * (static_cast<size_t>(p) * k_ + c);
  multiply(delta.size(), 1, 1, table, Sources{delta.data()}, Targets{out.data()});
}

ReedSolomon::Tables ReedSolomon::decode_tables(ColumnSet wanted, ColumnSet sources) const {
  const uint64_t signature = uint64_t{wanted} << 32 | sources;
  {
    std::lock_guard lock(mutex_);
    if (auto it = cache_.find(signature); it != cache_.end()) {
      by_age_.splice(by_age_.begin(), by_age_, it->second.age);
      return it->second.tables;
    }
  }
  Tables tables = build_decode_tables(wanted, sources);
  if (!tables) return tables;
  std::lock_guard lock(mutex_);
  if (cache_.contains(signature)) return tables;  // another thread built them meanwhile
  by_age_.push_front(signature);
  cache_[signature] = Cached{tables, by_age_.begin()};
  if (cache_.size() > kCachedTablesMax) {
    cache_.erase(by_age_.back());
    by_age_.pop_back();
  }
  return tables;
}

ReedSolomon::Tables ReedSolomon::build_decode_tables(ColumnSet wanted, ColumnSet sources) const {
  const size_t k = static_cast<size_t>(k_);
  Bytes square, inverse(k * k);
  square.reserve(k * k);
  for (int c = 0; c < n(); ++c)
    if (contains(sources, c))
      square.insert(square.end(), generator_.begin() + c * k, generator_.begin() + (c + 1) * k);
  if (gf_invert_matrix(square.data(), inverse.data(), k_) != 0) return nullptr;

  // Row of a wanted column over the sources: its generator row times the inverse. For a data
  // column that is a row of the inverse itself.
  Bytes rows;
  for (int c = 0; c < n(); ++c) {
    if (!contains(wanted, c)) continue;
    for (size_t s = 0; s < k; ++s) {
      uint8_t sum = 0;
      for (size_t d = 0; d < k; ++d) sum ^= gf_mul(generator_[c * k + d], inverse[d * k + s]);
      rows.push_back(sum);
    }
  }
  Bytes tables(kTableBytes * rows.size());
  ec_init_tables(k_, static_cast<int>(rows.size() / k), rows.data(), tables.data());
  return std::make_shared<const Bytes>(std::move(tables));
}

}  // namespace datacloud
