// The small file in which a machine keeps where the daemons of its cloud were last reached:
// CLOUD.daemons beside the configuration CLOUD.toml, of mode 0600.
//
// Mounts write it when the leader tells of a change. It is never needed: without it a mount knows
// the addresses of its configuration. With it, one that starts while these are dead goes on where
// the daemons are by now, and has the key of the record at the sites (common/site/leader_record.h).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "common/base/error.h"
#include "common/crypto/keys.h"

namespace datacloud {

struct DaemonsFile {
  struct Daemon {
    std::string name;
    std::vector<std::string> addresses;
    bool leads = false;
    bool operator==(const Daemon&) const = default;
  };
  std::string cloud_uuid;
  SecretKey leader_key;
  uint64_t epoch = 0;  // of the journal, when that was written; 0: the cloud has none
  std::vector<Daemon> daemons;
};

std::filesystem::path daemons_file_of(const std::filesystem::path& configuration);

// not_found: there is none. invalid: it is damaged, or not ours; whoever reads it goes on without.
result<DaemonsFile> read_daemons_file(const std::filesystem::path&);
// Whole, or as it was before.
result<void> write_daemons_file(const std::filesystem::path&, const DaemonsFile&);

}  // namespace datacloud
