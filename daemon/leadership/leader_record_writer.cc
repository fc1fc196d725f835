// See leader_record_writer.h.
#include "daemon/leadership/leader_record_writer.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/net/address.h"
#include "common/site/leader_record.h"

namespace datacloud {
namespace {

constexpr Duration kCallMax = seconds(20);

OpOptions call_options() {
  OpOptions options;
  options.deadline = monotonic_now() + kCallMax;
  options.purpose = Purpose::journal;
  return options;
}

}  // namespace

LeaderRecordWriter::LeaderRecordWriter(SiteSet& sites, Options options)
    : sites_(sites), options_(std::move(options)) {
  record_.set_epoch(options_.epoch.number);
  record_.set_nonce(options_.epoch.nonce);
}

// An answer of a site, on its thread, is brought to the loop.
template <class T>
Callback<T> LeaderRecordWriter::on_loop(std::function<void(result<T>)> then) {
  return [loop = options_.loop, alive = std::weak_ptr(alive_),
          then = std::move(then)](result<T> answer) {
    auto shared = std::make_shared<result<T>>(std::move(answer));
    loop->post([alive, then, shared] {
      if (alive.lock()) then(std::move(*shared));
    });
  };
}

void LeaderRecordWriter::set(const std::vector<KnownDaemon>& daemons) {
  record_.clear_daemons();
  for (const auto& daemon : daemons) {
    auto* place = record_.add_daemons();
    place->set_name(daemon.name);
    place->set_leads(daemon.leads);
    for (const auto& address : daemon.addresses)
      if (is_tls_address(address)) place->add_addresses(address);
  }
  record_.set_revision(record_.revision() + 1);
  record_.set_written_ns(wall_now_ns());
  for (auto& [id, at] : at_) at.again = {};
  write_all();
}

void LeaderRecordWriter::on_site_change() {
  for (auto& [id, at] : at_) at.again = {};
  write_all();
}

size_t LeaderRecordWriter::missing() const {
  size_t count = 0;
  for (Site* site : sites_.all()) {
    const auto at = at_.find(site->id());
    count += site->up() && (at == at_.end() ||
                            (at->second.revision < record_.revision() && !at->second.superseded))
                 ? 1
                 : 0;
  }
  return count;
}

void LeaderRecordWriter::write_all() {
  if (record_.revision() == 0) return;
  for (Site* site : sites_.all()) write(*site, at_[site->id()]);
  if (missing() == 0 || std::exchange(timer_, true)) return;
  options_.loop->after(options_.retry, [this, alive = std::weak_ptr(alive_)] {
    if (!alive.lock()) return;
    timer_ = false;
    write_all();
  });
}

void LeaderRecordWriter::write(Site& site, AtSite& at) {
  if (!site.up() || at.busy || at.superseded || at.revision >= record_.revision() ||
      options_.loop->now() < at.again) {
    return;
  }
  at.busy = true;
  read(site, 0, std::make_shared<Slots>());
}

void LeaderRecordWriter::read(Site& site, int slot, std::shared_ptr<Slots> slots) {
  site.store().read(
      leader_record_name(slot), {{0, kLeaderRecordBytesMax}}, false, call_options(),
      on_loop<ReadReply>([this, &site, slot, slots](result<ReadReply> reply) {
        if (!reply && !reply.error().is(Errc::not_found) && !reply.error().is(Errc::corrupt))
          return failed(site.id(), reply.error());
        auto& found = (*slots)[static_cast<size_t>(slot)];
        if (reply || reply.error().is(Errc::corrupt)) {
          auto record = reply && !reply.value().ranges.empty()
                            ? open_leader_record(options_.key, reply.value().ranges[0])
                            : result<pb::LeaderRecord>(failure(Errc::corrupt, ""));
          found = record ? std::move(record).value() : pb::LeaderRecord();
        }
        if (slot + 1 < kLeaderRecordSlots) return read(site, slot + 1, slots);
        replace(site, *slots);
      }));
}

// The older one goes; a place where nothing is is taken first.
void LeaderRecordWriter::replace(Site& site, const Slots& slots) {
  int slot = 0;
  for (int i = 1; i < kLeaderRecordSlots; ++i) {
    const auto& best = slots[static_cast<size_t>(slot)];
    const auto& other = slots[static_cast<size_t>(i)];
    if (best && (!other || is_newer(*best, *other))) slot = i;
  }
  for (const auto& there : slots) {
    if (!there || there->epoch() < record_.epoch() ||
        (there->epoch() == record_.epoch() && there->nonce() <= record_.nonce()))
      continue;
    spdlog::warn("site {} has the record of a newer leader, of epoch {}", site.name(),
                 there->epoch());
    at_[site.id()].superseded = true;
    return done(site.id(), 0);
  }
  const uint64_t revision = record_.revision();
  Bytes sealed = seal_leader_record(options_.key, record_);
  if (!slots[static_cast<size_t>(slot)]) return put(site, slot, revision, std::move(sealed));
  site.store().remove(leader_record_name(slot), call_options(),
                      on_loop<void>([this, &site, slot, revision, sealed = std::move(sealed)](
                                        const result<void>& removed) mutable {
                        if (!removed && !removed.error().is(Errc::not_found))
                          return failed(site.id(), removed.error());
                        put(site, slot, revision, std::move(sealed));
                      }));
}

void LeaderRecordWriter::put(Site& site, int slot, uint64_t revision, Bytes sealed) {
  site.store().put(leader_record_name(slot), Payload::from(std::move(sealed)), {}, call_options(),
                   on_loop<void>([this, id = site.id(), revision](const result<void>& put) {
                     if (!put) return failed(id, put.error());
                     done(id, revision);
                   }));
}

void LeaderRecordWriter::done(SiteId id, uint64_t revision) {
  auto& at = at_[id];
  at.busy = false;
  at.revision = std::max(at.revision, revision);
  if (at.revision < record_.revision() && !at.superseded) write_all();
}

void LeaderRecordWriter::failed(SiteId id, const Error& error) {
  auto& at = at_[id];
  at.busy = false;
  at.again = options_.loop->now() + options_.retry;
  spdlog::debug("the record of the leader is not at site {} yet: {}", id, error.message());
  write_all();
}

}  // namespace datacloud
