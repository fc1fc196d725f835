// Erasure codes: one engine, codes are data.
//
// A code has k data columns and m parity columns (n = k + m). A shard is one column of a stripe.
// Columns 0..k-1 carry the data unchanged (systematic). A shard is `packets()` equal packets, one
// after the other (packet i of a shard of L bytes starts at i * L / packets()), and every packet is
// a linear combination over GF(2^8), polynomial 0x11D, of the k * packets() data packets.
// Reed-Solomon has one packet, so that a byte range of a lost shard is computed from the same byte
// range of k others. With more packets the same holds for a range inside a packet and the same
// range of every packet: hand encode or decode shards put together of just these pieces.
//
// A shard's length is a multiple of packets(); data that ends earlier counts as padded with zeros.
//
// All arithmetic is pure: no I/O, no locks held across calls. Objects are immutable after
// construction apart from an internal decode-table cache, and safe to use from any thread.
//
// The profiles and where they come from: common/codes/code_matrices.h. Bytes: docs/format.md.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/error.h"

namespace datacloud {

// A set of columns; bit c is column c. n <= 32.
using ColumnSet = uint32_t;
inline bool contains(ColumnSet s, int column) { return (s >> column) & 1u; }

// What one column contributes to a repair, computed at its site (ObjectStore::combine with
// packet_ranges() as ranges and these coefficients). Output j is the sum over the packets i of
// coefficients[j][i] * packet i, and as long as a packet.
struct RepairHelper {
  int column = 0;
  std::vector<std::vector<uint8_t>> coefficients;
};

// How to rebuild one column. Needs least when helpers can combine at their sites; without that,
// read the packets of each helper that have a coefficient and combine afterwards.
struct RepairPlan {
  int lost = 0;
  std::vector<RepairHelper> helpers;
  // Packet i of the lost shard is the sum over all outputs j, in the order of the helpers, of
  // rebuild[i][j] * output j.
  std::vector<std::vector<uint8_t>> rebuild;
  // Packets that travel, each weighed with its column's cost: divide by packets() for shards.
  uint64_t packet_cost = 0;
  // The helper sends all it has, unchanged: a plain read will do.
  static bool is_plain(const RepairHelper&);
};

class ErasureCode {
 public:
  virtual ~ErasureCode() = default;

  virtual const std::string& name() const = 0;  // the profile, such as "rs-3-2"
  virtual int k() const = 0;
  virtual int m() const = 0;
  int n() const { return k() + m(); }
  virtual int packets() const = 0;
  // Any this many lost columns can be decoded (m for an MDS code). Some larger sets can, too.
  virtual int guaranteed_tolerance() const = 0;
  // Coefficient of data packet `data_packet` (column * packets() + packet) in `packet` (likewise).
  virtual uint8_t coefficient(int packet, int data_packet) const = 0;

  // Columns to read so that every column of `wanted` is known, chosen from `available` (wanted
  // columns that are available are read themselves). `cost[c]` (size n, may be empty: all equal)
  // is what reading column c costs; the cheapest set is returned. unavailable when impossible.
  virtual result<ColumnSet> minimum_to_decode(ColumnSet wanted, ColumnSet available,
                                              const std::vector<uint32_t>& cost) const = 0;

  // data: k views; parity: m views; all of one length (a multiple of packets()). Overwrites parity.
  virtual void encode(const std::vector<ByteView>& data,
                      const std::vector<MutableByteView>& parity) const = 0;

  // The same with packets apart: k * packets() and m * packets() views of one length, packets of a
  // column side by side. For columns that are not in one piece, or are worked off slice by slice.
  virtual void encode_packets(const std::vector<ByteView>& data,
                              const std::vector<MutableByteView>& parity) const = 0;

  // Computes the columns of `wanted` (none of them in `present`). shards[c] is the input of
  // column c for c in `present`; out[i] receives the i-th wanted column in ascending order. All
  // views have one length. unavailable when `present` does not determine them.
  virtual result<void> decode(ColumnSet wanted, ColumnSet present,
                              const std::vector<ByteView>& shards,
                              const std::vector<MutableByteView>& out) const = 0;

  // The cheapest way to rebuild `lost` from columns of `available` (itself left out), costs as
  // above, an output of a helper costing its share of the column: helpers that combine where the
  // code has them, else the columns of minimum_to_decode. unavailable when impossible.
  virtual result<RepairPlan> repair_plan(int lost, ColumnSet available,
                                         const std::vector<uint32_t>& cost) const = 0;
  // `received`: the outputs of all helpers in order, of one length; out: packets() times as long.
  result<void> rebuild(const RepairPlan&, const std::vector<ByteView>& received,
                       MutableByteView out) const;
  // The packets of a shard: what a helper's coefficients refer to.
  std::vector<ByteRange> packet_ranges(uint64_t shard_bytes) const;

  // Ranges of parity row p (0..m-1) that change when `change` of data column c does, ascending and
  // apart. For one packet: `change` itself. For more: the same places of every packet of the
  // parity that depends on a changed packet. `shard_bytes` is the parity length, a multiple of
  // packets(); `change` lies inside.
  virtual std::vector<ByteRange> delta_ranges(int c, int p, ByteRange change,
                                              uint64_t shard_bytes) const = 0;
  // The change of parity row p caused by XORing `delta` into data column c at `change`: out[i] is
  // overwritten with what to XOR into the i-th of delta_ranges. No view of `out` overlaps `delta`.
  virtual void encode_delta(int c, int p, ByteRange change, uint64_t shard_bytes, ByteView delta,
                            const std::vector<MutableByteView>& out) const = 0;
  // The same for a code with one packet, where the place does not matter: out = g[p][c] * delta.
  void encode_delta(int c, int p, ByteView delta, MutableByteView out) const;

  // target ^= delta.
  static void apply_delta(ByteView delta, MutableByteView target);
};

// Builds the code of a profile name: "rs-K-M" (K >= 1, M >= 0, K + M <= 32), "basic-4-8",
// "basic-6-12", "basic-8-16" (k-n), "msr-5-3", "msr-8-4" (n-k). Cheap: microseconds.
// invalid names the profile and lists what is known.
result<std::shared_ptr<const ErasureCode>> make_erasure_code(const std::string& profile);

}  // namespace datacloud
