// Parity changes of small updates: which places change, and by what.
#include <algorithm>
#include <cassert>
#include <cstring>

#include "common/codes/linear_code.h"

namespace datacloud {
namespace {

// The part of a change that lies in one packet.
struct Piece {
  int packet = 0;
  ByteRange within;       // from the start of the packet
  uint64_t at_delta = 0;  // where it starts in the delta
};

std::vector<Piece> cut(ByteRange change, uint64_t packet_bytes) {
  std::vector<Piece> pieces;
  for (uint64_t done = 0; done < change.length;) {
    const uint64_t at = change.offset + done, start = at % packet_bytes;
    const uint64_t length = std::min(change.length - done, packet_bytes - start);
    pieces.push_back({static_cast<int>(at / packet_bytes), {start, length}, done});
    done += length;
  }
  return pieces;
}

std::vector<ByteRange> joined(std::vector<ByteRange> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const auto& a, const auto& b) { return a.offset < b.offset; });
  std::vector<ByteRange> out;
  for (const auto& r : ranges) {
    if (!out.empty() && r.offset <= out.back().offset + out.back().length)
      out.back().length = std::max(out.back().length, r.offset + r.length - out.back().offset);
    else
      out.push_back(r);
  }
  return out;
}

}  // namespace

std::vector<ByteRange> LinearCode::delta_ranges(int c, int p, ByteRange change,
                                                uint64_t shard_bytes) const {
  assert(c >= 0 && c < d_.k && p >= 0 && p < d_.m && shard_bytes % d_.packets == 0);
  assert(change.offset <= shard_bytes && change.length <= shard_bytes - change.offset);
  const uint64_t packet_bytes = shard_bytes / d_.packets;
  std::vector<ByteRange> ranges;
  for (const Piece& piece : cut(change, packet_bytes))
    for (int q = 0; q < d_.packets; ++q)
      if (coefficient((d_.k + p) * d_.packets + q, c * d_.packets + piece.packet) != 0)
        ranges.push_back({q * packet_bytes + piece.within.offset, piece.within.length});
  return joined(std::move(ranges));
}

void LinearCode::encode_delta(int c, int p, ByteRange change, uint64_t shard_bytes, ByteView delta,
                              const std::vector<MutableByteView>& out) const {
  assert(delta.size() == change.length);
  const auto ranges = delta_ranges(c, p, change, shard_bytes);
  assert(out.size() == ranges.size());
  for (size_t i = 0; i < ranges.size(); ++i) {
    assert(out[i].size() == ranges[i].length);
    if (!out[i].empty()) std::memset(out[i].data(), 0, out[i].size());
  }
  const uint64_t packet_bytes = shard_bytes / d_.packets;
  for (const Piece& piece : cut(change, packet_bytes))
    for (int q = 0; q < d_.packets; ++q) {
      const uint8_t factor =
          coefficient((d_.k + p) * d_.packets + q, c * d_.packets + piece.packet);
      if (factor == 0) continue;
      const uint64_t at = q * packet_bytes + piece.within.offset;
      const auto range = std::upper_bound(ranges.begin(), ranges.end(), at,
                                          [](uint64_t x, const auto& r) { return x < r.offset; }) -
                         1;
      multiply_add(factor, delta.subspan(piece.at_delta, piece.within.length),
                   out[range - ranges.begin()].subspan(at - range->offset, piece.within.length));
    }
}

void ErasureCode::encode_delta(int c, int p, ByteView delta, MutableByteView out) const {
  assert(packets() == 1);
  encode_delta(c, p, {0, delta.size()}, delta.size(), delta, {out});
}

}  // namespace datacloud
