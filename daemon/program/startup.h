// Brings the parts of datacloudd together, refusing to start on anything that does not fit.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/config/config.h"
#include "common/crypto/keys.h"
#include "common/rpc/rpc.h"
#include "daemon/journal/quorum_log.h"
#include "daemon/leadership/confirming_log.h"
#include "daemon/leadership/daemon_places.h"
#include "daemon/leadership/leader_lease.h"
#include "daemon/leadership/standby.h"
#include "daemon/program/daemon_certificate.h"
#include "daemon/program/metrics_source.h"
#include "daemon/service/service.h"

namespace datacloud {

class ServerLoop;

// What its owner does while it stands by.
struct StandbyHooks {
  std::function<void(const std::string& status)> standing_by;  // it follows the leader now
  std::function<void()> alive;                                 // a sign of life, many a second
};

// The running daemon. Destruction order matters: see the .cc.
class Daemon {
 public:
  enum class Role { leader, standby };
  // Errors say what to do: no metadata (run `datacloud create`), a service key or a site of another
  // cloud, sites missing from the configuration, a second daemon, an address in use.
  // As a standby it returns when it is to lead, and leads; null: asked to stop before that.
  static result<std::unique_ptr<Daemon>> open(const Config&, Role, const StandbyHooks&);
  ~Daemon();

  void run();   // until stop()
  void stop();  // from any thread
  // Runs `beat` on the service's thread every `interval` while that thread lives: a sign of life.
  void every(Duration interval, std::function<void()> beat);
  // Set when the daemon stopped itself: its metadata store failed, or another daemon leads.
  bool failed() const { return failed_; }
  // Why, for whoever started it.
  std::string failure_text() const;
  // What comes after it: nothing; another one that leads, as its metadata can be written again; or
  // one that stands by, as another daemon leads.
  enum class Next { nothing, leader, standby };
  Next next() const {
    return stands_down_ ? Next::standby : restart_ ? Next::leader : Next::nothing;
  }
  // "5 of 5 sites", for the log.
  std::string describe() const;

 private:
  Daemon() = default;
  result<void> open_store(const Config&);
  result<void> read_cloud(pb::Cloud&) const;
  bool has_sites_of(const pb::Cloud&) const;
  result<void> rebuild(const Config&, const Error& why);
  result<void> open_metadata(const Config&, pb::Cloud&, KeyFile&);
  // startup_journal.cc
  result<void> open_members(const Config&, const pb::Cloud&);
  result<void> open_journal(const Config&, pb::Cloud&, const KeyFile&);
  result<void> lead(const Config&, pb::Cloud&, const KeyFile&);
  result<void> await_old_lease() const;
  void keep_lease(const Config&);
  void journal_lost(const Error&);
  void release_journal();
  // startup_standby.cc
  result<bool> stand_by(const Config&, pb::Cloud&, const KeyFile&, const StandbyHooks&);
  result<bool> follow(const Config&, pb::Cloud&, const KeyFile&, const StandbyHooks&);
  result<void> open_sites(const Config&, const pb::Cloud&);
  result<void> open_service(const Config&, pb::Cloud, const KeyFile&);
  result<void> open_metrics(const std::string& address);
  void store_failed(const Error&);
  void await_writable();

  std::shared_ptr<ServerLoop> loop_;
  std::unique_ptr<SiteSet> sites_;
  pb::Cloud opened_sites_;  // as sites_ has them
  std::shared_ptr<StateSpace> space_;
  std::unique_ptr<MetadataStore> store_;
  std::shared_ptr<JournalCommitter> journal_;  // null: the cloud has none
  // Of a cloud with a journal:
  journal::QuorumLogOptions members_;  // without callbacks
  std::vector<std::shared_ptr<journal::LogStore>> logs_;
  std::shared_ptr<LeaderLease> lease_;
  std::shared_ptr<LeaseConfirmations> confirmations_;
  std::unique_ptr<LeaseKeeper> keeper_;
  std::shared_ptr<DaemonPlaces> places_ = std::make_shared<DaemonPlaces>();
  std::unique_ptr<Standby> standby_;
  std::shared_ptr<char> claim_;  // tells the newest from those before
  pb::Leadership leadership_;    // as the store has it when this one begins to lead
  BootTime claimed_at_{};        // its promise stood at enough sites
  bool nobody_answers_ = false;  // no earlier leader does: nothing has to be waited for
  LocalProcessProbe processes_;
  std::unique_ptr<DaemonCertificate> certificate_;
  std::unique_ptr<MetadataService> service_;
  std::unique_ptr<RpcServer> server_;
  std::shared_ptr<MetricsSource> metrics_;
  std::unique_ptr<MetricsExporter> exporter_;
  std::atomic<bool> failed_{false}, restart_{false}, stands_down_{false}, serving_{false};
  bool may_stand_by_ = false;  // fenced, it becomes a standby
  bool foreign_ = false;       // the store is no part of the journal, and cannot be made one
  std::string failure_;        // on the loop, and once that has ended
  bool waiting_ = false;       // on the loop: for a directory that can be written
};

}  // namespace datacloud
