// Making a new cloud: keys, sites, metadata.
//
// Nothing is touched before everything has been checked, nothing that exists is ever overwritten,
// and what a failure leaves behind is undone when this run made it, or named. The order is keys,
// sites, metadata: each step needs what the earlier ones made, and the metadata store, made last,
// is what turns them into a cloud.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/config/config.h"
#include "common/proto/journal.pb.h"
#include "common/proto/records.pb.h"
#include "common/store/object_store.h"
#include "common/stripe/placement.h"

namespace datacloud {

struct CreatedCloud {
  pb::Cloud cloud;
  Tolerance tolerance;
  double overhead = 0;  // stored bytes per byte of incompressible data, n / k
  std::vector<std::string> warnings;
  std::optional<pb::JournalSet> journal;  // none: it has none
};

struct JournalChoice {
  bool wanted = false;         // at all sites
  bool accept_weaker = false;  // than files are
};

// "all", "none" or names with commas between them: what a new cloud uses from the beginning.
result<pb::Features> chosen_features(const std::string& choice);

// The root directory will belong to uid and gid.
result<CreatedCloud> create_cloud(const Config&, uint32_t uid, uint32_t gid,
                                  const pb::Features& features = {},
                                  const JournalChoice& journal = {});

// A random (version 4) UUID.
result<std::string> random_uuid();

// Every site is there and holds no cloud; there are no key files and no metadata yet. Refuses with
// every reason found, one per line.
result<void> check_creation(const Config&);

// Takes back an empty site made by this run with that marker. False: something is left.
bool undo_format(const SiteConfig&, const SiteMarker&);

}  // namespace datacloud
