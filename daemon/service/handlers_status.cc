// `datacloud status`: what maintenance knows of sites and stripes, and the mounts.
#include <fmt/format.h>

#include "daemon/service/service.h"

#include "daemon/maintenance/maintenance.h"
#include "daemon/records/reservations.h"

namespace datacloud {
namespace {

void check_mount(const SessionState& session, SiteSet& sites, StatusProblems& problems) {
  for (const auto& seen : session.health) {
    Site* site = sites.find(seen.site());
    if (seen.up() || site == nullptr || !site->up()) continue;
    problems.add(Health::degraded, fmt::format("{} does not reach site {}: {}", session.describe(),
                                               site->name(), seen.reason()));
  }
  if (!session.connection) {
    problems.add(
        Health::degraded,
        fmt::format("{} is disconnected; its session ends with its lease", session.describe()));
  }
}

}  // namespace

Answer MetadataService::status(const CallPtr& call) {
  maintenance_->count(SiteSpace::Age::now, [this, call](const auto& counts, const auto& space) {
    answer(call, status_reply(counts, space));
  });
  return later();
}

void MetadataService::snapshot(
    std::function<void(const pb::StatusReply&, const pb::TrafficReply&, const pb::FoldReply&)>
        done) {
  maintenance_->count(SiteSpace::Age::recent,
                      [this, done = std::move(done)](const auto& counts, const auto& space) {
                        pb::TrafficReply traffic;
                        add_traffic(traffic);
                        pb::FoldReply folds;
                        maintenance_->describe_folds(folds);
                        done(status_reply(counts, space).status(), traffic, folds);
                      });
}

void MetadataService::add_mounts(pb::StatusReply& status) {
  const auto now = loop_.now();
  for (const auto& [id, session] : sessions_.all()) {
    if (session->tool()) continue;
    auto* out = status.add_mounts();
    *out->mutable_session() = session->record;
    out->mutable_session()->clear_secret();
    out->set_connected(session->connection != nullptr);
    *out->mutable_stats() = session->stats;
    out->set_leases(static_cast<uint32_t>(leases_.leases_of(id)));
    out->set_idle_ms(std::chrono::duration_cast<milliseconds>(now - session->heard).count());
    for (const auto& health : session->health) *out->add_health() = health;
  }
}

void MetadataService::add_activity(pb::StatusDetails& details) const {
  for (const auto& [id, session] : sessions_.all()) {
    if (session->tool()) continue;
    auto* mount = details.add_mount_traffic();
    mount->set_session(id);
    mount->set_bytes_read(session->bytes_read);
    mount->set_bytes_written(session->bytes_written);
  }
  for (const auto& feature : feature_record_.features()) details.add_features(feature.name());
  for (const auto& [kind, count] : operations_) {
    const auto* field = pb::Request::descriptor()->FindFieldByNumber(kind);
    auto* operation = details.add_operations();
    operation->set_name(field != nullptr ? field->name() : "?");
    operation->set_count(count);
  }
  for (size_t i = 0; deps_.refusals && i < kRefusalCount; ++i) {
    auto* refusal = details.add_refusals();
    refusal->set_reason(refusal_name(static_cast<Refusal>(i)));
    refusal->set_count(deps_.refusals->of(static_cast<Refusal>(i)));
  }
}

pb::Reply MetadataService::status_reply(const StripeStatistics::Counts& counts,
                                        const SiteSpace::Report& space) {
  pb::Reply reply;
  auto& status = *reply.mutable_status();
  StatusProblems problems(status);
  maintenance_->describe(counts, space, status, problems);
  add_mounts(status);
  for (const auto& [id, session] : sessions_.all()) {
    if (!session->tool()) check_mount(*session, deps_.sites, problems);
  }
  check_journal(problems);
  check_leader(problems);
  status.set_sequence(store_.sequence());
  status.set_uptime_ms(std::chrono::duration_cast<milliseconds>(loop_.now() - started_).count());
  status.set_health(problems.health());
  pb::StatusDetails details;
  maintenance_->describe_details(counts, details);
  if (const auto reserved = reservations::demand(store_.begin()))
    details.set_reserved_bytes(reservations::total(reserved.value()));
  add_activity(details);
  if (deps_.journal) describe_journal(*details.mutable_journal());
  if (leadership_.daemons_size() > 1) describe_leader(*details.mutable_leader());
  status.set_details(details.SerializeAsString());
  return reply;
}

}  // namespace datacloud
