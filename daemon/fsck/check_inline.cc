// Runs with inline bytes or patches, side by side with these. What a block's bytes are now is only
// known when all of it is there: a block that lacks any is lost, and never what it was before.
#include <fmt/format.h>

#include <utility>
#include <vector>

#include "daemon/fsck/lost_runs.h"
#include "daemon/fsck/record_passes.h"
#include "daemon/records/block_map.h"
#include "daemon/records/inline_blocks.h"

namespace datacloud {
namespace {

using Cursor = RecordSnapshot::Cursor;
using Place = std::pair<InodeId, uint64_t>;

constexpr Place kEnd{~uint64_t{0}, ~uint64_t{0}};

Place place_of(const Cursor& cursor) {
  if (!cursor.valid()) return kEnd;
  if (cursor.key().size() < 17) return {0, 0};
  return {key::u64_at(cursor.key(), 1), key::u64_at(cursor.key(), 9)};
}

// What there is of one block.
struct Gathered {
  Place place;
  std::optional<StoredRun> run;  // that begins there
  bool broken = false;           // one does, and another pass tells of it
  std::optional<RecordChange> bytes;
  size_t byte_count = 0;
  struct Patch {
    ContentVersion version = 0;
    size_t byte_count = 0;
    RecordChange erased;
  };
  std::vector<Patch> patches;
  uint64_t patches_total = 0;
};

class InlineBlocks {
 public:
  explicit InlineBlocks(RecordPasses& p) : p_(p) {}

  result<void> run() {
    for (;;) {
      Gathered at{.place = std::min({place_of(runs_), place_of(bytes_), place_of(patches_)})};
      if (at.place == kEnd) break;
      TRY(gather(at));
      TRY(judge(at));
    }
    for (const Cursor* cursor : {&runs_, &bytes_, &patches_}) {
      TRY(cursor->status());
    }
    return success();
  }

 private:
  std::string name(const Gathered& at) const {
    return fmt::format("block {} of inode {}", at.place.second, at.place.first);
  }
  void note_use(const Gathered& at) {
    p_.note_use(inline_blocks::kFeature, [&] { return name(at); });
  }

  result<void> gather(Gathered& at) {
    for (; runs_.valid() && place_of(runs_) == at.place; runs_.next()) {
      TRY(p_.count());
      StoredRun stored{at.place.first, {}, std::string(runs_.value()), std::nullopt};
      if (parses(runs_.value(), stored.run) && is_run(runs_.key(), stored.run)) {
        at.run = std::move(stored);
      } else {
        at.broken = true;
      }
    }
    for (; bytes_.valid() && place_of(bytes_) == at.place; bytes_.next()) {
      TRY(p_.count());
      if (bytes_.key().size() != 17) {
        no_key(bytes_);
        continue;
      }
      at.bytes = erased(bytes_);
      at.byte_count = bytes_.value().size();
    }
    for (; patches_.valid() && place_of(patches_) == at.place; patches_.next()) {
      TRY(p_.count());
      if (patches_.key().size() != 25) {
        no_key(patches_);
        continue;
      }
      ++at.patches_total;
      if (at.patches.size() >= p_.limits.findings_max) continue;
      at.patches.push_back(
          {key::u64_at(patches_.key(), 17), patches_.value().size(), erased(patches_)});
    }
    return success();
  }

  void no_key(const Cursor& cursor) {
    p_.add({.kind = "block-map",
            .text = "inline bytes or a patch are stored under a key that is none",
            .action = "they are put into quarantine",
            .records = {erased(cursor)}});
  }

  result<void> judge(const Gathered& at) {
    const bool needs = at.run && inline_blocks::has_records(at.run->run);
    if (needs || at.bytes || !at.patches.empty()) note_use(at);
    if (at.broken || (!needs && !at.bytes && at.patches.empty())) return success();
    // The run may come back from the reverse map, which does not tell of its patches.
    if (!at.run && !at.patches.empty() && p_.runs.any()) return success();
    if (needs && at.run->run.inline_() &&
        (names_slots(at.run->run) || at.run->run.has_sealed_for()))
      return two_places(at);
    uint32_t block_bytes = kBlockBytesMax;
    pb::Inode inode;
    TRY(const bool found, p_.view.get(key::inode(at.place.first), inode));
    if (found && inode.policy().block_bytes() != 0) block_bytes = inode.policy().block_bytes();
    TRY(const bool whole, judge_bytes(at, block_bytes));
    return whole ? judge_patches(at, block_bytes) : success();
  }

  // A run that is inline and names a stripe, or says as of a slot what it was sealed for, is what
  // the reverse map says of it.
  result<void> two_places(const Gathered& at) {
    const pb::Run& run = at.run->run;
    TRY(const auto reference, find_reference(p_.view, at.place.first, run));
    pb::Owner owner;
    const bool mapped = reference.raw && parses(*reference.raw, owner) &&
                        owner.ino() == at.place.first && owner.first_block() == at.place.second;
    pb::Run becomes = run;
    if (mapped) {
      becomes.set_inline_(false);
    } else {
      becomes.clear_stripe();
      becomes.clear_first_slot();
      becomes.clear_sealed_for();
    }
    p_.add({.kind = "block-map",
            .text = names_slots(run)
                        ? fmt::format("{} is inline and names stripe {}", name(at), run.stripe())
                        : name(at) + " is inline and says what it was sealed for",
            .action = mapped ? "it is in the stripe, as the reverse map says"
                             : "it is inline: the reverse map does not know of it",
            .records = {replaced(key::run(at.place.first, at.place.second), at.run->raw,
                                 becomes.SerializeAsString())}});
    return success();
  }

  // False: there is nothing left whose patches could be judged.
  result<bool> judge_bytes(const Gathered& at, uint32_t block_bytes) {
    const bool is_inline = at.run && at.run->run.inline_();
    if (!is_inline) {
      if (at.bytes) {
        p_.add({.kind = "block-map",
                .text = fmt::format("inline bytes of {}, which is not inline", name(at)),
                .action = "they are put into quarantine",
                .records = {*at.bytes}});
      }
      return true;
    }
    if (at.bytes && inline_blocks::fits_block(at.byte_count, block_bytes)) return true;
    TRY(lose(at, at.bytes ? fmt::format("{} has {} inline bytes, which are no sealed block",
                                        name(at), at.byte_count)
                          : fmt::format("{} is inline, and its bytes are missing", name(at))));
    return false;
  }

  result<void> judge_patches(const Gathered& at, uint32_t block_bytes) {
    const bool base = at.run && at.run->run.count() == 1 && !is_lost(at.run->run);
    bool erases = false;
    for (const auto& patch : at.patches) {
      const char* wrong =
          !base                                    ? "which has nothing it could change"
          : patch.version <= at.run->run.version() ? "which is newer: the patch is out of order"
          : !inline_blocks::fits_patch(patch.byte_count, block_bytes) ? "which is no sealed patch"
                                                                      : nullptr;
      if (wrong == nullptr) continue;
      erases = true;
      p_.add({.kind = "block-map",
              .text = fmt::format("patch {} of {}, {}", patch.version, name(at), wrong),
              .action = "it is put into quarantine",
              .records = {patch.erased}});
    }
    if (erases || !at.run) return success();  // counted by the next check
    const uint64_t there = at.patches_total, counted = at.run->run.patches();
    if (there > kBlockPatchesMax || there < counted) {
      return lose(at, fmt::format("{} has {} patches, its run counts {}, of at most {}", name(at),
                                  there, counted, kBlockPatchesMax));
    }
    if (there == counted) return success();
    pb::Run becomes = at.run->run;
    becomes.set_patches(static_cast<uint32_t>(there));
    p_.add({.kind = "block-map",
            .text = fmt::format("{} has {} patches, its run counts {}", name(at), there, counted),
            .action = "the run counts all: what does not fit is not read",
            .records = {replaced(key::run(at.place.first, at.place.second), at.run->raw,
                                 becomes.SerializeAsString())}});
    return success();
  }

  result<void> lose(const Gathered& at, std::string text) {
    StoredRun stored = *at.run;
    Finding finding{.kind = "block-map",
                    .text = std::move(text),
                    .action = std::string("the block is marked as lost: ") + kLostMeans};
    if (names_slots(stored.run)) {
      TRY(auto reference, find_reference(p_.view, stored.ino, stored.run));
      pb::Owner owner;
      if (reference.raw && parses(*reference.raw, owner) && owner.ino() == stored.ino &&
          owner.first_block() == stored.run.first_block()) {
        stored.owner = std::move(reference.raw);
        stored.further = reference.further;
      }
      finding.kept = stored.run.stripe();
    }
    TRY(const uint64_t end, end_of_loss(p_.view, stored.ino, stored.run.first_block()));
    finding.records = split_run(stored, {{stored.run.count(), RunPart::Fate::lost}}, end);
    if (at.bytes) finding.records.push_back(*at.bytes);
    for (const auto& patch : at.patches) finding.records.push_back(patch.erased);
    p_.add(std::move(finding));
    return success();
  }

  RecordPasses& p_;
  Cursor runs_ = p_.view.scan_all('M'), bytes_ = p_.view.scan_all('V'),
         patches_ = p_.view.scan_all('W');
};

}  // namespace

result<void> check_inline(RecordPasses& passes) { return InlineBlocks(passes).run(); }

}  // namespace datacloud
