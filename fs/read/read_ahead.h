// What to fetch before it is asked for: the rule, without any I/O.
//
// One ReadAhead follows the reads of one open file. It keeps the runs it has seen lately (blocks
// read one after the other, upward or downward, several at the same time) and whether their starts
// are equally far from each other (a stride: the same pixel of each chunk of a stack). A run, or a
// stride, that goes on is fetched ahead of, never further than it has come.
//
// Invariant, whatever the pattern: blocks brought and not (yet) asked for are at most a fifth of
// the blocks asked for, plus what was borrowed from the mount's ReadAheadCredit. So all fetches
// together stay within 1.2 of the blocks asked for, what is used at once pays for more, and what is
// not used makes the window small until it is earned again.
//
// The kernel reads ahead by itself, in requests of up to its own window that arrive on several
// threads, slightly out of order: runs join when the piece between them arrives. Its last window in
// a run may be for nothing, and is paid from the same fifth: short runs are left to the kernel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace datacloud {

// The kernel's window on a mount (read_ahead_kb). A larger one gains no speed and wastes more after
// each short run. A smaller one wastes more, too: the kernel takes a read that is larger than its
// window for the beginning of a stream, and 128 KiB at any offset (33 pages) is a usual chunk.
inline constexpr uint64_t kKernelReadAheadBytes = 144u << 10;

// Blocks first..first+count-1 of a file.
struct BlockRange {
  uint64_t first = 0;
  uint64_t count = 0;
  uint64_t end() const { return first + count; }
  bool operator==(const BlockRange&) const = default;
};

// What files of this mount, closed by now, have earned and not spent: later ones that are read from
// their start borrow it. So whoever reads many files whole gets them at once, and who looks only at
// their headers soon does not. Thread safety: all methods from any thread.
class ReadAheadCredit {
 public:
  static constexpr uint64_t kBytesMax = 4u << 20;
  void deposit(uint64_t bytes);
  // As much of it as there is, in whole units of `unit` bytes.
  uint64_t take(uint64_t bytes, uint64_t unit);

 private:
  std::mutex mutex_;
  uint64_t bytes_ = 0;
};

// Not thread-safe.
class ReadAhead {
 public:
  struct Request {
    uint64_t offset = 0;
    uint64_t size = 0;  // not 0
    uint64_t file_bytes = 0;
    uint32_t block_bytes = 0;
    uint64_t window_bytes_max = 0;  // of one run
  };

  explicit ReadAhead(std::shared_ptr<ReadAheadCredit> credit = nullptr);
  ~ReadAhead();
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;

  // The request will be answered; returns what to fetch besides, in the order of need.
  std::vector<BlockRange> on_read(const Request&);
  // Part of what on_read() returned was not fetched after all.
  void not_brought(const BlockRange&);

  // Blocks, for tests: asked for, and brought without having been asked for.
  uint64_t asked() const { return asked_; }
  uint64_t unused() const { return unused_; }

 private:
  // Blocks first..end-1, asked for without a gap. Of those that follow (or, downward, precede),
  // `brought` are fetched or on their way.
  struct Run {
    uint64_t first = 0, end = 0;
    uint64_t brought = 0;
    bool down = false;
    uint32_t growths = 0;    // requests in a row that made it longer in this direction
    bool by_kernel = false;  // counted in kernel_runs_
    uint64_t start_byte = 0, end_byte = 0;
    // Runs of one stride form a chain: this is number `chain` of it, the first began at
    // `chain_byte`.
    uint32_t chain = 1;
    uint64_t chain_byte = 0;
    uint64_t element_bytes = 0;     // how long its runs are; 0: not known
    uint32_t elements_brought = 0;  // after this one
  };

  struct Blocks;  // of a request
  Run& follow(const Request&, const Blocks&);
  Run& begin(const Request&, const Blocks&);
  void join_stride(Run&);
  void extend(Run&, const Blocks&);
  Run& join_next(Run&, uint64_t old_end);
  void use(Run&, uint64_t blocks);
  uint64_t affordable(uint64_t blocks, bool borrow);
  int64_t balance() const;     // bytes, earned and not spent
  uint64_t available() const;  // blocks
  void ahead_of_run(const Request&, Run&, std::vector<BlockRange>&);
  void ahead_of_stride(const Request&, Run&, std::vector<BlockRange>&);

  std::vector<Run> runs_;  // least recently used first
  uint64_t asked_ = 0, unused_ = 0, borrowed_ = 0;
  uint64_t kernel_runs_ = 0;  // continued, so that the kernel was ahead of them at their end
  uint64_t block_bytes_ = 0;
  const std::shared_ptr<ReadAheadCredit> credit_;
};

}  // namespace datacloud
