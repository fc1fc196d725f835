// See daemon_finder.h.
#include "common/site/daemon_finder.h"

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/log.h"
#include "common/config/node_certificate.h"
#include "common/net/address.h"
#include "common/rpc/journal_mark.h"
#include "common/site/leader_record.h"
#include "common/store/remote/site_credentials.h"

namespace datacloud {
namespace {

std::vector<pb::DaemonPlace> to_places(const std::vector<DaemonsFile::Daemon>& daemons) {
  std::vector<pb::DaemonPlace> out;
  for (const auto& daemon : daemons) {
    pb::DaemonPlace& place = out.emplace_back();
    place.set_name(daemon.name);
    place.set_leads(daemon.leads);
    for (const auto& address : daemon.addresses) place.add_addresses(address);
  }
  return out;
}

std::vector<DaemonsFile::Daemon> to_daemons(const std::vector<pb::DaemonPlace>& places) {
  std::vector<DaemonsFile::Daemon> out;
  for (const auto& place : places)
    out.push_back(
        {place.name(), {place.addresses().begin(), place.addresses().end()}, place.leads()});
  return out;
}

// Records at the sites have no Unix sockets: those that are known of the same daemons stay.
void add_local_addresses(std::vector<pb::DaemonPlace>& places,
                         const std::vector<pb::DaemonPlace>& known) {
  for (auto& place : places) {
    for (const auto& other : known) {
      if (other.name() != place.name()) continue;
      for (const auto& address : other.addresses()) {
        const bool there = std::find(place.addresses().begin(), place.addresses().end(), address) !=
                           place.addresses().end();
        if (is_tls_address(address) || there || place.addresses_size() >= kPlaceAddressesMax)
          continue;
        place.add_addresses(address);
      }
    }
  }
}

}  // namespace

std::shared_ptr<DaemonFinder> DaemonFinder::make(const Config& config, Keep keep) {
  return make(config, keep, Times());
}

std::shared_ptr<DaemonFinder> DaemonFinder::make(const Config& config, Keep keep, Times times) {
  return std::shared_ptr<DaemonFinder>(new DaemonFinder(config, keep, times));
}

DaemonFinder::DaemonFinder(const Config& config, Keep keep, Times times)
    : KnownAddresses(config.daemon_addresses()),
      path_(daemons_file_of(config.file)),
      sites_(config.sites),
      keep_(keep == Keep::yes),
      times_(times) {
  auto file = read_daemons_file(path_);
  if (!file) {
    if (!file.error().is(Errc::not_found) && keep_)
      spdlog::warn("{}; it is written anew", file.error().text());
    return;
  }
  known_ = std::move(file).value();
  has_key_ = true;
  google::protobuf::RepeatedPtrField<pb::DaemonPlace> places;
  for (auto& place : to_places(known_.daemons)) *places.Add() = std::move(place);
  (void)set(usable(places, true));
}

void DaemonFinder::told(const pb::HelloReply& hello, bool local) {
  if (hello.daemons().empty()) return;
  if (hello.leader_key().size() != 32) return KnownAddresses::told(hello, local);
  const auto mark = JournalMark::read(hello.journal_position());
  bool changed = set(usable(hello.daemons(), local));
  {
    std::lock_guard lock(finding_);
    SecretKey key{as_bytes(hello.leader_key())};
    changed = changed || !has_key_ || known_.cloud_uuid != hello.cloud().uuid() ||
              to_bytes(key.view()) != to_bytes(known_.leader_key.view());
    known_.leader_key = std::move(key);
    known_.cloud_uuid = hello.cloud().uuid();
    if (mark) known_.epoch = mark->epoch;
    has_key_ = true;
  }
  if (changed) keep();
}

void DaemonFinder::told(const pb::KeepaliveReply& keepalive, bool local) {
  if (!keepalive.daemons().empty() && set(usable(keepalive.daemons(), local))) keep();
}

void DaemonFinder::keep() {
  std::lock_guard lock(finding_);
  if (!keep_ || !has_key_) return;
  dirty_ = true;
  if (std::exchange(writing_, true)) return;
  std::thread([self = shared_from_this()] { self->write(); }).detach();
}

void DaemonFinder::write() {
  for (;;) {
    DaemonsFile file;
    {
      std::lock_guard lock(finding_);
      if (!std::exchange(dirty_, false)) {
        writing_ = false;
        return;
      }
      file = known_;
    }
    file.daemons = to_daemons(places());
    const auto written = write_daemons_file(path_, file);
    std::lock_guard lock(finding_);
    if (!written && !std::exchange(failed_, true)) {
      spdlog::info("where the cloud's daemons are is not kept for the next start: {}",
                   written.error().message());
    }
  }
}

void DaemonFinder::unreachable() {
  std::lock_guard lock(finding_);
  const auto now = monotonic_now();
  if (!has_key_ || searching_ || now < search_again_ || sites_.empty()) return;
  searching_ = true;
  std::thread([self = shared_from_this()] { self->search(); }).detach();
}

void DaemonFinder::search() {
  std::string uuid;
  SecretKey key;
  uint64_t epoch = 0;
  {
    std::lock_guard lock(finding_);
    uuid = known_.cloud_uuid;
    key = known_.leader_key;
    epoch = known_.epoch;
  }
  const auto record = read_leader_record(sites_, uuid, key, times_.patience, times_.grace);
  if (!record) {
    spdlog::info("{}", record.error().text());
  } else if (record.value().epoch() >= epoch) {
    // A Unix socket of that name may be another's here: whoever answers there tells the truth.
    auto found = usable(record.value().daemons(), true);
    add_local_addresses(found, places());
    const bool changed = set(std::move(found));
    if (changed) {
      spdlog::info("the sites tell where the cloud's daemons are: epoch {}",
                   record.value().epoch());
      keep();
    }
  }
  std::lock_guard lock(finding_);
  if (record && record.value().epoch() > known_.epoch) known_.epoch = record.value().epoch();
  searching_ = false;
  search_again_ = monotonic_now() + times_.pause;
}

void find_daemon(const Config& config, FindsFor whom, RpcClient::Options& options) {
  set_daemon(config, options);
  options.known = DaemonFinder::make(
      config, whom == FindsFor::tool ? DaemonFinder::Keep::no : DaemonFinder::Keep::yes);
  if (!options.tls && whom != FindsFor::mount && !config.keys.service.empty())
    options.tls = [key = config.keys.service] { return daemon_client_context(key); };
}

}  // namespace datacloud
