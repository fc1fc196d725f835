// By hand: encoding, decoding and repair speed of every profile, and Reed-Solomon beside bare
// ISA-L.
//   ninja -C build bench_codes && build/tests/bench_codes [SHARD_BYTES]
//   build/tests/bench_codes isal     the table of docs/benchmarks.md
//
// Beside ISA-L: one process, the same buffers, the same matrix; the two sides take turns, first one
// then the other in front, in samples of half a millisecond of the thread's CPU time, so that what
// else the machine does hits both. Told are ratios of medians and of the fastest samples.
#include <fmt/format.h>
#include <isa-l.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>

#include "common/codes/erasure_code.h"
#include "common/codes/packet_kernel.h"

namespace datacloud {
namespace {

using Work = std::function<void()>;

// Best rate of several runs in GB of data per second.
double rate(size_t bytes, const Work& run) {
  double best = 0;
  for (int round = 0; round < 12; ++round) {
    const auto start = std::chrono::steady_clock::now();
    run();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(bytes) / took.count() / 1e9);
  }
  return best;
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
  const std::vector<ByteView> views(shards.begin(), shards.end());
  const ColumnSet all = (ColumnSet{1} << code->n()) - 1;
  Bytes out(length);
  const auto set = code->minimum_to_decode(1, all & ~1u, {}).value();
  const double decode =
      rate(length, [&] { (void)code->decode(1, set, views, {MutableByteView(out)}); });
  fmt::print("{:10}  encode {:5.2f} GB/s of data  one lost shard {:5.2f} GB/s\n", profile, encode,
             decode);
}

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double sample(const Work& work, int times) {
  const double start = cpu_seconds();
  for (int i = 0; i < times; ++i) work();
  return (cpu_seconds() - start) / times;
}

struct Comparison {
  double ours = 0;                        // seconds, median
  double of_medians = 0, of_fastest = 0;  // how many times as fast as bare ISA-L
};

Comparison compare(const Work& ours, const Work& bare) {
  constexpr double kSample = 0.0005, kInAll = 0.8;
  ours(), bare();
  const int times = static_cast<int>(std::clamp(kSample / sample(bare, 4), 1.0, 10'000.0));
  std::vector<double> mine, theirs;
  const double end = cpu_seconds() + kInAll;
  while (cpu_seconds() < end || mine.size() < 41) {
    if (mine.size() % 2 == 0) {
      mine.push_back(sample(ours, times));
      theirs.push_back(sample(bare, times));
    } else {
      theirs.push_back(sample(bare, times));
      mine.push_back(sample(ours, times));
    }
  }
  std::sort(mine.begin(), mine.end());
  std::sort(theirs.begin(), theirs.end());
  const size_t middle = mine.size() / 2;
  return {mine[middle], theirs[middle] / mine[middle], theirs[0] / mine[0]};
}

// n shards in one piece of memory, aligned to cache lines, each further along in its page than the
// one before, so that no two of them fall on the same sets of a cache.
class Shards {
 public:
  Shards(int n, size_t length) : length_(length), memory_(n * stride() + 64) {
    for (size_t i = 0; i < memory_.size(); ++i)
      memory_[i] = static_cast<uint8_t>(i * 2654435761u >> 13);
  }
  uint8_t* at(int column) {
    const size_t start = (64 - std::bit_cast<uintptr_t>(memory_.data()) % 64) % 64;
    return memory_.data() + start + column * stride();
  }
  MutableByteView view(int column) { return {at(column), length_}; }

 private:
  size_t stride() const { return length_ / 64 * 64 + 17 * 64; }
  size_t length_;
  Bytes memory_;
};

class BesideIsal {
 public:
  BesideIsal(std::shared_ptr<const ErasureCode> code, size_t length)
      : code_(std::move(code)),
        k_(code_->k()),
        m_(code_->m()),
        length_(length),
        shards_(k_ + 2 * m_, length) {}

  // encode() first: the others decode what it has made.
  Comparison encode() {
    Bytes rows;
    for (int p = 0; p < m_; ++p)
      for (int c = 0; c < k_; ++c) rows.push_back(code_->coefficient(k_ + p, c));
    std::vector<ByteView> data;
    std::vector<MutableByteView> parity;
    for (int c = 0; c < k_; ++c) data.push_back(shards_.view(c));
    for (int p = 0; p < m_; ++p) parity.push_back(shards_.view(k_ + p));
    std::vector<uint8_t*> sources;
    for (int c = 0; c < k_; ++c) sources.push_back(shards_.at(c));
    return compared(rows, sources, k_, m_, [&] { code_->encode(data, parity); });
  }

  // What the engine does on a processor without GFNI.
  Comparison encode_with_isal() {
    GfMatrix matrix(m_, k_);
    Bytes rows;
    for (int p = 0; p < m_; ++p) {
      for (int c = 0; c < k_; ++c) {
        matrix.at(p, c) = code_->coefficient(k_ + p, c);
        rows.push_back(matrix.at(p, c));
      }
    }
    const PacketKernel kernel(matrix, PacketKernel::Arithmetic::isal);
    std::vector<uint8_t*> sources, targets;
    for (int c = 0; c < k_; ++c) sources.push_back(shards_.at(c));
    for (int p = 0; p < m_; ++p) targets.push_back(shards_.at(k_ + p));
    return compared(rows, sources, k_, m_,
                    [&] { kernel.apply(sources.data(), targets.data(), length_); });
  }

  // The first `lost` data columns, from the k columns behind them.
  Comparison decode(int lost) {
    Bytes matrix(k_ * k_), inverse(k_ * k_);
    std::vector<uint8_t*> sources;
    std::vector<ByteView> views(code_->n());
    std::vector<MutableByteView> out;
    ColumnSet present = 0;
    for (int i = 0; i < k_; ++i) {
      for (int c = 0; c < k_; ++c) matrix[i * k_ + c] = code_->coefficient(lost + i, c);
      sources.push_back(shards_.at(lost + i));
      views[lost + i] = shards_.view(lost + i);
      present |= ColumnSet{1} << (lost + i);
    }
    gf_invert_matrix(matrix.data(), inverse.data(), k_);
    for (int i = 0; i < lost; ++i) out.push_back(shards_.view(k_ + m_ + i));
    inverse.resize(static_cast<size_t>(lost) * k_);
    const ColumnSet wanted = (ColumnSet{1} << lost) - 1;
    return compared(inverse, sources, k_ + m_, lost,
                    [&] { (void)code_->decode(wanted, present, views, out); });
  }

 private:
  Comparison compared(Bytes& rows, std::vector<uint8_t*>& sources, int first_target, int targets,
                      const Work& ours) {
    Bytes tables(32 * rows.size());
    ec_init_tables(k_, targets, rows.data(), tables.data());
    std::vector<uint8_t*> to;
    for (int t = 0; t < targets; ++t) to.push_back(shards_.at(first_target + t));
    const Work bare = [&] {
      ec_encode_data(static_cast<int>(length_), k_, targets, tables.data(), sources.data(),
                     to.data());
    };
    ours();
    std::vector<Bytes> made;
    for (auto* target : to) made.emplace_back(target, target + length_);
    for (auto* target : to) std::memset(target, 0xEE, length_);
    bare();
    for (int t = 0; t < targets; ++t) {
      if (std::memcmp(to[t], made[t].data(), length_) == 0) continue;
      fmt::print(stderr, "{}: ISA-L computes something else\n", code_->name());
      std::exit(1);
    }
    return compare(ours, bare);
  }

  const std::shared_ptr<const ErasureCode> code_;
  const int k_, m_;
  const size_t length_;
  Shards shards_;
};

std::string cells(const Comparison& c, size_t bytes) {
  return fmt::format(" {:.1f} GB/s | {:.2f} ({:.2f}) |", static_cast<double>(bytes) / c.ours / 1e9,
                     c.of_medians, c.of_fastest);
}

// Microseconds for the tables of a decoder, made anew and found again.
void tell_tables() {
  const int k = 10, lost = 4;
  std::vector<Bytes> shards(k + lost, Bytes(64)), out(lost, Bytes(64));
  const std::vector<ByteView> views(shards.begin(), shards.end());
  const std::vector<MutableByteView> to(out.begin(), out.end());
  std::vector<double> anew, again;
  for (int round = 0; round < 101; ++round) {
    const auto code = make_erasure_code("rs-10-4").value();
    const Work decode = [&] { (void)code->decode(0b1111, 0x3FF0, views, to); };
    anew.push_back(sample(decode, 1) * 1e6);
    again.push_back(sample(decode, 100) * 1e6);
  }
  std::sort(anew.begin(), anew.end());
  std::sort(again.begin(), again.end());
  fmt::print(
      "\nDecoding four shards of 64 bytes, rs-10-4: {:.1f} us the first time, when its tables are "
      "made, then {:.2f} us.\n",
      anew[50], again[50]);
}

void beside_isal() {
  fmt::print("ISA-L {}.{}.{}; our kernels on this processor: {}.\n\n", ISAL_MAJOR_VERSION,
             ISAL_MINOR_VERSION, ISAL_PATCH_VERSION,
             gfni_pass() != nullptr ? "GFNI and AVX-512" : "ISA-L's");
  fmt::print(
      "| code | shard | encode | of bare ISA-L | decode one lost | of bare ISA-L | decode m lost | "
      "of bare ISA-L | encode without GFNI, of bare ISA-L "
      "|\n|---|---:|---:|---:|---:|---:|---:|---:|---:|\n");
  for (const char* profile : {"rs-3-2", "rs-6-3", "rs-10-4", "rs-4-4"}) {
    for (const size_t length :
         {size_t{64} << 10, size_t{256} << 10, size_t{1} << 20, size_t{4} << 20}) {
      const auto code = make_erasure_code(profile).value();
      BesideIsal beside(code, length);
      const size_t read = length * code->k();
      std::string line = fmt::format("| {} | {} KiB |", profile, length >> 10);
      line += cells(beside.encode(), read) + cells(beside.decode(1), read) +
              cells(beside.decode(std::min(code->m(), code->k())), read);
      const Comparison plain = beside.encode_with_isal();
      fmt::print("{} {:.2f} ({:.2f}) |\n", line, plain.of_medians, plain.of_fastest);
      std::fflush(stdout);
    }
  }
  tell_tables();
}

}  // namespace
}  // namespace datacloud

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "isal") == 0) {
    datacloud::beside_isal();
    return 0;
  }
  const size_t bytes = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : size_t{4} << 20;
  for (const char* profile : {"rs-3-2", "rs-6-3", "rs-10-4", "rs-4-4", "basic-4-8", "basic-6-12",
                              "basic-8-16", "msr-5-3", "msr-8-4"})
    datacloud::measure(profile, bytes);
}
