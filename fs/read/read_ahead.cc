// Runs, strides and what they may spend (read_ahead.h).
#include "fs/read/read_ahead.h"

#include <algorithm>
#include <cstdlib>

namespace datacloud {
namespace {

constexpr size_t kRunsMax = 16;               // followed at the same time in one open file
constexpr uint64_t kShare = 5;                // one block in so many may be brought unasked
constexpr uint64_t kReorderBytes = 4u << 20;  // how far the kernel's own requests overtake
constexpr uint64_t kSmallFileBytes = 1u << 20;
constexpr int64_t kStrideToleranceBytes = 8192;  // requests are rounded to pages at both ends
constexpr uint32_t kChainMin = 3;                // starts of runs that make a stride

}  // namespace

struct ReadAhead::Blocks {
  uint64_t first, end, file_end, reorder;
};

void ReadAheadCredit::deposit(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  bytes_ = std::min(kBytesMax, bytes_ + bytes);
}

uint64_t ReadAheadCredit::take(uint64_t bytes, uint64_t unit) {
  std::lock_guard lock(mutex_);
  const uint64_t taken = std::min(bytes, bytes_) / unit * unit;
  bytes_ -= taken;
  return taken;
}

ReadAhead::ReadAhead(std::shared_ptr<ReadAheadCredit> credit) : credit_(std::move(credit)) {
  runs_.reserve(kRunsMax + 1);
}

ReadAhead::~ReadAhead() {
  if (credit_ && balance() > 0) credit_->deposit(static_cast<uint64_t>(balance()));
}

int64_t ReadAhead::balance() const {
  const uint64_t earned = asked_ * block_bytes_ / kShare + borrowed_ * block_bytes_;
  const uint64_t kernel = kernel_runs_ * (kKernelReadAheadBytes + block_bytes_);  // whole blocks
  const uint64_t spent = unused_ * block_bytes_ + kernel;
  return static_cast<int64_t>(earned) - static_cast<int64_t>(spent);
}

uint64_t ReadAhead::available() const {
  return balance() > 0 ? static_cast<uint64_t>(balance()) / block_bytes_ : 0;
}

std::vector<BlockRange> ReadAhead::on_read(const Request& request) {
  std::vector<BlockRange> out;
  block_bytes_ = request.block_bytes;
  Blocks blocks;
  blocks.first = request.offset / block_bytes_;
  blocks.end = (request.offset + request.size + block_bytes_ - 1) / block_bytes_;
  blocks.file_end = (request.file_bytes + block_bytes_ - 1) / block_bytes_;
  blocks.reorder = std::max<uint64_t>(1, kReorderBytes / block_bytes_);
  const bool opened = asked_ == 0;
  Run& run = follow(request, blocks);
  if (opened && run.first == 0 && request.file_bytes <= kSmallFileBytes &&
      run.end < blocks.file_end) {
    // Nothing is known yet of this reader; its predecessors have paid for a guess, or not.
    const uint64_t rest = blocks.file_end - run.end;
    const bool allowed = rest * block_bytes_ <= request.window_bytes_max;
    if (allowed && affordable(rest, true) == rest) {
      unused_ += rest;
      run.brought = rest;
      out.push_back({run.end, rest});
    }
  }
  ahead_of_run(request, run, out);
  ahead_of_stride(request, run, out);
  std::rotate(runs_.begin() + (&run - runs_.data()), runs_.begin() + (&run - runs_.data()) + 1,
              runs_.end());
  return out;
}

// The run that this request belongs to: one that ends there, else one that begins there, or a new
// one.
ReadAhead::Run& ReadAhead::follow(const Request& request, const Blocks& blocks) {
  const auto upward = [&](const Run& run) {
    return blocks.first >= run.first && blocks.first <= run.end &&
           blocks.first + blocks.reorder >= run.end;
  };
  const auto downward = [&](const Run& run) {
    return blocks.first < run.first && blocks.end >= run.first;
  };
  auto found = std::find_if(runs_.rbegin(), runs_.rend(), upward);
  if (found == runs_.rend()) found = std::find_if(runs_.rbegin(), runs_.rend(), downward);
  if (found == runs_.rend()) return begin(request, blocks);
  Run& run = *found;
  const uint64_t old_end = run.end;
  extend(run, blocks);
  run.start_byte = std::min(run.start_byte, request.offset);
  run.end_byte = std::max(run.end_byte, request.offset + request.size);
  return run.end > old_end ? join_next(run, old_end) : run;
}

void ReadAhead::extend(Run& run, const Blocks& blocks) {
  const uint64_t up = blocks.end > run.end ? blocks.end - run.end : 0;
  const uint64_t down = blocks.first < run.first ? run.first - blocks.first : 0;
  if (up == 0 && down == 0) return;
  asked_ += up + down;
  const bool turned = run.down ? down == 0 : up == 0;
  if (turned) {
    run.down = !run.down;
    run.brought = 0;  // on the other side: stays unused
    run.growths = 0;
  }
  ++run.growths;
  // Nothing follows a run that has come to the end of the file.
  const bool by_kernel = !run.down && blocks.end < blocks.file_end;
  if (by_kernel != run.by_kernel) kernel_runs_ += by_kernel ? 1 : -1;
  run.by_kernel = by_kernel;
  use(run, run.down ? down : up);
  run.first -= down;
  run.end += up;
}

void ReadAhead::use(Run& run, uint64_t blocks) {
  const uint64_t used = std::min(run.brought, blocks);
  run.brought -= used;
  unused_ -= std::min(unused_, used);
}

// A run that began beyond a gap which is now closed: the kernel's later request came first.
ReadAhead::Run& ReadAhead::join_next(Run& run, uint64_t old_end) {
  const auto next = std::find_if(runs_.begin(), runs_.end(), [&](const Run& r) {
    return &r != &run && r.first >= old_end && r.first <= run.end && r.end > run.end &&
           r.end - run.end <= kReorderBytes / block_bytes_;
  });
  if (next == runs_.end()) return run;
  use(run, next->end - run.end);
  run.end = next->end;
  run.end_byte = std::max(run.end_byte, next->end_byte);
  if (!next->down) run.brought = std::max(run.brought, next->brought);
  if (next->by_kernel) --kernel_runs_;
  const bool before = &*next < &run;
  runs_.erase(next);
  return before ? *(&run - 1) : run;
}

ReadAhead::Run& ReadAhead::begin(const Request& request, const Blocks& blocks) {
  Run run;
  run.first = run.end = blocks.first;
  run.start_byte = run.chain_byte = request.offset;
  run.end_byte = request.offset + request.size;
  join_stride(run);
  asked_ += blocks.end - blocks.first;
  use(run, blocks.end - blocks.first);
  run.end = blocks.end;
  if (runs_.size() == kRunsMax) runs_.erase(runs_.begin());
  runs_.push_back(run);
  return runs_.back();
}

// Finds the chain that this run continues, or two runs with which it makes one.
void ReadAhead::join_stride(Run& run) {
  const auto near = [](int64_t a, int64_t b) { return std::abs(a - b) <= kStrideToleranceBytes; };
  const auto at = static_cast<int64_t>(run.start_byte);
  for (size_t i = runs_.size(); i-- > 0;) {
    Run& last = runs_[i];
    const auto before = static_cast<int64_t>(last.start_byte);
    const auto chain_start = static_cast<int64_t>(last.chain_byte);
    if (last.chain >= kChainMin) {
      const int64_t step = (before - chain_start) / static_cast<int64_t>(last.chain - 1);
      if (!near(at - before, step)) continue;
      run.chain = last.chain + 1;
      run.chain_byte = last.chain_byte;
    } else {
      const auto third =
          std::find_if(runs_.begin(), runs_.begin() + static_cast<ptrdiff_t>(i), [&](const Run& r) {
            return r.chain < kChainMin &&
                   near(at - before, before - static_cast<int64_t>(r.start_byte));
          });
      if (third == runs_.begin() + static_cast<ptrdiff_t>(i)) continue;
      run.chain = kChainMin;
      run.chain_byte = third->start_byte;
    }
    run.element_bytes = last.end_byte - last.start_byte;
    if (last.elements_brought > 0) {
      const uint64_t end = (run.start_byte + run.element_bytes + block_bytes_ - 1) / block_bytes_;
      run.brought = end > run.first ? end - run.first : 0;
      run.elements_brought = last.elements_brought - 1;
      last.elements_brought = 0;
    }
    return;
  }
}

uint64_t ReadAhead::affordable(uint64_t blocks, bool borrow) {
  if (blocks > available() && borrow && credit_) {
    const uint64_t missing = (blocks - available()) * block_bytes_;
    borrowed_ += credit_->take(missing, block_bytes_) / block_bytes_;
  }
  return std::min(blocks, available());
}

// Upward or downward, in few large pieces: more once half of what was brought has been asked for.
void ReadAhead::ahead_of_run(const Request& request, Run& run, std::vector<BlockRange>& out) {
  if (run.growths == 0) return;
  if (run.down && run.growths < 2) return;
  const uint64_t file_end = (request.file_bytes + block_bytes_ - 1) / block_bytes_;
  const uint64_t left = run.down ? run.first : file_end > run.end ? file_end - run.end : 0;
  uint64_t window = std::min(run.end - run.first, request.window_bytes_max / block_bytes_);
  if (run.element_bytes > 0) {
    // Runs of a stride end where the earlier ones did.
    const uint64_t end = (run.start_byte + run.element_bytes + block_bytes_ - 1) / block_bytes_;
    if (run.end <= end && !run.down) window = std::min(window, end - run.end);
  }
  window = std::min(window, left);
  if (run.brought * 2 > window || run.brought >= window) return;
  const uint64_t more = affordable(window - run.brought, run.first == 0);
  if (more == 0) return;
  unused_ += more;
  const uint64_t from = run.down ? run.first - run.brought - more : run.end + run.brought;
  run.brought += more;
  out.push_back({from, more});
}

void ReadAhead::ahead_of_stride(const Request& request, Run& run, std::vector<BlockRange>& out) {
  if (run.chain < kChainMin) return;
  const auto length =
      static_cast<int64_t>(std::max(run.element_bytes, run.end_byte - run.start_byte));
  const auto start = static_cast<int64_t>(run.start_byte);
  const auto whole = start - static_cast<int64_t>(run.chain_byte);
  const auto file_bytes = static_cast<int64_t>(request.file_bytes);
  const uint64_t window =
      std::min<uint64_t>(run.chain - 1, request.window_bytes_max / static_cast<uint64_t>(length));
  if (run.elements_brought * 2 > window) return;
  while (run.elements_brought < window) {
    const int64_t at =
        start + whole * (run.elements_brought + 1) / static_cast<int64_t>(run.chain - 1);
    if (at < 0 || at >= file_bytes) return;
    BlockRange element;
    element.first = static_cast<uint64_t>(at) / block_bytes_;
    const auto end = static_cast<uint64_t>(std::min(at + length, file_bytes));
    element.count = (end + block_bytes_ - 1) / block_bytes_ - element.first;
    if (affordable(element.count, false) < element.count) return;
    unused_ += element.count;
    ++run.elements_brought;
    if (!out.empty() && out.back().end() == element.first)
      out.back().count += element.count;
    else
      out.push_back(element);
  }
}

void ReadAhead::not_brought(const BlockRange& range) {
  uint64_t returned = range.count;
  // What lies beyond the range, seen from the run, counts as not brought either.
  for (Run& run : runs_) {
    uint64_t still = run.brought;
    if (!run.down && range.first <= run.end + run.brought && range.end() > run.end)
      still = range.first > run.end ? range.first - run.end : 0;
    if (run.down && range.end() + run.brought >= run.first && range.first < run.first)
      still = range.end() < run.first ? run.first - range.end() : 0;
    if (still >= run.brought) continue;
    returned = run.brought - still;
    run.brought = still;
    break;
  }
  unused_ -= std::min(unused_, returned);
}

}  // namespace datacloud
