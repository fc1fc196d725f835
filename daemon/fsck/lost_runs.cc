// Changes of records, computed: nothing is read or written here but sizes of files.
#include "daemon/fsck/lost_runs.h"

#include <sys/stat.h>

#include <algorithm>

#include "common/codes/erasure_code.h"
#include "common/stripe/shard_size.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/inline_blocks.h"
#include "daemon/records/stripe_records.h"

namespace datacloud {
namespace {

using Fate = RunPart::Fate;

pb::Run part_of(const pb::Run& run, uint64_t skip, uint64_t count, Fate fate) {
  pb::Run part;
  part.set_first_block(run.first_block() + skip);
  part.set_count(static_cast<uint32_t>(count));
  part.set_version(run.version() + skip);
  if (fate == Fate::lost) return part;
  part.set_stripe(run.stripe());
  part.set_first_slot(static_cast<uint32_t>(run.first_slot() + skip));
  if (count == run.count()) {  // of one block: nothing of it can be a part
    part.set_inline_(run.inline_());
    part.set_patches(run.patches());
  }
  if (run.has_sealed_for()) {
    *part.mutable_sealed_for() = run.sealed_for();
    part.mutable_sealed_for()->set_first_block(run.sealed_for().first_block() + skip);
  }
  return part;
}

std::string reference_key(const StoredRun& stored, const pb::Run& part) {
  return stored.further
             ? key::shared(part.stripe(), part.first_slot(), stored.ino, part.first_block())
             : key::owner(part.stripe(), part.first_slot());
}

std::vector<RunPart> merged(const std::vector<RunPart>& parts) {
  std::vector<RunPart> out;
  for (const auto& part : parts) {
    if (part.count == 0) continue;
    if (!out.empty() && out.back().fate == part.fate) {
      out.back().count += part.count;
    } else {
      out.push_back(part);
    }
  }
  return out;
}

// A column as its slots need it, if nothing else tells how long it is.
uint32_t column_end(const pb::Stripe& stripe, int column) {
  uint64_t end = 0;
  const int slots =
      std::min({stripe.slot_column_size(), stripe.slot_offset_size(), stripe.slot_length_size()});
  for (int i = 0; i < slots; ++i) {
    if (static_cast<int>(stripe.slot_column(i)) != column) continue;
    end = std::max<uint64_t>(end, uint64_t{stripe.slot_offset(i)} + stripe.slot_length(i));
  }
  return static_cast<uint32_t>(std::min<uint64_t>(end, UINT32_MAX));
}

bool usable(const pb::Shard& shard, bool data) {
  switch (shard.state()) {
    case pb::SHARD_EMPTY:
      return data && shard.bytes() == 0 && shard.instance() == 0;
    case pb::SHARD_PRESENT:
      return shard.instance() != 0 && shard.site() != 0 && shard.bytes() != 0;
    case pb::SHARD_MISSING:
      return shard.bytes() != 0;
    default:
      return false;
  }
}

}  // namespace

std::vector<RecordChange> split_run(const StoredRun& stored, const std::vector<RunPart>& parts,
                                    uint64_t end) {
  const pb::Run& run = stored.run;
  std::vector<RecordChange> changes;
  RecordChange first{key::run(stored.ino, run.first_block()), stored.raw, std::nullopt};
  RecordChange first_owner{reference_key(stored, run), stored.owner, std::nullopt};
  uint64_t skip = 0;
  for (const auto& part : merged(parts)) {
    const uint64_t block = run.first_block() + skip;
    uint64_t count = part.count;
    if (part.fate == Fate::lost) count = std::min(count, end > block ? end - block : 0);
    if (count > 0 && part.fate != Fate::left_out) {
      const pb::Run made = part_of(run, skip, count, part.fate);
      if (skip == 0) {
        first.becomes = made.SerializeAsString();
      } else {
        changes.push_back({key::run(stored.ino, block), std::nullopt, made.SerializeAsString()});
      }
      if (part.fate == Fate::kept) {
        auto owner = stripes::owner_of(stored.ino, made).SerializeAsString();
        if (skip == 0) {
          first_owner.becomes = std::move(owner);
        } else {
          changes.push_back({reference_key(stored, made), std::nullopt, std::move(owner)});
        }
      }
    }
    skip += part.count;
  }
  changes.push_back(std::move(first));
  if (stored.owner) changes.push_back(std::move(first_owner));
  return changes;
}

result<FoundReference> find_reference(const RecordSnapshot& view, InodeId ino, const pb::Run& run) {
  FoundReference first{key::owner(run.stripe(), run.first_slot()), std::nullopt, false};
  TRY(first.raw, view.get(first.key));
  pb::Owner owner;
  if (first.raw && owner.ParseFromString(*first.raw) && owner.ino() == ino &&
      owner.first_block() == run.first_block()) {
    return first;
  }
  FoundReference shared{key::shared(run.stripe(), run.first_slot(), ino, run.first_block()),
                        std::nullopt, true};
  TRY(shared.raw, view.get(shared.key));
  return shared.raw ? shared : first;
}

bool same_content(InodeId ino_a, const pb::Run& a, InodeId ino_b, const pb::Run& b) {
  // As they would be at slot 0, modulo 2^64.
  const auto sealed = [](InodeId ino, const pb::Run& run) {
    const bool moved = run.has_sealed_for();
    return std::pair(
        moved ? run.sealed_for().ino() : ino,
        (moved ? run.sealed_for().first_block() : run.first_block()) - run.first_slot());
  };
  return a.stripe() == b.stripe() && a.version() - a.first_slot() == b.version() - b.first_slot() &&
         sealed(ino_a, a) == sealed(ino_b, b);
}

result<uint64_t> next_run(const RecordSnapshot& view, InodeId ino, uint64_t first) {
  const std::string own = key::run(ino, first);
  const auto next = view.scan(own + '\0', key::after_prefix(own.substr(0, 9)));
  TRY(next.status());
  return next.valid() && next.key().size() == 17 ? key::u64_at(next.key(), 9) : ~uint64_t{0};
}

result<uint64_t> end_of_loss(const RecordSnapshot& view, InodeId ino, uint64_t first) {
  TRY(const uint64_t end, next_run(view, ino, first));
  pb::Inode inode;
  TRY(const bool found, view.get(key::inode(ino), inode));
  const uint64_t block = inode.policy().block_bytes();
  if (!found || !S_ISREG(inode.mode()) || block == 0) return end;
  return std::min(end, inode.size() / block + (inode.size() % block != 0));
}

bool is_run(std::string_view key, const pb::Run& run) {
  constexpr uint64_t kBlocksMax = uint64_t{1} << 51;
  const auto& sealed = run.sealed_for();
  return key.size() == 17 && run.first_block() == key::u64_at(key, 9) && run.count() > 0 &&
         run.count() <= kStripeSlotsMax && inline_blocks::malformed(run) == nullptr &&
         (names_slots(run) || run.inline_() || !run.has_sealed_for()) &&
         (!run.has_sealed_for() || (sealed.ino() != 0 && sealed.first_block() < kBlocksMax));
}

std::optional<pb::Stripe> corrected(pb::Stripe stripe, StripeId id) {
  stripe.set_id(id);
  if (stripe.row() == id || stripe.row() > kStripeIdMax) stripe.set_row(0);
  if (!is_recorded_shard_bytes(stripe.shard_bytes())) stripe.set_shard_bytes(0);
  const auto code = make_erasure_code(stripe.code());
  if (!code || stripe.shards_size() != code.value()->n()) return std::nullopt;
  const int k = code.value()->k(), n = code.value()->n();
  // Parity columns are all as long as the record says; where one is not, most of them know.
  std::vector<uint32_t> lengths;
  for (int c = k; c < n; ++c) lengths.push_back(stripe.shards(c).bytes());
  if (std::find(lengths.begin(), lengths.end(), stripe.parity_bytes()) == lengths.end()) {
    std::sort(lengths.begin(), lengths.end());
    stripe.set_parity_bytes(lengths[lengths.size() / 2]);
  }
  for (int c = 0; c < n; ++c) {
    auto* shard = stripe.mutable_shards(c);
    const uint32_t bytes = c < k ? column_end(stripe, c) : stripe.parity_bytes();
    const bool long_enough =
        stripe.members_size() > 0 && c < k ? shard->bytes() <= stripe.parity_bytes()
        : c < k ? shard->bytes() >= bytes && shard->bytes() <= stripe.parity_bytes()
                : shard->bytes() == bytes;
    if (usable(*shard, c < k) && long_enough) continue;
    if (c < k && bytes == 0 && stripe.members_size() == 0) {
      shard->Clear();
      shard->set_state(pb::SHARD_EMPTY);
      continue;
    }
    shard->set_state(pb::SHARD_MISSING);  // the repair computes it from the others
    shard->set_bytes(c < k && bytes == 0 ? stripe.parity_bytes() : bytes);
  }
  if (!validate_stripe(stripe)) return std::nullopt;
  return stripe;
}

}  // namespace datacloud
