// Runs of whole blocks straight from where they are; a block in two pieces is put together.
#include "common/tags/tag_sums.h"

#include <algorithm>

namespace datacloud {
namespace {

constexpr size_t kRunBytes = 64 << 10;

}  // namespace

void TagSums::add(ByteView next) {
  if (tagger_ == nullptr || next.empty()) return;
  bytes_ += next.size();
  if (!waiting_.empty() && waiting_.data() + waiting_.size() == next.data()) {
    waiting_ = {waiting_.data(), waiting_.size() + next.size()};
  } else {
    keep_rest();
    waiting_ = next;
  }
  sum_waiting();
}

void TagSums::sum(ByteView blocks) {
  const size_t before = sums_.size();
  sums_.resize(before + kFieldBytes * audit_blocks_of(blocks.size()));
  tagger_->block_sums(blocks, MutableByteView(sums_).subspan(before));
}

// Completes the block that was begun, then sums what there is of whole runs.
void TagSums::sum_waiting() {
  if (filled_ > 0) {
    const size_t n = std::min(waiting_.size(), kAuditBlockBytes - filled_);
    std::copy_n(waiting_.begin(), n, block_.begin() + static_cast<long>(filled_));
    waiting_ = waiting_.subspan(n);
    filled_ += n;
    if (filled_ < kAuditBlockBytes) return;
    sum(block_);
    filled_ = 0;
  }
  const size_t whole = waiting_.size() / kRunBytes * kRunBytes;
  if (whole > 0) sum(waiting_.first(whole));
  waiting_ = waiting_.subspan(whole);
}

// Whole blocks are summed, the start of another is kept. Nothing is kept while some is waiting.
void TagSums::keep_rest() {
  if (waiting_.empty()) return;
  const size_t whole = waiting_.size() / kAuditBlockBytes * kAuditBlockBytes;
  if (whole > 0) sum(waiting_.first(whole));
  waiting_ = waiting_.subspan(whole);
  std::copy(waiting_.begin(), waiting_.end(), block_.begin());
  filled_ = waiting_.size();
  waiting_ = {};
}

Bytes TagSums::finish() {
  keep_rest();
  if (filled_ > 0) sum(ByteView(block_).first(filled_));
  return std::move(sums_);
}

}  // namespace datacloud
