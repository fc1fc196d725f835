// The codes we know, as data: generator matrices and what is known about them. docs/format.md gives
// each with worked bytes; a matrix here is part of the format on disk and may never change.
#pragma once

#include <string>

#include "common/codes/gf_matrix.h"

namespace datacloud {

inline constexpr int kCodeColumnsMax = 32;

struct CodeDefinition {
  std::string name;
  int k = 0, m = 0;
  int packets = 1;
  // Any this many lost columns decode; m means MDS, and then any k columns are taken as enough.
  int guaranteed_tolerance = 0;
  // n * packets rows, k * packets columns, the identity on top.
  GfMatrix generator;
  // Repair by combining helpers: any `repair_helpers` other columns, each sending one packet, the
  // combination of its own packets with row `lost` of this matrix (n x packets). 0: none.
  int repair_helpers = 0;
  GfMatrix helper_coefficients;
};

// rs-K-M. Systematic Reed-Solomon with a Cauchy generator: row k + p, column c is 1 / ((k + p) xor
// c), as ISA-L's gf_gen_cauchy1_matrix. Every square part of a Cauchy matrix is invertible (MDS);
// ISA-L's Vandermonde matrix is not MDS for every (k, m).
CodeDefinition reed_solomon_code(int k, int m);

// basic-K-2K, k = 4, 6 or 8: MS-BASIC, XOR only. With p the smallest prime above k/2, a shard is
// p - 1 packets and, implicitly, a p-th that is their XOR: a polynomial of even weight modulo
// z^p - 1, on which z acts by a cyclic shift. P_i = sum_{s < k/2} z^(i s) D_((i+s-1) mod k)+1, i
// and D counted from 1. Not MDS: P_i and its k/2 data columns are dependent, so any k/2 losses are
// survived and not all of k/2 + 1; in return one lost column is rebuilt from k/2 others.
CodeDefinition basic_code(int k);

// msr-N-K, d = 2k - 2 helpers, k - 1 packets: the product-matrix code at the minimum storage point
// (Rashmi, Shah, Kumar, IEEE Trans. IT 57(8) 2011, section V), made systematic. MDS, and a column
// is rebuilt from d others that send one packet each, 2 shards altogether.
CodeDefinition msr_code(int n, int k);

}  // namespace datacloud
