// The conformance suite over a site that is served: its disk goes away, or its server does.
#include "tests/common/store/store_conformance.h"

#include <filesystem>

#include "tests/support/served_site.h"

namespace datacloud {
namespace {

namespace fs = std::filesystem;

class ServedDirectory : public SiteUnderTest {
 public:
  explicit ServedDirectory(bool on_this_machine = false) {
    site_.on_this_machine = on_this_machine;
    site_.start();
  }
  std::unique_ptr<ObjectStore> open() override { return site_.open(); }
  void take_away() override { fs::rename(site_.root(), site_.root() + ".away"); }
  void bring_back() override { fs::rename(site_.root() + ".away", site_.root()); }

 protected:
  ServedSite site_;
};

// By the socket of this machine, and shared memory.
class ServedHere final : public ServedDirectory {
 public:
  ServedHere() : ServedDirectory(true) {}
};

class StoppedServer final : public ServedDirectory {
 public:
  void take_away() override { site_.stop(); }
  // Whoever was turned away waits a moment before it tries again.
  void bring_back() override {
    site_.start();
    std::this_thread::sleep_for(milliseconds(2100));
  }
};

template <class Site>
StoreCase make_case(const std::string& name) {
  return {name, [] { return std::make_unique<Site>(); }};
}

INSTANTIATE_TEST_SUITE_P(, StoreConformance,
                         testing::Values(make_case<ServedDirectory>("served"),
                                         make_case<ServedHere>("served_here"),
                                         make_case<StoppedServer>("served_by_turns")),
                         case_name);

}  // namespace
}  // namespace datacloud
