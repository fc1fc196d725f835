// Brings the parts of datacloudd together, refusing to start on anything that does not fit.
#pragma once

#include <atomic>
#include <memory>

#include "common/config/config.h"
#include "common/crypto/keys.h"
#include "common/rpc/rpc.h"
#include "daemon/program/daemon_certificate.h"
#include "daemon/program/metrics_source.h"
#include "daemon/service/service.h"

namespace datacloud {

// The running daemon. Destruction order matters: see the .cc.
class Daemon {
 public:
  // Errors say what to do: no metadata (run `datacloud create`), a service key or a site of another
  // cloud, sites missing from the configuration, a second daemon, an address in use.
  static result<std::unique_ptr<Daemon>> open(const Config&);
  ~Daemon();

  void run();   // until stop()
  void stop();  // from any thread
  // Runs `beat` on the service's thread every `interval` while that thread lives: a sign of life.
  void every(Duration interval, std::function<void()> beat);
  // Set when the daemon stopped itself: its metadata store failed, or another daemon leads.
  bool failed() const { return failed_; }
  // Why, for whoever started it.
  std::string failure_text() const;
  // Set when it stopped because its metadata can be written again: open another one.
  bool restart() const { return restart_; }
  // "5 of 5 sites", for the log.
  std::string describe() const;

 private:
  class ServerLoop;
  Daemon() = default;
  result<void> open_store(const Config&);
  result<void> rebuild(const Config&, const Error& why);
  result<void> open_metadata(const Config&, pb::Cloud&, KeyFile&);
  result<void> open_journal(const Config&, pb::Cloud&, const KeyFile&);
  result<void> open_sites(const Config&, const pb::Cloud&);
  result<void> open_service(const Config&, pb::Cloud, const KeyFile&);
  result<void> open_metrics(const std::string& address);
  void store_failed(const Error&);
  void journal_lost(const Error&);
  void await_writable();

  std::shared_ptr<ServerLoop> loop_;
  std::unique_ptr<SiteSet> sites_;
  std::shared_ptr<StateSpace> space_;
  std::unique_ptr<MetadataStore> store_;
  std::shared_ptr<JournalCommitter> journal_;  // null: the cloud has none
  LocalProcessProbe processes_;
  std::unique_ptr<DaemonCertificate> certificate_;
  std::unique_ptr<MetadataService> service_;
  std::unique_ptr<RpcServer> server_;
  std::shared_ptr<MetricsSource> metrics_;
  std::unique_ptr<MetricsExporter> exporter_;
  std::atomic<bool> failed_{false}, restart_{false};
  bool foreign_ = false;  // the store is no part of the journal, and cannot be made one
  std::string failure_;   // on the loop, and once that has ended
  bool waiting_ = false;  // on the loop: for a directory that can be written
};

}  // namespace datacloud
