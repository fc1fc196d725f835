// Directory sites with records of who leads.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "common/site/leader_record.h"
#include "common/site/site_set.h"
#include "tests/support/temporary_directory.h"

namespace datacloud {

inline const std::string kLeaderCloud = "00000000-0000-4000-8000-000000000001";

inline pb::LeaderRecord leader_record(uint64_t epoch, uint64_t revision,
                                      const std::string& address) {
  pb::LeaderRecord record;
  record.set_epoch(epoch);
  record.set_nonce(5);
  record.set_revision(revision);
  auto* place = record.add_daemons();
  place->set_name("leader");
  place->set_leads(true);
  place->add_addresses(address);
  return record;
}

class LeaderSites {
 public:
  explicit LeaderSites(size_t count) {
    for (size_t i = 0; i < count; ++i) {
      SiteConfig site;
      site.name = "site" + std::to_string(i + 1);
      site.store = "directory";
      site.path = std::filesystem::path(directory_.path()) / site.name;
      std::filesystem::create_directory(site.path);
      SiteMarker marker;
      marker.cloud_uuid = kLeaderCloud;
      marker.cloud_name = "test";
      marker.site_name = site.name;
      marker.site_id = static_cast<uint32_t>(i + 1);
      const auto formatted = format_store(site, marker);
      EXPECT_TRUE(formatted) << formatted.error().message();
      configs.push_back(site);
      stores_.push_back(open_store(site, marker).value());
    }
  }
  void put_bytes(size_t site, int slot, Bytes bytes) {
    const std::string name = leader_record_name(slot);
    (void)wait_for<void>([&](auto done) { stores_[site]->remove(name, {}, done); });
    const auto put = wait_for<void>(
        [&](auto done) { stores_[site]->put(name, Payload::from(bytes), {}, {}, done); });
    EXPECT_TRUE(put) << put.error().message();
  }
  void put(size_t site, int slot, const pb::LeaderRecord& record) {
    put_bytes(site, slot, seal_leader_record(key, record));
  }
  void take_away(size_t site) {
    std::filesystem::rename(configs[site].path, configs[site].path.string() + "-away");
  }
  result<pb::LeaderRecord> read() {
    return read_leader_record(configs, kLeaderCloud, key, seconds(20), seconds(20));
  }
  std::string leader() {
    const auto record = read();
    return record ? record.value().daemons(0).addresses(0) : record.error().text();
  }

  const SecretKey key{Bytes(32, 7)};
  std::vector<SiteConfig> configs;

 private:
  const TemporaryDirectory directory_;
  std::vector<std::unique_ptr<ObjectStore>> stores_;
};

}  // namespace datacloud
