// Writes through the write pipeline to five directory sites with a daemon in the same process, and
// prints throughput and CPU. Run under perf to see where the cycles go.
//
//   bench_pipeline DIRECTORY [MIB=1024] [zstd|none] [BLOCK=65536] [STRIPES_IN_FLIGHT] [untagged]
//
// DIRECTORY must be absolute and empty; what is written there is left for inspection. With "memory"
// in its place the sites are in memory: what the pipeline itself can do.
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "common/site/site_set.h"
#include "common/store/directory_store.h"
#include "common/store/memory_store.h"
#include "fs/write/write_pipeline.h"
#include "tests/fs/write/fake_daemon.h"

namespace datacloud {
namespace {

constexpr uint64_t kUnitBytes = 12 << 20;
constexpr uint64_t kDirtyBytesMax = 192 << 20;

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds_of = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
}

std::vector<SharedBytes> random_blocks(uint32_t block_bytes) {
  std::mt19937_64 random(1);
  std::vector<SharedBytes> blocks;
  for (uint64_t b = 0; b < kUnitBytes / block_bytes; ++b) {
    Bytes bytes(block_bytes);
    for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
      const uint64_t value = random();
      std::memcpy(&bytes[i], &value, 8);
    }
    blocks.push_back(std::make_shared<const Bytes>(std::move(bytes)));
  }
  return blocks;
}

result<std::unique_ptr<ObjectStore>> open_site(const std::filesystem::path& root, SiteId id) {
  if (root == "memory") return make_memory_store();
  const auto files = make_posix_file_layer();
  const SiteMarker marker{"bench", "bench", "site" + std::to_string(id), id};
  const std::string path = (root / marker.site_name).string();
  TRY(format_directory(*files, path, marker));
  return make_directory_store({path, marker, 4, files});
}

int run(const std::filesystem::path& root, uint64_t mib, Compression compression,
        uint32_t block_bytes, const MountConfig& config, bool tagged) {
  pb::Cloud cloud;
  cloud.set_uuid("bench");
  cloud.set_write_sites_min(3);
  std::vector<SiteSet::Member> members;
  for (SiteId id = 1; id <= 5; ++id) {
    cloud.add_sites()->set_id(id);
    auto store = open_site(root, id);
    if (!store) {
      std::fprintf(stderr, "%s\n", store.error().message().c_str());
      return 1;
    }
    members.push_back({id, "site" + std::to_string(id), std::move(store.value())});
  }
  SiteSet sites(std::move(members));
  FakeDaemon daemon;
  const ShardNamer namer(Bytes(16, 7));
  const BlockSealer sealer(SecretKey(Bytes(32, 9)), "bench");
  IdPool ids(daemon);
  const auto blocks = random_blocks(block_bytes);

  const double cpu_before = cpu_seconds();
  const auto start = monotonic_now();
  std::mutex mutex;
  std::condition_variable changed;
  uint64_t dirty = 0, failures = 0;
  WritePipeline::Stats stats;
  {
    const auto keys = ShardTags::derive_keys(SecretKey(Bytes(32, 11)), cloud);
    const auto tags =
        tagged ? std::make_shared<const ShardTags>(keys) : std::make_shared<const ShardTags>();
    WritePipeline pipeline({daemon, sites, namer, sealer, ids, cloud, config, tags});
    for (uint64_t done = 0; done < mib << 20; done += kUnitBytes) {
      FlushUnit unit;
      unit.ino = 2;
      unit.code = "rs-3-2";
      unit.block_bytes = block_bytes;
      unit.compression = compression;
      for (size_t b = 0; b < blocks.size(); ++b) {
        unit.blocks.push_back({done / block_bytes + b, blocks[b]});
      }
      unit.size = done + kUnitBytes;
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return dirty < kDirtyBytesMax; });
      dirty += kUnitBytes;
      lock.unlock();
      pipeline.submit(std::move(unit), Urgency::batch, false, [&](result<FlushResult> r) {
        std::lock_guard guard(mutex);
        if (!r) ++failures;
        dirty -= kUnitBytes;
        changed.notify_all();
      });
    }
    pipeline.flush();
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return dirty == 0; });
    stats = pipeline.stats();
  }
  const double elapsed = std::chrono::duration<double>(monotonic_now() - start).count();
  const double cpu = cpu_seconds() - cpu_before;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto mb = [](uint64_t bytes) { return static_cast<double>(bytes) / 1e6; };
  std::printf(
      "plain %.0f MB in %.2f s: %.0f MB/s plain, %.0f MB/s shards, %.2f cores, RSS %ld MB\n",
      mb(stats.plain_bytes), elapsed, mb(stats.plain_bytes) / elapsed,
      mb(stats.shard_bytes) / elapsed, cpu / elapsed, usage.ru_maxrss / 1024);
  std::printf("stripes %lu, commits %d, missing %lu, stand-ins %lu, failed units %lu\n",
              stats.stripes, daemon.commits, stats.shards_missing, stats.stand_ins, failures);
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace datacloud

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(
        stderr, "usage: bench_pipeline DIRECTORY [MIB] [zstd|none] [BLOCK] [STRIPES] [untagged]\n");
    return 2;
  }
  const uint64_t mib = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1024;
  const bool zstd = argc > 3 && std::string(argv[3]) == "zstd";
  const auto block = argc > 4 ? static_cast<uint32_t>(std::atoi(argv[4])) : 65536u;
  datacloud::MountConfig config;
  if (argc > 5) config.stripes_in_flight_max = static_cast<uint32_t>(std::atoi(argv[5]));
  return datacloud::run(argv[1], mib,
                        zstd ? datacloud::Compression::zstd : datacloud::Compression::none, block,
                        config, argc <= 6);
}
