// Reed-Solomon with a Cauchy generator over GF(2^8), polynomial 0x11D, by Intel ISA-L.
//
// The generator is systematic: row k + p, column c is 1 / ((k + p) xor c) in the field
// (gf_gen_cauchy1_matrix). Every square part of a Cauchy matrix is invertible, so any k columns
// determine the rest (MDS). The matrix is part of the format on disk and pinned by a test.
//
// Thread safety: as ErasureCode; the decode-table cache is locked only around look-ups.
#pragma once

#include <list>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/erasure_code.h"

namespace datacloud {

class ReedSolomon final : public ErasureCode {
 public:
  // k >= 1, m >= 0, k + m <= 32: checked by make_erasure_code.
  ReedSolomon(int k, int m);

  const std::string& name() const override { return name_; }
  int k() const override { return k_; }
  int m() const override { return m_; }
  int packets() const override { return 1; }
  int guaranteed_tolerance() const override { return m_; }

  result<ColumnSet> minimum_to_decode(ColumnSet wanted, ColumnSet available,
                                      const std::vector<uint32_t>& cost) const override;
  void encode(const std::vector<ByteView>& data,
              const std::vector<MutableByteView>& parity) const override;
  result<void> decode(ColumnSet wanted, ColumnSet present, const std::vector<ByteView>& shards,
                      const std::vector<MutableByteView>& out) const override;
  void encode_delta(int c, int p, ByteView delta, MutableByteView out) const override;

 private:
  using Tables = std::shared_ptr<const Bytes>;
  static constexpr size_t kCachedTablesMax = 128;

  // Tables that compute `wanted` from the k columns of `sources`.
  Tables decode_tables(ColumnSet wanted, ColumnSet sources) const;
  Tables build_decode_tables(ColumnSet wanted, ColumnSet sources) const;

  const int k_, m_;
  const std::string name_;
  Bytes generator_;      // n x k
  Bytes encode_tables_;  // ISA-L's expansion of the parity rows, 32 bytes per coefficient

  struct Cached {
    Tables tables;
    std::list<uint64_t>::iterator age;
  };
  mutable std::mutex mutex_;
  mutable std::unordered_map<uint64_t, Cached> cache_;
  mutable std::list<uint64_t> by_age_;  // most recently used first
};

}  // namespace datacloud
