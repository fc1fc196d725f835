// Keeps the record of who leads (common/site/leader_record.h) at every site, while this daemon
// leads.
//
// It is advice for mounts that know no living address; nothing here depends on it. So a site that
// fails is tried again a little later, and a daemon that was fenced and does not know it yet
// replaces no newer leadership's record: of a site's two places the older one is written.
//
// Threads: the loop's. Answers of sites come back to it, and are dropped once this is gone.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "common/crypto/keys.h"
#include "common/proto/leader.pb.h"
#include "common/site/site_set.h"
#include "daemon/journal/log_position.h"
#include "daemon/leadership/daemon_places.h"
#include "daemon/loop/event_loop.h"

namespace datacloud {

class LeaderRecordWriter {
 public:
  struct Options {
    std::shared_ptr<EventLoop> loop;
    SecretKey key;  // derive_leader_key()
    journal::Epoch epoch;
    Duration retry = seconds(10);
  };
  // `sites` outlives this.
  LeaderRecordWriter(SiteSet& sites, Options);

  // From now on the sites are to have these. Returns at once.
  void set(const std::vector<KnownDaemon>&);
  // One came back: it may lack the newest.
  void on_site_change();
  // Sites that do not have the newest record yet, of those that are up.
  size_t missing() const;

 private:
  struct AtSite {
    uint64_t revision = 0;  // that it has
    bool busy = false;
    bool superseded = false;  // it has a newer leadership's
    MonotonicTime again{};
  };
  // A site's two places as they were read; nullopt: nothing is there. A damaged one is as old as
  // can be.
  using Slots = std::array<std::optional<pb::LeaderRecord>, 2>;
  void write_all();
  void write(Site&, AtSite&);
  void read(Site&, int slot, std::shared_ptr<Slots>);
  void replace(Site&, const Slots&);
  void put(Site&, int slot, uint64_t revision, Bytes sealed);
  void done(SiteId, uint64_t revision);
  void failed(SiteId, const Error&);
  template <class T>
  Callback<T> on_loop(std::function<void(result<T>)>);

  SiteSet& sites_;
  const Options options_;
  pb::LeaderRecord record_;  // the newest; revision 0: none yet
  std::map<SiteId, AtSite> at_;
  bool timer_ = false;
  const std::shared_ptr<char> alive_ = std::make_shared<char>();
};

}  // namespace datacloud
