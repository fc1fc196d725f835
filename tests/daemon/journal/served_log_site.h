// A site's journal behind the site's server, over loopback with real TLS.
#pragma once

#include <filesystem>
#include <memory>

#include "daemon/journal/directory_log.h"
#include "daemon/journal/served_log.h"
#include "tests/daemon/journal/log_site.h"
#include "tests/support/served_site.h"

namespace datacloud::journal {

// As daemons show themselves (site_client_context).
inline NodeRoles daemon_roles() {
  NodeRoles roles = NodeRole::daemon;
  roles.add(NodeRole::mount);
  return roles;
}

class ServedLogSite final : public LogSite {
 public:
  ServedLogSite() {
    std::filesystem::create_directory(site.root() + "/journal");
    start();
    EXPECT_TRUE(format_served_log(site.options_for(daemon_roles()), test_journal()));
    const auto again = format_served_log(site.options_for(daemon_roles()), test_journal());
    EXPECT_TRUE(!again && again.error().is(Errc::exists)) << "once";
  }
  ~ServedLogSite() override { stop(); }
  std::unique_ptr<LogStore> open() override {
    return make_served_log(site.options_for(daemon_roles()), test_journal());
  }
  size_t pieces() override {
    size_t count = 0;
    for ([[maybe_unused]] const auto& entry :
         std::filesystem::directory_iterator(site.root() + "/journal")) {
      ++count;
    }
    return count;
  }
  void start() {
    LogServiceOptions options;
    const auto directory = [this](const JournalId& journal) {
      DirectoryLogOptions log;
      log.directory = site.root() + "/journal";
      log.journal = journal;
      log.segment_bytes = kSegmentBytes;
      return log;
    };
    options.open = [directory](const SiteMarker&, const JournalId& journal) {
      return result<std::unique_ptr<LogStore>>(make_directory_log(directory(journal)));
    };
    options.format = [directory](const SiteMarker&, const JournalId& journal) {
      return format_directory_log(directory(journal));
    };
    service_ = make_log_service(std::move(options));
    site.log = service_.get();
    site.start();
  }
  void stop() {
    site.stop();
    service_.reset();
  }
  ServedSite site;

 private:
  std::unique_ptr<SiteLogService> service_;
};

}  // namespace datacloud::journal
