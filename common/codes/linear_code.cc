// Encoding and decoding by matrices. Pure; see linear_code.h.
#include "common/codes/linear_code.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>

namespace datacloud {
namespace {

GfMatrix parity_rows(const CodeDefinition& d) {
  GfMatrix rows(0, d.k * d.packets);
  for (int r = d.k * d.packets; r < d.generator.rows(); ++r) rows.append(d.generator.row(r));
  return rows;
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

using Sources = std::array<const uint8_t*, kKernelPacketsMax>;
using Targets = std::array<uint8_t*, kKernelPacketsMax>;

}  // namespace

LinearCode::LinearCode(CodeDefinition definition)
    : d_(std::move(definition)), encoder_(parity_rows(d_)) {
  assert(d_.k >= 1 && d_.m >= 0 && n() <= kCodeColumnsMax && n() * d_.packets <= kKernelPacketsMax);
  assert(d_.generator.rows() == n() * d_.packets && d_.generator.columns() == d_.k * d_.packets);
}

ColumnSet LinearCode::all_columns() const {
  return n() == kCodeColumnsMax ? ~ColumnSet{0} : (ColumnSet{1} << n()) - 1;
}

GfMatrix LinearCode::rows_of(ColumnSet set) const {
  GfMatrix rows(0, d_.k * d_.packets);
  for (int c = 0; c < n(); ++c)
    if (contains(set, c))
      for (int i = 0; i < d_.packets; ++i) rows.append(d_.generator.row(c * d_.packets + i));
  return rows;
}

Error LinearCode::too_few(ColumnSet available) const {
  return Error(Errc::unavailable,
               "only " + std::to_string(std::popcount(available)) + " of " + std::to_string(n()) +
                   " shards are available, " + d_.name +
                   (is_mds() ? " needs " + std::to_string(d_.k) : " cannot decode from these"));
}

void LinearCode::encode(const std::vector<ByteView>& data,
                        const std::vector<MutableByteView>& parity) const {
  assert(data.size() == static_cast<size_t>(d_.k) && parity.size() == static_cast<size_t>(d_.m));
  if (d_.m == 0) return;
  const size_t length = parity[0].size(), packet = length / d_.packets;
  assert(length % d_.packets == 0);
  Sources sources{};
  Targets targets{};
  for (int i = 0; i < d_.k * d_.packets; ++i) {
    assert(data[i / d_.packets].size() == length);
    sources[i] = data[i / d_.packets].data() + i % d_.packets * packet;
  }
  for (int i = 0; i < d_.m * d_.packets; ++i) {
    assert(parity[i / d_.packets].size() == length);
    targets[i] = parity[i / d_.packets].data() + i % d_.packets * packet;
  }
  encoder_.apply(sources.data(), targets.data(), packet);
}

void LinearCode::encode_packets(const std::vector<ByteView>& data,
                                const std::vector<MutableByteView>& parity) const {
  assert(data.size() == static_cast<size_t>(d_.k) * d_.packets);
  assert(parity.size() == static_cast<size_t>(d_.m) * d_.packets);
  if (d_.m == 0) return;
  const size_t length = parity[0].size();
  Sources sources{};
  Targets targets{};
  for (size_t i = 0; i < data.size(); ++i) {
    assert(data[i].size() == length);
    sources[i] = data[i].data();
  }
  for (size_t i = 0; i < parity.size(); ++i) {
    assert(parity[i].size() == length);
    targets[i] = parity[i].data();
  }
  encoder_.apply(sources.data(), targets.data(), length);
}

result<void> LinearCode::decode(ColumnSet wanted, ColumnSet present,
                                const std::vector<ByteView>& shards,
                                const std::vector<MutableByteView>& out) const {
  if (wanted == 0) return success();
  if ((wanted & present) != 0 || shards.size() != static_cast<size_t>(n()) ||
      out.size() != static_cast<size_t>(std::popcount(wanted)) ||
      ((wanted | present) & ~all_columns()) != 0)
    return failure(Errc::invalid,
                   d_.name + ": decode called with columns that do not fit the code");
  if (is_mds() && std::popcount(present) < d_.k) return failure(too_few(present));
  const ColumnSet source_set = is_mds() ? lowest(present, d_.k) : present;
  const size_t length = out[0].size(), packet = length / d_.packets;
  if (length % d_.packets != 0)
    return failure(Errc::invalid, d_.name + ": a shard of " + std::to_string(length) +
                                      " bytes is not " + std::to_string(d_.packets) + " packets");
  for (int c = 0; c < n(); ++c)
    if (contains(source_set, c) && shards[c].size() != length)
      return failure(Errc::invalid, d_.name + ": shard of column " + std::to_string(c) + " has " +
                                        std::to_string(shards[c].size()) + " bytes instead of " +
                                        std::to_string(length));
  Sources sources{};
  Targets targets{};
  for (size_t i = 0; i < out.size(); ++i) {
    if (out[i].size() != length)
      return failure(Errc::invalid, d_.name + ": decode targets differ in length");
    for (int j = 0; j < d_.packets; ++j) targets[i * d_.packets + j] = out[i].data() + j * packet;
  }
  const DecoderPointer decoder = this->decoder(wanted, source_set);
  if (!decoder) return failure(too_few(present));
  for (size_t i = 0; i < decoder->sources.size(); ++i) {
    const int source = decoder->sources[i];
    sources[i] = shards[source / d_.packets].data() + source % d_.packets * packet;
  }
  decoder->kernel.apply(sources.data(), targets.data(), packet);
  return success();
}

LinearCode::DecoderPointer LinearCode::decoder(ColumnSet wanted, ColumnSet sources) const {
  const uint64_t signature = uint64_t{wanted} << 32 | sources;
  {
    std::lock_guard lock(mutex_);
    if (auto it = cache_.find(signature); it != cache_.end()) {
      by_age_.splice(by_age_.begin(), by_age_, it->second.age);
      return it->second.decoder;
    }
  }
  DecoderPointer decoder = build_decoder(wanted, sources);
  if (!decoder) return decoder;
  std::lock_guard lock(mutex_);
  if (cache_.contains(signature)) return decoder;  // another thread built it meanwhile
  by_age_.push_front(signature);
  cache_[signature] = Cached{decoder, by_age_.begin()};
  if (cache_.size() > kCachedKernelsMax) {
    cache_.erase(by_age_.back());
    by_age_.pop_back();
  }
  return decoder;
}

LinearCode::DecoderPointer LinearCode::build_decoder(ColumnSet wanted, ColumnSet sources) const {
  const auto rows = gf_solve(rows_of(sources), rows_of(wanted));
  if (!rows) return nullptr;
  std::vector<int> packets, used;
  for (int c = 0; c < n(); ++c)
    if (contains(sources, c))
      for (int i = 0; i < d_.packets; ++i) packets.push_back(c * d_.packets + i);
  std::vector<int> columns;
  for (int s = 0; s < rows->columns(); ++s)
    for (int r = 0; r < rows->rows(); ++r)
      if (rows->at(r, s) != 0) {
        columns.push_back(s);
        used.push_back(packets[s]);
        break;
      }
  GfMatrix small(rows->rows(), static_cast<int>(columns.size()));
  for (int r = 0; r < small.rows(); ++r)
    for (int s = 0; s < small.columns(); ++s) small.at(r, s) = rows->at(r, columns[s]);
  return std::make_shared<const Decoder>(Decoder{std::move(used), PacketKernel(small)});
}

}  // namespace datacloud
