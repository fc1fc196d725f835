// Where the cloud's daemons are, as mounts are told; and whether this one's journal has what a
// mount was told by another.
#include <fmt/format.h>

#include "common/base/log.h"
#include "common/config/daemon_place.h"
#include "common/net/address.h"
#include "daemon/maintenance/maintenance.h"
#include "daemon/metadata/journal_records.h"
#include "daemon/service/service.h"

namespace datacloud {

// Without a list of daemons: this one alone.
std::vector<KnownDaemon> MetadataService::daemons_to_tell() const {
  if (deps_.places && !deps_.places->all().empty()) return deps_.places->all();
  return {{.name = daemon_name(deps_.config),
           .addresses = advertised_addresses(deps_.config),
           .order = static_cast<int>(deps_.config.order),
           .leads = true}};
}

void MetadataService::keep_leader_record() {
  if (!deps_.journal || !deps_.leader_key) return;
  leader_record_ = std::make_shared<LeaderRecordWriter>(
      deps_.sites,
      LeaderRecordWriter::Options{
          .loop = deps_.loop, .key = *deps_.leader_key, .epoch = deps_.journal->log().epoch()});
  leader_record_->set(daemons_to_tell());
  if (!deps_.places) return;
  deps_.places->on_change([this, alive = std::weak_ptr(leader_record_)] {
    if (alive.lock()) leader_record_->set(daemons_to_tell());
  });
}

// Of clouds with a journal: without one, no other daemon can go on. Unix sockets are of use on this
// machine alone.
void MetadataService::add_places(const Call& call,
                                 google::protobuf::RepeatedPtrField<pb::DaemonPlace>* out) const {
  if (!deps_.journal) return;
  const bool remote = call.connection->peer().remote();
  for (const auto& daemon : daemons_to_tell()) {
    auto* place = out->Add();
    place->set_name(daemon.name);
    place->set_leads(daemon.leads);
    for (const auto& address : daemon.addresses)
      if (!remote || is_tls_address(address)) place->add_addresses(address);
  }
}

std::string MetadataService::committed_position() const {
  return deps_.journal ? encode_position(deps_.journal->log().committed()) : std::string();
}

// False: the hello is answered, or begins anew once the journal was asked. What was committed is in
// every log that is adopted, so a position that is not here is of a history that somebody has taken
// back, or of a leader that this daemon does not know of yet.
bool MetadataService::knows_history(const CallPtr& call) {
  const std::string& told = call->request.hello().journal_position();
  if (told.empty() || !deps_.journal || call->known_history) return true;
  const auto decoded = decode_position(told);
  if (!decoded) {
    refuse(call, Error(Errc::invalid, "the position in the journal that the mount tells is none"));
    return false;
  }
  const journal::LogPosition& seen = decoded.value();
  const auto& log = deps_.journal->log();
  if (seen.epoch > log.epoch() ||
      (seen.epoch == log.epoch() && seen.sequence > deps_.journal->last().sequence)) {
    refuse_history(call, fmt::format("this daemon leads in epoch {} and has entry {}",
                                     log.epoch().number, deps_.journal->last().sequence));
    return false;
  }
  const auto adopted = log.adopted();
  if (seen.epoch == log.epoch() || seen == adopted) return true;
  if (seen.sequence > adopted.sequence) {
    refuse_history(call,
                   fmt::format("the journal that this daemon went on with ended with entry {}",
                               adopted.sequence));
    return false;
  }
  auto found = std::make_shared<result<bool>>(false);
  maintenance_->in_background(
      [found, seen, journal = deps_.journal] { *found = journal->log().contains(seen); },
      [this, call, found] {
        // Below the floor nobody can tell any more: it is in a checkpoint.
        if (!*found && !found->error().is(Errc::not_found))
          return refuse(call, Error(Errc::unavailable,
                                    "the journal cannot be read: " + found->error().text()));
        if (*found && !found->value())
          return refuse_history(call, "the journal has another entry in its place");
        call->known_history = true;
        hello(call);
      });
  return false;
}

void MetadataService::refuse_history(const CallPtr& call, const std::string& why) {
  ++rollbacks_refused_;
  const auto seen = decode_position(call->request.hello().journal_position()).value();
  const std::string text = fmt::format(
      "the cloud's journal has gone back: this mount was told that entry {} of epoch {} is "
      "committed, and {}. Either another daemon leads, or the cloud was put back from a backup or "
      "recovered to an earlier entry; if that is intended, unmount and mount again",
      seen.sequence, seen.epoch.number, why);
  spdlog::critical("a mount on {} is refused: {}", call->request.hello().session().host(), text);
  refuse(call, Error(Errc::stale, text));
}

}  // namespace datacloud
