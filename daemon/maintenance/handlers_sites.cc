// Sites that join and leave the cloud, and the rebalancing of homes over them.
//
// A site that joins is entered into the cloud's record. The daemon then opens it with the current
// configuration, and mounts learn of it with their next keepalive. If it cannot be opened, it is
// used after the next restart. A site leaves only when no record names it: while all records are
// searched, commits that name it are refused.
#include <fmt/format.h>

#include <algorithm>

#include "common/base/log.h"
#include "daemon/maintenance/maintenance.h"
#include "daemon/metadata/journal_records.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/repair/site_jobs.h"

namespace datacloud {
namespace {

constexpr int kSitesMax = 64;

pb::SiteInfo* info_of(pb::Cloud& cloud, const std::string& name) {
  for (auto& info : *cloud.mutable_sites()) {
    if (info.name() == name && info.duty() != pb::SITE_REMOVED) return &info;
  }
  return nullptr;
}

uint32_t next_id(const pb::Cloud& cloud) {
  uint32_t id = 0;
  for (const auto& info : cloud.sites()) id = std::max(id, info.id());
  return id + 1;
}

pb::Reply removed_reply(const std::string& name) {
  pb::AdminReply admin;
  admin.mutable_site_change()->mutable_site()->set_name(name);
  admin.mutable_site_change()->mutable_site()->set_duty(pb::SITE_REMOVED);
  return wrapped(admin);
}

}  // namespace

Answer Maintenance::site_change(const CallPtr& call, const pb::SiteChangeRequest& request) {
  switch (request.change()) {
    case pb::SiteChangeRequest::PREPARE:
    case pb::SiteChangeRequest::ADD:
      return add_site(call, request);
    case pb::SiteChangeRequest::REMOVE:
      return remove_site(call, request.name());
    default:
      break;
  }
  background_.submit_prompt([this, call] {
    auto moved = std::make_shared<result<uint64_t>>(rebalance(background_context_));
    (void)background_.on_loop<void>([this, call, moved]() -> result<void> {
      if (!*moved) {
        responder_.refuse(call, moved->error());
        return success();
      }
      repairer_.kick();
      pb::AdminReply admin;
      admin.mutable_site_change()->set_moves(moved->value());
      responder_.answer(call, wrapped(admin));
      return success();
    });
  });
  return later();
}

// PREPARE tells the id the site will have, for its marker; ADD enters it. Both may be repeated.
Answer Maintenance::add_site(const CallPtr& call, const pb::SiteChangeRequest& request) {
  Transaction txn = store_.begin();
  pb::Cloud record;
  TRY(txn.get(key::meta("cloud"), record));
  pb::AdminReply admin;
  auto& out = *admin.mutable_site_change();
  if (const pb::SiteInfo* known = info_of(record, request.name())) {
    *out.mutable_site() = *known;
    out.set_known(true);
    if (deps_.sites.find(request.name()) == nullptr && deps_.open_site) {
      use_site(call, *known);
      return later();
    }
    out.set_restart_needed(deps_.sites.find(request.name()) == nullptr);
    return std::optional(wrapped(admin));
  }
  if (request.name().empty() || record.sites_size() >= kSitesMax) {
    return failure(Errc::invalid,
                   fmt::format("a cloud has up to {} sites, each with a name", kSitesMax));
  }
  pb::SiteInfo info;
  info.set_id(next_id(record));
  info.set_name(request.name());
  *out.mutable_site() = info;
  out.set_restart_needed(true);
  if (request.change() == pb::SiteChangeRequest::PREPARE) return std::optional(wrapped(admin));
  if (request.id() != info.id()) {
    return failure(Errc::stale, fmt::format("site {} would be number {} by now, not {}: ask again",
                                            info.name(), info.id(), request.id()));
  }
  *record.add_sites() = info;
  txn.put(key::meta("cloud"), record);
  TRY(committer_.apply(std::move(txn)));
  spdlog::warn("site {} has joined the cloud", info.name());
  committer_.when_durable([this, call, info, reply = wrapped(admin)] {
    deps_.open_site ? use_site(call, info) : responder_.answer(call, reply);
  });
  return later();
}

// Opening may block. After a failure the site is used from the next restart on.
void Maintenance::use_site(const CallPtr& call, const pb::SiteInfo& info) {
  background_.submit_prompt([this, call, info] {
    auto opened = std::make_shared<result<ServiceDependencies::Joined>>(deps_.open_site(info));
    (void)background_.on_loop<void>([this, call, info, opened]() -> result<void> {
      pb::AdminReply admin;
      auto& out = *admin.mutable_site_change();
      *out.mutable_site() = info;
      out.set_known(true);
      if (auto joined = join(info, *opened); !joined) {
        spdlog::warn("site {} will be used after the next restart of the daemon: {}", info.name(),
                     joined.error().message());
        out.set_restart_needed(true);
        out.set_obstacle(joined.error().message());
      }
      responder_.answer(call, wrapped(admin));
      return success();
    });
  });
}

// The key first: a job that finds the site must be able to tag what it puts there.
result<void> Maintenance::join(const pb::SiteInfo& info,
                               result<ServiceDependencies::Joined>& opened) {
  if (!opened) return failure(opened.error());
  if (deps_.sites.find(SiteId{info.id()}) != nullptr) return success();  // asked for twice
  auto& joined = opened.value();
  tags_.add(info.id(), joined.audit_key);
  deps_.audit_keys.insert_or_assign(info.id(), joined.audit_key);
  deps_.site_locations[info.name()] = joined.location;
  *deps_.cloud.add_sites() = info;
  if (!deps_.sites.add({info.id(), info.name(), std::move(joined.store)})) {
    deps_.cloud.mutable_sites()->RemoveLast();
    return failure(Errc::no_space, "too many sites have come and gone since the daemon's start");
  }
  spdlog::info("site {} is in use", info.name());
  return success();
}

result<void> Maintenance::set_duty(const std::string& name, pb::SiteDuty duty) {
  Transaction txn = store_.begin();
  pb::Cloud record;
  TRY(txn.get(key::meta("cloud"), record));
  if (pb::SiteInfo* stored = info_of(record, name)) stored->set_duty(duty);
  if (pb::SiteInfo* known = info_of(deps_.cloud, name)) known->set_duty(duty);
  txn.put(key::meta("cloud"), record);
  return committer_.apply(std::move(txn));
}

Answer Maintenance::remove_site(const CallPtr& call, const std::string& name) {
  const pb::SiteInfo* info = info_of(deps_.cloud, name);
  if (info == nullptr) {
    // Asked again after it was removed.
    TRY(const bool left,
        has_left(store_.begin(), [&](const auto& site) { return site.name() == name; }));
    if (left) return std::optional(removed_reply(name));
    return failure(Errc::not_found, fmt::format("the cloud has no site \"{}\"", name));
  }
  const pb::SiteDuty duty = info->duty();
  if (duty == pb::SITE_ACTIVE) {
    return failure(Errc::invalid,
                   fmt::format("site {} is in use: `datacloud site drain {}` first, or `site "
                               "rebuild {}` when it is gone",
                               name, name, name));
  }
  pb::JournalSet set;
  TRY(store_.begin().get(key::meta(kJournalRecord), set));
  if (std::find(set.sites().begin(), set.sites().end(), info->id()) != set.sites().end()) {
    return failure(
        Errc::unsupported,
        fmt::format("site {} holds the journal, whose sites cannot be changed yet: leave "
                    "it configured, drained or lost as it is",
                    name));
  }
  leaving_.insert(info->id());
  background_.submit_prompt([this, call, name, duty, id = SiteId{info->id()}] {
    auto use = std::make_shared<result<SiteUse>>(site_use(background_context_, id));
    (void)background_.on_loop<void>([this, call, name, duty, use, id]() -> result<void> {
      leaving_.erase(id);
      finish_removal(call, name, duty, *use);
      return success();
    });
  });
  return later();
}

void Maintenance::finish_removal(const CallPtr& call, const std::string& name, pb::SiteDuty duty,
                                 const result<SiteUse>& use) {
  if (!use) return responder_.refuse(call, use.error());
  const bool reachable = duty == pb::SITE_DRAINING;  // a lost site's objects are out of reach
  if (use.value().shards > 0 || (reachable && use.value().deletions > 0)) {
    return responder_.refuse(
        call,
        Error(Errc::invalid, fmt::format("site {} is not empty: {} shards are or belong there, {} "
                                         "objects wait for deletion; `datacloud site drain {}`, "
                                         "`repair --wait` and `gc --wait`, then again",
                                         name, use.value().shards, use.value().deletions, name)));
  }
  if (auto set = set_duty(name, pb::SITE_REMOVED); !set)
    return responder_.refuse(call, set.error());
  spdlog::warn("site {} has left the cloud", name);
  if (Site* site = deps_.sites.find(name)) deps_.sites.retire(site->id());
  auto& sites = *deps_.cloud.mutable_sites();
  sites.erase(std::remove_if(sites.begin(), sites.end(),
                             [](const auto& s) { return s.duty() == pb::SITE_REMOVED; }),
              sites.end());
  collector_.restart();  // what was to be deleted there is given up
  responder_.answer_when_durable(call, removed_reply(name));
}

}  // namespace datacloud
