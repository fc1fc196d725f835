// By hand: speed of the audit arithmetic on one core, per kernel set.
//   ninja -C build bench_audit && build/tests/bench_audit [SHARD_BYTES=4194304]
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <functional>

#include "common/audit_kernels.h"
#include "common/audit_tag.h"

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
  datacloud::measure(argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 4u << 20);
}
