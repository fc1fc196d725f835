// By hand: speed of the audit arithmetic on one core, per kernel set.
//   ninja -C build bench_audit && build/tests/bench_audit [SHARD_BYTES=4194304]
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <functional>

#include "common/tags/audit_kernels.h"
#include "common/tags/audit_tag.h"

namespace datacloud {
namespace {

// Best of several runs, in GB of shard bytes per second.
double rate(size_t bytes, const std::function<void()>& run) {
  double best = 0;
  for (int round = 0; round < 30; ++round) {
    const auto start = std::chrono::steady_clock::now();
    run();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(bytes) / took.count() / 1e9);
  }
  return best;
}

#if defined(__x86_64__)
// Bare instructions, twelve independent ones in a loop: products of bytes a nanosecond. A
// carry-less product of 64 bits multiplies four bytes by four, spread out to 16 bits each.
template <class Loop>
void measure_products(const char* name, bool usable, double products, Loop loop) {
  constexpr long kRounds = 20'000;
  if (!usable) return fmt::print("bare {:<34} not on this processor\n", name);
  fmt::print("bare {:<34} {:6.0f} products/ns\n", name,
             rate(static_cast<size_t>(products * 12 * kRounds), [&] { loop(kRounds); }));
}
#define LOOP_OF_TWELVE(INSTRUCTION)                                                                \
  [](long rounds) {                                                                                \
    asm volatile("1:\n.irp i,0,1,2,3,4,5,6,7,8,9,10,11\n" INSTRUCTION "\n.endr\ndec %0\njnz 1b"    \
                 : "+r"(rounds)                                                                    \
                 :                                                                                 \
                 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", \
                   "xmm10", "xmm11", "cc");                                                        \
  }
void measure_instructions() {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2"), wide = __builtin_cpu_supports("avx512f");
  const bool clmul = __builtin_cpu_supports("pclmul") && avx2;
  // A product by shuffles is two of them.
  measure_products("shuffles, 128 bits (SSSE3)", avx2, 8,
                   LOOP_OF_TWELVE("vpshufb %%xmm12,%%xmm\\i,%%xmm\\i"));
  measure_products("shuffles, 256 bits (AVX2)", avx2, 16,
                   LOOP_OF_TWELVE("vpshufb %%ymm12,%%ymm\\i,%%ymm\\i"));
  measure_products("carry-less, 128 bits (PCLMULQDQ)", clmul, 16,
                   LOOP_OF_TWELVE("vpclmulqdq $0,%%xmm12,%%xmm\\i,%%xmm\\i"));
  measure_products("carry-less, 512 bits (VPCLMULQDQ)",
                   wide && __builtin_cpu_supports("vpclmulqdq"), 64,
                   LOOP_OF_TWELVE("vpclmulqdq $0,%%zmm12,%%zmm\\i,%%zmm\\i"));
  measure_products("GF2P8MULB, 512 bits (GFNI)", wide && __builtin_cpu_supports("gfni"), 64,
                   LOOP_OF_TWELVE("vgf2p8mulb %%zmm12,%%zmm\\i,%%zmm\\i"));
}
#undef LOOP_OF_TWELVE
#else
void measure_instructions() {}
#endif

void measure(size_t bytes) {
  Bytes shard(bytes);
  for (size_t i = 0; i < bytes; ++i) shard[i] = static_cast<uint8_t>(i * 2654435761u >> 13);
  Bytes out(kFieldBytes * audit_blocks_of(bytes));
  FieldElement alpha;
  for (uint8_t i = 0; i < alpha.size(); ++i) alpha[i] = static_cast<uint8_t>(37 * i + 1);
  for (const auto* kernels : usable_audit_kernels()) {
    const FieldPolynomial polynomial(alpha, kernels);
    fmt::print("polynomials, {:<12} {:6.2f} GB/s\n", kernels->name,
               rate(bytes, [&] { polynomial.evaluate(shard, out); }));
  }
  const AuditTagger tagger(SecretKey(Bytes(32, 5)));
  Bytes tags;
  fmt::print("tags of a shard            {:6.2f} GB/s\n", rate(bytes, [&] {
               tags = tagger.tags({1, 2}, 3, shard);
             }));
  const auto challenge = random_challenge(audit_blocks_of(bytes), 0);
  AuditProof proof;
  fmt::print("proof over every block     {:6.2f} GB/s\n", rate(bytes, [&] {
               AuditResponse response(challenge);
               response.add({0, audit_blocks_of(bytes)}, shard, tags);
               proof.mu = response.mu();
               proof.tag = response.tag();
             }));
  const ShardFacts facts{{1, 2}, 3, bytes, {{0, 3}}};
  bool right = false;
  fmt::print("verification of a proof    {:6.2f} GB/s of the shard\n",
             rate(bytes, [&] { right = tagger.verify(facts, challenge, proof); }));
  fmt::print("{}\n", right ? "the proof is right" : "THE PROOF IS WRONG");
}

}  // namespace
}  // namespace datacloud

int main(int argc, char** argv) {
  datacloud::measure_instructions();
  datacloud::measure(argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 4u << 20);
}
