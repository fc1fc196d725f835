// The steps of a checkpoint, in this order, each durable before the next (checkpoint_job.h):
//   its record (writing) -> its objects -> its root in the journal -> its record (whole), and those
//   of older ones (retiring) -> the journal's floor -> the older ones' objects -> their records.
// So the objects of whatever has a committed root and is not older than two whole ones are there.
#include "daemon/checkpoint/checkpoint_job.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <map>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/log.h"
#include "daemon/checkpoint/checkpoint.h"
#include "daemon/checkpoint/checkpoint_rules.h"
#include "daemon/journal/quorum_rules.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/metadata/record_snapshot.h"

namespace datacloud {
namespace {

using Requested = std::function<void(result<pb::CheckpointRecord>)>;
constexpr size_t kRecordsMax = 1024;  // of checkpoints whose objects could not be removed yet
constexpr int kPauseMax = 16;         // times options.retry

std::string record_key(uint64_t number) {
  return key::meta(kCheckpointRecord + checkpoint_name(number));
}

}  // namespace

struct CheckpointJob::Impl : std::enable_shared_from_this<CheckpointJob::Impl> {
  Impl(MetadataStore& s, Committer& c, SiteSet& all, std::shared_ptr<EventLoop> l,
       CheckpointJournal& j, CheckpointJobOptions o)
      : store(s), committer(c), sites(all), loop(std::move(l)), journal(j), options(std::move(o)) {}

  // On the loop, as long as the job is there.
  template <class F>
  std::function<void()> here(F f) {
    return [weak = weak_from_this(), f = std::move(f)] {
      if (auto self = weak.lock(); self && !self->stop) f(*self);
    };
  }
  CheckpointPlace place() {
    return {.metadata_key = options.metadata_key,
            .journal = options.journal,
            .sites = sites,
            .stop = [this] { return stop.load(); }};
  }
  void finish_threads() {
    stop = true;
    if (writer.joinable()) writer.join();
    if (remover.joinable()) remover.join();
  }

  result<void> read_records();
  void look();
  bool is_due() const;
  bool is_old() const;
  bool takes(SiteId id) const { return !options.takes || options.takes(id); }
  bool lies_at_leaving_site() const;
  uint64_t grown_since(uint64_t bytes) const {
    return journal.bytes() - std::min(bytes, journal.bytes());
  }
  void begin();
  void write(const pb::CheckpointRecord&);
  void written(uint64_t number, result<WrittenCheckpoint>);
  void committed(uint64_t number, const WrittenCheckpoint&);
  void give_up(uint64_t number, const Error&);
  void retire_old(Transaction&);
  void remove_next();
  void removed(uint64_t number, const result<void>&);
  void put(Transaction& txn, const pb::CheckpointRecord& record) {
    txn.put(record_key(record.number()), record);
  }
  void answer(const result<pb::CheckpointRecord>& outcome) {
    auto all = std::move(answering);
    answering.clear();
    for (auto& one : all) {
      if (one) one(outcome);
    }
  }

  MetadataStore& store;
  Committer& committer;
  SiteSet& sites;
  const std::shared_ptr<EventLoop> loop;
  CheckpointJournal& journal;
  const CheckpointJobOptions options;

  std::map<uint64_t, pb::CheckpointRecord> records;
  std::set<uint64_t> cut_off;  // were being written at the start: kept until there is a newer one
  std::vector<Requested> waiting, answering;
  bool requested = false;
  std::string reason;
  CheckpointProgress progress;
  // Of the journal, when the last one was begun, the last that survives the losses it should, and
  // the one that is being made.
  uint64_t bytes_at_last = 0, bytes_at_strong = 0, bytes_at_snapshot = 0;
  MonotonicTime not_before{}, remove_not_before{};
  Duration pause{};              // after the next failure
  std::set<uint64_t> postponed;  // could not be removed lately
  std::set<uint64_t> held;
  std::unique_ptr<RecordSnapshot> snapshot;
  std::atomic<bool> stop{false};
  bool removing = false;
  std::thread writer, remover;
};

result<void> CheckpointJob::Impl::read_records() {
  const std::string first = key::meta(kCheckpointRecord);
  const Transaction txn = store.begin();
  TRY(txn.scan(first, key::after_prefix(first), [&](std::string_view, std::string_view value) {
    pb::CheckpointRecord record;
    if (record.ParseFromArray(value.data(), static_cast<int>(value.size())) &&
        valid_checkpoint(record)) {
      records[record.number()] = record;
    }
    return true;
  }));
  for (auto& [number, record] : records) {
    if (record.state() == pb::CHECKPOINT_WRITING) cut_off.insert(number);
    if (record.state() != pb::CHECKPOINT_WHOLE) continue;
    const bool newer = !progress.newest || covered_entry(*progress.newest) < covered_entry(record);
    if (newer) progress.newest = record;
  }
  return success();
}

void CheckpointJob::Impl::look() {
  if (!progress.running && is_due()) begin();
  if (!removing && loop->now() >= remove_not_before) remove_next();
  loop->after(options.look, here([](Impl& self) { self.look(); }));
}

bool CheckpointJob::Impl::is_due() const {
  if (requested) return true;
  if (loop->now() < not_before) return false;
  return !progress.newest || lies_at_leaving_site() || is_old() ||
         grown_since(bytes_at_last) > journal.bytes_max() / 2;
}

bool CheckpointJob::Impl::is_old() const {
  const Duration age = std::chrono::nanoseconds(wall_now_ns() - progress.newest->made_ns());
  return age > options.age_max && grown_since(bytes_at_last) > 0;
}

// A site that is drained, declared lost or has left: the next checkpoint does without it.
bool CheckpointJob::Impl::lies_at_leaving_site() const {
  return std::any_of(
      progress.newest->sites().begin(), progress.newest->sites().end(),
      [&](uint32_t id) { return sites.find(SiteId{id}) == nullptr || !takes(SiteId{id}); });
}

void CheckpointJob::Impl::begin() {
  requested = false;
  std::move(waiting.begin(), waiting.end(), std::back_inserter(answering));
  waiting.clear();
  progress.running = true;
  if (records.size() >= kRecordsMax) {
    return give_up(
        0, Error(Errc::unavailable, "too many old checkpoints cannot be removed: sites are away"));
  }
  if (sites.live_count() == 0) {
    return give_up(0, Error(Errc::unavailable, "every site is away: " + sites.describe_away()));
  }
  const auto number = random_checkpoint_number();
  if (!number) return give_up(0, number.error());
  pb::CheckpointRecord record;
  record.set_number(number.value());
  record.set_made_ns(wall_now_ns());
  record.set_columns(static_cast<uint32_t>(options.code->n()));
  for (const Site* site : sites.all()) {
    if (takes(site->id())) record.add_sites(site->id());
  }
  // No more than so many sites can survive, with all of them there.
  const int possible = journal::site_losses(record.sites_size(), options.code->n(),
                                            options.code->guaranteed_tolerance());
  record.set_losses(static_cast<uint32_t>(std::clamp(options.losses, 0, possible)));
  if (record.sites_size() == 0) {
    return give_up(0, Error(Errc::unavailable, "no site of the cloud takes a checkpoint"));
  }
  records[record.number()] = record;
  Transaction txn = store.begin();
  put(txn, record);
  if (auto applied = committer.apply(std::move(txn)); !applied) {
    return give_up(record.number(), applied.error());
  }
  committer.when_durable(here([record](Impl& self) { self.write(record); }));
}

void CheckpointJob::Impl::write(const pb::CheckpointRecord& record) {
  spdlog::info("a checkpoint of the metadata is made: {}", reason.empty() ? "it is due" : reason);
  reason.clear();
  bytes_at_snapshot = journal.bytes();
  snapshot = store.snapshot();
  if (writer.joinable()) writer.join();
  CheckpointWrite how;
  how.number = record.number();
  how.code = options.code;
  how.over.assign(record.sites().begin(), record.sites().end());
  how.losses = static_cast<int>(record.losses());
  how.bytes_per_second = options.bytes_per_second;
  writer = std::thread([this, how, where = place(), view = snapshot.get()] {
    auto outcome = std::make_shared<result<WrittenCheckpoint>>(write_checkpoint(*view, where, how));
    loop->post(here(
        [number = how.number, outcome](Impl& self) { self.written(number, std::move(*outcome)); }));
  });
}

void CheckpointJob::Impl::written(uint64_t number, result<WrittenCheckpoint> outcome) {
  writer.join();
  snapshot.reset();
  if (!outcome) return give_up(number, outcome.error());
  Bytes root(outcome.value().root.ByteSizeLong());
  (void)outcome.value().root.SerializeToArray(root.data(), static_cast<int>(root.size()));
  auto shared = std::make_shared<WrittenCheckpoint>(std::move(outcome).value());
  journal.append_root(std::move(root),
                      here([number, shared](Impl& self) { self.committed(number, *shared); }));
}

void CheckpointJob::Impl::committed(uint64_t number, const WrittenCheckpoint& written) {
  pb::CheckpointRecord& record = records[number];
  record.set_state(pb::CHECKPOINT_WHOLE);
  record.set_position(written.root.position());
  record.set_sequence(written.root.sequence());
  record.set_bytes(written.bytes);
  record.set_pieces(static_cast<uint32_t>(written.root.pieces_size()));
  record.set_scattered(written.scattered);
  record.set_losses_survived(static_cast<uint32_t>(written.losses_survived));
  progress.running = false;
  progress.failure.clear();
  progress.newest = record;
  ++progress.made;
  bytes_at_last = bytes_at_snapshot;
  const bool strong = record.losses_survived() >= record.losses();
  if (strong) bytes_at_strong = bytes_at_snapshot;
  pause = {};
  Transaction txn = store.begin();
  put(txn, record);
  for (const uint64_t old : cut_off) {
    records[old].set_state(pb::CHECKPOINT_RETIRING);
    put(txn, records[old]);
  }
  cut_off.clear();
  retire_old(txn);
  for (const auto& problem : written.problems) spdlog::warn("checkpoint: {}", problem);
  if (!strong) {
    spdlog::warn(
        "the checkpoint {} survives the loss of {} sites instead of {}: another one is made "
        "when the sites are back",
        checkpoint_name(number), record.losses_survived(), record.losses());
  }
  spdlog::info("the checkpoint {} is whole: entries up to {}, {} records, {} bytes at the sites",
               checkpoint_name(number), covered_entry(record), written.root.records(),
               written.bytes);
  answer(record);
}

// Within the transaction that makes a checkpoint whole.
void CheckpointJob::Impl::retire_old(Transaction& txn) {
  std::vector<pb::CheckpointRecord> whole;
  for (const auto& [number, record] : records) {
    if (record.state() == pb::CHECKPOINT_WHOLE) whole.push_back(record);
  }
  const bool full = grown_since(bytes_at_strong) > journal.bytes_max();
  const KeptCheckpoints chosen = choose_kept(whole, full);
  for (const uint64_t number : chosen.retired) {
    records[number].set_state(pb::CHECKPOINT_RETIRING);
    put(txn, records[number]);
  }
  if (!committer.apply(std::move(txn))) return;  // the daemon ends
  committer.when_durable(here([floor = chosen.floor](Impl& self) {
    self.journal.trim(floor);
    if (!self.removing) self.remove_next();
  }));
}

void CheckpointJob::Impl::give_up(uint64_t number, const Error& error) {
  spdlog::warn("no checkpoint of the metadata could be made: {}; it is tried again",
               error.message());
  progress.running = false;
  progress.failure = error.message();
  ++progress.failed;
  pause = std::min(std::max(2 * pause, options.retry), kPauseMax * options.retry);
  not_before = loop->now() + pause;
  if (const auto record = records.find(number); record != records.end()) {
    record->second.set_state(pb::CHECKPOINT_RETIRING);
    Transaction txn = store.begin();
    put(txn, record->second);
    (void)committer.apply(std::move(txn));  // a failure ends the daemon
  }
  answer(failure(error));
}

void CheckpointJob::Impl::remove_next() {
  for (const auto& [number, record] : records) {
    if (record.state() != pb::CHECKPOINT_RETIRING || postponed.contains(number)) continue;
    if (held.contains(number)) continue;
    removing = true;
    // That it is to go must be known before the first object does.
    committer.when_durable(here([record = record](Impl& self) {
      if (self.remover.joinable()) self.remover.join();
      self.remover = std::thread([&self, record, where = self.place()] {
        auto outcome = std::make_shared<result<void>>(remove_checkpoint(record, where));
        self.loop->post(self.here(
            [number = record.number(), outcome](Impl& impl) { impl.removed(number, *outcome); }));
      });
    }));
    return;
  }
  if (!postponed.empty()) remove_not_before = loop->now() + options.retry;
  postponed.clear();
}

void CheckpointJob::Impl::removed(uint64_t number, const result<void>& outcome) {
  remover.join();
  removing = false;
  if (!outcome) {
    postponed.insert(number);
    spdlog::info("{}; it is tried again", outcome.error().message());
    return remove_next();
  }
  records.erase(number);
  Transaction txn = store.begin();
  txn.erase(record_key(number));
  if (committer.apply(std::move(txn))) remove_next();
}

CheckpointJob::CheckpointJob(MetadataStore& store, Committer& committer, SiteSet& sites,
                             std::shared_ptr<EventLoop> loop, CheckpointJournal& journal,
                             CheckpointJobOptions options)
    : impl_(std::make_shared<Impl>(store, committer, sites, std::move(loop), journal,
                                   std::move(options))) {}

CheckpointJob::~CheckpointJob() { impl_->finish_threads(); }

result<void> CheckpointJob::start() {
  TRY(impl_->read_records());
  impl_->look();
  return success();
}

void CheckpointJob::request(const std::string& reason, Requested done) {
  impl_->requested = true;
  impl_->reason = reason;
  impl_->waiting.push_back(std::move(done));
}

void CheckpointJob::on_site_change() {
  Impl& self = *impl_;
  self.remove_not_before = {};
  self.not_before = {};
  if (!self.progress.newest || self.progress.running) return;
  const pb::CheckpointRecord& newest = *self.progress.newest;
  if (newest.losses_survived() >= newest.losses()) return;
  for (const Site* site : self.sites.all()) {
    if (self.takes(site->id()) && !site->up()) return;
  }
  request("sites are back that the last one had to do without");
}

std::vector<uint64_t> CheckpointJob::kept() const {
  std::vector<uint64_t> out;
  for (const auto& [number, record] : impl_->records) {
    if (record.state() == pb::CHECKPOINT_WHOLE) out.push_back(number);
  }
  return out;
}

bool CheckpointJob::hold(uint64_t number) {
  const auto record = impl_->records.find(number);
  if (record == impl_->records.end() || record->second.state() != pb::CHECKPOINT_WHOLE) {
    return false;
  }
  impl_->held.insert(number);
  return true;
}

void CheckpointJob::let_go(uint64_t number) { impl_->held.erase(number); }

CheckpointProgress CheckpointJob::progress() const { return impl_->progress; }

}  // namespace datacloud
