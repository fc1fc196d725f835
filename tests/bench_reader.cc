// Measures the mount's read path without FUSE: directory sites under DIR, maps from a fake daemon.
// Prints one line per case. Not a test; run by hand: bench_reader DIR [MiB] [small files].
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <random>

#include "common/codes/erasure_code.h"
#include "common/crypto/sealed_block.h"
#include "common/site/site_set.h"
#include "common/store/directory_store.h"
#include "common/stripe/stripe_layout.h"
#include "fs/read/block_reader.h"
#include "tests/fs/read/fake_map_daemon.h"

namespace datacloud {
namespace {

double cpu_seconds() {
  rusage use{};
  ::getrusage(RUSAGE_SELF, &use);
  const auto s = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return s(use.ru_utime) + s(use.ru_stime);
}

constexpr uint32_t kBlock = 64u << 10;
constexpr size_t kStripeBlocks = 3 * (kShardPlainBytesMax / kBlock);

struct Bench {
  explicit Bench(std::string where) : directory(std::move(where)) {
    std::filesystem::remove_all(directory);
    std::filesystem::create_directories(directory);
    const auto files = make_posix_file_layer();
    std::vector<SiteSet::Member> members;
    for (uint32_t s = 1; s <= 5; ++s) {
      SiteMarker marker;
      marker.cloud_uuid = "bench";
      marker.cloud_name = "bench";
      marker.site_name = "site" + std::to_string(s);
      marker.site_id = s;
      const std::string root = directory + "/" + marker.site_name;
      if (!format_directory(*files, root, marker)) std::abort();
      members.push_back({s, marker.site_name, make_directory_store({root, marker, 4, nullptr})});
    }
    sites = std::make_unique<SiteSet>(std::move(members));
  }
  ~Bench() {
    sites.reset();
    std::filesystem::remove_all(directory);
  }

  // One stripe of consecutive pieces: (inode, block, bytes).
  struct Piece {
    InodeId ino;
    uint64_t block;
    uint32_t bytes;
  };
  void write_stripe(const std::vector<Piece>& pieces) {
    const auto code = make_erasure_code("rs-3-2").value();
    std::vector<Bytes> sealed(pieces.size());
    std::vector<uint32_t> lengths;
    const ContentVersion version = versions;
    versions += pieces.size();
    for (size_t i = 0; i < pieces.size(); ++i) {
      Bytes plain(pieces[i].bytes);
      for (size_t j = 0; j + 8 <= plain.size(); j += 8) {
        const uint64_t word = random();
        std::copy_n(reinterpret_cast<const uint8_t*>(&word), 8, plain.begin() + j);
      }
      const BlockAddress address{0, pieces[i].ino, pieces[i].block, version + i, 0};
      if (!sealer.seal(address, plain, Compression::zstd, sealed[i])) std::abort();
      lengths.push_back(static_cast<uint32_t>(sealed[i].size()));
    }
    const auto layout = lay_out_stripe(lengths, 3, 1, 256u << 10).value();
    pb::Stripe record;
    record.set_id(++stripes);
    record.set_code("rs-3-2");
    record.set_parity_bytes(layout.parity_length);
    std::vector<Bytes> shards(5, Bytes(layout.parity_length));
    for (size_t i = 0; i < sealed.size(); ++i) {
      const Slot& slot = layout.slots[i];
      std::copy(sealed[i].begin(), sealed[i].end(), shards[slot.column].begin() + slot.offset);
      record.add_slot_column(slot.column);
      record.add_slot_offset(slot.offset);
      record.add_slot_length(slot.length);
    }
    code->encode({shards.begin(), shards.begin() + 3}, {shards.begin() + 3, shards.end()});
    for (uint32_t c = 0; c < 5; ++c) {
      if (c < 3) shards[c].resize(layout.data_lengths[c]);
      pb::Shard& shard = *record.add_shards();
      shard.set_site((c + static_cast<uint32_t>(stripes)) % 5 + 1);
      shard.set_instance(1);
      shard.set_bytes(static_cast<uint32_t>(shards[c].size()));
      if (shards[c].empty()) shard.set_state(pb::SHARD_EMPTY);
      if (shards[c].empty()) continue;
      const auto put = wait_for<void>([&](Callback<void> done) {
        sites->find(shard.site())
            ->store()
            .put(namer.object_name({stripes, static_cast<uint8_t>(c), 1}),
                 Payload::from(std::move(shards[c])), {}, {}, std::move(done));
      });
      if (!put) std::abort();
    }
    for (size_t i = 0; i < pieces.size(); ++i)
      daemon.map(pieces[i].ino, pieces[i].block, 1, version + i, record, static_cast<uint32_t>(i));
  }

  void drop_page_cache() {
    ::sync();
    for (const auto& e : std::filesystem::recursive_directory_iterator(directory)) {
      if (!e.is_regular_file()) continue;
      const int fd = ::open(e.path().c_str(), O_RDONLY);
      ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
      ::close(fd);
    }
  }

  std::string directory;
  std::mt19937_64 random{1};
  ShardNamer namer{as_bytes("0123456789abcdef")};
  BlockSealer sealer{SecretKey(as_bytes("0123456789abcdef0123456789abcdef")), "bench"};
  FakeMapDaemon daemon;
  Executor executor{2, 1024};
  std::unique_ptr<SiteSet> sites;
  StripeId stripes = 0;
  ContentVersion versions = 1;
};

// A mount that has just started: nothing cached.
struct Mount {
  explicit Mount(Bench& b)
      : cache(config.cache_bytes_max),
        stripes({*b.sites, b.namer, b.sealer, b.executor, config, 0, nullptr}),
        reader({b.daemon, cache, stripes, *b.sites, config}) {}
  MountConfig config;
  BlockCache cache;
  StripeReader stripes;
  BlockReader reader;
};

void sequential(Bench& bench, const char* what, uint64_t blocks, bool cold) {
  if (cold) bench.drop_page_cache();
  Mount mount(bench);
  const FileRef file{1, 0, kBlock, blocks * kBlock};
  ReadAhead rule;
  const auto begin = monotonic_now();
  const double cpu = cpu_seconds();
  std::vector<uint8_t> to(1u << 20);
  for (uint64_t b = 0; b < blocks; b += 16) {
    auto ahead = rule.on_read(
        {b * kBlock, 16 * kBlock, file.size, kBlock, mount.config.readahead_bytes_max});
    const auto got = mount.reader.read(file, b, 16, ahead);
    if (!got) {
      std::printf("%s: %s\n", what, got.error().message().c_str());
      return;
    }
    for (size_t i = 0; i < 16; ++i)
      std::copy(got.value()[i]->begin(), got.value()[i]->end(), to.begin() + i * kBlock);
    for (const BlockRange& range : ahead) rule.not_brought(range);
  }
  const double s = std::chrono::duration<double>(monotonic_now() - begin).count();
  const double gb = static_cast<double>(blocks * kBlock) / 1e9;
  std::printf("%-44s %8.0f MB/s %17.2f CPU s/GB\n", what, gb * 1e3 / s, (cpu_seconds() - cpu) / gb);
}

void small_files(Bench& bench, const char* what, std::vector<std::pair<InodeId, uint64_t>> files,
                 bool cold, int threads) {
  if (cold) bench.drop_page_cache();
  Mount mount(bench);
  std::shuffle(files.begin(), files.end(), bench.random);
  const auto begin = monotonic_now();
  const double cpu = cpu_seconds();
  std::atomic<size_t> next{0};
  std::atomic<uint64_t> bytes{0};
  std::vector<std::thread> readers;
  for (int t = 0; t < threads; ++t)
    readers.emplace_back([&] {
      for (size_t i = next++; i < files.size(); i = next++) {
        const auto [ino, size] = files[i];
        const FileRef file{ino, 0, kBlock, size};
        const auto got =
            mount.reader.read(file, 0, static_cast<uint32_t>((size + kBlock - 1) / kBlock));
        if (!got) std::printf("%s\n", got.error().message().c_str());
        bytes += size;
      }
    });
  for (auto& r : readers) r.join();
  const double s = std::chrono::duration<double>(monotonic_now() - begin).count();
  const double gb = static_cast<double>(bytes) / 1e9;
  std::printf("%-44s %8.0f MB/s %6.0f files/s %.2f CPU s/GB\n", what, gb * 1e3 / s,
              static_cast<double>(files.size()) / s, (cpu_seconds() - cpu) / gb);
}

int run(const std::string& directory, uint64_t mib, size_t file_count) {
  Bench bench(directory);
  const uint64_t blocks = mib * (1u << 20) / kBlock / 16 * 16;
  std::vector<Bench::Piece> pieces;
  const auto add = [&](Bench::Piece p) {
    pieces.push_back(p);
    if (pieces.size() < kStripeBlocks) return;
    bench.write_stripe(pieces);
    pieces.clear();
  };
  for (uint64_t b = 0; b < blocks; ++b) add({1, b, kBlock});
  std::vector<std::pair<InodeId, uint64_t>> files;
  for (size_t i = 0; i < file_count; ++i) {
    const uint64_t size = (100u << 10) + bench.random() % (100u << 10);
    files.emplace_back(10 + i, size);
    for (uint64_t b = 0; b * kBlock < size; ++b)
      add({10 + i, b, static_cast<uint32_t>(std::min<uint64_t>(kBlock, size - b * kBlock))});
  }
  if (!pieces.empty()) bench.write_stripe(pieces);

  sequential(bench, "sequential, cold", blocks, true);
  sequential(bench, "sequential, page cache warm", blocks, false);
  small_files(bench, "random whole files, cold, 1 thread", files, true, 1);
  small_files(bench, "random whole files, warm, 1 thread", files, false, 1);
  small_files(bench, "random whole files, cold, 4 threads", files, true, 4);
  const std::string site = directory + "/site2";
  std::filesystem::rename(site, site + ".away");
  bench.sites->check_all(seconds(1));
  sequential(bench, "sequential, one site away, cold", blocks, true);
  sequential(bench, "sequential, one site away, page cache warm", blocks, false);
  small_files(bench, "random whole files, one site away, cold", files, true, 1);
  std::filesystem::rename(site + ".away", site);
  return 0;
}

}  // namespace
}  // namespace datacloud

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: bench_reader DIR [MiB] [small files]; DIR is emptied\n");
    return 16;
  }
  return datacloud::run(argv[1], argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1024,
                        argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 1000);
}
