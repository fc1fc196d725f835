// Making a new cloud: keys, sites, metadata.
//
// Nothing is touched before everything has been checked, nothing that exists is ever overwritten,
// and what a failure leaves behind is undone when this run made it, or named. The order is keys,
// sites, metadata: each step needs what the earlier ones made, and the metadata store, made last,
// is what turns them into a cloud.
//
// The server of a site takes in machines that the cloud's authority has certified, which the new
// service key makes: so a site that another machine serves can only be formatted once the daemon
// runs and that machine has joined. Here it is entered in the records.
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
  std::optional<pb::JournalSet> journal;  // none: it has none, or not yet (journal_awaited)
  // Sites that other machines will serve: they are in the records, and are formatted when their
  // servers run (creation_finish.h).
  std::vector<std::string> awaited;
  bool journal_awaited = false;  // it is switched on when they are there
};

struct JournalChoice {
  bool wanted = false;         // at all sites
  bool accept_weaker = false;  // than files are
  bool with_inline = false;    // feature "inline" as well, once there is the journal
};

// "all", "none" or names with commas between them: what a new cloud uses from the beginning.
// Without those that need a journal (JournalChoice).
result<pb::Features> chosen_features(const std::string& choice);

// The root directory will belong to uid and gid.
result<CreatedCloud> create_cloud(const Config&, uint32_t uid, uint32_t gid,
                                  const pb::Features& features = {},
                                  const JournalChoice& journal = {});

// A random (version 4) UUID.
result<std::string> random_uuid();

// Every site that is not another machine's is there and holds no cloud; there are no key files and
// no metadata yet. Refuses with every reason found, one per line.
result<void> check_creation(const Config&);

// Takes back an empty site made by this run with that marker. False: something is left.
bool undo_format(const SiteConfig&, const SiteMarker&);

}  // namespace datacloud
