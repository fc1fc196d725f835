// By hand: encoding, decoding and repair speed of every profile; Reed-Solomon beside bare ISA-L.
//   ninja -C build bench_codes && build/tests/bench_codes [SHARD_BYTES]
#include <fmt/format.h>
#include <isa-l/erasure_code.h>

#include <chrono>
#include <cstdlib>
#include <functional>

#include "common/erasure_code.h"

namespace datacloud {
namespace {

// Best rate of several runs in GB of data per second.
double rate(size_t bytes, const std::function<void()>& run) {
  double best = 0;
  for (int round = 0; round < 12; ++round) {
    const auto start = std::chrono::steady_clock::now();
    run();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(bytes) / took.count() / 1e9);
  }
  return best;
}

double bare_isal(int k, int m, std::vector<Bytes>& shards) {
  Bytes matrix(static_cast<size_t>(k + m) * k), tables(32 * static_cast<size_t>(k) * m);
  gf_gen_cauchy1_matrix(matrix.data(), k + m, k);
  ec_init_tables(k, m, matrix.data() + k * k, tables.data());
  std::vector<uint8_t*> at;
  for (auto& shard : shards) at.push_back(shard.data());
  const size_t length = shards[0].size();
  return rate(length * k, [&] {
    ec_encode_data(static_cast<int>(length), k, m, tables.data(), at.data(), at.data() + k);
  });
}

void measure(const std::string& profile, size_t shard_bytes) {
  const auto code = make_erasure_code(profile).value();
  const size_t length = shard_bytes / code->packets() * code->packets();
  std::vector<Bytes> shards(code->n(), Bytes(length));
  for (size_t c = 0; c < shards.size(); ++c)
    for (size_t i = 0; i < length; ++i) shards[c][i] = static_cast<uint8_t>(i * 31 + c * 7 + i / 9);
  const std::vector<ByteView> data(shards.begin(), shards.begin() + code->k());
  const std::vector<MutableByteView> parity(shards.begin() + code->k(), shards.end());
  const double encode = rate(length * code->k(), [&] { code->encode(data, parity); });
  std::string bare;
  if (code->packets() == 1)
    bare = fmt::format("  bare ISA-L {:5.2f}", bare_isal(code->k(), code->m(), shards));
  const std::vector<ByteView> views(shards.begin(), shards.end());
  const ColumnSet all = (ColumnSet{1} << code->n()) - 1;
  Bytes out(length);
  const auto set = code->minimum_to_decode(1, all & ~1u, {}).value();
  const double decode =
      rate(length, [&] { (void)code->decode(1, set, views, {MutableByteView(out)}); });
  fmt::print("{:10}  encode {:5.2f} GB/s of data{}  one lost shard {:5.2f} GB/s\n", profile, encode,
             bare, decode);
}

}  // namespace
}  // namespace datacloud

int main(int argc, char** argv) {
  const size_t bytes = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : size_t{4} << 20;
  for (const char* profile : {"rs-3-2", "rs-6-3", "rs-10-4", "rs-4-4", "basic-4-8", "basic-6-12",
                              "basic-8-16", "msr-5-3", "msr-8-4"})
    datacloud::measure(profile, bytes);
}
