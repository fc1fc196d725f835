// See standby_registry.h.
#include "daemon/leadership/standby_registry.h"

#include <algorithm>
#include <tuple>

#include "daemon/metadata/journal_records.h"

namespace datacloud {
namespace {

constexpr auto kStandbyMissed = milliseconds(700);  // without a report, which comes every 0.4 s

const pb::Leadership::Daemon* daemon_of(const pb::Leadership& record, const std::string& name) {
  for (const auto& daemon : record.daemons()) {
    if (daemon.name() == name) return &daemon;
  }
  return nullptr;
}

bool comes_before(const pb::Leadership::Daemon& a, const pb::Leadership::Daemon& b) {
  return std::tuple(a.order(), a.name()) < std::tuple(b.order(), b.name());
}

}  // namespace

result<void> StandbyRegistry::report(const pb::LeaderRequest& request, const std::string& leader,
                                     uint64_t committed, MonotonicTime now) {
  if (request.name().empty() || request.name().size() > kDaemonNameBytesMax ||
      request.addresses().size() > static_cast<int>(kDaemonAddressesMax)) {
    return failure(Errc::invalid, "a daemon has a name of 1 to 64 bytes and up to 8 addresses");
  }
  for (const auto& address : request.addresses()) {
    if (address.size() > kDaemonAddressBytesMax)
      return failure(Errc::invalid, "an address of a daemon has at most 256 bytes");
  }
  if (request.name() == leader) {
    return failure(Errc::invalid, "the daemon that leads is named " + leader +
                                      " too: give each daemon a [daemon] name of its own");
  }
  TRY(const auto position, decode_position(request.position()));
  if (standbys_.size() >= kDaemonsMax && !standbys_.contains(request.name()))
    return failure(Errc::unavailable, "the cloud has too many daemons");
  auto& standing = standbys_[request.name()];
  standing.heard = now;
  standing.applied = position.sequence;
  standing.behind = committed - std::min(committed, position.sequence);
  return success();
}

const StandbyRegistry::Standing* StandbyRegistry::find(const std::string& name) const {
  const auto at = standbys_.find(name);
  return at != standbys_.end() ? &at->second : nullptr;
}

bool StandbyRegistry::connected(const std::string& name, MonotonicTime now) const {
  const Standing* standing = find(name);
  return standing != nullptr && now - standing->heard <= kStandbySilentMax;
}

bool StandbyRegistry::caught_up(const std::string& name, MonotonicTime now) const {
  return connected(name, now) && find(name)->behind <= kCaughtUpEntries;
}

std::string StandbyRegistry::plan(const pb::Leadership& record, MonotonicTime now) const {
  const auto* leader = daemon_of(record, record.leader());
  if (leader == nullptr || record.daemons_size() < 2) return "";
  bool any = false, first = true;
  for (const auto& daemon : record.daemons()) {
    if (daemon.name() == record.leader()) continue;
    any = any || caught_up(daemon.name(), now);
    first = first && leader->order() <= daemon.order();
  }
  return !any ? "C" : first ? "A" : "B";
}

std::optional<std::string> StandbyRegistry::preferred(const pb::Leadership& record,
                                                      MonotonicTime now) const {
  const auto* leader = daemon_of(record, record.leader());
  const pb::Leadership::Daemon* best = nullptr;
  for (const auto& daemon : record.daemons()) {
    if (leader == nullptr || daemon.order() >= leader->order()) continue;
    if (!caught_up(daemon.name(), now)) continue;
    if (best == nullptr || comes_before(daemon, *best)) best = &daemon;
  }
  if (best == nullptr) return std::nullopt;
  return best->name();
}

bool StandbyRegistry::misses_one(const pb::Leadership& record, MonotonicTime since, Duration span,
                                 MonotonicTime now) const {
  for (const auto& daemon : record.daemons()) {
    if (daemon.name() == record.leader()) continue;
    const Standing* standing = find(daemon.name());
    const auto heard = standing != nullptr ? std::max(standing->heard, since) : since;
    const auto silent = now - heard;
    if (silent > kStandbyMissed && silent <= span) return true;
  }
  return false;
}

result<bool> note_daemon(pb::Leadership& record, const pb::Leadership::Daemon& daemon) {
  auto& daemons = *record.mutable_daemons();
  const auto at = std::find_if(daemons.begin(), daemons.end(),
                               [&](const auto& d) { return d.name() >= daemon.name(); });
  if (at != daemons.end() && at->name() == daemon.name()) {
    if (at->SerializeAsString() == daemon.SerializeAsString()) return false;
    *at = daemon;
    return true;
  }
  if (daemons.size() >= static_cast<int>(kDaemonsMax)) {
    return failure(
        Errc::unavailable,
        "the cloud has 16 daemons: `datacloud leader forget NAME` drops one that is gone");
  }
  *daemons.Add() = daemon;
  std::sort(daemons.begin(), daemons.end(),
            [](const auto& a, const auto& b) { return a.name() < b.name(); });
  return true;
}

std::vector<KnownDaemon> known_daemons(const pb::Leadership& record) {
  std::vector<KnownDaemon> out;
  for (const auto& daemon : record.daemons()) {
    KnownDaemon known;
    known.name = daemon.name();
    known.addresses.assign(daemon.addresses().begin(), daemon.addresses().end());
    known.order = static_cast<int>(daemon.order());
    known.leads = daemon.name() == record.leader();
    out.push_back(std::move(known));
  }
  return out;
}

std::string leadership_problem(const pb::Leadership& record) {
  if (record.daemons_size() > static_cast<int>(kDaemonsMax)) return "it names too many daemons";
  std::string before;
  for (const auto& daemon : record.daemons()) {
    if (daemon.name().empty() || daemon.name() <= before) return "its daemons are not in order";
    before = daemon.name();
  }
  if (record.daemons_size() > 0 && daemon_of(record, record.leader()) == nullptr)
    return "the daemon that leads is not among them";
  return "";
}

}  // namespace datacloud
