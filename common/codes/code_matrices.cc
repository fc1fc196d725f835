// Builds generator matrices. Pure; see code_matrices.h.
#include "common/codes/code_matrices.h"

#include <isa-l/erasure_code.h>

#include <cassert>

namespace datacloud {
namespace {

void set_identity(GfMatrix& generator) {
  for (int i = 0; i < generator.columns(); ++i) generator.at(i, i) = 1;
}

int smallest_prime_above(int x) {
  for (int p = x + 1;; ++p) {
    bool prime = p > 1;
    for (int d = 2; d * d <= p; ++d) prime = prime && p % d != 0;
    if (prime) return p;
  }
}

}  // namespace

CodeDefinition reed_solomon_code(int k, int m) {
  assert(k >= 1 && m >= 0 && k + m <= kCodeColumnsMax);
  CodeDefinition code{.name = "rs-" + std::to_string(k) + "-" + std::to_string(m), .k = k, .m = m};
  code.guaranteed_tolerance = m;
  code.generator = GfMatrix(k + m, k);
  set_identity(code.generator);
  for (int row = k; row < k + m; ++row)
    for (int c = 0; c < k; ++c) code.generator.at(row, c) = gf_inv(static_cast<uint8_t>(row ^ c));
  return code;
}

CodeDefinition basic_code(int k) {
  assert(k % 2 == 0 && 2 * k <= kCodeColumnsMax);
  const int p = smallest_prime_above(k / 2), packets = p - 1;
  CodeDefinition code{.name = "basic-" + std::to_string(k) + "-" + std::to_string(2 * k),
                      .k = k,
                      .m = k,
                      .packets = packets,
                      .guaranteed_tolerance = k / 2};
  code.generator = GfMatrix(2 * k * packets, k * packets);
  set_identity(code.generator);
  for (int i = 1; i <= k; ++i)
    for (int s = 0; s < k / 2; ++s) {
      const int data = (i + s - 1) % k, shift = i * s % p;
      for (int packet = 0; packet < packets; ++packet) {
        const int row = (k + i - 1) * packets + packet;
        const int source = (packet - shift + p) % p;
        for (int q = 0; q < packets; ++q)  // the implicit packet p - 1 is the XOR of all others
          if (source == q || source == p - 1) code.generator.at(row, data * packets + q) = 1;
      }
    }
  return code;
}

// Node i stores psi_i * [S1; S2] with psi_i = (1, x, ..., x^(2a-1)), x = 2^i, a = k - 1 packets and
// S1, S2 symmetric a x a matrices of a (a + 1) free symbols together; so psi_i = (phi_i, lambda_i
// phi_i) with lambda_i = x^a. The lambdas differ as long as a * n <= 255. Columns 0..k-1 determine
// the symbols; multiplying with the inverse of their part makes them systematic.
CodeDefinition msr_code(int n, int k) {
  const int a = k - 1;
  assert(k >= 2 && n > 2 * k - 2 && n <= kCodeColumnsMax && a * n <= 255);
  CodeDefinition code{.name = "msr-" + std::to_string(n) + "-" + std::to_string(k),
                      .k = k,
                      .m = n - k,
                      .packets = a,
                      .guaranteed_tolerance = n - k,
                      .repair_helpers = 2 * a,
                      .helper_coefficients = GfMatrix(n, a)};
  GfMatrix stored(n * a, a * (a + 1)), systematic;
  for (int i = 0; i < n; ++i) {
    const uint8_t x = gf_power(2, i);
    int symbol = 0;
    for (int half = 0; half < 2; ++half)
      for (int r = 0; r < a; ++r)
        for (int c = r; c < a; ++c, ++symbol) {  // S[r][c] = S[c][r]
          stored.at(i * a + c, symbol) ^= gf_power(x, half * a + r);
          if (r != c) stored.at(i * a + r, symbol) ^= gf_power(x, half * a + c);
        }
    for (int r = 0; r < a; ++r) code.helper_coefficients.at(i, r) = gf_power(x, r);
  }
  for (int row = 0; row < k * a; ++row) systematic.append(stored.row(row));
  const auto inverse = gf_solve(systematic, GfMatrix::identity(k * a));
  assert(inverse);
  code.generator = product(stored, *inverse);
  return code;
}

}  // namespace datacloud
