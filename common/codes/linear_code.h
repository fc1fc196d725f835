// The one engine behind ErasureCode: everything is computed from a CodeDefinition's matrix.
//
// Which columns determine which is linear algebra over packets: a set of columns determines a
// column when the column's rows of the generator lie in the span of the set's rows. For an MDS code
// any k columns do, and nothing is searched.
//
// Thread safety: as ErasureCode; the decode-table cache is locked only around look-ups.
#pragma once

#include <list>
#include <mutex>
#include <unordered_map>

#include "common/codes/code_matrices.h"
#include "common/codes/erasure_code.h"
#include "common/codes/packet_kernel.h"

namespace datacloud {

class LinearCode final : public ErasureCode {
 public:
  // k >= 1, m >= 0, k + m <= kCodeColumnsMax, n * packets <= kKernelPacketsMax; the rest as the
  // definition says.
  explicit LinearCode(CodeDefinition);

  const std::string& name() const override { return d_.name; }
  int k() const override { return d_.k; }
  int m() const override { return d_.m; }
  int packets() const override { return d_.packets; }
  int guaranteed_tolerance() const override { return d_.guaranteed_tolerance; }
  uint8_t coefficient(int packet, int data_packet) const override {
    return d_.generator.at(packet, data_packet);
  }

  result<ColumnSet> minimum_to_decode(ColumnSet wanted, ColumnSet available,
                                      const std::vector<uint32_t>& cost) const override;
  void encode(const std::vector<ByteView>& data,
              const std::vector<MutableByteView>& parity) const override;
  void encode_packets(const std::vector<ByteView>& data,
                      const std::vector<MutableByteView>& parity) const override;
  result<void> decode(ColumnSet wanted, ColumnSet present, const std::vector<ByteView>& shards,
                      const std::vector<MutableByteView>& out) const override;
  result<RepairPlan> repair_plan(int lost, ColumnSet available,
                                 const std::vector<uint32_t>& cost) const override;
  std::vector<ByteRange> delta_ranges(int c, int p, ByteRange change,
                                      uint64_t shard_bytes) const override;
  void encode_delta(int c, int p, ByteRange change, uint64_t shard_bytes, ByteView delta,
                    const std::vector<MutableByteView>& out) const override;

 private:
  static constexpr size_t kCachedKernelsMax = 128;
  struct Decoder {
    std::vector<int> sources;  // packets that take part
    PacketKernel kernel;
  };
  using DecoderPointer = std::shared_ptr<const Decoder>;

  bool is_mds() const { return d_.guaranteed_tolerance == d_.m; }
  ColumnSet all_columns() const;
  result<void> check_request(ColumnSet wanted, const std::vector<uint32_t>& cost) const;
  // Generator rows of a set of columns, ascending.
  GfMatrix rows_of(ColumnSet) const;
  Error too_few(ColumnSet available) const;

  // What computes `wanted` from packets of `sources`; null when they do not determine it.
  DecoderPointer decoder(ColumnSet wanted, ColumnSet sources) const;
  DecoderPointer build_decoder(ColumnSet wanted, ColumnSet sources) const;
  result<RepairPlan> plan_of_columns(int lost, ColumnSet helpers,
                                     const std::vector<uint32_t>& cost) const;
  result<RepairPlan> plan_of_helpers(int lost, ColumnSet helpers,
                                     const std::vector<uint32_t>& cost) const;

  const CodeDefinition d_;
  const PacketKernel encoder_;

  struct Cached {
    DecoderPointer decoder;
    std::list<uint64_t>::iterator age;
  };
  mutable std::mutex mutex_;
  mutable std::unordered_map<uint64_t, Cached> cache_;
  mutable std::list<uint64_t> by_age_;  // most recently used first
};

}  // namespace datacloud
