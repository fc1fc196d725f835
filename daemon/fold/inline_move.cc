// The steps: gather in small steps on the loop, make stripes, move the blocks.
#include "daemon/fold/inline_move.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include "common/crypto/sealed_block.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/inline_blocks.h"

namespace datacloud {
namespace {

constexpr size_t kRecordsPerStep = 256;  // on the loop, between requests
constexpr uint64_t kBytesPerStep = 1u << 20;
constexpr uint64_t kNoInode = ~uint64_t{0};

struct InlineBlock {
  InodeId ino = 0;
  uint64_t block = 0;
  ContentVersion version = 0;
  std::string sealed;
};

class InlineMove {
 public:
  InlineMove(BackgroundContext& context, BackgroundIds& ids, InlinePlace from,
             const std::function<bool(InodeId)>& may_move)
      : context_(context), ids_(ids), may_move_(may_move), at_(from) {}

  result<InlineMoveOutcome> run() {
    bool more = true;
    while (more && bytes_ < kInlineSliceBytes) {
      TRY(more, context_.threads.on_loop<bool>([this] { return gather(); }));
    }
    if (more) outcome_.next = at_;
    for (const auto& [kind, blocks] : blocks_) {
      TRY(write(kind, blocks));
    }
    return std::move(outcome_);
  }

 private:
  // On the loop. Some records from at_ on; false: there are no more.
  result<bool> gather() {
    const Transaction txn = context_.store.begin();
    std::vector<InlineBlock> found;
    std::optional<InlinePlace> next;
    uint64_t bytes = 0;
    TRY(txn.scan(key::inline_block(at_.first, at_.second),
                 key::after_prefix(key::inline_block(0, 0).substr(0, 1)),
                 [&](std::string_view k, std::string_view v) {
                   if (k.size() != 17) return true;  // fsck tells of it
                   const InlinePlace place{key::u64_at(k, 1), key::u64_at(k, 9)};
                   if (found.size() >= kRecordsPerStep || bytes >= kBytesPerStep) {
                     next = place;
                     return false;
                   }
                   found.push_back({place.first, place.second, 0, std::string(v)});
                   bytes += v.size();
                   return true;
                 }));
    for (auto& block : found) {
      TRY(look_at_file(txn, block.ino));
      if (kind_) {
        TRY(take(txn, std::move(block)));
      }
    }
    if (!next) return false;
    // The rest of a file that is left alone is not read.
    at_ = next->first == ino_ && !kind_ ? InlinePlace{ino_ + 1, 0} : *next;
    return true;
  }

  // Whether blocks of the file are moved, and into stripes of which kind (kind_).
  result<void> look_at_file(const Transaction& txn, InodeId ino) {
    if (ino == ino_) return success();
    ino_ = ino;
    kind_.reset();
    if (!may_move_(ino)) return success();
    pb::Inode inode;
    TRY(const bool there, txn.get(key::inode(ino), inode));
    // What has no name any more is about to go.
    if (there && inode.nlink() > 0 && inode.policy().block_bytes() != 0)
      kind_ = kind_of(inode.policy());
    return success();
  }

  result<void> take(const Transaction& txn, InlineBlock block) {
    pb::Run run;
    TRY(const bool there, txn.get(key::run(block.ino, block.block), run));
    // Anything else is damage, which fsck tells of.
    if (!there || !run.inline_() || inline_blocks::malformed(run) != nullptr ||
        block.sealed.size() <= kSealedOverheadBytes) {
      return success();
    }
    block.version = run.version();
    bytes_ += block.sealed.size();
    blocks_[*kind_].push_back(std::move(block));
    return success();
  }

  result<void> write(const StripeKind& kind, const std::vector<InlineBlock>& blocks) {
    const auto code = make_erasure_code(kind.code);
    if (!code) {
      outcome_.obstacle = code.error().message();
      return success();
    }
    for (size_t first = 0; first < blocks.size();) {
      const size_t count = blocks_for_stripe(
          *code.value(), kind, first, blocks.size(),
          [&](size_t i) { return static_cast<uint32_t>(blocks[i].sealed.size()); });
      if (count == 0) {
        outcome_.obstacle = fmt::format("block {} of inode {} is larger than a column",
                                        blocks[first].block, blocks[first].ino);
        ++first;
        continue;
      }
      std::vector<ByteView> sealed;
      for (size_t i = first; i < first + count; ++i) sealed.push_back(as_bytes(blocks[i].sealed));
      TRY(const auto made,
          make_stripe(context_, ids_, *code.value(), kind, sealed, outcome_.obstacle));
      if (!made) return success();
      outcome_.bytes_written += made->bytes_written;
      TRY(context_.threads.on_loop<void>([&] { return move(made->record, blocks, first, count); }));
      ++outcome_.stripes_made;
      first += count;
    }
    return success();
  }

  // On the loop.
  result<void> move(const pb::Stripe& stripe, const std::vector<InlineBlock>& blocks, size_t first,
                    size_t count) {
    Transaction txn = context_.store.begin();
    TRY(add_stripe(txn, stripe));
    size_t moved = 0;
    for (size_t i = first; i < first + count;) {
      const InodeId ino = blocks[i].ino;
      std::vector<inline_blocks::BlockInSlot> of_file;
      for (; i < first + count && blocks[i].ino == ino; ++i) {
        of_file.push_back({blocks[i].block, blocks[i].version, static_cast<uint32_t>(i - first)});
      }
      TRY(const size_t done, inline_blocks::move_to_slots(txn, ino, stripe.id(), of_file));
      moved += done;
    }
    TRY(drop_unmapped_stripes(txn, {stripe.id()}));
    TRY(context_.committer.apply(std::move(txn)));
    context_.collect();
    outcome_.blocks_moved += moved;
    outcome_.blocks_changed += count - moved;
    return success();
  }

  BackgroundContext& context_;
  BackgroundIds& ids_;
  const std::function<bool(InodeId)>& may_move_;
  InlinePlace at_;
  InodeId ino_ = kNoInode;
  std::optional<StripeKind> kind_;  // of that file; none: it is left alone
  std::map<StripeKind, std::vector<InlineBlock>> blocks_;
  uint64_t bytes_ = 0;
  InlineMoveOutcome outcome_;
};

}  // namespace

result<InlineMoveOutcome> move_inline_blocks(BackgroundContext& context, BackgroundIds& ids,
                                             InlinePlace from,
                                             const std::function<bool(InodeId)>& may_move) {
  return InlineMove(context, ids, from, may_move).run();
}

}  // namespace datacloud
