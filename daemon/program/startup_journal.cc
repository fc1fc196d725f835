// The daemon and its journal: claiming it at the start, keeping the leader's lease, and giving the
// leadership up.
#include <algorithm>
#include <thread>
#include <utility>

#include "common/base/log.h"
#include "common/proto/journal.pb.h"
#include "daemon/journal/entry_sealer.h"
#include "daemon/leadership/led_epoch.h"
#include "daemon/metadata/journal_records.h"
#include "daemon/metadata/journal_start.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/metadata/state_directory.h"
#include "daemon/program/journal_sites.h"
#include "daemon/program/server_loop.h"
#include "daemon/program/start_signals.h"
#include "daemon/program/startup.h"
#include "daemon/records/cloud_features.h"

namespace datacloud {
namespace {

constexpr auto kLook = milliseconds(10);
constexpr auto kAppendDelay = milliseconds(50);  // of changes that nobody waits for

// Whether the last entry says that its leader answers nobody any more.
result<bool> ends_released(journal::QuorumLog& log, const SecretKey& metadata_key) {
  const uint64_t last = log.adopted().sequence;
  bool released = false;
  if (last < log.floor() || last == 0) return released;
  TRY(log.read(last, [&](const journal::LogEntry& entry) -> result<void> {
    if (entry.header.kind != journal::EntryKind::note) return success();
    TRY(const auto content, journal::EntryOpener(metadata_key).open(entry));
    pb::LeaderNote note;
    released =
        note.ParseFromArray(content.data(), static_cast<int>(content.size())) && note.release();
    return success();
  }));
  return released;
}

}  // namespace

// not_found: the cloud has no journal.
result<void> Daemon::open_members(const Config& config, const pb::Cloud& cloud) {
  if (!store_->journaled()) {
    TRY(const auto features, read_features(store_->begin()));
    if (!includes(features, Feature::journal))
      return failure(Errc::not_found, "the cloud has no journal");
    return failure(Errc::corrupt,
                   "the cloud has a journal, and the record of its sites is gone; rebuild the "
                   "metadata from the sites: datacloud recover");
  }
  pb::JournalSet set;
  TRY(store_->begin().get(key::meta(kJournalRecord), set));
  TRY(members_, quorum_options(config, cloud, set));
  lease_ = std::make_shared<LeaderLease>(static_cast<size_t>(members_.rules.sites),
                                         static_cast<size_t>(members_.rules.commit), Duration(0));
  confirmations_ = std::make_shared<LeaseConfirmations>(lease_);
  logs_.clear();
  for (size_t i = 0; i < members_.members.size(); ++i) {
    auto& member = members_.members[i];
    logs_.push_back(member.log);
    member.log = make_confirming_log(member.log, i, confirmations_);
  }
  return success();
}

// Claims the journal, and brings the store and it together. The records may be others afterwards.
result<void> Daemon::open_journal(const Config& config, pb::Cloud& cloud, const KeyFile& key) {
  auto opened = open_members(config, cloud);
  if (!opened && opened.error().is(Errc::not_found)) return check_no_journal(config, cloud);
  if (!opened) return opened;
  journal::QuorumLogOptions options = members_;
  // What a claim that failed reports late is nothing to the next one: the loop runs it when this
  // daemon serves at last.
  claim_ = std::make_shared<char>();
  options.fenced = [this, loop = loop_, lease = lease_,
                    claim = std::weak_ptr(claim_)](const Error& error) {
    lease->end();
    loop->post([this, error, claim] {
      if (claim.lock() == claim_) journal_lost(error);
    });
  };
  options.cancelled = asked_to_stop;
  const SecretKey metadata_key = journal::derive_metadata_key(key.key, cloud.uuid());
  TRY(std::shared_ptr<journal::QuorumLog> log, journal::QuorumLog::claim(std::move(options)));
  claimed_at_ = BootClock::now();
  confirmations_->lead(log->epoch());
  TRY(nobody_answers_, ends_released(*log, metadata_key));
  nobody_answers_ =
      nobody_answers_ ||
      was_led_here(config.daemon.state, metadata_directory(config.daemon), log->adopted().epoch);
  auto started =
      start_journal(*store_, {.loop = loop_,
                              .log = std::move(log),
                              .journal = journal_id(cloud.uuid()).value(),
                              .metadata_key = metadata_key,
                              .uncommitted_bytes_max = config.journal.uncommitted_bytes_max,
                              .append_delay = kAppendDelay,
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
  TRY(store_->begin().get(key::meta(kLeadershipRecord), leadership_));
  keep_lease(config);
  return read_cloud(cloud);
}

result<void> Daemon::lead(const Config& config, pb::Cloud& cloud, const KeyFile& key) {
  foreign_ = false;
  auto led = open_journal(config, cloud, key);
  if (led || !foreign_) return led;
  store_.reset();
  TRY(rebuild(config, led.error()));
  TRY(read_cloud(cloud));
  return open_journal(config, cloud, key);
}

// What claimers know of the lease, until this start's own record is durable.
void Daemon::keep_lease(const Config& config) {
  lease_->set_length(
      milliseconds(std::min(leadership_.lease_ms(), config.journal.leader_lease_ms)));
  keeper_ = std::make_unique<LeaseKeeper>(logs_, confirmations_,
                                          [this, loop = loop_, lease = lease_](const Error& error) {
                                            lease->end();
                                            loop->post([this, error] { journal_lost(error); });
                                          });
}

// Until no earlier leader answers any more (docs/journal.md, step 12).
result<void> Daemon::await_old_lease() const {
  if (!journal_ || nobody_answers_ || leadership_.lease_ms() == 0) return success();
  const auto until = claimed_at_ + claimer_patience(milliseconds(leadership_.lease_ms()));
  while (BootClock::now() < until) {
    if (asked_to_stop()) return failure(Errc::unavailable, "given up: the program ends");
    std::this_thread::sleep_for(kLook);
  }
  return success();
}

// What was applied since the other's claim is in this directory, and in no quorum's log. The next
// start here takes it back, or puts it into the journal if the other one has changed nothing.
void Daemon::journal_lost(const Error& error) {
  if (failed_ || stands_down_) return;
  if (may_stand_by_) {
    spdlog::warn("another daemon leads the cloud now: {}; this one stands by", error.text());
    stands_down_ = true;
    return stop();
  }
  failure_ = "another daemon leads the cloud now: " + error.text() +
             "; this one may be started again once that has been stopped";
  spdlog::critical("{}; stopping", failure_);
  failed_ = true;
  stop();
}

// The server has ended: nobody is answered any more. Whoever claims need not wait.
void Daemon::release_journal() {
  if (restart_ || lease_->length() == Duration(0)) return;
  lease_->end();
  pb::LeaderNote note;
  note.set_release(true);
  const std::string content = note.SerializeAsString();
  (void)journal_->append(journal::EntryKind::note, as_bytes(content), {});
}

}  // namespace datacloud
