// Runs by inode, filled from replies and own commits.
#include "fs/read/block_map_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "common/rpc/inline_limits.h"

namespace datacloud {
namespace {

constexpr uint64_t kFileBytes = 512;       // estimates, for the limit
constexpr uint64_t kPieceBytes = 400;      // a run and its share of a stripe record
constexpr uint64_t kPieceBlockBytes = 12;  // a slot of the stripe record
constexpr int kReplyRunsMax = 4096;        // a longer reply covers a prefix only

bool same_record(const pb::Stripe& a, const pb::Stripe& b) {
  const auto same_shard = [](const pb::Shard& x, const pb::Shard& y) {
    return x.site() == y.site() && x.instance() == y.instance() && x.bytes() == y.bytes() &&
           x.state() == y.state();
  };
  const auto same = [](const auto& x, const auto& y) {
    return std::equal(x.begin(), x.end(), y.begin(), y.end());
  };
  return a.code() == b.code() && a.parity_bytes() == b.parity_bytes() &&
         std::equal(a.shards().begin(), a.shards().end(), b.shards().begin(), b.shards().end(),
                    same_shard) &&
         same(a.slot_column(), b.slot_column()) && same(a.slot_offset(), b.slot_offset()) &&
         same(a.slot_length(), b.slot_length());
}

// A run must lie in its stripe and not wrap: everything later relies on it.
result<void> check_run(const pb::Run& run, const pb::Stripe& stripe) {
  if (run.count() > 0 && run.first_block() + run.count() > run.first_block() &&
      uint64_t{run.first_slot()} + run.count() <= static_cast<uint64_t>(stripe.slot_column_size()))
    return success();
  return failure(
      Errc::corrupt,
      fmt::format("a block map names slots {}+{} of stripe {}, which has {}", run.first_slot(),
                  run.count(), stripe.id(), stripe.slot_column_size()));
}

bool has_records(const pb::Run& run) { return run.inline_() || run.patches() > 0; }

// What a reply's pieces give for its runs. corrupt when they are not exactly those that the runs
// have: what is left of a block would be what it was before, or zeros.
result<std::map<uint64_t, std::shared_ptr<RecordBytes>>> gather(InodeId ino, pb::MapReply& reply) {
  std::map<uint64_t, std::shared_ptr<RecordBytes>> out;
  std::map<uint64_t, const pb::Run*> runs;
  const auto bad = [&](uint64_t block, const char* what) {
    return failure(Errc::corrupt, fmt::format("the map of block {} of inode {} {}; run `datacloud "
                                              "fsck`",
                                              block, ino, what));
  };
  for (const pb::Run& run : reply.runs()) {
    if (!has_records(run)) continue;
    if (run.count() != 1 || (run.inline_() && run.stripe() != 0))
      return bad(run.first_block(), "has bytes in the records for a run that cannot have any");
    runs[run.first_block()] = &run;
    out[run.first_block()] = std::make_shared<RecordBytes>();
  }
  for (auto& piece : *reply.mutable_pieces()) {
    const auto run = runs.find(piece.block());
    if (run == runs.end()) return bad(piece.block(), "has bytes in the records that no run names");
    RecordBytes& bytes = *out[piece.block()];
    const ContentVersion before =
        bytes.patches.empty() ? run->second->version() : bytes.patches.back().version;
    if (piece.patch()) {
      if (piece.version() <= before) return bad(piece.block(), "has patches out of order");
      bytes.patches.push_back({piece.version(), std::move(*piece.mutable_sealed())});
    } else {
      if (!run->second->inline_() || piece.version() != run->second->version())
        return bad(piece.block(), "has the bytes of another version");
      bytes.block = std::move(*piece.mutable_sealed());
    }
  }
  for (const auto& [block, run] : runs) {
    const RecordBytes& bytes = *out[block];
    if (bytes.block.empty() == run->inline_() || bytes.patches.size() != run->patches())
      return bad(block, "lacks bytes that are in the records");
  }
  return out;
}

std::shared_ptr<const pb::Stripe> no_stripe() {
  auto record = std::make_shared<pb::Stripe>();
  record->set_id(kNoStripeId);
  return record;
}

SealedPlace sealed_place(const pb::Run& run) {
  const auto& sealed = run.sealed_for();
  return {sealed.realm(), sealed.ino(), sealed.first_block()};
}

}  // namespace

uint64_t RecordBytes::bytes() const {
  uint64_t sum = block.size();
  for (const auto& patch : patches) sum += patch.sealed.size();
  return sum;
}

uint64_t BlockMapCache::weight(const Piece& piece) {
  return kPieceBytes + piece.count * kPieceBlockBytes +
         (piece.records ? piece.records->bytes() : 0);
}

BlockMapCache::File* BlockMapCache::known(InodeId ino) {
  const auto it = files_.find(ino);
  if (it == files_.end()) return nullptr;
  ages_.splice(ages_.begin(), ages_, it->second.age);
  return &it->second;
}

BlockMapCache::File& BlockMapCache::file(InodeId ino) {
  if (File* f = known(ino)) return *f;
  File& made = files_[ino];
  ages_.push_front(ino);
  made.age = ages_.begin();
  made.epoch = ++epochs_;
  bytes_ += kFileBytes;
  return made;
}

std::vector<MappedBlock> BlockMapCache::lookup(InodeId ino, uint64_t first, uint64_t count) {
  std::vector<MappedBlock> out;
  std::lock_guard lock(mutex_);
  const File* f = known(ino);
  if (!f) return out;
  const uint64_t end = std::min(f->covered.end_of(first), first + count);
  out.reserve(end - first);
  auto it = f->pieces.upper_bound(first);
  if (it != f->pieces.begin()) --it;
  for (uint64_t b = first; b < end; ++b) {
    while (it != f->pieces.end() && it->first + it->second.count <= b) ++it;
    if (it == f->pieces.end() || it->first > b) {
      out.emplace_back();
      continue;
    }
    const uint64_t i = b - it->first;
    const Piece block = it->second.part(i, 1);
    out.push_back({block.stripe, block.slot, block.version, block.sealed, block.records});
  }
  return out;
}

uint64_t BlockMapCache::known_end(InodeId ino, uint64_t first) {
  std::lock_guard lock(mutex_);
  const File* f = known(ino);
  return f ? f->covered.end_of(first) : first;
}

BlockMapCache::Found BlockMapCache::find(InodeId ino, uint64_t first, uint64_t end, bool mapped) {
  std::lock_guard lock(mutex_);
  const File* f = known(ino);
  const uint64_t stop = f ? std::min(end, f->covered.end_of(first)) : first;
  if (stop == first) return {first, first};
  auto it = f->pieces.upper_bound(first);
  if (it != f->pieces.begin()) --it;
  uint64_t at = first;
  for (; it != f->pieces.end() && at < stop; ++it) {
    const uint64_t piece_end = it->first + it->second.count;
    if (piece_end <= at) continue;
    if (mapped) return {std::min(std::max(at, it->first), stop), stop};
    if (it->first > at) return {at, stop};
    at = piece_end;
  }
  return {mapped ? stop : std::min(at, stop), stop};
}

BlockMapCache::Ticket BlockMapCache::begin(InodeId ino) {
  std::lock_guard lock(mutex_);
  // Not in end(): what is dropped between a request and its reply must make the reply invalid.
  make_room(ino);
  File& f = file(ino);
  ++f.requests;
  return f.epoch;
}

result<bool> BlockMapCache::end(InodeId ino, Ticket ticket, const pb::MapRequest& request,
                                pb::MapReply* reply) {
  std::lock_guard lock(mutex_);
  File* const before = known(ino);  // kept while requests are counted
  if (!before) return false;
  --before->requests;
  if (!reply || before->epoch != ticket) return false;
  File& f = *before;
  Stripes stripes;
  for (pb::Stripe& s : *reply->mutable_stripes()) {
    auto record = std::make_shared<pb::Stripe>();
    record->Swap(&s);
    const StripeId id = record->id();
    stripes[id] = intern(std::move(record));
  }
  uint64_t end = request.first_block() + request.blocks();
  uint64_t piece_bytes = 0;
  for (const auto& piece : reply->pieces()) piece_bytes += piece.sealed().size();
  TRY(const auto records, gather(ino, *reply));
  if (!records.empty() && found_.size() < kFoundMax) {
    found_.insert(ino);
    any_found_ = true;
  }
  for (const pb::Run& run : reply->runs()) {
    if (run.inline_()) {
      if (!stripes[kNoStripeId]) stripes[kNoStripeId] = intern(no_stripe());
      continue;
    }
    if (run.stripe() == 0) {  // the daemon knows that its data are lost
      if (!stripes[0]) stripes[0] = intern(std::make_shared<pb::Stripe>());
      continue;
    }
    const auto it = stripes.find(run.stripe());
    if (it == stripes.end())
      return failure(Errc::corrupt, fmt::format("a block map of inode {} names stripe {} without "
                                                "its record",
                                                ino, run.stripe()));
    TRY(check_run(run, *it->second->record));
  }
  if (reply->runs_size() >= kReplyRunsMax ||
      (piece_bytes >= kMapPieceBytes && reply->runs_size() > 0)) {
    const pb::Run& last = *reply->runs().rbegin();
    end = std::min(end, last.first_block() + last.count());
  }
  for (const auto& [from, to] : f.covered.gaps(request.first_block(), end)) {
    for (const pb::Run& run : reply->runs())
      fill(f, run, stripes[run.inline_() ? kNoStripeId : run.stripe()], records, from, to);
    f.covered.add(from, to);
  }
  return true;
}

// Places the part of `run` inside [first, end), which is free.
void BlockMapCache::fill(File& f, const pb::Run& run, const std::shared_ptr<MappedStripe>& stripe,
                         const Records& records, uint64_t first, uint64_t end) {
  const uint64_t from = std::max(first, run.first_block());
  const uint64_t to = std::min(end, run.first_block() + run.count());
  if (from >= to) return;
  const uint64_t skip = from - run.first_block();
  clear_range(f, from, to);
  Piece whole{run.count(), run.first_slot(), run.version(), stripe, sealed_place(run)};
  if (has_records(run)) {
    if (const auto it = records.find(run.first_block()); it != records.end())
      whole.records = it->second;
  }
  place(f, from, whole.part(skip, to - from));
}

BlockMapCache::Piece BlockMapCache::Piece::part(uint64_t skip, uint64_t blocks) const {
  Piece out = *this;
  out.count = blocks;
  out.slot += static_cast<uint32_t>(skip);
  out.version += skip;
  if (out.sealed.ino != 0) out.sealed.block += skip;
  return out;
}

void BlockMapCache::place(File& f, uint64_t first, const Piece& piece) {
  bytes_ += weight(piece);
  f.pieces.emplace(first, piece);
}

void BlockMapCache::clear_range(File& f, uint64_t first, uint64_t end) {
  auto it = f.pieces.upper_bound(first);
  if (it != f.pieces.begin()) --it;
  while (it != f.pieces.end() && it->first < end) {
    const uint64_t from = it->first, to = from + it->second.count;
    if (to <= first) {
      ++it;
      continue;
    }
    const Piece old = it->second;
    bytes_ -= weight(old);
    it = f.pieces.erase(it);
    if (from < first) place(f, from, old.part(0, first - from));
    if (to > end) place(f, end, old.part(end - from, to - end));
  }
}

const BlockMapCache::Piece* BlockMapCache::piece_at(const File& f, uint64_t block) const {
  auto it = f.pieces.upper_bound(block);
  if (it == f.pieces.begin()) return nullptr;
  --it;
  return it->first + it->second.count > block ? &it->second : nullptr;
}

// Without what the run is about the daemon is to be asked.
void BlockMapCache::forget_block(File& f, uint64_t first, uint64_t end) {
  clear_range(f, first, end);
  f.covered.remove(first, end);
  f.epoch = ++epochs_;
}

// What the records hold of the block after a commit of ours; null: it is not known here.
std::shared_ptr<RecordBytes> BlockMapCache::patched(
    const File& f, const pb::Run& run, const std::vector<pb::SealedPiece>& pieces) const {
  const auto piece = std::find_if(pieces.begin(), pieces.end(), [&](const pb::SealedPiece& p) {
    return p.block() == run.first_block() && p.version() == run.version() &&
           p.patch() != run.inline_();
  });
  if (piece == pieces.end()) return nullptr;
  auto out = std::make_shared<RecordBytes>();
  if (run.inline_()) {
    out->block = piece->sealed();
    return out;
  }
  const Piece* before = piece_at(f, run.first_block());
  if (!before || !before->stripe || before->stripe->record->id() == 0) return nullptr;
  if (before->records) *out = *before->records;
  out->patches.push_back({run.version(), piece->sealed()});
  return out;
}

std::vector<InodeId> BlockMapCache::take_found() {
  if (!any_found_) return {};
  std::lock_guard lock(mutex_);
  std::vector<InodeId> out(found_.begin(), found_.end());
  found_.clear();
  any_found_ = false;
  return out;
}

std::vector<BlockMapCache::InRecords> BlockMapCache::in_records(InodeId ino, size_t count_max) {
  std::lock_guard lock(mutex_);
  std::vector<InRecords> out;
  const auto it = files_.find(ino);
  if (it == files_.end()) return out;
  for (const auto& [first, piece] : it->second.pieces) {
    if (!piece.records) continue;
    if (out.size() >= count_max) break;
    out.push_back(
        {first, static_cast<uint32_t>(piece.records->patches.size()), piece.records->bytes()});
  }
  return out;
}

void BlockMapCache::committed(InodeId ino, const std::vector<pb::Run>& runs,
                              const std::vector<std::shared_ptr<const pb::Stripe>>& records,
                              const std::vector<pb::SealedPiece>& pieces) {
  std::lock_guard lock(mutex_);
  Stripes stripes;
  for (const auto& record : records) stripes[record->id()] = intern(record);
  make_room(ino);
  File& f = file(ino);
  for (const pb::Run& run : runs) {
    const uint64_t first = run.first_block(), end = first + run.count();
    if (has_records(run)) {
      auto bytes = patched(f, run, pieces);
      if (!bytes) {
        forget_block(f, first, end);
        continue;
      }
      Piece block{1, 0, run.version(), nullptr, {}, bytes};
      if (run.inline_()) {
        block.stripe = intern(no_stripe());
      } else {
        const auto before = std::prev(f.pieces.upper_bound(first));
        block = before->second.part(first - before->first, 1);
        block.records = bytes;
      }
      clear_range(f, first, end);
      place(f, first, block);
      f.covered.add(first, end);
      continue;
    }
    const auto it = stripes.find(run.stripe());
    if (it == stripes.end() || !check_run(run, *it->second->record)) {
      forget_block(f, first, end);
      continue;
    }
    fill(f, run, it->second, {}, first, end);
    f.covered.add(first, end);
  }
}

void BlockMapCache::truncated(InodeId ino, uint64_t first_block) {
  std::lock_guard lock(mutex_);
  File& f = file(ino);
  clear_range(f, first_block, UINT64_MAX);
  f.covered.add(first_block, UINT64_MAX);
  f.hole_from = std::min(f.hole_from, first_block);
}

void BlockMapCache::invalidate(InodeId ino) {
  std::lock_guard lock(mutex_);
  File* f = known(ino);
  if (!f) return;
  clear_range(*f, 0, UINT64_MAX);
  f->covered.clear();
  f->hole_from = UINT64_MAX;
  f->epoch = ++epochs_;
  evict(ino);
}

void BlockMapCache::forget(InodeId ino, uint64_t first, uint64_t end) {
  std::lock_guard lock(mutex_);
  File* f = known(ino);
  if (!f) return;
  // Holes a truncate made stay known; only runs are doubted.
  std::vector<IntervalSet::Interval> runs;
  for (auto it = f->pieces.begin(); it != f->pieces.end() && it->first < end; ++it)
    if (it->first + it->second.count > first)
      runs.emplace_back(std::max(first, it->first), std::min(end, it->first + it->second.count));
  for (const auto& [from, to] : runs) {
    clear_range(*f, from, to);
    f->covered.remove(from, to);
  }
  f->epoch = ++epochs_;
}

// Drops what the daemon can tell again. False when something must stay.
bool BlockMapCache::evict(InodeId ino) {
  File& f = files_.at(ino);
  for (const auto& [first, piece] : f.pieces) {
    bytes_ -= weight(piece);
    f.covered.remove(first, first + piece.count);
  }
  f.pieces.clear();
  f.covered.remove(0, f.hole_from);
  f.epoch = ++epochs_;
  if (f.requests > 0 || f.hole_from != UINT64_MAX) return false;
  bytes_ -= kFileBytes;
  ages_.erase(f.age);
  files_.erase(ino);
  return true;
}

// Others leave first; an inode that fills the cache alone starts again.
void BlockMapCache::make_room(InodeId ino) {
  for (auto it = ages_.end(); bytes_ > bytes_max_ && it != ages_.begin();) {
    const auto oldest = std::prev(it);
    if (*oldest == ino || !evict(*oldest)) it = oldest;
  }
  if (bytes_ > bytes_max_ && known(ino)) evict(ino);
}

std::shared_ptr<MappedStripe> BlockMapCache::intern(std::shared_ptr<const pb::Stripe> record) {
  auto& slot = stripes_[record->id()];
  auto known = slot.lock();
  if (known && same_record(*known->record, *record)) return known;
  auto made = std::make_shared<MappedStripe>();
  made->record = std::move(record);
  slot = made;
  if (stripes_.size() > stripes_purge_at_) {
    std::erase_if(stripes_, [](const auto& entry) { return entry.second.expired(); });
    stripes_purge_at_ = 2 * stripes_.size() + 1024;
  }
  return made;
}

uint64_t BlockMapCache::bytes() const {
  std::lock_guard lock(mutex_);
  return bytes_;
}

}  // namespace datacloud
