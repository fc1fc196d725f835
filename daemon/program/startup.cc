// Opening and closing the daemon.
//
// Closing: first the loop takes no more posts, then the server (and everything queued on it) goes,
// then the service; store and sites end last and may still answer calls: into the closed loop.
#include "daemon/program/startup.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <mutex>
#include <string>
#include <utility>

#include "common/audit/shard_tags.h"
#include "common/base/log.h"
#include "common/store/rados/rados_store.h"
#include "common/tls/organisation.h"
#include "daemon/checkpoint/rebuild.h"
#include "daemon/metadata/journal_records.h"
#include "daemon/metadata/journal_start.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/metadata/state_directory.h"
#include "daemon/program/daemon_metrics.h"
#include "daemon/program/journal_sites.h"
#include "daemon/records/cloud_features.h"

namespace datacloud {
namespace {

constexpr auto kSiteCheck = seconds(3);
constexpr auto kWritableCheck = seconds(1);
constexpr auto kCommitAtEnd = seconds(10);

result<void> check_site_names(const Config& config, const pb::Cloud& cloud) {
  for (const auto& site : cloud.sites()) {
    const bool configured = std::any_of(config.sites.begin(), config.sites.end(),
                                        [&](const auto& s) { return s.name == site.name(); });
    if (!configured) {
      return failure(Errc::invalid,
                     fmt::format("{}: site {} belongs to the cloud {} but is not configured; add "
                                 "its [[site]]",
                                 config.file.string(), site.name(), cloud.name()));
    }
  }
  for (const auto& site : config.sites) {
    const bool known = std::any_of(cloud.sites().begin(), cloud.sites().end(),
                                   [&](const auto& s) { return s.name() == site.name; });
    if (known) continue;
    spdlog::warn(
        "{}: site {} does not belong to the cloud {}: `datacloud site add {}` makes it join",
        config.file.string(), site.name, cloud.name(), site.name);
  }
  return success();
}

const SiteConfig& config_of(const Config& config, const std::string& name) {
  return *std::find_if(config.sites.begin(), config.sites.end(),
                       [&](const auto& s) { return s.name == name; });
}

// A site that cannot be seen is away; one that is somebody else's is a mistake to be corrected first.
// Nobody waits for a Ceph cluster or another machine here: their stores look at the marker
// themselves and say what they find.
result<void> check_marker(const SiteConfig& site, const SiteMarker& expected) {
  if (site.store == "rados" || site.store == "remote") return success();
  const auto found = read_store_marker(site);
  if (!found) {
    spdlog::warn("site {} is away: {}", site.name, found.error().message());
    return success();
  }
  if (found.value() == expected) return success();
  return failure(
      Errc::invalid,
      fmt::format("site {} at {} belongs to cloud {} ({}) as site {} \"{}\", not to cloud "
                  "{} ({}) as site {}; correct the path in the configuration",
                  site.name, site.path.string(), found.value().cloud_name, found.value().cloud_uuid,
                  found.value().site_id, found.value().site_name, expected.cloud_name,
                  expected.cloud_uuid, expected.site_id));
}

// Nobody waits for what the daemon does at the sites, or hardly anybody.
result<std::unique_ptr<ObjectStore>> open_in_background(const SiteConfig& site,
                                                        const SiteMarker& expected) {
  if (site.store != "rados") return open_store(site, expected);
  RadosOptions options = rados_options(site, expected);
  options.background = true;
  return make_rados_store(std::move(options));
}

// A site that joins a running daemon, by the configuration as it is now.
result<MetadataService::Dependencies::Joined> open_joining(const std::filesystem::path& file,
                                                           const pb::Cloud& cloud,
                                                           const SecretKey& key,
                                                           const pb::SiteInfo& info) {
  TRY(const auto config, load_config(file));
  const auto site = std::find_if(config.sites.begin(), config.sites.end(),
                                 [&](const auto& s) { return s.name == info.name(); });
  if (site == config.sites.end()) {
    return failure(Errc::not_found, fmt::format("{}: no [[site]] is named \"{}\": add it",
                                                file.string(), info.name()));
  }
  const SiteMarker expected = marker_of(cloud, info);
  TRY(check_marker(*site, expected));
  MetadataService::Dependencies::Joined joined;
  TRY(joined.store, open_in_background(*site, expected));
  joined.audit_key = derive_audit_key(key, cloud.uuid(), info.id());
  joined.location = site_place(*site, cloud.uuid());
  return joined;
}

// Signals are blocked until somebody takes them, which is after the start (main.cc).
bool asked_to_stop() {
  sigset_t pending;
  return ::sigpending(&pending) == 0 &&
         (::sigismember(&pending, SIGTERM) == 1 || ::sigismember(&pending, SIGINT) == 1);
}

// Sites that have left keep only their ids.
result<pb::Cloud> read_cloud(const MetadataStore& store) {
  pb::Cloud cloud;
  TRY(const bool found, store.begin().get(key::meta("cloud"), cloud));
  if (!found) return failure(Errc::corrupt, "the metadata store has no cloud record");
  auto& sites = *cloud.mutable_sites();
  sites.erase(std::remove_if(sites.begin(), sites.end(),
                             [](const auto& s) { return s.duty() == pb::SITE_REMOVED; }),
              sites.end());
  return cloud;
}

}  // namespace

// The server's thread as an EventLoop that survives the server.
class Daemon::ServerLoop final : public EventLoop {
 public:
  void attach(RpcServer* server) {
    std::lock_guard lock(mutex_);
    server_ = server;
    for (auto& f : early_) server->post(std::move(f));
    for (auto& [delay, f] : early_timers_) server->after(delay, std::move(f));
    early_.clear();
    early_timers_.clear();
  }
  void close() {
    std::lock_guard lock(mutex_);
    server_ = nullptr;
    closed_ = true;
  }
  void post(std::function<void()> f) override {
    std::lock_guard lock(mutex_);
    if (server_ != nullptr) return server_->post(std::move(f));
    if (!closed_) early_.push_back(std::move(f));
  }
  void after(Duration delay, std::function<void()> f) override {
    std::lock_guard lock(mutex_);
    if (server_ != nullptr) return server_->after(delay, std::move(f));
    if (!closed_) early_timers_.emplace_back(delay, std::move(f));
  }
  MonotonicTime now() override { return monotonic_now(); }

 private:
  std::mutex mutex_;
  RpcServer* server_ = nullptr;
  bool closed_ = false;
  std::vector<std::function<void()>> early_;
  std::vector<std::pair<Duration, std::function<void()>>> early_timers_;
};

result<void> Daemon::open_store(const Config& config) {
  MetadataStore::Options options;
  options.directory = metadata_directory(config.daemon).string();
  options.cache_bytes = config.daemon.leveldb_cache_bytes;
  const auto files = make_posix_file_layer();
  space_ = std::make_shared<StateSpace>(files, options.directory);
  options.files = make_reserving_files(files, space_);
  TRY(store_, MetadataStore::open(std::move(options)));
  return success();
}

// The store is closed. not_found: the sites have no journal, so nothing can be rebuilt.
result<void> Daemon::rebuild(const Config& config, const Error& why) {
  const std::string directory = metadata_directory(config.daemon).string();
  spdlog::warn("{}; looking for the journal at the sites", why.message());
  std::string told;
  const auto rebuilt =
      rebuild_metadata(config, directory, [&](const std::string& what, uint64_t, uint64_t all) {
        if (std::exchange(told, what) != what) spdlog::info("rebuilding: {} ({})", what, all);
      });
  if (!rebuilt) return failure(rebuilt.error());
  const Recovered& done = rebuilt.value().recovered;
  spdlog::warn(
      "the metadata was rebuilt from the sites: {} records of the checkpoint of entry {}, and {} "
      "transactions up to entry {}",
      done.records, done.covered, done.transactions, done.position.sequence);
  for (const auto& problem : done.problems) spdlog::warn("rebuilding: {}", problem);
  if (!rebuilt.value().aside.empty()) {
    spdlog::warn("what was in {} is in {} now; delete it when you have looked at it", directory,
                 rebuilt.value().aside);
  }
  return open_store(config);
}

result<void> Daemon::open_metadata(const Config& config, pb::Cloud& cloud, KeyFile& key) {
  if (auto opened = open_store(config); !opened) {
    const bool missing = opened.error().is(Errc::not_found);
    if (!missing && !opened.error().is(Errc::corrupt)) return opened;
    const auto rebuilt = rebuild(config, opened.error());
    if (!rebuilt && missing && rebuilt.error().is(Errc::unavailable)) {
      return failure(
          Errc::unavailable,
          fmt::format("{}: the metadata is lost, and cannot be rebuilt now: {}",
                      metadata_directory(config.daemon).string(), rebuilt.error().text()));
    }
    if (!rebuilt && missing) {
      return failure(
          Errc::not_found,
          fmt::format("{}: there is no metadata of a cloud, and no journal from which it "
                      "could be rebuilt: {}. A new cloud: datacloud --config {} create",
                      metadata_directory(config.daemon).string(), rebuilt.error().text(),
                      config.file.string()));
    }
    if (!rebuilt) {
      return failure(Error(opened.error().code(),
                           fmt::format("{}; nor can it be rebuilt from a journal: {}",
                                       opened.error().text(), rebuilt.error().message())));
    }
  }
  TRY(cloud, read_cloud(*store_));
  TRY(key, read_key_file(config.keys.service, KeyFileKind::service));
  if (key.cloud_uuid == cloud.uuid()) return success();
  return failure(
      Errc::invalid,
      fmt::format("{} is the service key of cloud {}, and {} holds cloud {} ({}); correct "
                  "keys.service or daemon.state",
                  config.keys.service.string(), key.cloud_uuid, config.daemon.state.string(),
                  cloud.uuid(), cloud.name()));
}

// Claims the journal, and brings the store and it together. The records may be others afterwards.
result<void> Daemon::open_journal(const Config& config, pb::Cloud& cloud, const KeyFile& key) {
  if (!store_->journaled()) {
    TRY(const auto features, read_features(store_->begin()));
    if (!includes(features, Feature::journal)) return check_no_journal(config, cloud);
    return failure(Errc::corrupt,
                   "the cloud has a journal, and the record of its sites is gone; rebuild the "
                   "metadata from the sites: datacloud recover");
  }
  pb::JournalSet set;
  TRY(store_->begin().get(key::meta(kJournalRecord), set));
  TRY(auto options, quorum_options(config, cloud, set));
  options.fenced = [this, loop = loop_](const Error& error) {
    loop->post([this, error] { journal_lost(error); });
  };
  options.cancelled = asked_to_stop;
  TRY(auto log, journal::QuorumLog::claim(std::move(options)));
  auto started =
      start_journal(*store_, {.loop = loop_,
                              .log = std::move(log),
                              .journal = journal_id(cloud.uuid()).value(),
                              .metadata_key = journal::derive_metadata_key(key.key, cloud.uuid()),
                              .uncommitted_bytes_max = config.journal.uncommitted_bytes_max,
                              .fatal = [this](const Error& error) { store_failed(error); }});
  if (!started) {
    foreign_ = started.error().is(Errc::not_found);
    return failure(started.error());
  }
  journal_ = std::move(started.value().committer);
  const auto& did = started.value();
  if (did.replayed + did.undone + did.kept > 0) {
    spdlog::warn(
        "the metadata store was behind the journal or ahead of it: {} transactions were replayed, "
        "{} that no quorum had were put into the journal, {} were taken back",
        did.replayed, did.kept, did.undone);
  }
  TRY(cloud, read_cloud(*store_));
  return success();
}

result<void> Daemon::open_sites(const Config& config, const pb::Cloud& cloud) {
  TRY(check_site_names(config, cloud));
  std::vector<SiteSet::Member> members;
  for (const auto& info : cloud.sites()) {
    const SiteConfig& site = config_of(config, info.name());
    const SiteMarker expected = marker_of(cloud, info);
    TRY(check_marker(site, expected));
    TRY(auto store, open_in_background(site, expected));
    members.push_back({info.id(), info.name(), std::move(store)});
  }
  sites_ = std::make_unique<SiteSet>(std::move(members));
  sites_->on_change([this, loop = loop_](Site& site) {
    if (site.up()) {
      spdlog::info("site {} is back", site.name());
    } else {
      spdlog::warn("site {} is away: {}", site.name(), site.away_reason());
    }
    loop->post([this] { service_->on_site_change(); });
  });
  sites_->check_all(kSiteCheck);
  return success();
}

result<void> Daemon::open_service(const Config& config, pb::Cloud cloud, const KeyFile& key) {
  TRY(auto code, make_erasure_code(cloud.root_policy().code()));
  std::map<std::string, std::string> locations;
  for (const auto& site : config.sites) {
    locations[site.name] = site_place(site, cloud.uuid());
  }
  const auto authority = std::make_shared<const CertificateAuthority>(
      CertificateAuthority::derive(key.key, cloud.uuid()));
  const auto refusals = std::make_shared<PeerRefusals>();
  Bytes name_key = derive_name_key(key.key, cloud.uuid());
  service_ = std::make_unique<MetadataService>(MetadataService::Dependencies{
      .store = *store_,
      .sites = *sites_,
      .loop = loop_,
      .processes = processes_,
      .cloud = cloud,
      .config = config.daemon,
      .name_key = std::move(name_key),
      .code = std::move(code),
      .site_locations = std::move(locations),
      .audit_keys = ShardTags::derive_keys(key.key, cloud),
      .audit_signer =
          std::make_shared<const SigningKey>(derive_audit_signer(key.key, cloud.uuid())),
      .open_site = [file = config.file, cloud, key = key.key](
                       const pb::SiteInfo& info) { return open_joining(file, cloud, key, info); },
      .space = space_,
      .authority = authority,
      .refusals = refusals,
      .journal = journal_,
      .journal_config = config.journal,
      .format_journal = [file = config.file, cloud](
                            const pb::JournalSet& set) { return format_logs(file, cloud, set); },
      .start_anew =
          [this] {
            restart_ = true;
            stop();
          },
      .fatal = [this](const Error& error) { store_failed(error); },
  });
  service_->seal_checkpoints(journal::derive_metadata_key(key.key, cloud.uuid()));
  TRY(service_->start());
  RpcServerOptions rpc;
  rpc.threads = config.daemon.rpc_threads;
  server_ = make_rpc_server(*service_, rpc);
  loop_->attach(server_.get());
  Bytes organisation;
  if (!config.node.joined() && !config.node.authority.empty()) {
    TRY(organisation, read_authorities_file(config.node.authority));
  }
  certificate_ = std::make_unique<DaemonCertificate>(authority, std::move(organisation));
  server_->serve_tls(
      {.context = [this] { return certificate_->context(); },
       .admit = [this](const PeerCertificate& shown, PeerCredentials& peer,
                       Refusal& reason) { return service_->admit_peer(shown, peer, reason); },
       .refusals = refusals});
  if (config.node.joined()) {
    return failure(Errc::invalid, config.file.string() +
                                      " is the configuration of a node: the "
                                      "daemon runs elsewhere");
  }
  if (config.daemon.listen.empty()) {
    return failure(Errc::invalid, config.file.string() + ": daemon.listen is not set");
  }
  for (const auto& address : config.daemon.listen) {
    TRY(server_->listen(address));
  }
  return success();
}

// A store that cannot write for want of room or permission is whole: reading goes on, changes are
// refused with the reason, and as soon as the directory can be written again the daemon starts
// anew, which opens the store as after a crash. Any other failure ends the daemon.
void Daemon::store_failed(const Error& error) {
  if (failed_ || waiting_) return;
  if (!cannot_write(error)) {
    spdlog::critical("the metadata store has failed: {}; stopping", error.message());
    failure_ = "the metadata store has failed; see the log";
    failed_ = true;
    return stop();
  }
  waiting_ = true;
  spdlog::critical("{}; until then everything can be read and nothing changed", error.message());
  space_->set_failed(error);
  await_writable();
}

// What was applied since the other's claim is in this directory, and in no quorum's log. The next
// start here takes it back, or puts it into the journal if the other one has changed nothing.
void Daemon::journal_lost(const Error& error) {
  if (failed_) return;
  failure_ = "another daemon leads the cloud now: " + error.text() +
             "; this one may be started again once that has been stopped";
  spdlog::critical("{}; stopping", failure_);
  failed_ = true;
  stop();
}

std::string Daemon::failure_text() const { return failure_; }

void Daemon::await_writable() {
  loop_->after(kWritableCheck, [this] {
    if (!space_->writable()) return await_writable();
    spdlog::info("{} can be written again: the daemon starts anew", space_->directory());
    restart_ = true;
    stop();
  });
}

result<void> Daemon::open_metrics(const std::string& address) {
  if (address.empty()) return success();
  metrics_ = std::make_shared<MetricsSource>([this](MetricsSource::Answer answer) {
    loop_->post([this, answer = std::move(answer)] {
      service_->snapshot(
          [this, answer](const auto& status, const auto& traffic, const auto& folds) {
            using Seconds = std::chrono::duration<double>;
            const Seconds now = std::chrono::system_clock::now().time_since_epoch();
            Metrics metrics = daemon_metrics(status, traffic, folds, now.count());
            add_rpc_metrics(server_->stats(), metrics);
            answer(std::move(metrics));
          });
    });
  });
  TRY(exporter_, export_metrics(address, [source = metrics_] { return source->get(); }));
  return success();
}

result<std::unique_ptr<Daemon>> Daemon::open(const Config& config) {
  std::unique_ptr<Daemon> daemon(new Daemon);
  daemon->loop_ = std::make_shared<ServerLoop>();
  pb::Cloud cloud;
  KeyFile key;
  TRY(daemon->open_metadata(config, cloud, key));
  auto led = daemon->open_journal(config, cloud, key);
  if (!led && daemon->foreign_) {
    daemon->store_.reset();
    TRY(daemon->rebuild(config, led.error()));
    TRY(cloud, read_cloud(*daemon->store_));
    led = daemon->open_journal(config, cloud, key);
  }
  if (!led) return failure(led.error());
  TRY(daemon->open_sites(config, cloud));
  TRY(daemon->open_service(config, std::move(cloud), key));
  TRY(daemon->open_metrics(config.daemon.metrics));
  return daemon;
}

Daemon::~Daemon() {
  if (metrics_) metrics_->close();
  exporter_.reset();
  loop_->close();
  server_.reset();
  service_.reset();
  journal_.reset();
  store_.reset();
  sites_.reset();
}

void Daemon::run() {
  server_->run();
  if (failed_ || waiting_) return;
  if (journal_) {
    if (auto committed = journal_->wait_durable(kCommitAtEnd); !committed) {
      spdlog::error("{}; the next start puts them there", committed.error().text());
    }
  }
  if (auto synced = store_->wait_durable(store_->sequence()); !synced) {
    spdlog::error("the last changes may not survive a power cut: {}", synced.error().message());
  }
}

void Daemon::stop() {
  if (server_) server_->stop();
}

void Daemon::every(Duration interval, std::function<void()> beat) {
  loop_->after(interval, [this, interval, beat] {
    beat();
    every(interval, beat);
  });
}

std::string Daemon::describe() const {
  return fmt::format("{} of {} sites are up", sites_->live_count(), sites_->size());
}

}  // namespace datacloud
