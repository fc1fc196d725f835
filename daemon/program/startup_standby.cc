// A daemon that stands by: follows the leader, then leads itself (daemon/leadership).
#include <fmt/format.h>

#include <mutex>
#include <utility>

#include "common/base/log.h"
#include "common/config/daemon_place.h"
#include "common/store/remote/site_credentials.h"
#include "daemon/journal/entry_sealer.h"
#include "daemon/metadata/journal_records.h"
#include "daemon/program/server_loop.h"
#include "daemon/program/start_signals.h"
#include "daemon/program/startup.h"

namespace datacloud {
namespace {

// What the exporter's threads show of it.
struct StandbyBoard {
  std::mutex mutex;
  StandbyState state;
};

Metrics standby_metrics(const StandbyState& state) {
  Metrics out;
  const auto add = [&](const char* name, const char* help, double value) {
    out.push_back({name, help, MetricFamily::Type::gauge, {{{}, value}}});
  };
  add("datacloud_leader", "Whether this daemon leads the cloud", 0);
  add("datacloud_standby_behind_entries", "Committed entries that this standby has not applied",
      static_cast<double>(state.behind));
  add("datacloud_standby_leader_answers", "Whether the leader answers this standby",
      state.leader_answers ? 1 : 0);
  add("datacloud_standby_noted", "Whether this standby takes over when the leader is gone",
      state.noted ? 1 : 0);
  return out;
}

Standby::Options standby_options(const Config& config, const pb::Cloud& cloud, const KeyFile& key,
                                 MetadataStore& store, journal::QuorumLogOptions members) {
  Standby::Options options{.store = store};
  options.journal = members.journal;
  options.metadata_key = journal::derive_metadata_key(key.key, cloud.uuid());
  options.adopt = static_cast<size_t>(members.rules.adopt);
  options.members = std::move(members.members);
  options.link.self.set_name(daemon_name(config.daemon));
  options.link.self.set_order(config.daemon.order);
  for (const auto& address : advertised_addresses(config.daemon))
    options.link.self.add_addresses(address);
  SiteConfig credentials;  // as the daemon shows them to the sites' servers
  credentials.name = "standby";
  credentials.service_key = config.keys.service;
  options.link.tls = [credentials] { return site_client_context(credentials); };
  options.rules.silence = milliseconds(config.journal.takeover_after_ms);
  options.link.silence = options.rules.silence;
  options.stopped = asked_to_stop;
  return options;
}

}  // namespace

bool Daemon::has_sites_of(const pb::Cloud& cloud) const {
  if (!sites_ || opened_sites_.sites_size() != cloud.sites_size()) return false;
  for (int i = 0; i < cloud.sites_size(); ++i) {
    const auto &had = opened_sites_.sites(i), &has = cloud.sites(i);
    if (had.id() != has.id() || had.name() != has.name()) return false;
  }
  return true;
}

// False: the program is to end. True: this daemon is to lead.
result<bool> Daemon::follow(const Config& config, pb::Cloud& cloud, const KeyFile& key,
                            const StandbyHooks& hooks) {
  const auto board = std::make_shared<StandbyBoard>();
  if (!config.daemon.metrics.empty()) {
    TRY(exporter_, export_metrics(config.daemon.metrics, [board] {
          std::lock_guard lock(board->mutex);
          return standby_metrics(board->state);
        }));
  }
  for (;;) {
    standby_.reset();
    if (auto opened = open_members(config, cloud); !opened) {
      if (!opened.error().is(Errc::not_found)) return failure(opened.error());
      return failure(Errc::invalid,
                     fmt::format("the cloud {} has no journal, which a standby follows: `datacloud "
                                 "journal enable` switches it on; or start this daemon without "
                                 "--standby",
                                 cloud.name()));
    }
    // In advance: a take-over needs them at once.
    if (!has_sites_of(cloud)) {
      sites_.reset();
      TRY(open_sites(config, cloud));
    }
    auto members = members_;
    for (size_t i = 0; i < logs_.size(); ++i) members.members[i].log = logs_[i];
    auto options = standby_options(config, cloud, key, *store_, std::move(members));
    options.alive = hooks.alive;
    options.tell = [board](const StandbyState& state) {
      std::lock_guard lock(board->mutex);
      board->state = state;
    };
    standby_ = std::make_unique<Standby>(std::move(options));
    hooks.standing_by(fmt::format("standing by for the cloud {}", cloud.name()));
    TRY(const auto end, standby_->run());
    switch (end) {
      case Standby::End::stopped:
        return false;
      case Standby::End::take_over:
        spdlog::warn("the daemon that leads is gone: this one takes over");
        return true;
      case Standby::End::asked:
        spdlog::warn("the daemon that leads hands over to this one");
        return true;
      case Standby::End::rebuild: {
        const Error why(Errc::not_found, standby_->why());
        standby_.reset();
        store_.reset();
        TRY(rebuild(config, why));
        break;
      }
      case Standby::End::sites_changed:
        break;
    }
    TRY(read_cloud(cloud));
  }
}

result<bool> Daemon::stand_by(const Config& config, pb::Cloud& cloud, const KeyFile& key,
                              const StandbyHooks& hooks) {
  for (;;) {
    TRY(const bool leads, follow(config, cloud, key, hooks));
    if (!leads) return false;
    exporter_.reset();
    const auto led = lead(config, cloud, key);
    if (led) return true;
    // Another one was first, or too few sites answer: it goes on following.
    if (!led.error().is(Errc::stale) && !led.error().is(Errc::unavailable)) {
      return failure(led.error());
    }
    if (asked_to_stop()) return false;
    spdlog::warn("this daemon does not lead: {}", led.error().text());
    TRY(read_cloud(cloud));
  }
}

}  // namespace datacloud
