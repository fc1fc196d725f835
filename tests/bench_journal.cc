// By hand: commits per second of journals in directories, a majority of them acknowledging each:
//   bench_journal DIRECTORY [SECONDS [ENTRIES_OF_A_BATCH]]
// makes 1, 3 and 5 of them below DIRECTORY, which decides the disk. 1 KiB an entry, one batch
// waited for at a time; ENTRIES stands for callers whose entries one batch takes.
#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <vector>

#include "common/base/clock.h"
#include "daemon/journal/directory_log.h"
#include "tests/support/temporary_directory.h"

namespace datacloud::journal {
namespace {

constexpr Epoch kEpoch{1, 1};
constexpr size_t kLagMax = kAppendsMax / 2;

std::vector<LogEntry> next_entries(LogPosition& last, size_t count) {
  std::vector<LogEntry> out;
  for (size_t i = 0; i < count; ++i) {
    EntryHeader header;
    header.epoch = kEpoch;
    header.sequence = last.sequence + 1;
    header.previous = last.hash;
    out.push_back(encode_entry(header, Bytes(1024 - kEntryHeaderBytes, 'x')).value());
    last = out.back().position();
  }
  return out;
}

bool run(const std::filesystem::path& parent, size_t sites, double seconds, size_t entries) {
  std::vector<std::unique_ptr<TemporaryDirectory>> directories;
  std::vector<std::unique_ptr<LogStore>> stores;
  for (size_t i = 0; i < sites; ++i) {
    directories.push_back(std::make_unique<TemporaryDirectory>(parent));
    DirectoryLogOptions options;
    options.directory = directories.back()->path();
    if (!format_directory_log(options)) return false;
    stores.push_back(make_directory_log(options));
    if (!stores.back()->claim(kEpoch) || !stores.back()->begin(kEpoch, {}, Base::in_log))
      return false;
  }
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<uint64_t> done(sites, 0);  // sequences
  bool failed = false;
  LogPosition last;
  std::vector<double> microseconds;
  const auto start = monotonic_now();
  const auto end =
      start + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
  while (monotonic_now() < end && !failed) {
    const auto batch = LogBatch::of(next_entries(last, entries)).value();
    const auto sent = monotonic_now();
    for (size_t i = 0; i < sites; ++i) {
      stores[i]->append(kEpoch, batch, [&, i, at = last.sequence](result<void> r) {
        std::lock_guard lock(mutex);
        done[i] = at;
        failed = failed || !r;
        changed.notify_one();
      });
    }
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] {
      const auto have =
          std::count_if(done.begin(), done.end(), [&](uint64_t d) { return d >= last.sequence; });
      const uint64_t slowest = *std::min_element(done.begin(), done.end());
      const bool near = last.sequence - slowest <= kLagMax * entries;
      return failed || (static_cast<size_t>(have) > sites / 2 && near);
    });
    microseconds.push_back(
        std::chrono::duration<double, std::micro>(monotonic_now() - sent).count());
  }
  const double took = std::chrono::duration<double>(monotonic_now() - start).count();
  stores.clear();
  std::sort(microseconds.begin(), microseconds.end());
  std::printf("%zu directories: %.0f batches/s, %.0f entries/s, p50 %.0f us, p99 %.0f us\n", sites,
              static_cast<double>(microseconds.size()) / took,
              static_cast<double>(last.sequence) / took, microseconds[microseconds.size() / 2],
              microseconds[microseconds.size() * 99 / 100]);
  return !failed;
}

}  // namespace
}  // namespace datacloud::journal

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "bench_journal DIRECTORY [SECONDS [ENTRIES_OF_A_BATCH]]\n");
    return 2;
  }
  const double seconds = argc > 2 ? std::atof(argv[2]) : 3;
  const size_t entries = argc > 3 ? static_cast<size_t>(std::max(1, std::atoi(argv[3]))) : 1;
  for (const size_t sites : {size_t{1}, size_t{3}, size_t{5}}) {
    if (!datacloud::journal::run(argv[1], sites, seconds, entries)) {
      std::fprintf(stderr, "an append failed\n");
      return 1;
    }
  }
}
