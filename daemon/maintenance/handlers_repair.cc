// Repair and the duties of sites, as the administrator asks for them.
#include <fmt/format.h>

#include <algorithm>

#include "common/base/log.h"
#include "daemon/maintenance/maintenance.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"

namespace datacloud {
namespace {

constexpr size_t kQueueCounted = 200'000;  // beyond, "at least"
constexpr size_t kObstaclesTold = 20;

constexpr struct {
  const char* name;
  RepairStrategy strategy;
} kStrategies[] = {{"exact", RepairStrategy::cheapest},
                   {"row-first", RepairStrategy::row_first},
                   {"column-first", RepairStrategy::column_first}};

pb::SiteInfo* site_info(pb::Cloud& cloud, SiteId id) {
  for (auto& info : *cloud.mutable_sites()) {
    if (info.id() == id) return &info;
  }
  return nullptr;
}

}  // namespace

Answer Maintenance::repair(const CallPtr& call) {
  const auto& request = call->request.repair();
  if (request.scrub()) missing_shard_scrub_.start(0, [this] { repairer_.kick(); });
  if (request.start()) repairer_.restart();
  pb::Reply reply;
  auto* out = reply.mutable_repair();
  TRY(const auto queued, queued_repairs(store_.begin(), "", kQueueCounted));
  out->set_queued(queued.size());
  out->set_put_off(repairer_.put_off());
  out->set_scrubbing(missing_shard_scrub_.running());
  out->set_idle(repairer_.idle() && !missing_shard_scrub_.running());
  for (auto& text : repairer_.obstacles(kObstaclesTold)) out->add_obstacles(std::move(text));
  out->set_shards_checked(missing_shard_scrub_.progress().shards_checked);
  out->set_missing_found(missing_shard_scrub_.progress().missing);
  out->set_next_line(repairer_.lines(request.lines_after(), *out));
  add_site_infos(out->mutable_sites());
  return std::optional(std::move(reply));
}

Answer Maintenance::repair_details(const pb::RepairDetailsRequest& request) {
  if (!request.plan().empty()) {
    const auto known = std::find_if(std::begin(kStrategies), std::end(kStrategies),
                                    [&](const auto& s) { return s.name == request.plan(); });
    if (known == std::end(kStrategies)) {
      return failure(Errc::invalid,
                     fmt::format("repairs are planned exact, row-first or column-first, not \"{}\"",
                                 request.plan()));
    }
    repair_strategy_ = known->strategy;
  }
  pb::AdminReply admin;
  auto& out = *admin.mutable_repair_details();
  for (const auto& known : kStrategies) {
    if (known.strategy == repair_strategy_) out.set_plan(known.name);
  }
  repairer_.details(request.lines_after(), request.lines_until(), out);
  pb::Reply reply;
  reply.set_admin(admin.SerializeAsString());
  return std::optional(std::move(reply));
}

Answer Maintenance::site(const CallPtr& call) {
  const auto& request = call->request.site();
  Site* site = deps_.sites.find(request.name());
  pb::SiteInfo* info = site != nullptr ? site_info(deps_.cloud, site->id()) : nullptr;
  if (info == nullptr) {
    return failure(
        Errc::not_found,
        fmt::format("the cloud has no site \"{}\"; `datacloud status` lists them", request.name()));
  }
  const auto duty_after = [&]() -> pb::SiteDuty {
    switch (request.action()) {
      case pb::SITE_DRAIN:
        return pb::SITE_DRAINING;
      case pb::SITE_DECLARE_LOST:
        return pb::SITE_LOST;
      case pb::SITE_ACTIVATE:
        return pb::SITE_ACTIVE;
      default:
        return info->duty();
    }
  }();
  if (duty_after != info->duty()) {
    spdlog::warn("site {} is now {}", site->name(), pb::SiteDuty_Name(duty_after));
    Transaction txn = store_.begin();
    pb::Cloud record;
    TRY(txn.get(key::meta("cloud"), record));
    if (pb::SiteInfo* stored = site_info(record, site->id())) stored->set_duty(duty_after);
    txn.put(key::meta("cloud"), record);
    info->set_duty(duty_after);
    repairer_.make_sweep_due(txn);
    TRY(committer_.apply(std::move(txn)));
  }
  if (request.scrub()) missing_shard_scrub_.start(site->id(), [this] { repairer_.kick(); });
  if (request.action() != pb::SITE_SHOW) repairer_.restart();
  pb::Reply reply;
  *reply.mutable_site()->mutable_site() = *info;
  reply.mutable_site()->set_up(site->up());
  reply.mutable_site()->set_reason(site->away_reason());
  return std::optional(std::move(reply));
}

}  // namespace datacloud
