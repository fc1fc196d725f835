// Decorators of the object store seam: each adds one concern and owns the store below it.
//
//   DeadlineStore    answers timed_out when the store below is late (a late answer is dropped)
//   AccountingStore  counts bytes and calls per purpose
//   FaultStore       tests: injects failures, delays, hangs and corruption by a rule
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>

#include "common/store/object_store.h"

namespace datacloud {

// Bytes that crossed the seam, by purpose. Payload bytes and attributes, not protocol overhead.
class TrafficCounters {
 public:
  struct Row {
    uint64_t bytes_read = 0;
    uint64_t bytes_written = 0;
    uint64_t operations = 0;
  };
  // Each counts one operation.
  void add_read(Purpose, uint64_t bytes);
  void add_written(Purpose, uint64_t bytes);
  Row row(Purpose) const;
  void reset();

 private:
  struct Cells {
    std::atomic<uint64_t> read{0}, written{0}, operations{0};
  };
  std::array<Cells, kPurposeCount> cells_;
};

// Destruction waits for the store below: calls still unanswered by then time out meanwhile.
std::unique_ptr<ObjectStore> make_deadline_store(std::unique_ptr<ObjectStore>);
// `counters` must outlive the store. Written bytes are counted when asked for, read ones when
// answered.
std::unique_ptr<ObjectStore> make_accounting_store(std::unique_ptr<ObjectStore>, TrafficCounters&);

// What a fault rule sees and decides. Rules run on the caller's thread, many at once.
enum class StoreOp { put, read, derive, combine, prove, remove, list, check, capacity };
struct Fault {
  enum class Kind {
    none,
    fail_before,  // the call fails with `error`, the store below is not asked
    fail_after,   // the store below performs the call, the caller sees `error`
    hang,         // never answers (until the decorator is destroyed: then timed_out)
    delay,        // the call reaches the store below after `delay` (destruction: timed_out)
    fail_late,    // as fail_before, after `delay`
    flip_byte,    // reads, combine, prove: one byte of the answer is changed
    garbage,      // the same: every byte of the answer is replaced, length kept
  };
  Kind kind = Kind::none;
  Error error;
  Duration delay{};
};
using FaultRule = std::function<Fault(StoreOp, const std::string& name)>;
std::unique_ptr<ObjectStore> make_fault_store(std::unique_ptr<ObjectStore>, FaultRule);

}  // namespace datacloud
