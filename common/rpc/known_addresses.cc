// See known_addresses.h.
#include "common/rpc/known_addresses.h"

#include <algorithm>
#include <utility>

#include "common/net/address.h"

namespace datacloud {
namespace {

bool can_be_used(const std::string& address, bool local) {
  if (address.size() > kPlaceTextBytesMax) return false;
  if (!is_tls_address(address)) return local && unix_socket_path(address);
  const auto parsed = parse_tls_address(address);
  return parsed && !is_wildcard(parsed.value());
}

bool same(const pb::DaemonPlace& a, const pb::DaemonPlace& b) {
  return a.name() == b.name() && a.leads() == b.leads() &&
         std::equal(a.addresses().begin(), a.addresses().end(), b.addresses().begin(),
                    b.addresses().end());
}

}  // namespace

KnownAddresses::KnownAddresses(std::vector<std::string> configured)
    : configured_(std::move(configured)) {}

std::vector<std::string> KnownAddresses::all() const {
  std::vector<std::string> out;
  const auto add = [&](const std::string& address) {
    if (std::find(out.begin(), out.end(), address) == out.end()) out.push_back(address);
  };
  std::lock_guard lock(mutex_);
  for (const bool leader : {true, false})
    for (const auto& place : places_)
      if (place.leads() == leader)
        for (const auto& address : place.addresses()) add(address);
  for (const auto& address : configured_) add(address);
  return out;
}

std::string KnownAddresses::name_of(const std::string& address) const {
  std::lock_guard lock(mutex_);
  for (const auto& place : places_)
    for (const auto& one : place.addresses())
      if (one == address) return place.name();
  return {};
}

void KnownAddresses::told(const pb::HelloReply& hello, bool local) {
  if (!hello.daemons().empty()) (void)set(usable(hello.daemons(), local));
}

void KnownAddresses::told(const pb::KeepaliveReply& keepalive, bool local) {
  if (!keepalive.daemons().empty()) (void)set(usable(keepalive.daemons(), local));
}

KnownAddresses::Places KnownAddresses::usable(
    const google::protobuf::RepeatedPtrField<pb::DaemonPlace>& told, bool local) {
  Places out;
  for (const auto& place : told) {
    if (out.size() == kPlacesMax) break;
    if (place.name().size() > kPlaceTextBytesMax) continue;
    pb::DaemonPlace& kept = out.emplace_back();
    kept.set_name(place.name());
    kept.set_leads(place.leads());
    for (const auto& address : place.addresses()) {
      if (kept.addresses_size() == kPlaceAddressesMax) break;
      if (can_be_used(address, local)) kept.add_addresses(address);
    }
  }
  return out;
}

bool KnownAddresses::set(Places places) {
  std::lock_guard lock(mutex_);
  if (std::equal(places.begin(), places.end(), places_.begin(), places_.end(), same)) return false;
  places_ = std::move(places);
  return true;
}

KnownAddresses::Places KnownAddresses::places() const {
  std::lock_guard lock(mutex_);
  return places_;
}

}  // namespace datacloud
