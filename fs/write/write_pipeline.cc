// Packing units into stripes, and the life of a stripe: filled -> sealed -> built -> put ->
// committed. The stages themselves are in seal_stage, stripe_builder, stripe_putter and
// commit_queue.
//
// One submitter packs at a time (fill_mutex_), so the order of units is the order of submit().
// A submitter that must wait for a place first closes every stripe being filled, so what it waits
// for always makes progress without it. Invariant: a job enters the commit queue when it is closed,
// and no inode has blocks in two stripes being filled, so jobs of one inode enter in order.
#include "fs/write/write_pipeline.h"

#include <algorithm>
#include <map>
#include <thread>
#include <utility>

#include "fs/write/commit_queue.h"
#include "fs/write/group_writer.h"
#include "fs/write/seal_stage.h"
#include "fs/write/stripe_putter.h"

namespace datacloud {
namespace {

constexpr Duration kBatchWait = milliseconds(50);
constexpr Duration kBatchRetry = milliseconds(5);
constexpr uint32_t kSpreadMinBytes = 128 << 10;
constexpr size_t kUnitsMax = 16384;  // submitted and not yet answered
constexpr size_t kQueueMax = 1024;   // unused by post(); places bound the work

int sealing_threads() {
  return static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 2u, 4u));
}

std::shared_ptr<PutContext> make_put_context(const WritePipeline::Dependencies& d) {
  const auto majority = static_cast<uint32_t>(d.cloud.sites_size() / 2 + 1);
  const uint32_t places = std::max(1u, d.config.stripes_in_flight_max);
  return std::shared_ptr<PutContext>(new PutContext{
      .sites = d.sites,
      .namer = d.namer,
      .ids = d.ids,
      .timers = std::make_shared<TimerQueue>(),
      .tags = d.tags,
      .sites_min = d.cloud.write_sites_min() != 0 ? d.cloud.write_sites_min() : majority,
      .put_deadline = milliseconds(d.config.put_deadline_ms),
      .budget = StripeBudget(places, uint64_t{places} * 2 * kShardPlainBytesMax),
      .abandoned = std::make_shared<AbandonReporter>(d.client),
      .offload = {},
      .counters = {},
  });
}

}  // namespace

struct WritePipeline::Impl {
  explicit Impl(Dependencies dependencies)
      : d(std::move(dependencies)),
        puts(make_put_context(d)),
        groups({d.client, workers, puts}),
        queue({d.client, d.ids, workers, callbacks, *puts->abandoned, groups, puts->counters,
               [this](auto job) { workers.post([this, job] { redo(job); }); },
               [this](const WriteJob& job) { puts->budget.release(job.shard_bytes); }, daemon_room,
               unreserved_room}),
        sealers(sealing_threads(), kQueueMax),
        workers(2, kQueueMax),
        callbacks(1, kQueueMax),
        submitters(kSubmittersMax, kQueueMax) {
    puts->offload.open(workers);
  }

  using Job = std::shared_ptr<WriteJob>;

  // With fill_mutex_ held:
  result<std::shared_ptr<const ErasureCode>> code_of(const std::string& profile);
  void pack(const std::shared_ptr<WriteUnit>&);
  void pack_attributes(const std::shared_ptr<WriteUnit>&);
  void pack_records(const std::shared_ptr<WriteUnit>&);
  result<void> seal_records(WriteJob&);
  result<Job> open_job(const WriteUnit&);
  result<size_t> add_piece(WriteJob&, const std::shared_ptr<WriteUnit>&, size_t first);
  void close_job(const std::string& stream, bool may_wait = true);
  void join_group(WriteJob&, const std::string& stream, bool may_wait);
  void close_all();
  void close_with(InodeId, const std::string& kept);

  void close_when_idle(std::weak_ptr<WriteJob>, const std::string& stream, Duration wait);
  void start_sealing(const Job&);
  void sealed(const Job&);
  void redo(const Job&);

  const Dependencies d;
  const std::shared_ptr<PutContext> puts;
  std::map<std::string, std::shared_ptr<const ErasureCode>> codes;
  std::mutex fill_mutex;
  std::map<std::string, Job> filling;  // by stream
  GroupWriter groups;
  RefusalPause daemon_room;      // for records of stripes
  RefusalPause unreserved_room;  // at the sites, for what is not reserved
  CommitQueue queue;
  Executor sealers, workers, callbacks, submitters;  // last: their threads use all of the above
};

result<std::shared_ptr<const ErasureCode>> WritePipeline::Impl::code_of(
    const std::string& profile) {
  const auto known = codes.find(profile);
  if (known != codes.end()) return known->second;
  TRY(auto code, make_erasure_code(profile));
  codes[profile] = code;
  return code;
}

void WritePipeline::Impl::start_sealing(const Job& job) {
  // The stage is owned by the job and must not own it.
  job->sealing = std::make_shared<SealStage>(d.sealer, sealers, [this, weak = std::weak_ptr(job)] {
    if (auto job = weak.lock()) workers.post([this, job] { sealed(job); });
  });
}

// The stripe being filled for this stream, a new one if there is none. Waits for a place.
result<WritePipeline::Impl::Job> WritePipeline::Impl::open_job(const WriteUnit& unit) {
  close_with(unit.flush.ino, unit.stream);
  const auto open = filling.find(unit.stream);
  if (open != filling.end()) return open->second;
  TRY(auto code, code_of(unit.flush.code));
  if (!puts->budget.try_acquire(unit.flush.shard_bytes)) {
    close_all();
    puts->budget.acquire(unit.flush.shard_bytes);
  }
  auto job = std::make_shared<WriteJob>();
  job->code = std::move(code);
  job->group_members = unit.flush.group;
  job->home_site = unit.flush.home_site;
  job->shard_bytes = unit.flush.shard_bytes;
  job->fill.emplace(job->code->k(), job->shard_bytes);
  start_sealing(job);
  filling[unit.stream] = job;
  close_when_idle(job, unit.stream, kBatchWait);
  return job;
}

// Adds as many blocks as fit; 0 when the stripe is full.
result<size_t> WritePipeline::Impl::add_piece(WriteJob& job, const std::shared_ptr<WriteUnit>& unit,
                                              size_t first) {
  const auto& blocks = unit->flush.blocks;
  ColumnFill fill = *job.fill;
  uint64_t bytes = job.plain_bytes;
  size_t count = 0;
  while (first + count < blocks.size() && job.slots + count < kStripeSlotsMax) {
    const DirtyBlock& block = blocks[first + count];
    if (!block.plain || block.plain->empty() || block.plain->size() > unit->flush.block_bytes) {
      return failure(Errc::invalid, "block " + std::to_string(block.block) + " of inode " +
                                        std::to_string(unit->flush.ino) + " has a wrong length");
    }
    if (!fill.add(block.plain->size())) break;
    bytes += block.plain->size();
    ++count;
  }
  if (count == 0) return size_t{0};
  Piece piece{.unit = unit, .first = first, .count = count, .first_slot = job.slots};
  TRY(piece.version, d.ids.take(IdKind::version, count));
  for (size_t i = 0; i < count; ++i) {
    job.sealing->add(piece.address(i), blocks[first + i].plain, unit->flush.compression);
  }
  job.slots += static_cast<uint32_t>(count);
  job.plain_bytes = bytes;
  job.fill = fill;
  job.pieces.push_back(std::move(piece));
  job.inodes.insert(unit->flush.ino);
  return count;
}

void WritePipeline::Impl::pack(const std::shared_ptr<WriteUnit>& unit) {
  for (size_t done = 0; done < unit->flush.blocks.size() && !queue.answered(*unit);) {
    auto job = open_job(*unit);
    if (!job) return queue.fail_unit(unit, job.error());
    auto added = add_piece(*job.value(), unit, done);
    if (!added) return queue.fail_unit(unit, added.error());
    if (added.value() == 0) close_job(unit->stream);
    done += added.value();
  }
}

// In order behind the inode's blocks: with the stripe that is being filled, or on its own.
void WritePipeline::Impl::pack_attributes(const std::shared_ptr<WriteUnit>& unit) {
  for (auto& [stream, job] : filling) {
    if (!job->inodes.contains(unit->flush.ino)) continue;
    job->pieces.push_back({.unit = unit});
    if (job->pieces.size() >= kStripeSlotsMax) close_job(std::string(stream));
    return;
  }
  auto job = std::make_shared<WriteJob>();
  job->pieces.push_back({.unit = unit});
  queue.enqueue(job);
  queue.ready(job, nullptr);
}

// In order behind the inode's blocks, on its own; sealed here: that takes microseconds.
void WritePipeline::Impl::pack_records(const std::shared_ptr<WriteUnit>& unit) {
  close_with(unit->flush.ino, "");
  auto job = std::make_shared<WriteJob>();
  job->to_records = true;
  job->pieces.push_back({.unit = unit, .count = unit->flush.blocks.size()});
  if (auto sealed = seal_records(*job); !sealed) return queue.fail_unit(unit, sealed.error());
  queue.enqueue(job);
  queue.ready(job, nullptr);
}

// Patches need versions above that of what they change, which may be of a later range than ours.
result<void> WritePipeline::Impl::seal_records(WriteJob& job) {
  Piece& piece = job.pieces.front();
  const FlushUnit& unit = piece.unit->flush;
  ContentVersion base = 0;
  for (const DirtyBlock& block : unit.blocks)
    if (block.change) base = std::max(base, block.change->base);
  TRY(piece.version, d.ids.take(IdKind::version, piece.count));
  if (piece.version <= base) {
    d.ids.revoked();
    TRY(piece.version, d.ids.take(IdKind::version, piece.count));
  }
  piece.sealed.clear();
  job.record_bytes = 0;
  for (size_t i = 0; i < piece.count; ++i) {
    const DirtyBlock& block = unit.blocks[i];
    Bytes sealed;
    if (block.change) {
      const auto& [from, offset, length] = *block.change;
      if (offset > block.plain->size() || length > block.plain->size() - offset)
        return failure(Errc::invalid, "a change reaches beyond its block");
      const auto changed = ByteView(*block.plain).subspan(offset, length);
      const BlockPatch patch{offset, static_cast<uint32_t>(block.plain->size()), from,
                             Bytes(changed.begin(), changed.end())};
      TRY(d.sealer.seal_patch(piece.address(i), patch, unit.compression, sealed));
    } else {
      TRY(d.sealer.seal(piece.address(i), *block.plain, unit.compression, sealed));
    }
    auto& out = piece.sealed.emplace_back();
    out.set_ino(unit.ino);
    out.set_block(block.block);
    out.set_version(piece.version + i);
    out.set_patch(block.change.has_value());
    out.set_sealed(std::string(as_text(sealed)));
    job.record_bytes += sealed.size();
  }
  return success();
}

// A row over stripes that are hardly filled would cost more than it is worth.
void WritePipeline::Impl::join_group(WriteJob& job, const std::string& stream, bool may_wait) {
  const uint64_t full = uint64_t{job.shard_bytes} * static_cast<uint64_t>(job.code->k());
  if (job.group_members < 2 || job.code->m() == 0 || job.plain_bytes < full / 2) return;
  const GroupWriter::Shape shape{job.code, job.group_members, job.home_site, job.shard_bytes};
  job.group = groups.join(stream, shape, may_wait);
}

void WritePipeline::Impl::close_job(const std::string& stream, bool may_wait) {
  const auto open = filling.find(stream);
  if (open == filling.end()) return;
  const Job job = std::move(open->second);
  filling.erase(open);
  join_group(*job, stream, may_wait);
  queue.enqueue(job);
  if (job->slots == 0) {  // its first unit failed before it had a block
    queue.failed(job, Error(Errc::unavailable, "no block could be added to the stripe"));
  } else {
    const auto stage = job->sealing;  // the job may be past it before close() returns
    stage->close();
  }
}

void WritePipeline::Impl::close_all() {
  while (!filling.empty()) close_job(std::string(filling.begin()->first));
}

// Closes what holds the inode, except the stripe of the stream `kept`.
void WritePipeline::Impl::close_with(InodeId ino, const std::string& kept) {
  for (auto it = filling.begin(); it != filling.end();) {
    const auto& [stream, job] = *it++;
    if (stream != kept && job->inodes.contains(ino)) close_job(std::string(stream));
  }
}

// Closes a stripe that was not filled in time. A submitter that is packing right now is not waited
// for (it may itself wait for work that this thread drives): try again soon.
void WritePipeline::Impl::close_when_idle(std::weak_ptr<WriteJob> weak, const std::string& stream,
                                          Duration wait) {
  puts->timers->after(wait, [this, weak = std::move(weak), stream] {
    const auto job = weak.lock();
    if (!job) return;
    std::unique_lock lock(fill_mutex, std::try_to_lock);
    if (!lock) return close_when_idle(job, stream, kBatchRetry);
    const auto open = filling.find(stream);
    if (open != filling.end() && open->second == job) close_job(stream, false);
  });
}

// All blocks are sealed: lay out the columns, and put them with their parity.
void WritePipeline::Impl::sealed(const Job& job) {
  auto chunks = std::exchange(job->sealing, nullptr)->outcome();
  if (!chunks) return queue.failed(job, chunks.error());
  const uint32_t spread_min = std::min(kSpreadMinBytes, job->shard_bytes);
  auto built = lay_out_columns(*job->code, chunks.value(), spread_min);
  chunks.value().clear();
  if (!built) return queue.failed(job, built.error());
  StripePlace place{.home_site = job->home_site, .shard_bytes = job->shard_bytes};
  if (job->group) place.rotation = job->group.number();
  auto done = [this, job](result<pb::Stripe> put) {
    workers.post([this, job, put = std::move(put)]() mutable {
      if (!put) return queue.failed(job, put.error());
      queue.ready(job, std::make_shared<const pb::Stripe>(std::move(put.value())));
    });
  };
  std::make_shared<StripePutter>(puts, job->code, std::move(built.value()), job->urgency,
                                 std::move(done), place)
      ->start([&](const BuiltStripe& encoded) { groups.add(job->group, encoded); });
}

// The ids of the job were revoked: the same blocks under new ids.
void WritePipeline::Impl::redo(const Job& job) {
  if (job->to_records) {
    if (auto sealed = seal_records(*job); !sealed) return queue.failed(job, sealed.error());
    return queue.ready(job, nullptr);
  }
  start_sealing(job);
  for (Piece& piece : job->pieces) {
    if (piece.count == 0) continue;
    auto version = d.ids.take(IdKind::version, piece.count);
    if (!version) return queue.failed(job, version.error());
    piece.version = version.value();
    for (size_t i = 0; i < piece.count; ++i) {
      const FlushUnit& unit = piece.unit->flush;
      job->sealing->add(piece.address(i), unit.blocks[piece.first + i].plain, unit.compression);
    }
  }
  const auto stage = job->sealing;
  stage->close();
}

WritePipeline::WritePipeline(Dependencies d) : impl_(std::make_unique<Impl>(std::move(d))) {}

WritePipeline::~WritePipeline() {
  impl_->submitters.finish();
  flush();
  impl_->queue.wait_idle();
  impl_->groups.wait_idle();
  // Puts that outlast their stripes end at their deadline; their names are then reported.
  impl_->puts->budget.wait_no_late(impl_->puts->put_deadline + seconds(1));
  impl_->puts->abandoned->close(seconds(2));
  impl_->puts->timers->stop();
  impl_->puts->offload.close();
}

void WritePipeline::submit(FlushUnit flush, Urgency urgency, bool durable, Done done) {
  wait_for_room(flush.ino);
  submit(admit(std::move(flush), durable, std::move(done)), urgency);
}

void WritePipeline::wait_for_room(InodeId ino) {
  impl_->queue.wait_told(ino);
  if (impl_->queue.units() < kUnitsMax) return;
  this->flush();
  impl_->queue.wait_units_below(kUnitsMax);
}

// Known to the queue before anything blocks, so that an earlier failure takes it along.
std::shared_ptr<WriteUnit> WritePipeline::admit(FlushUnit flush, bool durable, Done done) {
  auto unit = std::make_shared<WriteUnit>();
  unit->flush = std::move(flush);
  unit->stream = unit->flush.code + "/" + std::to_string(unit->flush.group) + "/" +
                 std::to_string(unit->flush.home_site) + "/" +
                 std::to_string(unit->flush.shard_bytes);
  unit->durable = durable;
  unit->done = std::move(done);
  (void)impl_->queue.admit(unit);
  return unit;
}

void WritePipeline::submit(const std::shared_ptr<WriteUnit>& unit, Urgency urgency) {
  if (impl_->queue.answered(*unit)) return;
  if (!unit->flush.blocks.empty()) {
    if (auto full = impl_->daemon_room.lasting(0)) return impl_->queue.fail_unit(unit, *full);
    if (!unit->flush.reserved && !unit->flush.to_records) {
      if (auto full = unreserved_refusal()) return impl_->queue.fail_unit(unit, *full);
    }
  }
  std::lock_guard lock(impl_->fill_mutex);
  // A truncate must not empty a stripe of which the same transaction has still slots to map.
  if (unit->flush.truncate_to) impl_->close_with(unit->flush.ino, "");
  if (unit->flush.blocks.empty()) {
    impl_->pack_attributes(unit);
  } else if (unit->flush.to_records) {
    impl_->pack_records(unit);
  } else {
    impl_->pack(unit);
  }
  const auto open = impl_->filling.find(unit->stream);
  if (urgency == Urgency::now && open != impl_->filling.end()) {
    open->second->urgency = Urgency::now;
    impl_->close_job(unit->stream);
  }
}

std::optional<Error> WritePipeline::out_of_space(uint64_t shard_bytes) const {
  if (auto full = impl_->daemon_room.lasting(0)) return full;
  return impl_->d.sites.out_of_space(shard_bytes, impl_->puts->sites_min);
}

std::optional<Error> WritePipeline::unreserved_refusal() const {
  return impl_->unreserved_room.lasting(0);
}

void WritePipeline::post(std::function<void()> task) { impl_->submitters.post(std::move(task)); }

void WritePipeline::flush() {
  std::lock_guard lock(impl_->fill_mutex);
  impl_->close_all();
}

WritePipeline::Stats WritePipeline::stats() const {
  const auto& c = impl_->puts->counters;
  return {.stripes = c.stripes,
          .blocks = c.blocks,
          .plain_bytes = c.plain_bytes,
          .sealed_bytes = c.sealed_bytes,
          .shard_bytes = c.shard_bytes,
          .stand_ins = c.stand_ins,
          .shards_missing = c.shards_missing,
          .failures = c.failures,
          .record_blocks = c.record_blocks,
          .record_bytes = c.record_bytes,
          .rows = c.rows};
}

}  // namespace datacloud
