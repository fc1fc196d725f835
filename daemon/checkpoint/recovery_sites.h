// The sites of the configuration, opened with the configuration and the service key alone: nothing
// of the cloud's records is at hand.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/config/config.h"
#include "common/crypto/keys.h"
#include "common/site/site_set.h"
#include "daemon/checkpoint/recovery.h"
#include "daemon/journal/log_position.h"

namespace datacloud {

struct RecoverySites {
  std::string cloud_uuid;
  std::string cloud_name;  // as a site's marker has it
  journal::JournalId journal{};
  SecretKey metadata_key;
  std::vector<RecoverySource> sources;  // one per configured site
  std::unique_ptr<SiteSet> sites;       // those whose markers could be read

  CheckpointPlace place() const {
    return {.metadata_key = metadata_key, .journal = journal, .sites = *sites};
  }
};

// Reads every site's marker, which says which site it is, and opens its objects and its log. Sites
// that do not answer, or are another cloud's, become sources with an obstacle. invalid: the key
// file cannot be used, or no site of its cloud is there; the text names each site's reason.
result<RecoverySites> open_recovery_sites(const Config&);

}  // namespace datacloud
