// Erasure codes: one engine, codes are data.
//
// A code has k data columns and m parity columns (n = k + m). A shard is one column of a stripe.
// Columns 0..k-1 carry the data unchanged (systematic). A shard is `packets()` equal packets
// (alpha in docs/codes); Reed-Solomon has one, so that a byte range of a lost shard is computed
// from the same byte range of k others.
//
// All arithmetic is pure: no I/O, no locks held across calls. Objects are immutable after
// construction apart from an internal decode-table cache, and safe to use from any thread.
//
// Source: Reed-Solomon with a Cauchy generator over GF(2^8), polynomial 0x11D, as in Intel
// ISA-L (gf_gen_cauchy1_matrix); Vandermonde is not used because ISA-L's is not MDS for all (k,m).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "common/error.h"

namespace datacloud {

// A set of columns; bit c is column c. n <= 32.
using ColumnSet = uint32_t;
inline bool contains(ColumnSet s, int column) { return (s >> column) & 1u; }

class ErasureCode {
 public:
  virtual ~ErasureCode() = default;

  virtual const std::string& name() const = 0;  // the profile, such as "rs-3-2"
  virtual int k() const = 0;
  virtual int m() const = 0;
  int n() const { return k() + m(); }
  virtual int packets() const = 0;
  // Any this many lost columns can be decoded (m for an MDS code).
  virtual int guaranteed_tolerance() const = 0;

  // Columns to read so that every column of `wanted` is known, chosen from `available` (wanted
  // columns that are available are read themselves). `cost[c]` (size n, may be empty: all equal)
  // is what reading column c costs; the cheapest set is returned. unavailable when impossible.
  virtual result<ColumnSet> minimum_to_decode(ColumnSet wanted, ColumnSet available,
                                              const std::vector<uint32_t>& cost) const = 0;

  // data: k views; parity: m views; all of one length (a multiple of packets()). Overwrites parity.
  virtual void encode(const std::vector<ByteView>& data,
                      const std::vector<MutableByteView>& parity) const = 0;

  // Computes the columns of `wanted` (none of them in `present`). shards[c] is the input of
  // column c for c in `present`; out[i] receives the i-th wanted column in ascending order. All
  // views have one length. unavailable when `present` does not determine them.
  virtual result<void> decode(ColumnSet wanted, ColumnSet present,
                              const std::vector<ByteView>& shards,
                              const std::vector<MutableByteView>& out) const = 0;

  // The change of parity row p (0..m-1) caused by XORing `delta` into data column c, same byte
  // range: out = g[p][c] * delta. `out` may not overlap `delta`.
  virtual void encode_delta(int c, int p, ByteView delta, MutableByteView out) const = 0;

  // target ^= delta.
  static void apply_delta(ByteView delta, MutableByteView target);
};

// Builds the code of a profile name: "rs-K-M", K >= 1, M >= 0, K + M <= 32.
// invalid names the profile and lists what is known.
result<std::shared_ptr<const ErasureCode>> make_erasure_code(const std::string& profile);

}  // namespace datacloud
