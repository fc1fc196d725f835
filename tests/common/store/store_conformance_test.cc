// The conformance suite over every back end that needs nothing but this machine.
#include "tests/common/store/store_conformance.h"

#include <filesystem>

#include "common/store/directory_store.h"
#include "common/store/memory_store.h"
#include "common/store/store_decorators.h"
#include "tests/support/simulated_files.h"
#include "tests/support/temporary_directory.h"

namespace datacloud {
namespace {

namespace fs = std::filesystem;

class MemorySite final : public SiteUnderTest {
 public:
  std::unique_ptr<ObjectStore> open() override { return make_memory_store(control_); }
  void take_away() override { control_.set_away(true); }
  void bring_back() override { control_.set_away(false); }

 private:
  MemoryStoreControl control_;
};

class DirectorySite : public SiteUnderTest {
 public:
  DirectorySite() {
    auto formatted = format_directory(*make_posix_file_layer(), root(), test_marker());
    if (!formatted) throw std::runtime_error(formatted.error().message());
  }
  std::unique_ptr<ObjectStore> open() override {
    return make_directory_store({root(), test_marker(), 4, nullptr});
  }
  // First gone, then an empty directory: the mount point that is left of an unmounted disk.
  void take_away() override {
    fs::rename(root(), away());
    if (empty_in_its_place_) fs::create_directory(root());
  }
  void bring_back() override {
    // Nothing may have been put into the substitute: this remove fails when it is not empty.
    if (empty_in_its_place_) fs::remove(root());
    empty_in_its_place_ = !empty_in_its_place_;
    fs::rename(away(), root());
  }

 private:
  std::string root() const { return directory_.path() / "site"; }
  std::string away() const { return directory_.path() / "site.away"; }

  TemporaryDirectory directory_{TemporaryDirectory::fast_parent()};
  bool empty_in_its_place_ = false;
};

class DecoratedDirectorySite final : public DirectorySite {
 public:
  std::unique_ptr<ObjectStore> open() override {
    auto faults = make_fault_store(DirectorySite::open(),
                                   [](StoreOp, const std::string&) { return Fault(); });
    return make_accounting_store(make_deadline_store(std::move(faults)), counters_);
  }

 private:
  TrafficCounters counters_;
};

class SimulatedDiskSite final : public SiteUnderTest {
 public:
  SimulatedDiskSite() {
    auto formatted = format_directory(*files_, "/site", test_marker());
    if (!formatted) throw std::runtime_error(formatted.error().message());
  }
  std::unique_ptr<ObjectStore> open() override {
    return make_directory_store({"/site", test_marker(), 4, files_});
  }
  void take_away() override { EXPECT_TRUE(files_->rename("/site", "/away")); }
  void bring_back() override { EXPECT_TRUE(files_->rename("/away", "/site")); }

 private:
  const std::shared_ptr<SimulatedFiles> files_ = std::make_shared<SimulatedFiles>();
};

template <class Site>
StoreCase make_case(const std::string& name) {
  return {name, [] { return std::make_unique<Site>(); }};
}

INSTANTIATE_TEST_SUITE_P(, StoreConformance,
                         testing::Values(make_case<MemorySite>("memory"),
                                         make_case<DirectorySite>("directory"),
                                         make_case<DecoratedDirectorySite>("directory_decorated"),
                                         make_case<SimulatedDiskSite>("directory_simulated_disk")),
                         case_name);

}  // namespace
}  // namespace datacloud
