// By hand: puts and gets of 4 MiB at a directory site, in this machine, through its server over
// loopback with TLS, and through its server by shared memory, in turn: MB/s, and the processor time
// of both ends together. Server and client share the processors, which a real network does not;
// processor time tells what it would be.
//
//   bench_remote_site [DIRECTORY] [ROUNDS]
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <future>

#include "common/store/directory_store.h"
#include "tests/support/served_site.h"
#include "tests/support/store_calls.h"

namespace datacloud {
namespace {

constexpr size_t kObjectBytes = 4u << 20;
constexpr int kObjects = 48;  // of a round
constexpr int kAtOnce = 8;

double seconds_of(Duration d) { return std::chrono::duration<double>(d).count(); }

double cpu_seconds() {
  rusage used{};
  (void)::getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

struct Cost {
  double mb_per_second = 0, cpu_seconds_per_gb = 0;
};

// Runs `start(i, done)` for every object, kAtOnce at a time.
template <class Start>
Cost rate(Start start) {
  const auto began = monotonic_now();
  const double cpu = cpu_seconds();
  std::vector<std::future<bool>> waiting;
  for (int i = 0; i < kObjects; ++i) {
    if (i >= kAtOnce && !waiting[static_cast<size_t>(i - kAtOnce)].get()) std::exit(1);
    auto promise = std::make_shared<std::promise<bool>>();
    waiting.push_back(promise->get_future());
    start(i, [promise](bool good) { promise->set_value(good); });
  }
  for (int i = std::max(0, kObjects - kAtOnce); i < kObjects; ++i)
    if (!waiting[static_cast<size_t>(i)].get()) std::exit(1);
  const double bytes = kObjects * static_cast<double>(kObjectBytes);
  return {bytes / 1e6 / seconds_of(monotonic_now() - began), (cpu_seconds() - cpu) / bytes * 1e9};
}

struct Rates {
  std::vector<Cost> puts, gets;
};

void run(ObjectStore& store, const std::string& stem, const SharedBytes& data, Rates& out) {
  const auto name = [&](int i) { return stem + std::to_string(i); };
  out.puts.push_back(rate([&](int i, auto done) {
    store.put(name(i), Payload{{ByteView(*data)}, data}, {}, {}, [done](auto r) { done(!!r); });
  }));
  out.gets.push_back(rate([&](int i, auto done) {
    store.read(name(i), {{0, kObjectBytes}}, true, {}, [done](result<ReadReply> r) {
      done(r && r.value().ranges[0].size() == kObjectBytes);
    });
  }));
  for (int i = 0; i < kObjects; ++i) (void)remove(store, name(i));
}

double median(const std::vector<Cost>& costs, double Cost::*what) {
  std::vector<double> values;
  for (const auto& cost : costs) values.push_back(cost.*what);
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace
}  // namespace datacloud

int main(int argc, char** argv) {
  using namespace datacloud;
  const std::filesystem::path parent =
      argc > 1 ? argv[1] : std::filesystem::temp_directory_path().string();
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 7;
  ServedSite site("oslo", true, parent);
  site.start();
  const auto data = std::make_shared<const Bytes>(contents_of("bench", kObjectBytes));
  const auto local = make_directory_store({site.root(), site.marker(), 4, nullptr});
  const auto remote = site.open();
  site.on_this_machine = true;
  const auto shared = site.open();
  Rates here, there, beside;
  for (int round = 0; round < rounds; ++round) {
    run(*local, "local-" + std::to_string(round) + "-", data, here);
    run(*remote, "remote-" + std::to_string(round) + "-", data, there);
    run(*shared, "shared-" + std::to_string(round) + "-", data, beside);
  }
  fmt::print("{:6} {:>12} {:>12} {:>8} {:>12} {:>12}   (medians of {} rounds, {})\n", "",
             "local, MB/s", "served, MB/s", "ratio", "CPU s/GB", "CPU s/GB", rounds, site.root());
  const auto row = [](const char* what, const std::vector<Cost>& a, const std::vector<Cost>& b) {
    const double fast = median(a, &Cost::mb_per_second), slow = median(b, &Cost::mb_per_second);
    fmt::print("{:6} {:12.0f} {:12.0f} {:8.2f} {:12.2f} {:12.2f}\n", what, fast, slow, slow / fast,
               median(a, &Cost::cpu_seconds_per_gb), median(b, &Cost::cpu_seconds_per_gb));
  };
  row("puts", here.puts, there.puts);
  row("gets", here.gets, there.gets);
  fmt::print("the same with the local socket and shared memory:\n");
  row("puts", here.puts, beside.puts);
  row("gets", here.gets, beside.gets);
  return 0;
}
