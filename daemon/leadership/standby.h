// A daemon that does not lead: follows the log, watches the leader, and says when this one is to
// lead. docs/journal.md, "Standby and take-over".
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/crypto/keys.h"
#include "common/proto/journal.pb.h"
#include "daemon/journal/quorum_log.h"
#include "daemon/leadership/leader_link.h"
#include "daemon/leadership/leader_watch.h"
#include "daemon/leadership/site_reader.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud {

// How a standby is getting on, for people and metrics.
struct StandbyState {
  std::string leader;  // name; empty: not known
  bool leader_answers = false;
  uint64_t applied = 0;  // sequence
  uint64_t seen = 0;     // of the newest entry at the sites
  uint64_t behind = 0;   // entries that are committed and not applied
  bool noted = false;    // among the cloud's daemons: it takes over when the leader is gone
  std::string trouble;   // why it does not get on; empty: it does
};

class Standby {
 public:
  struct Options {
    MetadataStore& store;
    journal::JournalId journal{};
    SecretKey metadata_key;
    std::vector<journal::JournalMember> members;
    size_t adopt = 1;  // sites whose logs tell that the store is no part of the journal: S - q + 1
    LeaderLink::Options link;
    LeaderWatch::Rules rules;
    std::function<bool()> stopped;                  // asked all the time: the program is to end
    std::function<void()> alive;                    // called all the time: a sign of life
    std::function<void(const StandbyState&)> tell;  // when something has changed; may be empty
  };
  explicit Standby(Options);
  ~Standby();

  enum class End {
    take_over,  // the leader is gone, and it is this one's turn
    asked,      // the leader has handed over to this one
    stopped,
    rebuild,        // the store is no part of the journal: make it anew from the sites
    sites_changed,  // records of the sites, or of the journal's, have changed: begin anew
  };
  // Blocks, on the thread of the store. Failures: of the store.
  result<End> run();
  // Why `rebuild`.
  const std::string& why() const { return why_; }

 private:
  struct Loop;
  Options options_;
  std::string why_;
  std::unique_ptr<Loop> loop_;
};

}  // namespace datacloud
