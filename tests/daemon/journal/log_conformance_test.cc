// The conformance suite on the back ends that need no cluster; tests/rados has the others.
#include "tests/daemon/journal/log_conformance.h"

#include "daemon/journal/directory_log.h"
#include "daemon/journal/guarded_log.h"
#include "tests/daemon/journal/served_log_site.h"
#include "tests/support/simulated_files.h"
#include "tests/support/temporary_directory.h"

namespace datacloud::journal {
namespace {

class MemorySite final : public LogSite {
 public:
  explicit MemorySite(size_t unit) : memory_(make_guarded_memory(unit)) {
    auto objects = open_guarded_memory(memory_);
    EXPECT_TRUE(format_guarded_log(*objects, {test_journal(), kSegmentBytes}));
    EXPECT_FALSE(format_guarded_log(*objects, {test_journal(), kSegmentBytes})) << "once";
  }
  std::unique_ptr<LogStore> open() override {
    return make_guarded_log(open_guarded_memory(memory_), {test_journal(), kSegmentBytes});
  }
  size_t pieces() override { return guarded_memory_objects(*memory_); }

 private:
  std::shared_ptr<GuardedMemory> memory_;
};

class DirectorySite final : public LogSite {
 public:
  explicit DirectorySite(bool simulated) {
    options_.journal = test_journal();
    options_.segment_bytes = kSegmentBytes;
    options_.directory = directory_.path();
    if (simulated) {
      options_.files = std::make_shared<SimulatedFiles>();
      options_.directory = "/journal";
      EXPECT_TRUE(options_.files->make_directory("/journal"));
    }
    EXPECT_TRUE(format_directory_log(options_));
    EXPECT_FALSE(format_directory_log(options_)) << "once";
  }
  std::unique_ptr<LogStore> open() override { return make_directory_log(options_); }
  size_t pieces() override { return options_.files->list(options_.directory).value().size(); }

 private:
  TemporaryDirectory directory_{"/var/tmp"};  // a disk, where there is direct I/O
  DirectoryLogOptions options_;
};

INSTANTIATE_TEST_SUITE_P(
    , LogConformance,
    testing::Values(LogCase{"memory", [] { return std::make_unique<MemorySite>(1); }},
                    LogCase{"memory_in_units", [] { return std::make_unique<MemorySite>(8192); }},
                    LogCase{"directory", [] { return std::make_unique<DirectorySite>(false); }},
                    LogCase{"simulated_disk", [] { return std::make_unique<DirectorySite>(true); }},
                    LogCase{"served", [] { return std::make_unique<ServedLogSite>(); }}),
    log_case_name);

}  // namespace
}  // namespace datacloud::journal
