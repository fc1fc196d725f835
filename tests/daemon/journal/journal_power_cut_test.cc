// The power fails at each change a directory's journal makes, and each sync is left out once: what
// was acknowledged is there for the next claim, and the log goes on.
#include <set>

#include "daemon/journal/directory_log.h"
#include "tests/daemon/journal/log_site.h"
#include "tests/support/simulated_files.h"

namespace datacloud::journal {
namespace {

struct Acknowledged {
  bool formatted = false;
  Epoch promised;
  std::vector<LogPosition> entries;
  uint64_t floor = 1;
};

DirectoryLogOptions options_of(const std::shared_ptr<SimulatedFiles>& disk) {
  DirectoryLogOptions options;
  options.directory = "/journal";
  options.journal = test_journal();
  options.segment_bytes = 24 << 10;
  options.files = disk;
  return options;
}

// Two leaderships with rolls, a trim and a base that supersedes something nobody acknowledged.
void work(const std::shared_ptr<SimulatedFiles>& disk, Acknowledged& told) {
  const auto options = options_of(disk);
  if (!format_directory_log(options)) return;
  told.formatted = true;
  for (uint64_t number = 1; number <= 2; ++number) {
    auto store = make_directory_log(options);
    const Epoch epoch{number, 100 + number};
    Leader leader(*store, epoch);
    if (!store->claim(epoch)) return;
    told.promised = epoch;
    if (!leader.lead()) return;
    for (int i = 0; i < 6; ++i) {
      if (!leader.append(1 + i % 2, i == 3 ? 9000 : 2500)) return;
      for (uint64_t s = told.entries.size() + 1; s <= leader.last().sequence; ++s) {
        told.entries.push_back(store->read(s, 1).value().at(0).position());
      }
      if (i != 4 || number != 2) continue;
      const uint64_t floor = 8;
      if (!store->trim(epoch, floor)) return;
      told.floor = floor;
    }
  }
}

// Empty, or what is wrong.
std::string check(const std::shared_ptr<SimulatedFiles>& disk, const Acknowledged& told) {
  const auto options = options_of(disk);
  if (!told.formatted) {
    auto again = format_directory_log(options);
    if (!again && !again.error().is(Errc::exists)) return again.error().message();
  }
  auto store = make_directory_log(options);
  const auto head = store->head();
  if (!head) return "head: " + head.error().message();
  if (head.value().promised < told.promised) return "a promise is forgotten";
  if (head.value().floor < told.floor) return "a floor is forgotten";
  Leader next(*store, {9, 9});
  if (auto led = next.lead(); !led) return "lead: " + led.error().message();
  const uint64_t floor = head.value().floor;
  for (const auto& position : told.entries) {
    if (position.sequence < floor) continue;
    const auto entry = store->read(position.sequence, 1);
    if (!entry) return "read: " + entry.error().message();
    if (entry.value().empty() || entry.value()[0].position() != position) {
      return "entry " + std::to_string(position.sequence) + " is lost";
    }
  }
  if (auto appended = next.append(2, 9000); !appended) return appended.error().message();
  if (auto trimmed = store->trim({9, 9}, next.last().sequence); !trimmed) {
    return trimmed.error().message();
  }
  const auto rest = store->read(next.last().sequence, kReadBytesMax);
  if (!rest || rest.value().size() != 1) return "the log does not go on";
  return "";
}

std::shared_ptr<SimulatedFiles> fresh_disk() {
  auto disk = std::make_shared<SimulatedFiles>();
  EXPECT_TRUE(disk->make_directory("/journal"));
  EXPECT_TRUE(disk->sync_directory("/"));
  return disk;
}

TEST(JournalPowerCut, KeepsWhatWasAcknowledgedAtEachChange) {
  Acknowledged all;
  auto whole = fresh_disk();
  const uint64_t first = whole->change_count();
  work(whole, all);
  ASSERT_EQ(all.entries.size(), 18u);
  ASSERT_EQ(check(whole, all), "");
  const uint64_t changes = [&] {
    auto counted = fresh_disk();
    Acknowledged ignored;
    work(counted, ignored);
    return counted->change_count();
  }();
  ASSERT_GT(changes, 60u);
  for (uint64_t change = first; change <= changes; ++change) {
    for (uint64_t seed = 0; seed < 3; ++seed) {
      auto disk = fresh_disk();
      disk->fail_power_at(change);
      Acknowledged told;
      work(disk, told);
      disk->power_cut(change * 1000 + seed);
      EXPECT_EQ(check(disk, told), "") << "power failed at change " << change << ", seed " << seed;
    }
  }
}

// Without one of the syncs something acknowledged may go, else the tests above see nothing.
TEST(JournalPowerCut, NeedsItsSyncs) {
  auto counted = fresh_disk();
  Acknowledged all;
  work(counted, all);
  const auto log = counted->sync_log();
  std::set<std::string> needed;
  for (uint64_t sync = 1; sync < log.size(); ++sync) {
    for (uint64_t seed = 0; seed < 6; ++seed) {
      auto disk = fresh_disk();
      disk->ignore_sync(sync);
      Acknowledged told;
      work(disk, told);
      disk->power_cut(sync * 100 + seed);
      if (check(disk, told).empty()) continue;
      needed.insert(log[sync].substr(0, log[sync].find('-')));
      break;
    }
  }
  EXPECT_TRUE(needed.contains("write /journal/segment")) << "appends";
  EXPECT_TRUE(needed.contains("directory /journal")) << "names";
}

}  // namespace
}  // namespace datacloud::journal
